//! Volumes, bind mounts and tmpfs.

use std::fs;
use std::process::Command;

use fluyt_testkit::host::BOX;
use fluyt_testkit::mounts;

use crate::{host, ours_only, stay};

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

/// A file with an empty ext4 on a loop device; detached when dropped.
struct Disk(String);

impl Disk {
    fn new(host: &fluyt_testkit::Host, name: &str) -> Option<Self> {
        let file = host.scratch().write(name, []);
        fs::File::options().write(true).open(&file).and_then(|f| f.set_len(16 << 20)).expect("a file");
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&file).output().expect("e2fsprogs");
        assert!(made.status.success(), "{made:?}");
        let attached = Command::new("losetup").args(["--find", "--show"]).arg(&file).output();
        match attached {
            Ok(o) if o.status.success() => Some(Self(String::from_utf8_lossy(&o.stdout).trim().to_owned())),
            _ => {
                fluyt_testkit::skip("no loop devices here");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).output();
    }
}

#[test]
fn a_volume_of_the_local_driver_can_be_a_disk() {
    let host = host!();
    let Some(disk) = Disk::new(&host, "disk") else { return };
    host.ok(&format!("volume create -o type=ext4 -o device={} -o o=noatime,nosuid disk", disk.0));
    let seen = host.sh("-v disk:/d", "grep ' /d ' /proc/mounts; echo kept > /d/f; sync");
    assert!(seen.contains("ext4") && seen.contains("noatime") && seen.contains("nosuid"), "{seen}");
    assert_eq!(
        host.sh("-v disk:/d:ro", "cat /d/f; touch /d/x 2>/dev/null || echo read-only"),
        "kept\nread-only"
    );
    // Two containers at once share it.
    stay(&host, "--name c1 -v disk:/d");
    assert_eq!(host.sh("-v disk:/d", "cat /d/f; echo more > /d/g"), "kept");
    assert_eq!(host.ok("exec c1 cat /d/g"), "more");
    host.ok("rm -f c1");
    // Everything that the kernel refuses is said with the volume's name, the kernel's reason and the next step.
    host.ok(&format!("volume create -o type=ext4 -o device={} -o o=nonsense bad-option", disk.0));
    host.ok("volume create -o type=ext4 -o device=/dev/nothing bad-device");
    host.ok("volume create -o type=nonsensefs -o device=x bad-type");
    host.ok("volume create -o type=none -o o=bind -o device=/not/there bad-bind");
    for (volume, needle) in [
        ("bad-option", "nonsense"),
        ("bad-device", "/dev/nothing"),
        ("bad-type", "nonsensefs"),
        ("bad-bind", "/not/there"),
    ] {
        let outcome = host.fails(125, needle, &format!("run --rm -v {volume}:/v box true"));
        assert!(host.is_reference() || outcome.stderr.contains(volume), "the volume is named: {outcome:?}");
    }
    host.ok("volume rm disk bad-option bad-device bad-type bad-bind");
    for (line, needle) in
        [("volume create -o type=tmpfs xx", "device"), ("volume create -o colour=red xx", "colour")]
    {
        host.fails(1, needle, line);
    }
}

#[test]
fn a_tmpfs_volume_is_shared_by_its_containers() {
    let host = host!();
    host.ok("volume create -o type=tmpfs -o device=tmpfs -o o=size=3m,mode=1777 mem");
    stay(&host, "--name c1 -v mem:/m");
    host.ok("exec c1 sh -c echo>/m/from-c1");
    assert_eq!(host.sh("-v mem:/m", "ls /m; touch /m/from-c2"), "from-c1");
    assert_eq!(host.ok("exec c1 ls /m"), "from-c1\nfrom-c2");
    host.ok("rm -f c1");
    assert_eq!(host.sh("-v mem:/m", "ls /m"), "", "gone with its last container");
    host.ok("volume rm mem");
}

#[test]
fn nfs_without_a_server_or_a_client_is_said() {
    let host = host!();
    ours_only!(host);
    // Port 1 of the loopback address: refused at once, where the kernel has a client at all.
    host.ok(
        "volume create -o type=nfs4 -o o=addr=127.0.0.1,port=1,soft,timeo=1,retrans=1 -o device=:/x away",
    );
    let outcome = host.fails(125, "away", "run --rm -v away:/v box true");
    let known = fs::read_to_string("/proc/filesystems").is_ok_and(|t| t.contains("nfs4"));
    let needle = if known { "127.0.0.1" } else { "nfs4" };
    assert!(outcome.stderr.contains(needle), "{outcome:?}");
    host.ok("volume rm away");
    assert_eq!(host.ok("ps -aq"), "");
}

/// The kernel's NFS server with one export, driven by its files alone: no program of nfs-utils is needed for version 4.
const NFS_SERVER: &str = r#"set -e
modprobe -a nfsd nfsv4 || exit 99
mount -t nfsd nfsd /proc/fs/nfsd
cd /proc/fs/nfsd
echo 10 > nfsv4leasetime
echo 10 > nfsv4gracetime
echo '-3 +4 +4.1 +4.2' > versions
echo 'tcp 2049' > portlist
echo 1 > threads
echo Y > v4_end_grace || true
# The answers that mountd would give: who the client is, what the root is, how it is exported (root may write, any port).
echo 'nfsd 127.0.0.1 2147483647 test' > /proc/net/rpc/auth.unix.ip/channel
echo "test $1 2147483647 9234 65534 65534 0" > /proc/net/rpc/nfsd.export/channel
printf 'test 1 \\x00000000 2147483647 %s\n' "$1" > /proc/net/rpc/nfsd.fh/channel
"#;

#[test]
fn nfs_for_real() {
    if std::env::var_os("FLUYT_VM").is_none() {
        return fluyt_testkit::skip("an NFS server is for the virtual machine");
    }
    mounts::isolate();
    let host = host!();
    let export = host.scratch().join("export");
    fs::create_dir_all(export.join("sub")).expect("a directory");
    fs::write(export.join("hello"), "from the server").expect("a file");
    let path = export.to_str().expect("a path");
    let served = Command::new("sh").args(["-c", NFS_SERVER, "sh", path]).output().expect("sh");
    if served.status.code() == Some(99) {
        return fluyt_testkit::skip("this kernel has no NFS");
    }
    assert!(served.status.success(), "{served:?}");
    host.ok("volume create -o type=nfs4 -o o=addr=localhost,rw,vers=4.2,nodev -o device=:/ shared");
    assert_eq!(
        host.sh("--network none -v shared:/s", "cat /s/hello; echo back > /s/answer"),
        "from the server"
    );
    assert_eq!(fs::read_to_string(export.join("answer")).expect("written"), "back\n");
    stay(&host, "--name c1 -v shared:/s");
    stay(&host, "--name c2 -v shared:/s:ro");
    let seen = host.ok("exec c1 grep nfs /proc/mounts");
    assert!(seen.contains(" /s nfs4 ") && seen.contains("nodev") && seen.contains("vers=4.2"), "{seen}");
    host.ok("exec c1 touch /s/sub/new");
    assert_eq!(host.ok("exec c2 ls /s/sub"), "new");
    assert_eq!(host.run("exec c2 touch /s/x").code, 1);
    host.fails(1, "shared", "volume rm shared");
    host.ok("rm -f c1");
    assert_eq!(host.ok("exec c2 cat /s/hello"), "from the server", "still mounted for the other");
    host.ok("rm -f c2");
    let table = fs::read_to_string("/proc/thread-self/mounts").expect("/proc");
    assert!(!table.contains(" nfs4 "), "unmounted with the last container: {table}");
    host.ok("volume rm shared");
    assert!(export.join("hello").exists(), "what is on the server stays");
    // A server that has gone away is said.
    host.ok("volume create -o type=nfs4 -o o=addr=127.0.0.1,port=1,soft,timeo=1,retrans=1 -o device=:/ away");
    let outcome = host.fails(125, "away", "run --rm -v away:/v box true");
    assert!(outcome.stderr.contains("nfs4"), "{outcome:?}");
    let stop = "echo 0 > /proc/fs/nfsd/threads; for c in nfsd.fh nfsd.export auth.unix.ip; do echo 2147483646 > /proc/net/rpc/$c/flush; done; umount /proc/fs/nfsd";
    mounts::run(&["sh", "-c", stop]);
}

#[test]
fn an_image_is_mounted() {
    let host = host!();
    ours_only!(host);
    let id = host.ok("create box true");
    host.ok(&format!("rm {id}"));
    host.ok_words(&[
        "run",
        "--name",
        "maker",
        BOX,
        "sh",
        "-c",
        "mkdir -p /data/sub; echo deep > /data/sub/file; rm /etc/not-a-program",
    ]);
    host.ok("commit maker stuff");
    host.ok("rm maker");
    let mount = |options: &str| format!("--mount type=image,source=stuff,target=/x{options}");
    assert_eq!(host.sh(&mount(""), "cat /x/data/sub/file; ls /x/bin/busybox"), "deep\n/x/bin/busybox");
    assert_eq!(host.sh(&mount(""), "ls /x/etc/not-a-program 2> /dev/null || echo removed"), "removed");
    assert_eq!(host.sh_outcome(&mount(""), "touch /x/new").code, 1, "read-only unless asked for");
    assert_eq!(host.sh(&mount(",image-subpath=data/sub"), "ls /x"), "file");
    assert_eq!(host.sh(&mount(",subpath=/data/sub/file"), "cat /x"), "deep");
    assert_eq!(host.sh("--mount type=image,src=box,dst=/x", "ls /x/bin/busybox"), "/x/bin/busybox");
    // What is written lives as long as the container.
    let writable = mount(",readwrite");
    stay(&host, &format!("--name c1 {writable}"));
    host.ok_words(&["exec", "c1", "sh", "-c", "echo new > /x/new; rm /x/data/sub/file"]);
    host.ok("restart -t 0 c1");
    assert_eq!(host.ok_words(&["exec", "c1", "sh", "-c", "cat /x/new; ls /x/data/sub"]), "new");
    assert_eq!(host.ok("diff c1"), "", "the mount is not the container's own");
    assert_eq!(
        host.sh(&mount(""), "ls /x/new 2> /dev/null; cat /x/data/sub/file"),
        "deep",
        "nor the image's"
    );
    // The image stays while the container is there.
    host.fails(1, "conflict", "rmi stuff");
    host.ok("image prune -a -f");
    assert_eq!(host.ok("exec c1 cat /x/new"), "new");
    let shown =
        host.ok_words(&["inspect", "-f", "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}}{{end}}", "c1"]);
    assert_eq!(shown, "image /x true");
    host.ok("stop -t 0 c1");
    host.ok(&format!("cp c1:/x/data/sub/file {}", host.scratch().join("copy").display()));
    host.ok("rm c1");
    host.ok("rmi stuff");
    host.fails(125, "stuff", &format!("run --rm {} box true", mount("")));
    host.fails(125, "nowhere", "run --rm --mount type=image,src=box,dst=/x,image-subpath=nowhere box true");
}
