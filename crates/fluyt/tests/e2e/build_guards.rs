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
    // And where a link leads that leads to nothing, as /etc/resolv.conf of many systems does.
    let (tree, out) = (host.scratch().join("tree"), host.scratch().join("out"));
    std::fs::create_dir_all(tree.join("etc")).expect("made");
    std::os::unix::fs::symlink("../run/systemd/stub.conf", tree.join("etc/resolv.conf")).expect("a link");
    host.scratch().write("dangling/Dockerfile", "FROM box\nCOPY --from=tree / /\nRUN true\n");
    host.ok(&format!(
        "build -q -o {} --build-context tree={} {}",
        out.display(),
        tree.display(),
        host.scratch().join("dangling").display()
    ));
    assert!(out.join("etc/resolv.conf").is_symlink(), "the link is not there");
    assert!(!out.join("run").exists(), "mounting left something where the link leads");
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
fn what_is_left_out_of_a_context_is_not_reached_by_a_link() {
    let host = host!();
    ours_only!(host);
    for (path, text) in
        [(".dockerignore", "secret\n*.key\n"), ("secret/in", "S"), ("a.key", "K"), ("open/in", "O")]
    {
        host.scratch().write(&format!("c/{path}"), text);
    }
    let dir = host.scratch().join("c");
    for (target, name) in
        [("secret", "to-secret"), ("a.key", "to-key"), ("open", "to-open"), ("open/in", "to-in")]
    {
        std::os::unix::fs::symlink(target, dir.join(name)).expect("a link");
    }
    let context = dir.display().to_string();
    let run = |instructions: &str| {
        let text = format!("FROM box\n{instructions}\n");
        host.run_with_input(&["build", "-q", "-t", "linked", "-f", "-", &context], text.as_bytes())
    };
    for line in [
        "COPY to-secret /x/",
        "COPY to-secret/in /x/",
        "COPY to-key /x",
        "RUN --mount=source=to-secret,target=/m cat /m/in",
    ] {
        let outcome = run(line);
        assert!(outcome.code != 0 && outcome.stderr.contains("not found"), "{line}: {outcome:?}");
    }
    let outcome = run(
        "COPY to-open /x/\nCOPY to-in /y\nRUN --mount=source=to-open,target=/m cat /m/in > /z\nCMD cat /x/in /y /z",
    );
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(host.ok("run --rm linked"), "OOO");
    // What nobody can read is not as good as nothing.
    std::fs::write(dir.join(".dockerignore"), b"secret\n\xff\n").expect("written");
    let named = format!("other={context}");
    let text = b"FROM box\nCOPY --from=other . /x/\n";
    let outcome = host.run_with_input(&["build", "--build-context", &named, "-"], text);
    assert!(outcome.code != 0 && outcome.stderr.contains(".dockerignore"), "{outcome:?}");
}

#[test]
fn devices_that_are_not_needed_may_be_missing() {
    let host = host!();
    ours_only!(host);
    let run = |flags: &[&str], device: &str| {
        let text = format!("FROM box\nRUN --device={device} echo it runs > /f\n");
        host.run_with_input(&[&["build", "--progress", "plain"], flags, &["-"]].concat(), text.as_bytes())
    };
    let said = run(&["--allow", "device"], "example.com/none=0");
    assert!(said.code == 0 && said.stderr.contains("optional device example.com/none=0"), "{said:?}");
    let said = run(&["--allow", "device"], "example.com/none=0,required");
    assert!(said.code != 0 && said.stderr.contains("unresolvable CDI device"), "{said:?}");
    let said = run(&[], "example.com/none=0");
    assert!(said.code != 0 && said.stderr.contains("device is not allowed"), "{said:?}");
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
