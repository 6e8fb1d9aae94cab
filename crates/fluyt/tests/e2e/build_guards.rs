//! What a build must not do, whoever wrote its input: touch files outside, show them, or believe a cache too much.

use std::process::Command;

use fluyt_testkit::Host;

use crate::{host, ours_only};

fn build(host: &Host, tag: &str, text: &str) -> String {
    host.scratch().write(&format!("{tag}/Dockerfile"), text);
    let dir = host.scratch().join(tag).display().to_string();
    let outcome = host.run_words(&["build", "--progress", "plain", "-t", tag, &dir]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.stderr
}

#[test]
fn clearing_up_after_a_step_stays_in_its_layer() {
    let host = host!();
    ours_only!(host);
    let outside = host.scratch().join("outside");
    for dir in ["victim/emptydir", "etc"] {
        std::fs::create_dir_all(outside.join(dir)).expect("made");
    }
    for file in ["victim/file", "hosts", "resolv.conf"] {
        std::fs::write(outside.join(file), "").expect("written");
    }
    let out = outside.display();
    build(
        &host,
        "moved",
        &format!(
            "FROM box\n\
             RUN --mount=type=tmpfs,target=/a/victim/emptydir mv /a /x && ln -s {out} /a\n\
             RUN --mount=type=tmpfs,target=/b/victim mv /b /y && ln -s {out}/victim /b; mkdir -p /c && ln -s {out}/victim /c/d\n"
        ),
    );
    for there in ["victim/emptydir", "victim/file", "hosts", "resolv.conf", "etc"] {
        assert!(outside.join(there).exists(), "{there} is gone");
    }
    // What mounting made is taken away, also where a link leads.
    let text = "FROM box\nRUN mkdir /real /kept && ln -s real /link\n\
                RUN --mount=type=tmpfs,target=/p/q/r --mount=type=tmpfs,target=/link/s/t --mount=type=tmpfs,target=/kept/u touch /p/q/f\n\
                CMD find /p /real /kept\n";
    build(&host, "stubs", text);
    assert_eq!(host.ok("run --rm stubs"), "/p\n/p/q\n/p/q/f\n/real\n/kept");
}

#[test]
fn links_of_a_fetched_context_lead_nowhere_outside() {
    let host = host!();
    ours_only!(host);
    host.scratch().write("secret", "MY PASSWORD\n");
    let secret = host.scratch().join("secret").display().to_string();
    let archive = |script: &str| {
        let dir = host.scratch().join("fetched");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("made");
        let made = Command::new("sh").args(["-ec", script]).current_dir(&dir).status().expect("sh");
        assert!(made.success());
        let tar =
            Command::new("tar").args(["-C", &dir.display().to_string(), "-c", "."]).output().expect("tar");
        tar.stdout
    };
    for script in [
        format!("ln -s {secret} Dockerfile"),
        "ln -s ../../../../../../../../../../../../etc/hostname Dockerfile".to_owned(),
        "ln -s /dev/zero Dockerfile".to_owned(),
        "mkfifo Dockerfile".to_owned(),
        "mkdir Dockerfile".to_owned(),
        format!("echo FROM box > Dockerfile; ln -s {secret} no; mkdir .dockerignore"),
        "echo FROM box > Dockerfile; mkfifo .dockerignore".to_owned(),
    ] {
        let outcome = host.run_with_input(&["build", "-"], &archive(&script));
        assert!(outcome.code != 0, "{script}: {outcome:?}");
        assert!(!outcome.stderr.contains("PASSWORD") && outcome.stderr.len() < 1000, "{script}: {outcome:?}");
    }
    // Inside they are followed.
    let fine = archive(
        "mkdir d; printf 'FROM box\\nCOPY . /c\\nCMD ls /c\\n' > d/file; ln -s d/file Dockerfile; echo x > x; echo x > i; ln -s i .dockerignore",
    );
    let outcome = host.run_with_input(&["build", "-q", "-t", "fine", "-"], &fine);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(host.ok("run --rm fine"), "Dockerfile\nd\ni");
    // An ignore file that leads out is none.
    let out = archive(&format!(
        "printf 'FROM box\\nCOPY . /c\\nCMD ls /c\\n' > Dockerfile; echo x > x; ln -s {secret} .dockerignore"
    ));
    let outcome = host.run_with_input(&["build", "-q", "-t", "out", "-"], &out);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(host.ok("run --rm out"), "Dockerfile\nx");
}

#[test]
fn a_cache_mount_is_called_by_what_it_begins_with() {
    let host = host!();
    ours_only!(host);
    let text = |before: &str, content: &str, mark: &str| {
        format!(
            "FROM box AS from\nRUN mkdir /d && echo {content} > /d/f\n{before}FROM box\n\
             RUN --mount=type=cache,id=c,target=/c,from=from,source=/d echo {mark} >> /c/seen; cat /c/f /c/seen > /all\nCMD cat /all\n"
        )
    };
    build(&host, "one", &text("", "A", "1"));
    // Another stage before it changes the numbers of all that follows.
    let more = "FROM box AS more\nRUN echo more > /more\nFROM box\nCOPY --from=more /more /\n";
    build(
        &host,
        "two",
        &text(more, "A", "2")
            .replace("FROM box\nRUN --mount", "FROM box\nCOPY --from=more /more /\nRUN --mount"),
    );
    assert_eq!(host.ok("run --rm two"), "A\n1\n2");
    // Other content is another mount.
    build(&host, "three", &text("", "B", "3"));
    assert_eq!(host.ok("run --rm three"), "B\n3");
}
