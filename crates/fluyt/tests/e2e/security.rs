//! What a container may not do, and the flags that change it.

use fluyt_testkit::mounts;

use crate::{host, ours_only, stay};

#[test]
fn capabilities() {
    let host = host!();
    let effective = |flags: &str| host.sh(flags, "grep CapEff /proc/self/status | awk '{print $2}'");
    assert_eq!(effective(""), "00000000a80425fb", "Docker's default set");
    assert_eq!(effective("--cap-drop ALL"), "0000000000000000");
    assert_eq!(effective("--cap-drop ALL --cap-add NET_ADMIN"), "0000000000001000");
    assert_eq!(effective("--cap-add CAP_SYS_TIME"), "00000000aa0425fb");
    assert_eq!(effective("-u user"), "0000000000000000");
    host.fails(125, "NO_SUCH", "run --rm --cap-add NO_SUCH box true");
}

#[test]
fn seccomp_and_no_new_privileges() {
    let host = host!();
    let status = |flags: &str, field: &str| {
        host.sh(flags, &format!("grep '^{field}:' /proc/self/status | awk '{{print $2}}'"))
    };
    assert_eq!(status("", "Seccomp"), "2");
    assert_eq!(status("--security-opt seccomp=unconfined", "Seccomp"), "0");
    if !host.is_reference() {
        // Docker asks for every capability; on a machine that has not all of them its runtime gives up.
        assert_eq!(status("--privileged", "Seccomp"), "0");
    }
    assert_eq!(status("", "NoNewPrivs"), "0");
    assert_eq!(status("--security-opt no-new-privileges", "NoNewPrivs"), "1");
    let denied = host.sh_outcome("", "unshare -U true");
    assert_ne!(denied.code, 0, "no user namespaces by default");
    let profile = host.scratch().write("deny.json", r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#);
    let flags = format!("--security-opt seccomp={}", profile.display());
    assert_ne!(host.sh_outcome(&flags, "mkdir /x").code, 0);
    assert_eq!(host.sh(&flags, "echo fine"), "fine");
    host.fails(125, "/no/such.json", "run --rm --security-opt seccomp=/no/such.json box true");
    host.fails(125, "nonsense", "run --rm --security-opt nonsense box true");
}

#[test]
fn proc_and_sys_are_covered() {
    let host = host!();
    assert_ne!(host.sh_outcome("", "echo 1 > /proc/sys/kernel/sysrq").code, 0);
    assert_ne!(host.sh_outcome("", "echo b > /proc/sysrq-trigger").code, 0);
    assert_eq!(
        host.sh("", "cat /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug 2>/dev/null | wc -c"),
        "0"
    );
    assert_eq!(host.sh("", "ls /sys/firmware | wc -l"), "0");
    assert_ne!(host.sh_outcome("", "mkdir /sys/fs/cgroup/x /sys/kernel/x").code, 0);
    assert_ne!(host.sh_outcome("", "mount -t tmpfs x /mnt; mount -t tmpfs x /tmp").code, 0);
    if !host.is_reference() {
        assert_eq!(host.sh("--privileged", "mount -t tmpfs x /tmp && echo mounted"), "mounted");
    }
}

#[test]
fn devices() {
    let host = host!();
    let listed = host.sh("", "ls /dev | tr '\\n' ' '");
    for name in
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd", "stdin"]
    {
        assert!(listed.split(' ').any(|d| d == name), "{name}: {listed}");
    }
    assert_eq!(host.sh("", "head -c 4 /dev/zero | wc -c; echo x > /dev/null && echo ok"), "4\nok");
    // Making a node is allowed, opening it is not: the loop control device is not on the list.
    assert_ne!(host.sh_outcome("", "mknod /tmp/d c1 10 237 && cat < /tmp/d").code, 0);
    assert_eq!(host.sh("--device /dev/null:/dev/mine:r", "test -c /dev/mine && echo there"), "there");
    if !host.is_reference() {
        // Docker 20.10 takes the message of this one for a missing command: 127.
        host.fails(125, "/dev/no-such", "run --rm --device /dev/no-such box true");
    }
}

#[test]
fn the_host_is_out_of_reach() {
    let host = host!();
    let root = host.root().to_string_lossy().into_owned();
    assert_ne!(host.sh_outcome("", &format!("ls {root}")).code, 0);
    assert_eq!(host.sh("", "ps | grep -c [m]onitor || true").lines().next(), Some("0"));
    let mounts = host.sh("", "awk '{print $2}' /proc/mounts | sort -u");
    for line in mounts.lines() {
        let known = ["/", "/proc", "/sys", "/dev", "/etc/"];
        assert!(known.iter().any(|k| line == *k || (*k != "/" && line.starts_with(k))), "{line}");
    }
    stay(&host, "--name c1");
    assert_ne!(host.run_words(&["exec", "c1", "sh", "-c", "cat < /proc/1/root/../../../etc/shadow"]).code, 0);
    host.ok("rm -f c1");
}

/// What user 65534 can read, write, execute or pass through right below the directories.
fn open_to_strangers(directories: &[&std::path::Path]) -> String {
    use std::os::unix::process::CommandExt;
    let mut find = std::process::Command::new("find");
    find.args(directories).args(["-mindepth", "1", "-maxdepth", "3", "("]);
    find.args(["-readable", "-o", "-writable", "-o", "-executable", ")"]);
    let found = find.uid(65534).gid(65534).current_dir("/").output().expect("find runs");
    String::from_utf8_lossy(&found.stdout).into_owned()
}

#[test]
fn other_users_of_the_host_reach_nothing_of_ours() {
    use std::os::unix::fs::PermissionsExt;
    let Some(host) = fluyt_testkit::Host::new(crate::PROGRAM) else { return };
    ours_only!(host);
    // Somebody else has made the data root, and everybody can get to it.
    let set = |path: &std::path::Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    set(host.scratch().path(), 0o755);
    std::fs::create_dir_all(host.root()).expect("made");
    set(host.root(), 0o755);
    host.load_box();
    host.ok("network create n");
    stay(&host, "--name c1 -e DBPW=hunter2 --ipc shareable --network n --restart always -v data:/data");
    let dockerfile = "FROM box\nRUN --mount=type=cache,target=/c touch /c/x && chmod u+s /bin/busybox\n";
    let dir = host.scratch().write("context/Dockerfile", dockerfile);
    host.ok_words(&["build", "-t", "built", &dir.parent().expect("a directory").to_string_lossy()]);
    let mapped = host.run_words(&["run", "--name", "c2", "--userns=auto", "box", "true"]);
    assert!(mapped.code == 0 || mapped.stderr.contains("cannot map ids"), "{mapped:?}");
    let run = host.scope().run();
    assert_eq!(open_to_strangers(&[host.root(), &run]), "");
    // What an earlier version left open is closed by the next command.
    for name in ["l", "layers", "containers", "volumes", "build", "db.sqlite", "db.sqlite-wal"] {
        set(&host.root().join(name), 0o755);
    }
    assert_ne!(open_to_strangers(&[host.root()]), "", "the test sees what is open");
    host.ok("ps");
    assert_eq!(open_to_strangers(&[host.root(), &run]), "");
    host.ok("rm -f c1");
    host.run("rm -f c2");
}

#[test]
fn the_program_cannot_be_overwritten_from_inside() {
    let host = host!();
    if host.is_reference() {
        return fluyt_testkit::skip("about our binary");
    }
    let before = std::fs::read(crate::PROGRAM).expect("the program");
    let id = host.ok("create box true");
    host.ok_words(&["commit", "-c", r#"ENTRYPOINT ["/proc/self/exe"]"#, &id, "evil"]);
    host.ok(&format!("rm {id}"));
    host.run("run --rm evil");
    stay(&host, "--name c1");
    host.run("exec c1 /proc/self/exe");
    let script = "for p in /proc/[0-9]*; do echo x >> $p/exe; done 2>/dev/null; true";
    host.ok_words(&["exec", "c1", "sh", "-c", script]);
    assert!(
        std::fs::read(crate::PROGRAM).expect("the program") == before,
        "the program was changed from inside"
    );
    host.ok("rm -f c1");
}

/// Whether the kernel enforces AppArmor profiles and the host can load them; else the end of the test, said as a skip.
fn has_apparmor() -> bool {
    let on = std::path::Path::new("/sys/kernel/security/apparmor/profiles").exists();
    let parser = std::path::Path::new("/usr/sbin/apparmor_parser").exists();
    if !(on && parser) {
        fluyt_testkit::skip("AppArmor is off here, or apparmor_parser is not installed");
    }
    on && parser
}

/// The label of the container's process, `unconfined` or `NAME (enforce)`.
const LABEL: &str = "cat /proc/self/attr/current";

#[test]
fn apparmor_confines_by_default() {
    let host = host!();
    ours_only!(host);
    if !has_apparmor() {
        return;
    }
    assert_eq!(host.sh("", LABEL), "fluyt-default (enforce)");
    let profiles = std::fs::read_to_string("/sys/kernel/security/apparmor/profiles").expect("AppArmor");
    assert!(profiles.contains("fluyt-default (enforce)"), "loaded on demand: {profiles}");
    assert_eq!(host.sh("--privileged", LABEL), "unconfined");
    assert_eq!(host.sh("--security-opt apparmor=unconfined", LABEL), "unconfined");
    host.fails(125, "no-such-profile", "run --rm --security-opt apparmor=no-such-profile box true");
    stay(&host, "--name c1");
    assert_eq!(host.field("c1", "{{.AppArmorProfile}}"), "fluyt-default");
    assert_eq!(host.ok("exec c1 cat /proc/self/attr/current"), "fluyt-default (enforce)");
    assert_eq!(host.ok("exec --privileged c1 cat /proc/self/attr/current"), "unconfined");
    // Signals of the host arrive, those of the container stay in it.
    host.ok("stop -t 20 c1");
    assert_eq!(host.field("c1", "{{.State.ExitCode}}"), "0");
    host.ok("rm c1");
    let info = host.run("info");
    assert!(info.stdout.contains("apparmor") && !info.stderr.contains("AppArmor"), "{info:?}");
}

#[test]
fn apparmor_denies_what_capabilities_and_mounts_would_allow() {
    let host = host!();
    ours_only!(host);
    if !has_apparmor() {
        return;
    }
    // Everything else that protects is off: what is denied now, the profile denies.
    let flags = "--cap-add ALL --security-opt seccomp=unconfined --security-opt systempaths=unconfined";
    let script = "mount -t proc proc /proc; mount -o remount,rw /sys; mount -t tmpfs t /tmp; \
        for f in /proc/sys/kernel/printk /proc/sys/vm/swappiness /proc/sys/net/ipv4/ip_forward /proc/sysrq-trigger; do \
            (exec 3>>$f) 2>/dev/null && echo open $f; done; \
        (exec 3</proc/kcore) 2>/dev/null && echo open kcore; \
        (exec 3>>/sys/kernel/profiling) 2>/dev/null && echo open profiling; \
        (exec 3>>/proc/sys/kernel/shmmax) && echo own shm; \
        echo x > /tmp/f && cat /tmp/f; (exec 3>>/proc/self/oom_score_adj) && echo own process; \
        sleep 100 & kill $! && echo own signal; mkdir -p /sys/fs/cgroup/x; grep -c ' /tmp tmpfs' /proc/mounts";
    let outcome = host.sh_outcome(flags, script);
    assert_eq!(outcome.text(), "own shm\nx\nown process\nown signal\n0", "{outcome:?}");
    // The same without the profile, so that the test tests it.
    let unconfined = format!("{flags} --security-opt apparmor=unconfined");
    let outcome = host
        .sh_outcome(&unconfined, "mount -t tmpfs t /tmp && (exec 3>>/proc/sys/kernel/printk) && echo open");
    assert_eq!(outcome.text(), "open", "{outcome:?}");
}

#[test]
fn a_profile_of_ones_own() {
    let host = host!();
    ours_only!(host);
    if !has_apparmor() {
        return;
    }
    let name = format!("fluyt-test-{}", std::process::id());
    let text = format!(
        "profile {name} flags=(attach_disconnected, mediate_deleted) {{\n  file,\n  capability,\n  network,\n  deny /tmp/secret rw,\n}}\n"
    );
    let file = host.scratch().write("profile", text);
    let file = file.to_str().expect("a path");
    mounts::run(&["apparmor_parser", "-Kr", file]);
    let flags = format!("--security-opt apparmor={name}");
    let script = format!("{LABEL}; echo x > /tmp/other && echo other; echo x > /tmp/secret || echo denied");
    assert_eq!(host.sh(&flags, &script), format!("{name} (enforce)\nother\ndenied"));
    assert_eq!(host.sh(&format!("--privileged {flags}"), LABEL), format!("{name} (enforce)"));
    mounts::run(&["apparmor_parser", "-R", file]);
}
