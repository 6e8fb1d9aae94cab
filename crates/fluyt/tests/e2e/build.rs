//! `fluyt build`: real images from Dockerfiles, and what comes of them.

use fluyt_testkit::Host;

use crate::{host, ours_only};

/// A context of these files under a name of its own; its path.
fn context(host: &Host, name: &str, files: &[(&str, &str)]) -> String {
    for (path, text) in files {
        host.scratch().write(&format!("{name}/{path}"), text);
    }
    host.scratch().join(name).display().to_string()
}

/// Builds it under a tag; what was said.
fn build(host: &Host, dir: &str, flags: &str) -> String {
    let mut words = vec!["build", "--progress", "plain"];
    words.extend(flags.split_whitespace());
    words.push(dir);
    let outcome = host.run_words(&words);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.stderr
}

#[test]
fn an_image_is_built_run_and_cached() {
    let host = host!();
    ours_only!(host);
    let dir = context(
        &host,
        "simple",
        &[
            (
                "Dockerfile",
                "FROM box\nENV NAME=world\nWORKDIR /srv\nCOPY greet .\nRUN sh greet > out\nUSER user\nCMD cat out && id -un && pwd\n",
            ),
            ("greet", "echo hello $NAME\n"),
        ],
    );
    let said = build(&host, &dir, "-t simple");
    assert!(said.contains("[4/4] RUN sh greet") && !said.contains("CACHED"), "{said}");
    assert_eq!(host.ok("run --rm simple"), "hello world\nuser\n/srv");
    let id = host.ok("images -q --no-trunc simple");
    let said = build(&host, &dir, "-t simple");
    assert_eq!(said.matches("CACHED").count(), 3, "{said}");
    assert_eq!(host.ok("images -q --no-trunc simple"), id);
    // A new time of an unchanged file changes nothing, new content does.
    host.scratch().write("simple/greet", "echo hello $NAME\n");
    assert_eq!(build(&host, &dir, "-t simple").matches("CACHED").count(), 3);
    host.scratch().write("simple/greet", "echo bye $NAME\n");
    let said = build(&host, &dir, "-t simple");
    assert_eq!(said.matches("CACHED").count(), 1, "{said}");
    assert!(host.ok("run --rm simple").starts_with("bye world"));
    assert!(host.ok("history simple").contains("WORKDIR /srv"));
    assert!(host.ok("builder du").contains("Total:"));
    host.ok("builder prune -af");
    assert_eq!(build(&host, &dir, "-t simple").matches("CACHED").count(), 0);
}

#[test]
fn stages_nobody_needs_are_not_built() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box AS made\nRUN mkdir /out && echo 1 > /out/a && ln -s a /out/b && chown 1000 /out/a\n\
                FROM box AS never\nRUN false\nFROM scratch AS files\nCOPY --from=made /out /\n\
                FROM box\nCOPY --from=files / /got/\nCMD stat -c %u /got/a && readlink /got/b && cat /got/b\n";
    let dir = context(&host, "stages", &[("Dockerfile", text)]);
    build(&host, &dir, "-t stages");
    assert_eq!(host.ok("run --rm stages"), "1000\na\n1");
    let out = host.scratch().join("exported");
    build(&host, &dir, &format!("--target files -o {}", out.display()));
    assert_eq!(std::fs::read_to_string(out.join("b")).expect("the exported file"), "1\n");
    host.fails_words(1, "target stage \"nope\" could not be found", &["build", "--target", "nope", &dir]);
    host.fails_words(1, "exit code: 1", &["build", "--target", "never", &dir]);
}

#[test]
fn a_failure_shows_line_output_and_code() {
    let host = host!();
    ours_only!(host);
    let dir =
        context(&host, "fails", &[("Dockerfile", "FROM box\nRUN true\nRUN echo the reason >&2; exit 3\n")]);
    let outcome = host.fails_words(1, "did not complete successfully: exit code: 3", &["build", &dir]);
    for needle in ["the reason", "Dockerfile:3", "   3 | >>> RUN echo the reason", "> [3/3] RUN"] {
        assert!(outcome.stderr.contains(needle), "{needle}: {outcome:?}");
    }
    let dir = context(&host, "typo", &[("Dockerfile", "FROM box\nRUNN x\n")]);
    let outcome = host.fails_words(1, "unknown instruction: RUNN (did you mean RUN?)", &["build", &dir]);
    assert!(outcome.stderr.contains("   2 | >>> RUNN x"), "{outcome:?}");
    let dir = context(&host, "missing", &[("Dockerfile", "FROM box\nCOPY nothing /\n")]);
    host.fails_words(1, "\"/nothing\": not found", &["build", &dir]);
}

#[test]
fn mounts_of_steps() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box AS src\nRUN echo from stage > /file\nFROM box\n\
                RUN --mount=type=cache,target=/cache echo x >> /cache/count && wc -l < /cache/count > /count\n\
                RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN sh -c 'cat /run/secrets/token > /seen; echo $TOKEN >> /seen'\n\
                RUN --mount=from=src,target=/mnt cat /mnt/file > /bound\n\
                RUN --mount=target=/ctx cat /ctx/data > /data && ! touch /ctx/x\n\
                RUN --mount=type=tmpfs,target=/t touch /t/x\n\
                RUN test ! -e /t/x && test ! -e /ctx && test ! -e /run/secrets && test ! -e /cache/count\n\
                RUN --network=none ! ip link show eth0\n\
                CMD cat /count /seen /bound /data\n";
    let dir = context(
        &host,
        "mounts",
        &[("Dockerfile", text), ("data", "of the context\n"), ("token", "s3cret\n")],
    );
    let flags = format!("-t mounts --secret id=token,src={dir}/token");
    build(&host, &dir, &flags);
    assert_eq!(host.ok("run --rm mounts"), "1\ns3cret\ns3cret\nfrom stage\nof the context");
    build(&host, &dir, &format!("{flags} --no-cache"));
    assert!(host.ok("run --rm mounts").starts_with('2'), "the cache mount stays");
}

#[test]
fn contexts_obey_dockerignore() {
    let host = host!();
    ours_only!(host);
    let dir = context(
        &host,
        "ignore",
        &[
            ("Dockerfile", "FROM box\nCOPY . /ctx/\nCMD cd /ctx && find . -type f | sort\n"),
            (".dockerignore", "*.log\n!keep.log\nbuild\n**/tmp\n.dockerignore\nDockerfile\n"),
            ("a.log", ""),
            ("keep.log", ""),
            ("build/x", ""),
            ("src/tmp/y", ""),
            ("src/z", ""),
        ],
    );
    build(&host, &dir, "-t ignore");
    assert_eq!(host.ok("run --rm ignore"), "./keep.log\n./src/z");
}

#[test]
fn dockerfiles_come_from_elsewhere() {
    let host = host!();
    ours_only!(host);
    let outcome = host
        .run_with_input(&["build", "-q", "-t", "stdin", "-"], b"FROM box\nRUN echo in > /f\nCMD cat /f\n");
    let id = outcome.success();
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(host.ok("run --rm stdin"), "in");
    let dir = context(
        &host,
        "other",
        &[("other.df", "FROM box\nARG WHO=nobody\nRUN echo $WHO > /f\nCMD cat /f\n")],
    );
    let iid = host.scratch().join("iid");
    build(
        &host,
        &dir,
        &format!("-f {dir}/other.df -t other --build-arg WHO=me --label a=b --iidfile {}", iid.display()),
    );
    assert_eq!(host.ok("run --rm other"), "me");
    assert_eq!(std::fs::read_to_string(iid).expect("the id"), host.ok("images -q --no-trunc other"));
    assert_eq!(host.field("other", "{{.Config.Labels.a}}"), "b");
    let heredoc = b"FROM box\nCOPY <<EOF /made/file\nfrom the Dockerfile\nEOF\nRUN <<EOF\ncat /made/file\nEOF\nCMD cat /made/file\n";
    drop(host.run_with_input(&["build", "-t", "heredoc", "-"], heredoc).success());
    assert_eq!(host.ok("run --rm heredoc"), "from the Dockerfile");
}

#[test]
fn builds_can_be_reproduced() {
    let host = host!();
    ours_only!(host);
    let dir = context(
        &host,
        "again",
        &[("Dockerfile", "FROM box\nWORKDIR /a\nCOPY f .\nRUN date > /dev/null; touch /new\n"), ("f", "x")],
    );
    let flags = "-q --no-cache --build-arg SOURCE_DATE_EPOCH=1700000000";
    let one = host.ok(&format!("build {flags} {dir}"));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    host.scratch().write("again/f", "x");
    assert_eq!(host.ok(&format!("build {flags} {dir}")), one);
}

#[test]
fn checks_and_graphs_build_nothing() {
    let host = host!();
    ours_only!(host);
    let dir = context(&host, "check", &[("Dockerfile", "FROM box AS Named\nRUN false\n")]);
    let outcome = host.run_words(&["build", "--check", &dir]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(
        outcome.stdout.contains("1 warning has been found") && outcome.stdout.contains("StageNameCasing"),
        "{outcome:?}"
    );
    let graph = host.ok_words(&["build", "--print-graph", &dir]);
    let graph: serde_json::Value = serde_json::from_str(&graph).expect("a graph in JSON");
    assert_eq!(graph["vertices"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        host.ok_words(&["build", "--call=targets", &dir]),
        "TARGET          DESCRIPTION\nnamed (default) "
    );
    let targets = host.ok_words(&["build", "--call=targets,format=json", &dir]);
    let targets: serde_json::Value = serde_json::from_str(&targets).expect("targets in JSON");
    assert_eq!(targets["targets"][0]["name"], "named");
}

#[test]
fn copies_have_flags() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box\nWORKDIR /w\nCOPY --chown=user:33 --chmod=u=rw,go= a.txt owned\nCOPY --parents src/*/x.c /p/\n\
                COPY --exclude=*.o --exclude=deep src/ /s/\nCOPY --link a.txt /linked/a.txt\nCOPY *.txt b.md all/\n\
                ADD archive.tar /unpacked/\nADD plain.gz /kept/\nCOPY link /followed\nRUN ln -s /elsewhere /trap\nCOPY a.txt /trap/\n\
                CMD stat -c '%u:%g %a' owned && cd / && find p s linked w/all unpacked kept followed elsewhere ! -type d | sort\n";
    let dir = context(
        &host,
        "flags",
        &[
            ("Dockerfile", text),
            ("a.txt", "a"),
            ("b.md", "b"),
            ("c.txt", "c"),
            ("src/one/x.c", "1"),
            ("src/two/x.c", "2"),
            ("src/two/y.c", "y"),
            ("src/z.o", "o"),
            ("src/deep/q", "q"),
            ("inner/file", "in"),
        ],
    );
    let inside = std::path::Path::new(&dir);
    std::os::unix::fs::symlink("a.txt", inside.join("link")).expect("a link");
    let run = |program: &str, words: &[&str]| {
        let status = std::process::Command::new(program).args(words).current_dir(inside).status();
        assert!(status.expect("the program runs").success());
    };
    run("tar", &["-cf", "archive.tar", "-C", "inner", "file"]);
    run("gzip", &["-k", "b.md"]);
    run("mv", &["b.md.gz", "plain.gz"]);
    build(&host, &dir, "-t flags");
    let expected = "1000:33 600\nelsewhere/a.txt\nfollowed\nkept/plain.gz\nlinked/a.txt\np/src/one/x.c\np/src/two/x.c\n\
                    s/one/x.c\ns/two/x.c\ns/two/y.c\nunpacked/file\nw/all/a.txt\nw/all/b.md\nw/all/c.txt";
    assert_eq!(host.ok("run --rm flags"), expected);
}

/// Runs a script of the host's shell in a directory.
fn run_here(dir: &str, script: &str) {
    let status = std::process::Command::new("sh").args(["-ec", script]).current_dir(dir).status();
    assert!(status.expect("the shell runs").success(), "{script}");
}

#[test]
fn archives_are_unpacked_whatever_compressed_them() {
    let host = host!();
    ours_only!(host);
    let text = "FROM box\nADD a.tar.gz /gz/\nADD a.tar.bz2 /bz2/\nADD a.tar.xz /xz/\nADD plain.xz cut.xz /kept/\n\
                CMD cat gz/file bz2/file xz/file && ls kept\n";
    let dir = context(&host, "packed", &[("Dockerfile", text), ("file", "in\n"), ("plain", "no archive")]);
    run_here(
        &dir,
        "tar -cf a.tar file && gzip -k a.tar && bzip2 -k a.tar && xz -k a.tar && xz plain && head -c 100 a.tar.xz > cut.xz",
    );
    build(&host, &dir, "-t packed");
    assert_eq!(host.ok("run --rm packed"), "in\nin\nin\ncut.xz\nplain.xz");
    for kind in ["xz", "bz2"] {
        host.ok_words(&["import", &format!("{dir}/a.tar.{kind}"), kind]);
        host.ok_words(&["create", "--name", kind, kind, "none"]);
        let out = host.scratch().join(format!("{kind}.tar"));
        host.ok_words(&["export", "-o", &out.display().to_string(), kind]);
        assert!(std::fs::read(out).expect("the archive").windows(4).any(|w| w == b"file"));
    }
    let cut = host.fails_words(1, "damaged", &["import", &format!("{dir}/cut.xz"), "cut"]);
    assert!(!cut.stderr.is_empty());
}

#[test]
fn files_come_from_web_servers() {
    let host = host!();
    ours_only!(host);
    host.ok("run -d --name web box httpd -f -p 80 -h /etc");
    let address = host.field("web", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let url = format!("http://{address}/not-a-program");
    host.sh(
        "",
        &format!(
            "for i in 1 2 3 4 5 6 7 8 9; do wget -q -O /dev/null {url} && exit 0; sleep 0.2; done; exit 1"
        ),
    );
    let dir = context(
        &host,
        "web",
        &[("Dockerfile", &format!("FROM box\nADD {url} /got/\nCMD cat /got/not-a-program\n"))],
    );
    build(&host, &dir, "-t fetched");
    assert_eq!(host.ok("run --rm fetched"), "words");
    let wrong = format!("FROM box\nADD --checksum=sha256:{} {url} /got/\n", "0".repeat(64));
    let dir = context(&host, "wrong", &[("Dockerfile", &wrong)]);
    host.fails_words(1, "digest mismatch", &["build", &dir]);
    let dir = context(&host, "gone", &[("Dockerfile", &format!("FROM box\nADD {url}-not /got/\n"))]);
    host.fails_words(1, "invalid response status 404", &["build", &dir]);
    host.ok("rm -f web");
}
