//! Where the inputs of a build come from and where its result goes: repositories, web servers, named contexts, secrets,
//! agents, archives, registries.

use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fluyt_testkit::{Host, skip, wait};

use crate::{host, ours_only};

/// A program that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
}

fn listening(port: u16) {
    wait::until("a server to listen", 20, || TcpStream::connect(("127.0.0.1", port)).ok());
}

fn sh(dir: &Path, script: &str) -> String {
    let out = Command::new("sh").args(["-euc", script]).current_dir(dir).output().expect("sh");
    assert!(out.status.success(), "{script}: {out:?}");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn build(host: &Host, words: &[&str]) -> Result<String, String> {
    let outcome = host.run_words(&[&["build", "--progress", "plain"], words].concat());
    if outcome.code == 0 { Ok(outcome.stderr) } else { Err(outcome.stderr) }
}

/// Builds into a directory; what the file `f` of the result says.
fn result(host: &Host, words: &[&str]) -> Result<String, String> {
    let out = host.scratch().join("result");
    let _ = std::fs::remove_dir_all(&out);
    let out = out.display().to_string();
    build(host, &[words, &["-o", &out]].concat())?;
    std::fs::read_to_string(Path::new(&out).join("f")).map_err(|e| format!("no f: {e}"))
}

/// A repository `r.git` with branches, tags, a subdirectory and a submodule; the names of its commits.
fn repository(dir: &Path, port: u16) -> (String, String) {
    std::fs::create_dir_all(dir.join("module")).expect("made");
    std::fs::create_dir_all(dir.join("work")).expect("made");
    let who = "git config user.name n; git config user.email e@example.org";
    sh(
        &dir.join("module"),
        &format!(
            "git init -q -b main; {who}; echo module > m; git add m; git commit -qm m; git clone -q --bare . ../module.git"
        ),
    );
    let dockerfile = "FROM scratch AS git\nCOPY .git/HEAD f\nFROM scratch AS module\nCOPY module/m f\nFROM scratch\nCOPY f /\n";
    std::fs::write(dir.join("work/Dockerfile"), dockerfile).expect("written");
    let said = sh(
        &dir.join("work"),
        &format!(
            "git init -q -b main; {who}; echo one > f; git add .; git commit -qm one >&2; git tag v1; \
             git -c protocol.file.allow=always submodule --quiet add ../module.git module; \
             sed -i 's,url = .*,url = git://127.0.0.1:{port}/module.git,' .gitmodules; \
             mkdir sub; echo sub > sub/f; cp Dockerfile sub; git add .; git commit -qm two >&2; git tag -am noted v2; \
             git branch topic; echo three > f; git commit -qam three >&2; git clone -q --bare . ../r.git; \
             cd ../r.git; git update-server-info; git config uploadpack.allowAnySHA1InWant true; git rev-parse v1 main"
        ),
    );
    let mut commits = said.lines().map(str::to_owned);
    (commits.next().expect("one"), commits.next().expect("three"))
}

#[test]
fn repositories_are_contexts_and_sources() {
    let host = host!();
    ours_only!(host);
    let (port, web) = (wait::free_port(), wait::free_port());
    let dir = host.scratch().join("repos");
    let (one, three) = repository(&dir, port);
    let base = dir.display().to_string();
    let daemon = PathBuf::from(sh(&dir, "git --exec-path")).join("git-daemon");
    let _git = start(Command::new(daemon).args([
        "--export-all",
        "--reuseaddr",
        "--listen=127.0.0.1",
        &format!("--port={port}"),
        &format!("--base-path={base}"),
        &base,
    ]));
    // A server of files that knows nothing of git.
    let _web =
        start(Command::new("busybox").args(["httpd", "-f", "-p", &format!("127.0.0.1:{web}"), "-h", &base]));
    listening(port);
    listening(web);
    let (git, http) = (format!("git://127.0.0.1:{port}/r.git"), format!("http://127.0.0.1:{web}/r.git"));
    let cases = [
        ("", "three\n"),
        ("#v1", "one\n"),
        ("#topic:sub", "sub\n"),
        ("?ref=topic&subdir=sub", "sub\n"),
        ("?branch=main", "three\n"),
        ("?tag=v1", "one\n"),
        (&format!("?ref={one}"), "one\n"),
        (&format!("#{one}"), "one\n"),
        (&format!("?checksum={}", &three[..9]), "three\n"),
        (&format!("?tag=v1&commit={one}"), "one\n"),
        (&format!("?commit={one}&fetch-by-commit"), "one\n"),
    ];
    for remote in [&git, &http] {
        // Submodules are at the git server alone; the tags before them need none.
        for (tail, expected) in
            cases.iter().filter(|(tail, _)| remote == &git || tail.contains("v1") || tail.contains(&one))
        {
            let found = result(&host, &[&format!("{remote}{tail}")]);
            assert_eq!(found.as_deref(), Ok(*expected), "{remote}{tail}");
        }
    }
    for (tail, why) in [
        ("#nowhere", "repository does not contain ref nowhere"),
        ("?branch=v1", "does not contain ref refs/heads/v1"),
        (&format!("?ref={}", &one[..8]), "does not contain ref"),
        (&format!("?tag=v2&commit={one}"), "expected checksum to match"),
        ("?commit=nothex", "expected hex commit hash"),
        ("?tag=v1#main", "ref conflicts"),
        ("#topic:nowhere", "nowhere"),
        ("#topic:f", "no directory"),
    ] {
        let error = result(&host, &[&format!("{git}{tail}")]).expect_err(tail);
        assert!(error.contains(why), "{tail}: {error}");
    }
    for (target, tail, expected) in [
        ("git", "?keep-git-dir=true", Ok(format!("{three}\n"))),
        ("git", "?keep-git-dir&tag=v1", Ok(format!("{one}\n"))),
        ("git", "", Err("\"/.git/HEAD\": not found")),
        ("module", "", Ok("module\n".to_owned())),
        ("module", "?submodules=false", Err("\"/module/m\": not found")),
    ] {
        let found = result(&host, &["--target", target, &format!("{git}{tail}")]);
        match expected {
            Ok(text) => assert_eq!(found.as_deref(), Ok(text.as_str()), "{target} {tail}"),
            Err(why) => assert!(found.as_ref().is_err_and(|e| e.contains(why)), "{target} {tail}: {found:?}"),
        }
    }
    added(&host, &git, &one, &three, &dir);
}

/// ADD of a repository: its flags, and the cache.
fn added(host: &Host, git: &str, one: &str, three: &str, dir: &Path) {
    let file = |line: &str| {
        let path = host.scratch().write("added/Dockerfile", format!("FROM box AS b\nADD {line} /r/\nRUN cat /r/f > /f; date +%s%N >> /f\nFROM scratch\nCOPY --from=b /r /r\nCOPY --from=b /f /\n"));
        path.parent().expect("a directory").display().to_string()
    };
    let made = |line: &str| result(host, &[&file(line)]);
    let first = made(git).expect("added");
    assert!(first.starts_with("three\n"), "{first}");
    assert_eq!(made(git).as_ref(), Ok(&first), "a branch that has not moved");
    assert_eq!(
        made(&format!("--checksum={three} {git}")).as_ref(),
        Ok(&first),
        "the checksum is no other content"
    );
    assert_ne!(made(&format!("{git}#v1")).as_ref(), Ok(&first));
    sh(dir, "cd work; echo four > f; git commit -qam four; git push -q ../r.git main");
    assert!(made(git).expect("moved").starts_with("four\n"));
    for (line, why) in [
        (format!("--checksum={one} {git}"), "expected checksum to match"),
        (format!("--checksum=zz {git}"), "expected hex commit hash"),
        (format!("{git}#absent"), "does not contain ref absent"),
    ] {
        let error = made(&line).expect_err(&line);
        assert!(error.contains(why), "{line}: {error}");
    }
    made(&format!("--keep-git-dir=true --chown=12:34 --chmod=700 {git}?tag=v2")).expect("with .git");
    let out = host.scratch().join("result/r");
    let meta = out.join("f").metadata().expect("f");
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (12, 34, 0o700));
    assert!(out.join(".git/HEAD").is_file() && out.join("module/m").is_file());
    made(&format!("{git}?submodules=false")).expect("without");
    let there = |name: &str| out.join(name).exists();
    assert_eq!([".git", "module/.git", "module/m", "sub/f"].map(there), [false, false, false, true]);
}

#[test]
fn contexts_have_names_and_addresses() {
    let host = host!();
    ours_only!(host);
    let root = host.scratch().join("named");
    for (path, text) in [
        (
            "main/Dockerfile",
            "FROM scratch AS base\nCOPY f /f\nFROM base AS uses-stage\nFROM scratch AS uses-from\nCOPY --from=other f /f\nFROM box AS m\nRUN --mount=from=other,target=/o cat /o/f > /f\nFROM scratch AS uses-mount\nCOPY --from=m /f /f\nFROM other AS uses-image\n",
        ),
        ("main/f", "main\n"),
        ("other/f", "other\n"),
        ("other/left-out", "x\n"),
        ("other/.dockerignore", "left-out\n"),
    ] {
        host.scratch().write(&format!("named/{path}"), text);
    }
    let (main, other) = (root.join("main").display().to_string(), root.join("other").display().to_string());
    let made = |flags: &[&str]| result(&host, &[flags, &[&main]].concat());
    let context = |value: &str| format!("other={value}");
    for (target, context, expected) in [
        ("uses-from", context(&other), "other\n"),
        ("uses-mount", context(&other), "other\n"),
        ("uses-image", context(&other), "other\n"),
        ("uses-from", context("target:base"), "main\n"),
        ("uses-stage", format!("base={other}"), "other\n"),
    ] {
        let found = made(&["--target", target, "--build-context", &context]);
        assert_eq!(found.as_deref(), Ok(expected), "{target} {context}");
    }
    assert!(!host.scratch().join("result/left-out").exists());
    // An image, by name, from an archive, from a layout.
    host.scratch().write("named/image/Dockerfile", "FROM scratch\nCOPY <<E /f\nimage\nE\n");
    let image = root.join("image").display().to_string();
    build(&host, &["-t", "named-image", &image]).expect("an image");
    let found = made(&["--target", "uses-from", "--build-context", "other=docker-image://named-image"]);
    assert_eq!(found.as_deref(), Ok("image\n"));
    let archive = root.join("layout.tar").display().to_string();
    build(&host, &["-t", "named-image:v2", "-o", &format!("type=oci,dest={archive}"), &image])
        .expect("an archive");
    host.ok("rmi named-image");
    sh(&root, "mkdir layout; tar -xf layout.tar -C layout");
    let layout = root.join("layout").display().to_string();
    for name in ["", ":v2"] {
        let context = format!("other=oci-layout://{layout}{name}");
        for target in ["uses-from", "uses-image"] {
            let found = made(&["--target", target, "--build-context", &context]);
            assert_eq!(found.as_deref(), Ok("image\n"), "{target} {context}");
        }
    }
    assert!(!host.ok("images").contains("named-image"), "a layout gives no names");
    for (context, why) in [
        (format!("oci-layout://{layout}:absent"), "no such image in the layout"),
        ("oci-layout:///absent/layout".to_owned(), "/absent/layout"),
        ("/absent/directory".to_owned(), "/absent/directory"),
        ("target:absent".to_owned(), "target stage \"absent\" could not be found"),
        ("odd://x".to_owned(), "odd://x"),
    ] {
        let error = made(&["--target", "uses-from", "--build-context", &format!("other={context}")])
            .expect_err(&context);
        assert!(error.contains(why), "{context}: {error}");
    }
    over_http(&host, &root, &main);
}

fn over_http(host: &Host, root: &Path, main: &str) {
    let port = wait::free_port();
    let _web = start(
        Command::new("busybox").args(["httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h"]).arg(root),
    );
    listening(port);
    sh(
        root,
        "tar -C other -czf other.tar.gz .; tar -C main -cJf main.tar.xz .; cp main/Dockerfile alone; : > empty",
    );
    let url = |name: &str| format!("http://127.0.0.1:{port}/{name}");
    let context = format!("other={}", url("other.tar.gz"));
    let found = result(host, &["--target", "uses-from", "--build-context", &context, main]);
    assert_eq!(found.as_deref(), Ok("other\n"));
    assert_eq!(result(host, &["--target", "base", &url("main.tar.xz")]).as_deref(), Ok("main\n"));
    let named = ["--target", "uses-from", "--build-context", &context];
    assert_eq!(
        result(host, &[&named[..], &[&url("alone")]].concat()).as_deref(),
        Ok("other\n"),
        "a Dockerfile alone"
    );
    let error = result(host, &[&url("absent")]).expect_err("absent");
    assert!(error.contains("404"), "{error}");
    let error =
        result(host, &["--build-context", &format!("other={}", url("alone")), main]).expect_err("no archive");
    assert!(error.contains("no archive"), "{error}");
    assert!(result(host, &[&url("empty")]).is_err_and(|e| e.contains("cannot be empty")));
}

#[test]
fn secrets_have_owners_modes_and_sources() {
    let host = host!();
    ours_only!(host);
    let secret = host.scratch().write("secret", "s3cret").display().to_string();
    let text = "FROM box\n\
        RUN --mount=type=secret,id=a,mode=741,uid=100,gid=102,target=/deep/er/a test \"$(stat -c '%u %g %a' /deep/er/a)\" = '100 102 741'\n\
        RUN --mount=type=secret,id=a test \"$(stat -c '%u %g %a' /run/secrets/a)\" = '0 0 400' && test $(wc -c < /run/secrets/a) = 6\n\
        RUN --mount=type=secret,id=b,env=B test \"$B\" = from-env && test ! -e /run/secrets/b\n\
        RUN --mount=type=secret,target=/etc/c test \"$(cat /etc/c)\" = from-env\n\
        RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent\n\
        RUN --mount=type=secret,src=a,target=/x test -s /x\n\
        RUN test ! -e /deep && test ! -e /run/secrets && test ! -e /x\n";
    let dir = host.scratch().write("secrets/Dockerfile", text);
    let dir = dir.parent().expect("a directory").display().to_string();
    let mut command = host.command([
        "build",
        "--progress=plain",
        "--no-cache",
        "-t",
        "secrets",
        "--secret",
        &format!("id=a,src={secret}"),
        "--secret",
        "id=b,env=VARIABLE",
        "--secret",
        "type=env,id=c,env=VARIABLE",
        &dir,
    ]);
    let outcome = fluyt_testkit::host::finish(command.env("VARIABLE", "from-env"), b"", 120);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(!outcome.stderr.contains("s3cret") && !host.ok("history --no-trunc secrets").contains("s3cret"));
    let file = host
        .scratch()
        .write("required/Dockerfile", "FROM box\nRUN --mount=type=secret,id=need,required true\n");
    let needs = file.parent().expect("a directory").display().to_string();
    for (flags, dir, why) in [
        (&["--secret", "id=a,src=/absent/file"][..], &dir, "/absent/file"),
        (&["--secret", "id=a,env=NOT_SET_ANYWHERE"], &dir, "NOT_SET_ANYWHERE"),
        (&["--secret", "src=/x"], &dir, "secret missing ID"),
        (&["--secret", "id=a,colour=red"], &dir, "unexpected key 'colour'"),
        (&[], &needs, "secret need: not found"),
    ] {
        let error = build(&host, &[flags, &[dir]].concat()).expect_err(why);
        assert!(error.contains(why), "{flags:?}: {error}");
    }
}

/// A program and the libraries that it is linked with, in a directory; `None` where it is not installed.
fn with_libraries(program: &str, dir: &Path) -> Option<()> {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().ok()?;
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let listed = Command::new("ldd").arg(&path).output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for file in text.split_whitespace().filter(|word| word.starts_with('/')).chain([path.as_str()]) {
        let to = dir.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent()?).ok()?;
        std::fs::copy(file, to).ok()?;
    }
    Some(())
}

#[test]
fn steps_use_the_callers_agent() {
    let host = host!();
    ours_only!(host);
    let dir = host.scratch().join("agent");
    let Some(()) = with_libraries("ssh-add", &dir.join("tools")) else {
        return skip("ssh-add is not installed");
    };
    let socket = dir.join("socket");
    let _agent = start(Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket));
    wait::until("the agent", 20, || std::os::unix::net::UnixStream::connect(&socket).ok());
    sh(&dir, "ssh-keygen -q -t ed25519 -N '' -C the-test-key -f key; SSH_AUTH_SOCK=socket ssh-add -q key");
    let text = "FROM box\nCOPY tools /\n\
        RUN --mount=type=ssh ssh-add -l | grep the-test-key && test \"$(stat -c '%u %g %a' $SSH_AUTH_SOCK)\" = '0 0 600'\n\
        RUN --mount=type=ssh,mode=741,uid=100,gid=102 test \"$(stat -c '%u %g %a' $SSH_AUTH_SOCK)\" = '100 102 741'\n\
        RUN --mount=type=ssh --mount=type=ssh,id=second test $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 && SSH_AUTH_SOCK=/run/buildkit/ssh_agent.1 ssh-add -l | grep the-test-key\n\
        RUN --mount=type=ssh,id=absent test -z \"$SSH_AUTH_SOCK\" || test ! -e \"$SSH_AUTH_SOCK\"\n\
        RUN test ! -e /run/buildkit\n\
        USER 1000\nRUN --mount=type=ssh,uid=1000,target=/tmp/agent ssh-add -l | grep the-test-key\n";
    std::fs::write(dir.join("Dockerfile"), text).expect("written");
    let path = dir.display().to_string();
    // The agent's own socket is no file of the context: it is a socket.
    let (first, second) = (format!("default={}", socket.display()), format!("second={}", socket.display()));
    build(&host, &["--ssh", &first, "--ssh", &second, &path]).expect("built");
    // A step may use the keys and do nothing else with them.
    let text = "FROM box\nCOPY tools /\nRUN --mount=type=ssh ! ssh-add -D && ! ssh-add -x < /dev/null && ssh-add -l | grep the-test-key\n";
    std::fs::write(dir.join("Dockerfile"), text).expect("written");
    build(&host, &["--ssh", &first, &path]).expect("built");
    keys_in_files(&host, &dir);
    let needs = host.scratch().write("needs/Dockerfile", "FROM box\nRUN --mount=type=ssh,required true\n");
    let needs = needs.parent().expect("a directory").display().to_string();
    let error = build(&host, &[&needs]).expect_err("no agent");
    assert!(error.contains("unset ssh forward key default"), "{error}");
    let error = build(&host, &["--ssh", "default=/absent/socket", &needs]).expect_err("no socket");
    assert!(error.contains("/absent/socket"), "{error}");
}

/// Files of keys instead of an agent: of one that lives as long as the build.
fn keys_in_files(host: &Host, dir: &Path) {
    sh(
        dir,
        "ssh-keygen -q -t rsa -b 2048 -N '' -C second-key -f key2; ssh-keygen -q -t ed25519 -N word -f locked; chmod 644 key2",
    );
    let text = "FROM box\nCOPY tools /\nRUN --mount=type=ssh ssh-add -l > /keys && grep the-test-key /keys && grep second-key /keys && test $(wc -l < /keys) = 2\n";
    std::fs::write(dir.join("Dockerfile"), text).expect("written");
    let path = dir.display().to_string();
    let at = |name: &str| dir.join(name).display().to_string();
    build(host, &["--ssh", &format!("default={},{}", at("key"), at("key2")), &path]).expect("built");
    for (keys, why) in [
        (at("key.pub"), "key.pub"),
        (at("absent"), "absent"),
        (at("locked"), "locked"),
        (format!("{},{}", at("key"), at("socket")), "invalid combination"),
        (format!("{0},{0}", at("socket")), "only single socket"),
    ] {
        let error = build(host, &["--ssh", &format!("default={keys}"), &path]).expect_err(why);
        assert!(error.contains(why) && !error.contains("PRIVATE"), "{error}");
    }
}

#[test]
fn results_go_to_archives_and_registries() {
    let host = host!();
    ours_only!(host);
    let dir = host
        .scratch()
        .write("out/Dockerfile", "FROM box\nCOPY <<E /made\nhere\nE\nCMD [\"cat\", \"/made\"]\n");
    let dir = dir.parent().expect("a directory").display().to_string();
    let place = |name: &str| host.scratch().join(name).display().to_string();
    for (kind, name) in [("docker", "d.tar"), ("oci", "o.tar")] {
        let dest = place(name);
        build(&host, &["-t", "made:v1", "-o", &format!("type={kind},dest={dest}"), &dir]).expect(kind);
        let _ = host.run_words(&["rmi", "-f", "made:v1"]);
        host.ok_words(&["load", "-i", &dest]);
        assert_eq!(host.ok("run --rm made:v1"), "here", "{kind}");
        host.ok("rmi made:v1");
    }
    let tar = place("files.tar");
    build(&host, &["-o", &format!("type=tar,dest={tar}"), &dir]).expect("tar");
    assert_eq!(sh(host.scratch().path(), "tar -xOf files.tar made"), "here");
    let port = wait::free_port();
    let address = format!("127.0.0.1:{port}");
    let mut served = host.command(["registry", "serve", "--addr", &address]);
    served.env("FLUYT_ROOT", host.scratch().join("served"));
    let _served = start(&mut served);
    listening(port);
    let metadata = place("metadata.json");
    let name = format!("{address}/team/made:v2");
    build(&host, &["--push", "-t", &name, "--metadata-file", &metadata, &dir]).expect("pushed");
    let _ = host.run_words(&["rmi", "-f", &name]);
    host.ok_words(&["pull", &name]);
    assert_eq!(host.ok_words(&["run", "--rm", &name]), "here");
    let text = std::fs::read_to_string(metadata).expect("metadata");
    let document: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(document["containerimage.digest"].as_str().is_some_and(|d| d.starts_with("sha256:")), "{text}");
    let error = build(&host, &["--push", "-t", "127.0.0.1:1/nobody/made", &dir]).expect_err("nobody listens");
    assert!(error.contains("127.0.0.1:1"), "{error}");
}
