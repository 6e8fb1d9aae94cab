//! What every container has.

use crate::bundle::Bundle;
use serde_json::json;

#[test]
fn exit_codes_are_passed_on() {
    let Some(mut b) = Bundle::new() else { return };
    assert_eq!(b.script("exit 42").run().code, 42);
    assert_eq!(b.script("sh -c 'kill -9 $$; true'; exit $?").run().code, 137);
}

#[test]
fn default_devices_and_links_are_there() {
    let Some(mut b) = Bundle::new() else { return };
    let out = b.sh(
        "for d in null zero full random urandom tty; do stat -c '%n %a %t:%T %F' /dev/$d; done; \
         for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; echo x > /dev/null; head -c1 /dev/zero | wc -c",
    );
    for line in [
        "/dev/null 666 1:3 character special file",
        "/dev/tty 666 5:0 character special file",
        "fd /proc/self/fd",
        "ptmx pts/ptmx",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
}

#[test]
fn no_descriptor_leaks_in() {
    let Some(mut b) = Bundle::new() else { return };
    // A descriptor of the caller without close-on-exec must not pass.
    // In subshells: while it makes a pipeline, a shell holds an end of its pipe itself.
    b.script("(ls /proc/self/fd | wc -l); (ls /proc/1/fd | wc -l); true");
    b.write_config();
    let dir = b.scratch.path().display().to_string();
    let id = b.id.clone();
    let inner = format!("exec 7</ 8</etc/passwd; exec \"$@\"; echo {dir}");
    let runtime = b.command(&["run", &id]);
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", &inner, "sh"])
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .current_dir(b.scratch.path());
    let out = String::from_utf8_lossy(&shell.output().expect("sh").stdout).into_owned();
    // ls itself has the directory open.
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["4", "3"], "{out}");
}

#[test]
fn masked_and_read_only_paths() {
    let Some(mut b) = Bundle::new() else { return };
    let out = b.sh(
        "wc -c < /proc/keys; ls /sys/firmware | wc -l; ls /proc/acpi 2>/dev/null | wc -l; \
         echo 1 > /proc/sys/kernel/domainname 2>/dev/null || echo refused; cat /proc/kcore 2>/dev/null | wc -c; \
         touch /sys/firmware/x 2>/dev/null || echo refused",
    );
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["0", "0", "0", "refused", "0", "refused"]);
}

#[test]
fn the_root_can_be_read_only() {
    let Some(mut b) = Bundle::new() else { return };
    assert_eq!(b.sh("touch /x && echo written"), "written");
    b.spec["root"]["readonly"] = json!(true);
    assert_eq!(b.sh("touch /y 2>/dev/null || echo refused; touch /dev/shm/z && echo shm"), "refused\nshm");
}

#[test]
fn the_binary_cannot_be_written_from_inside() {
    let Some(mut b) = Bundle::new() else { return };
    if std::env::var_os("FLUYT_TEST_RUNTIME").is_some() {
        return;
    }
    // The program is the runtime itself, seen through its own /proc/self/exe: it must be a sealed copy.
    std::os::unix::fs::symlink("/proc/self/exe", b.rootfs().join("evil")).expect("symlink");
    b.spec["process"]["args"] = json!(["/evil", "runtime", "--version"]);
    let said = b.run();
    assert!(said.out.contains("fluyt version"), "{}{}", said.out, said.err);
    let before = std::fs::metadata(env!("CARGO_BIN_EXE_fluyt")).expect("binary");
    b.start_sleeping();
    b.exec("for p in /proc/[0-9]*/exe; do (echo x > $p) 2>/dev/null && echo overwritten $p; done; true");
    let after = std::fs::metadata(env!("CARGO_BIN_EXE_fluyt")).expect("binary");
    assert_eq!(
        (before.len(), before.modified().expect("time")),
        (after.len(), after.modified().expect("time"))
    );
}

#[test]
fn errors_name_what_is_wrong_and_leave_nothing() {
    let Some(mut b) = Bundle::new() else { return };
    if std::env::var_os("FLUYT_TEST_RUNTIME").is_some() {
        return;
    }
    for (args, words) in [
        (json!(["nope"]), "executable file not found in $PATH"),
        (json!(["/nope"]), "stat /nope: no such file or directory"),
        (json!(["/etc"]), "is a directory"),
        (json!([]), "process.args must not be empty"),
    ] {
        b.spec["process"]["args"] = args;
        b.run().fails(1, words);
    }
    std::fs::write(b.rootfs().join("plain"), "x").expect("file");
    b.spec["process"]["args"] = json!(["/plain"]);
    b.run().fails(1, "permission denied");
    b.spec["process"]["args"] = json!(["/bin/true"]);
    b.mount(json!({"destination": "/mnt", "type": "bind", "source": "/no/such", "options": ["bind"]}));
    b.run().fails(1, "/no/such");
    b.runtime(&["state", "absent"]).fails(1, "container does not exist: absent");
    b.runtime(&["run", "bad/id"]).fails(1, "invalid container id");
    b.runtime(&["frobnicate"]).fails(1, "No help topic for 'frobnicate'");
}

#[test]
fn errors_go_to_the_log_as_json() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["process"]["args"] = json!(["nope"]);
    b.write_config();
    let log = b.scratch.join("log.json");
    let id = b.id.clone();
    let said = b.runtime(&["--log", log.to_str().expect("utf-8"), "--log-format", "json", "run", &id]);
    assert_ne!(said.code, 0);
    let text = std::fs::read_to_string(log).expect("log");
    let line: serde_json::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("json");
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().expect("msg").contains("nope"), "{line}");
}
