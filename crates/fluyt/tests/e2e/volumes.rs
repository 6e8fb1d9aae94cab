//! Volumes, bind mounts and tmpfs.

use std::fs;

use fluyt_testkit::host::BOX;

use crate::{host, stay};

#[test]
fn a_named_volume_outlives_containers() {
    let host = host!();
    host.sh("-v data:/data", "echo kept > /data/file");
    assert_eq!(host.sh("-v data:/data:ro", "cat /data/file"), "kept");
    assert_eq!(host.sh_outcome("-v data:/data:ro", "echo x > /data/file").code, 1);
    assert_eq!(host.sh("--mount type=volume,src=data,dst=/d", "cat /d/file"), "kept");
    let place = host.ok_words(&["volume", "inspect", "-f", "{{.Mountpoint}} {{.Driver}} {{.Scope}}", "data"]);
    assert!(place.ends_with("/_data local local"), "{place}");
    assert_eq!(host.ok("volume ls -q"), "data");
    host.ok("volume rm data");
    host.fails(1, "data", "volume inspect data");
}

#[test]
fn a_new_volume_is_filled_from_the_image() {
    let host = host!();
    assert_eq!(host.sh("-v etc:/etc", "cat /etc/not-a-program"), "words");
    assert_eq!(host.sh("-v etc:/x", "cat /x/not-a-program"), "words");
    assert_eq!(host.sh("-v empty:/etc:nocopy", "ls -A /etc | grep not-a || true"), "");
    assert_eq!(host.sh("-v tmp:/tmp", "stat -c %a /tmp"), "1777", "the directory's own mode too");
}

#[test]
fn anonymous_volumes_go_with_rm_v() {
    let host = host!();
    let id = host.ok("create box true");
    host.ok_words(&["commit", "-c", "VOLUME /var/data", &id, "with-volume"]);
    host.ok(&format!("rm {id}"));
    host.ok("run --rm with-volume touch /var/data/x");
    assert_eq!(host.ok("volume ls -q"), "", "--rm removes anonymous volumes");
    host.ok("run --name keep with-volume touch /var/data/x");
    let volume = host.ok("volume ls -q");
    assert_eq!(volume.len(), 64, "{volume}");
    host.fails(1, "in use", &format!("volume rm {volume}"));
    host.ok("rm keep");
    assert_eq!(host.ok("volume ls -q -f dangling=true"), volume);
    host.ok("volume prune -f");
    assert_eq!(host.ok("volume ls -q"), "");
}

#[test]
fn volumes_from_another_container() {
    let host = host!();
    host.ok_words(&[
        "run",
        "--name",
        "a1",
        "-v",
        "/anon",
        "-v",
        "named:/named",
        BOX,
        "sh",
        "-c",
        "echo 1 > /anon/f; echo 2 > /named/f",
    ]);
    assert_eq!(host.sh("--volumes-from a1", "cat /anon/f /named/f"), "1\n2");
    assert_eq!(host.sh_outcome("--volumes-from a1:ro", "echo x > /anon/f").code, 1);
    host.fails(125, "absent", "run --rm --volumes-from absent box true");
    host.ok("rm -v a1");
    host.ok("volume rm named");
}

#[test]
fn labels_filters_and_prune() {
    let host = host!();
    assert_eq!(host.ok("volume create --label tier=back one"), "one");
    host.ok("volume create two");
    assert_eq!(host.ok("volume ls -q -f label=tier=back"), "one");
    assert_eq!(host.ok("volume create one"), "one", "create again is no error");
    host.fails(1, "bad/name", "volume create bad/name");
    host.fails(1, "absent", "volume rm absent");
    let outcome = host.run("volume rm -f absent");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    stay(&host, "--name c1 -v two:/two");
    host.fails(1, "two", "volume rm two");
    host.ok(if host.is_reference() { "volume prune -f" } else { "volume prune -a -f" });
    assert_eq!(host.ok("volume ls -q"), "two");
    host.ok("rm -f c1");
}

#[test]
fn bind_mounts() {
    let host = host!();
    let scratch = host.scratch();
    scratch.write("dir/file", "host\n");
    let dir = scratch.join("dir");
    let dir = dir.to_str().expect("a path");
    assert_eq!(host.sh(&format!("-v {dir}:/d"), "cat /d/file; echo from-inside > /d/new"), "host");
    assert_eq!(fs::read_to_string(scratch.join("dir/new")).expect("written"), "from-inside\n");
    assert_eq!(host.sh(&format!("-v {dir}/file:/etc/one-file:ro"), "cat /etc/one-file"), "host");
    assert_eq!(
        host.sh_outcome(&format!("--mount type=bind,src={dir},dst=/d,readonly"), "touch /d/x").code,
        1
    );
    assert_eq!(host.sh(&format!("-v {dir}/made:/m"), "ls -A /m"), "", "-v makes a missing directory");
    assert!(scratch.join("dir/made").is_dir());
    host.fails(125, "/not/there", "run --rm --mount type=bind,src=/not/there,dst=/d box true");
    host.fails(125, "", &format!("run --rm -v {dir}:relative box true"));
    host.fails(125, "/d", &format!("run --rm -v {dir}:/d -v {dir}/made:/d box true"));
    assert_eq!(host.ok("ps -aq"), "");
}

#[test]
fn tmpfs_and_a_read_only_root() {
    let host = host!();
    assert_eq!(host.sh_outcome("--read-only", "touch /x").code, 1);
    let script = "touch /run/x && grep ' /run tmpfs' /proc/mounts";
    let seen = host.sh("--read-only --tmpfs /run:size=1m,mode=700", script);
    assert!(seen.contains("size=1024k") && seen.contains("mode=700"), "{seen}");
    let seen = host.sh("--mount type=tmpfs,dst=/t,tmpfs-size=2m", "df -k /t | tail -1 | awk '{print $2}'");
    assert_eq!(seen, "2048");
    assert_eq!(host.sh("--read-only --tmpfs /run -v data:/data", "touch /data/ok && echo ok"), "ok");
}

#[test]
fn a_volume_of_the_local_driver_can_be_a_tmpfs_or_a_bind() {
    let host = host!();
    host.ok("volume create -d local -o type=tmpfs -o device=tmpfs -o o=size=3m mem");
    assert_eq!(host.sh("-v mem:/m", "df -k /m | tail -1 | awk '{print $2}'"), "3072");
    host.scratch().write("there/f", "bound");
    let there = host.scratch().join("there");
    host.ok(&format!("volume create -o type=none -o o=bind -o device={} bound", there.display()));
    assert_eq!(host.sh("-v bound:/b", "cat /b/f"), "bound");
    host.ok("volume rm mem bound");
    assert!(there.join("f").exists(), "the data of a bind volume is not ours to remove");
}
