//! cp, diff, commit, export: the files of a container, running or not.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use fluyt_testkit::host::BOX;

use crate::{host, ours_only, stay};

#[test]
fn cp_in_and_out() {
    let host = host!();
    let scratch = host.scratch();
    let file = scratch.write("in.txt", "content\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("mode");
    for state in ["running", "created"] {
        if state == "running" {
            stay(&host, "--name c1");
        } else {
            host.ok("create --name c1 box true");
        }
        host.ok_words(&["cp", file.to_str().expect("a path"), "c1:/tmp/"]);
        host.ok_words(&["cp", file.to_str().expect("a path"), "c1:/tmp/renamed"]);
        let out = scratch.join(format!("out-{state}"));
        host.ok_words(&["cp", "c1:/tmp/renamed", out.to_str().expect("a path")]);
        assert_eq!(fs::read_to_string(&out).expect("copied"), "content\n");
        assert_eq!(fs::metadata(&out).expect("copied").mode() & 0o777, 0o640);
        host.ok("rm -f c1");
    }
}

#[test]
fn cp_of_directories_and_streams() {
    let host = host!();
    let scratch = host.scratch();
    scratch.write("tree/a", "a");
    scratch.write("tree/sub/b", "b");
    std::os::unix::fs::symlink("a", scratch.join("tree/link")).expect("link");
    stay(&host, "--name c1");
    host.ok("exec c1 mkdir /there");
    let tree = scratch.join("tree");
    let tree = tree.to_str().expect("a path");
    host.ok_words(&["cp", tree, "c1:/there"]);
    assert_eq!(host.ok("exec c1 cat /there/tree/sub/b"), "b");
    host.ok_words(&["cp", tree, "c1:/fresh"]);
    assert_eq!(host.ok("exec c1 cat /fresh/a"), "a");
    host.ok_words(&["cp", &format!("{tree}/."), "c1:/there"]);
    assert_eq!(host.ok("exec c1 readlink /there/link"), "a");
    let mut command = host.command(["cp", "c1:/fresh", "-"]);
    let output = command.output().expect("ran");
    assert!(output.status.success());
    let archive = scratch.write("out.tar", &output.stdout);
    let listed = Command::new("tar").arg("-tf").arg(&archive).output().expect("tar");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.lines().any(|l| l == "fresh/sub/b"), "{listed}");
    let outcome = host.run_with_input(&["cp", "-", "c1:/tmp"], &output.stdout);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(host.ok("exec c1 cat /tmp/fresh/sub/b"), "b");
    host.ok("rm -f c1");
}

#[test]
fn cp_says_what_is_missing() {
    let host = host!();
    let file = host.scratch().write("f", "x");
    let file = file.to_str().expect("a path").to_owned();
    stay(&host, "--name c1");
    host.fails(1, "/no/file", "cp c1:/no/file .");
    host.fails(1, "/not", "cp /not/here c1:/tmp");
    host.fails_words(1, "absent", &["cp", &file, "absent:/tmp"]);
    host.fails_words(1, "/no/dir", &["cp", &file, "c1:/no/dir/"]);
    host.fails(1, "", &format!("cp {file} {file}"));
    host.ok("rm -f c1");
}

#[test]
fn cp_stays_inside_the_container() {
    let host = host!();
    let victim = host.scratch().join("victim");
    fs::create_dir(&victim).expect("made");
    let file = host.scratch().write("f", "x");
    stay(&host, "--name c1");
    host.ok_words(&["exec", "c1", "ln", "-s", victim.to_str().expect("a path"), "/escape"]);
    host.ok_words(&["exec", "c1", "ln", "-s", "/../../../../../../etc/hostname", "/up"]);
    // Where the link points does not exist in the container: a copy through it must not create it on the host.
    host.run_words(&["cp", file.to_str().expect("a path"), "c1:/escape/f"]);
    assert_eq!(fs::read_dir(&victim).expect("read").count(), 0, "written outside");
    let inside = host.ok("exec c1 cat /etc/hostname");
    let out = host.scratch().join("up");
    host.ok_words(&["cp", "-L", "c1:/up", out.to_str().expect("a path")]);
    assert_eq!(fs::read_to_string(&out).expect("copied").trim(), inside.trim());
    host.ok("rm -f c1");
}

#[test]
fn cp_reaches_volumes_and_keeps_owners_with_a() {
    let host = host!();
    let file = host.scratch().write("f", "owned");
    std::os::unix::fs::chown(&file, Some(1234), Some(4321)).expect("chown");
    let file = file.to_str().expect("a path").to_owned();
    host.ok("create --name c1 -v data:/data box cat /data/f");
    host.ok_words(&["cp", "-a", &file, "c1:/data/f"]);
    assert_eq!(host.ok("start -a c1"), "owned");
    host.ok("rm c1");
    assert_eq!(host.sh("-v data:/data", "stat -c %u:%g /data/f"), "1234:4321");
}

#[test]
fn diff_names_what_changed() {
    let host = host!();
    host.ok_words(&[
        "run",
        "--name",
        "c1",
        BOX,
        "sh",
        "-c",
        "echo x > /new; rm /etc/group; echo y >> /etc/passwd; mkdir -p /d/e",
    ]);
    let text = host.ok("diff c1");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A /d", "A /d/e", "A /new", "C /etc", "C /etc/passwd", "D /etc/group"]);
    host.fails(1, "absent", "diff absent");
    host.ok("rm c1");
}

#[test]
fn commit_makes_an_image() {
    let host = host!();
    host.ok_words(&[
        "run",
        "--name",
        "c1",
        BOX,
        "sh",
        "-c",
        "echo new > /new; rm /etc/group; chmod 700 /home",
    ]);
    let id = host.ok_words(&[
        "commit",
        "-m",
        "why",
        "-a",
        "me",
        "-c",
        "ENV X=1",
        "-c",
        "WORKDIR /home",
        "-c",
        "LABEL a=b",
        "-c",
        r#"CMD ["sh", "-c", "cat /new; pwd; echo $X"]"#,
        "c1",
        "made:1",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(host.ok("run --rm made:1"), "new\n/home\n1");
    assert_eq!(host.sh_outcome("", "true").code, 0);
    assert_eq!(host.run("run --rm made:1 cat /etc/group").code, 1, "what was removed stays removed");
    assert_eq!(host.ok("run --rm made:1 stat -c %a /home"), "700");
    assert_eq!(
        host.ok_words(&["image", "inspect", "-f", "{{.Author}} {{.Comment}} {{.Config.Labels.a}}", "made:1"]),
        "me why b"
    );
    assert_eq!(host.ok("history -q made:1").lines().count(), 2);
    host.ok("rm c1");
}

#[test]
fn commit_of_a_running_container_pauses_it_for_the_while() {
    let host = host!();
    stay(&host, "--name c1");
    host.ok_words(&["exec", "c1", "sh", "-c", "echo kept > /kept"]);
    host.ok("commit c1 live");
    assert_eq!(host.field("c1", "{{.State.Status}}"), "running");
    assert_eq!(host.ok("run --rm live cat /kept"), "kept");
    host.ok("rm -f c1");
}

#[test]
fn export_and_import_carry_the_whole_tree() {
    let host = host!();
    host.ok_words(&[
        "run",
        "--name",
        "c1",
        BOX,
        "sh",
        "-c",
        "echo new > /new; ln /new /hard; mkfifo /fifo; chown 5:6 /new",
    ]);
    let archive = host.scratch().join("c.tar");
    let archive = archive.to_str().expect("a path");
    host.ok_words(&["export", "-o", archive, "c1"]);
    host.ok_words(&["import", "-c", r#"CMD ["cat", "/new"]"#, "-m", "flat", archive, "flat:1"]);
    assert_eq!(host.ok("run --rm flat:1"), "new");
    assert_eq!(
        host.ok_words(&[
            "run",
            "--rm",
            "flat:1",
            "sh",
            "-c",
            "stat -c %u:%g:%h /new; test -p /fifo && echo fifo"
        ]),
        "5:6:2\nfifo"
    );
    let piped = std::fs::read(archive).expect("exported");
    let outcome = host.run_with_input(&["import", "-", "piped"], &piped);
    assert!(outcome.success().starts_with("sha256:"));
    host.fails(1, "/no/such.tar", "import /no/such.tar x");
    host.ok("rm c1");
}

#[test]
fn a_link_into_another_process_leads_nowhere() {
    let host = host!();
    ours_only!(host);
    let outside = host.scratch().join("outside");
    std::fs::create_dir_all(&outside).expect("made");
    std::fs::write(outside.join("secret"), "of the host").expect("written");
    let link = format!("/proc/1/root{}", outside.display());
    host.ok("run -d --name agent --pid host --cap-drop ALL box sleep 600");
    host.ok(&format!("exec agent ln -s {link} /app"));
    let out = host.scratch().join("out").display().to_string();
    assert_ne!(host.run(&format!("cp agent:/app/secret {out}")).code, 0);
    assert_ne!(host.run(&format!("cp -L agent:/app {out}")).code, 0);
    host.scratch().write("planted", "by the container");
    let planted = host.scratch().join("planted").display().to_string();
    host.run(&format!("cp {planted} agent:/app/planted"));
    assert!(!outside.join("planted").exists(), "it was written to the host");
    // The container has lost nothing by being looked at.
    assert_eq!(host.ok("exec agent ls /proc/self/comm"), "/proc/self/comm");
    host.ok("rm -f agent");
}

#[test]
fn directories_that_are_alive_are_copied_whole() {
    let host = host!();
    ours_only!(host);
    let serve = "mkdir /d; nc -ll -s local:/d/s.sock & while true; do echo line >>/d/log; done";
    host.ok_words(&["run", "-d", "--name", "busy", "box", "sh", "-c", serve]);
    let more = "until [ -s /d/log ]; do sleep 0.01; done; mkfifo /d/pipe; ln /d/log /d/again; mkdir /srv; ln -s /srv /d/run";
    host.ok_words(&["exec", "busy", "sh", "-c", more]);
    for n in 0..5 {
        let out = host.scratch().join(format!("out{n}"));
        host.ok(&format!("cp busy:/d {}", out.display()));
        let text = std::fs::read_to_string(out.join("log")).expect("the file that grows");
        assert!(text.starts_with("line\n"), "{:?}", text.get(..20));
    }
    // A link of the container's own is followed on the way in.
    host.scratch().write("in/run/f", "through the link");
    let tar =
        Command::new("tar").arg("-C").arg(host.scratch().join("in")).args(["-cf", "-", "run/f"]).output();
    let outcome = host.run_with_input(&["cp", "-", "busy:/d"], &tar.expect("tar").stdout);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(host.ok("exec busy cat /srv/f"), "through the link");
    host.ok("rm -f busy");
}
