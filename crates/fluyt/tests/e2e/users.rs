//! User namespaces: a container whose root is nobody on the host, and files that are what they seem everywhere.

use std::os::unix::fs::MetadataExt;

use fluyt_testkit::Host;
use fluyt_testkit::host::BOX;
use fluyt_testkit::wait::{http_get, until};

use crate::{host, ours_only, stay};

/// Whether the file system of the data root can show ids mapped; says so if not.
fn can_map(host: &Host) -> bool {
    let tried = host.run_words(&["run", "--rm", "--userns=auto", BOX, "true"]);
    if tried.stderr.contains("cannot map ids") {
        fluyt_testkit::skip("the file system of the data root has no mapped mounts");
        return false;
    }
    assert_eq!(tried.code, 0, "{tried:?}");
    true
}

/// Where root of a running container is on the host.
fn outer_root(host: &Host, name: &str) -> u32 {
    let pid = host.field(name, "{{.State.Pid}}");
    std::fs::metadata(format!("/proc/{pid}")).expect("it runs").uid()
}

#[test]
fn every_container_has_ids_of_its_own() {
    let host = host!();
    ours_only!(host);
    if !can_map(&host) {
        return;
    }
    stay(&host, "--name c1 --userns=auto");
    stay(&host, "--name c2 --userns=auto:size=2000");
    let (one, two) = (outer_root(&host, "c1"), outer_root(&host, "c2"));
    assert!(one >= 65536 && two >= 65536 && (one + 65536 <= two || two + 2000 <= one), "{one} {two}");
    let map = |name: &str| {
        let text = host.ok(&format!("exec {name} cat /proc/self/uid_map /proc/self/gid_map"));
        text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(map("c2"), ["0", &two.to_string(), "2000", "0", &two.to_string(), "2000"]);
    assert_eq!(host.ok("exec c1 id -u"), "0");
    // Streams can be opened again by their owner, whoever that is outside.
    assert_eq!(host.sh("--userns=auto", "echo again > /dev/stdout"), "again");
    assert_eq!(host.sh("--userns=auto -u user", "echo again > /dev/stdout"), "again");
    assert_eq!(host.ok_words(&["exec", "c1", "sh", "-c", "echo again > /dev/stdout"]), "again");
    // A stopped container keeps its range, another may join a running one's.
    host.ok("restart -t 0 c1");
    assert_eq!(outer_root(&host, "c1"), one);
    stay(&host, "--name c3 --userns=container:c1");
    assert_eq!(outer_root(&host, "c3"), one);
    stay(&host, "--name c4 --uidmap 0:300000:1000 --gidmap 0:400000:1000");
    assert_eq!(outer_root(&host, "c4"), 300_000);
    assert_eq!(map("c4"), ["0", "300000", "1000", "0", "400000", "1000"]);
    assert_eq!(host.field("c1", "{{.HostConfig.UsernsMode}}"), "auto");
    host.ok("rm -f c1 c2 c3 c4");
}

#[test]
fn files_have_the_containers_owners_everywhere() {
    let host = host!();
    ours_only!(host);
    if !can_map(&host) {
        return;
    }
    let shared = host.scratch().join("shared");
    std::fs::create_dir(&shared).expect("made");
    let flags = format!(
        "--name c1 --userns=auto -v data:/data -v {0}:/bound -v {0}:/plain:noidmap",
        shared.display()
    );
    stay(&host, &flags);
    host.ok_words(&[
        "exec",
        "c1",
        "sh",
        "-c",
        "touch /own /data/own /bound/own; chown 5:6 /own /data/own /bound/own",
    ]);
    // On the host's disk, in the container, in the image made of it: the same owners.
    let place = host.ok_words(&["volume", "inspect", "-f", "{{.Mountpoint}}", "data"]);
    for path in [format!("{place}/own"), format!("{}/own", shared.display())] {
        let file = std::fs::metadata(&path).expect("the file");
        assert_eq!((file.uid(), file.gid()), (5, 6), "{path}");
    }
    assert_eq!(host.ok("exec c1 stat -c %u:%g /own"), "5:6");
    assert_eq!(host.ok("exec c1 stat -c %u:%g /bound/own"), "5:6");
    assert_eq!(
        host.ok("exec c1 stat -c %u:%g /plain/own"),
        "65534:65534",
        "the host's owner is nobody in there"
    );
    assert_eq!(host.ok("exec c1 stat -c %u:%g /bin/busybox"), "0:0");
    assert_eq!(host.ok("diff c1"), "A /own");
    let outside = host.scratch().join("out");
    host.ok(&format!("cp -a c1:/own {}", outside.display()));
    let file = std::fs::metadata(&outside).expect("copied");
    assert_eq!((file.uid(), file.gid()), (5, 6));
    host.ok(&format!("cp -a {} c1:/back", outside.display()));
    host.ok(&format!("cp {} c1:/roots", outside.display()));
    assert_eq!(host.ok("exec c1 stat -c %u:%g /back /roots"), "5:6\n0:0");
    host.ok("commit c1 kept");
    assert_eq!(host.ok("run --rm kept stat -c %u:%g /own"), "5:6");
    assert_eq!(host.ok("run --rm --userns=auto kept stat -c %u:%g /own"), "5:6");
    host.ok("stop -t 0 c1");
    host.ok(&format!("cp -a {} c1:/stopped", outside.display()));
    host.ok("start c1");
    assert_eq!(host.ok("exec c1 stat -c %u:%g /stopped /back"), "5:6\n5:6");
    host.ok("rm -f c1");
}

#[test]
fn the_rest_works_in_a_user_namespace_too() {
    let host = host!();
    ours_only!(host);
    if !can_map(&host) {
        return;
    }
    let port = fluyt_testkit::wait::free_port();
    let script = "echo mapped > /var/www/index.html; exec httpd -f -p 80 -h /var/www";
    let publish = format!("127.0.0.1:{port}:80");
    host.ok_words(&[
        "run",
        "-d",
        "--init",
        "--name",
        "w1",
        "--userns=auto",
        "-p",
        &publish,
        BOX,
        "sh",
        "-c",
        script,
    ]);
    until("the server", 20, || {
        http_get(&format!("127.0.0.1:{port}"), "/").filter(|answer| answer.contains("mapped"))
    });
    host.ok("pause w1");
    host.ok("unpause w1");
    host.ok("rm -f w1");
    assert_eq!(host.sh("--userns=auto --tmpfs /t -m 64m --read-only", "touch /t/x && stat -c %u /t/x"), "0");
    assert_eq!(host.sh("--userns=auto --shm-size 1m --ipc shareable", "touch /dev/shm/x && echo ok"), "ok");
    assert_eq!(host.sh("--userns=auto --network host", "echo ok"), "ok");
    assert_eq!(host.sh("--userns=auto --device /dev/null:/dev/other", "test -c /dev/other && echo ok"), "ok");
    host.fails(125, "process namespace", "run --rm --userns=auto --pid host box true");
    host.fails(125, "size", "run --rm --userns=auto:size=x box true");
    host.fails(125, "rootless", "run --rm --userns=keep-id box true");
    host.fails(125, "0:100000:65536", "run --rm --uidmap 0:x:1 box true");
    host.fails(125, "id 0", "run --rm --uidmap 5:1000:1 box true");
    host.fails(125, "combined", "run --rm --userns=auto --uidmap 0:1000:1 box true");
}
