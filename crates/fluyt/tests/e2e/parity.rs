//! Small things that programs written for Docker rely on, each found by running the same commands with both.

use serde_json::json;

use crate::{host, ours_only, stay};

#[test]
fn a_tmpfs_that_the_image_does_not_know_is_everybodys() {
    let host = host!();
    host.ok_words(&["create", "--name", "fs", "--tmpfs", "/fresh", "-u", "1000", "box", "touch", "/fresh/f"]);
    for start in 1..=2 {
        host.ok("start -a fs");
        assert_eq!(host.field("fs", "{{.State.ExitCode}}"), "0", "start {start}");
    }
}

#[test]
fn limits_of_the_process_do_not_starve_its_start() {
    let host = host!();
    let line = "--ulimit nofile=8:9 --ulimit fsize=0 --sysctl net.core.somaxconn=99 --tmpfs /a --init";
    assert_eq!(host.sh(line, "ulimit -n; ulimit -Hn; cat /proc/sys/net/core/somaxconn"), "8\n9\n99");
}

#[test]
fn a_user_has_all_groups_of_its_account_and_its_own_among_them() {
    let host = host!();
    let accounts = "printf 'root:x:0:0::/root:/bin/sh\nweb:x:33:34::/w:/bin/sh\n' >/etc/passwd; \
                    printf 'web:x:34:\nwheel:x:10:root,web\n' >/etc/group";
    host.ok_words(&["run", "--name", "made", "box", "sh", "-c", accounts]);
    host.ok("commit made accounts");
    let groups = |user: &str| {
        let mut words = vec!["run", "--rm"];
        words.extend(user.split_whitespace());
        words.extend(["accounts", "sh", "-c", "grep ^Groups /proc/self/status | cut -f2"]);
        host.ok_words(&words).trim().to_owned()
    };
    assert_eq!(groups(""), "0 10");
    assert_eq!(groups("-u web"), "10 34");
    assert_eq!(groups("-u 33 --group-add 77"), "10 34 77");
    assert_eq!(groups("-u 1234:55"), "55");
}

#[test]
fn what_was_killed_has_ended() {
    let host = host!();
    for round in 0..5 {
        let id = stay(&host, "");
        host.ok(&format!("kill {id}"));
        assert_eq!(host.field(&id, "{{.State.Status}}"), "exited", "round {round}");
        host.ok(&format!("rm {id}"));
    }
}

#[test]
fn an_image_of_another_platform_is_not_run_for_one_that_was_asked_for() {
    let host = host!();
    let needle = "does not provide the specified platform (linux/s390x)";
    host.fails(125, needle, "run --rm --pull never --platform linux/s390x box true");
    host.ok("run --rm --pull never --platform linux/amd64 box true");
}

#[test]
fn choices_that_there_are_not_are_refused() {
    let host = host!();
    for (flags, needle) in [
        ("--runtime nope", "nope"),
        ("--isolation hyperv", "hyperv"),
        ("--storage-opt size=1G", "storage-opt"),
        ("--health-cmd true --health-interval 1us", "1ms"),
        ("--health-cmd true --health-retries -1", "egative"),
    ] {
        host.fails(125, needle, &format!("run --rm {flags} box true"));
    }
    host.ok("run --rm --runtime runc --isolation default box true");
    assert_eq!(host.ok_words(&["run", "--rm", "--name", "", "box", "echo", "named"]), "named");
}

#[test]
fn published_ports_on_the_hosts_network_are_a_warning() {
    let host = host!();
    let outcome = host.run("run --rm --network host -p 80:80 box true");
    assert_eq!(outcome.code, 0);
    assert!(outcome.stderr.contains("Published ports are discarded"), "{outcome:?}");
}

#[test]
fn a_container_is_marked_and_weighs_nothing() {
    let host = host!();
    host.ok("run --name marked box test -e /.dockerenv");
    assert_eq!(host.ok("diff marked"), "");
    assert_eq!(host.field("marked", "{{.State.ExitCode}}"), "0");
    let size = host.ok_words(&["ps", "-as", "--format", "{{.Size}}"]);
    assert!(size.starts_with("0B (virtual "), "{size}");
}

#[test]
fn defaults_are_spelled_out_by_inspect() {
    let host = host!();
    ours_only!(host);
    let id = stay(&host, "--memory 64m --cap-add net_admin");
    let view = host.inspect(&id);
    let set = &view["HostConfig"];
    assert_eq!(set["MemorySwap"], json!(128 << 20));
    assert_eq!(set["CapAdd"], json!(["CAP_NET_ADMIN"]));
    assert_eq!((&set["CgroupnsMode"], &set["IpcMode"]), (&json!("private"), &json!("private")));
    assert_eq!(set["OomKillDisable"], json!(false));
    assert!(set["MaskedPaths"].as_array().is_some_and(|p| p.contains(&json!("/proc/kcore"))));
    assert!(set["ReadonlyPaths"].as_array().is_some_and(|p| p.contains(&json!("/proc/sys"))));
    assert_ne!(host.field(&id, "{{.NetworkSettings.IPAddress}}"), "");
    host.ok(&format!("kill {id}"));
    assert_eq!(host.field(&id, "{{.NetworkSettings.IPAddress}}"), "");
}

#[test]
fn copying_to_a_directory_that_is_not_there_says_so() {
    let host = host!();
    host.ok("create --name still box true");
    host.fails(1, "Could not find the file /no/such in container still", "cp /etc/hostname still:/no/such/x");
}

#[test]
fn a_command_that_cannot_be_started_ends_with_126() {
    let host = host!();
    let id = stay(&host, "");
    host.fails(126, "/no/such", &format!("exec -w /no/such {id} true"));
    host.fails(126, "nobody-here", &format!("exec -u nobody-here {id} true"));
    host.fails(127, "no-such-program", &format!("exec {id} no-such-program"));
    host.ok(&format!("stop -t 0 {id}"));
    host.fails(1, "not running", &format!("exec {id} true"));
}
