//! The two scripts that the guest runs: `/init` in the initramfs, then the session in the shared root.
//!
//! They decide nothing about tests: they make a machine whose root is the host's (read-only, under an overlay), with
//! cgroup v2 alone, run one command and power off.

/// What the serial console shows when the guest's first program runs: the sign that an accelerator works.
pub const ALIVE: &str = "fluyt-vm: alive";

/// Where the guest sees the directory shared with the host for scripts and results.
pub const SHARE: &str = "/run/fluyt-vm";

/// PID 1 until the host's root is in place. The guest has its own `/tmp`, on a file system of its own; `kept` is a
/// directory of the host below `/tmp` that is to be seen all the same.
pub fn init(kept: Option<&str>) -> String {
    let keep = kept.map_or_else(String::new, |directory| {
        let (inside, outside) =
            (quote(&format!("/scratch{directory}")), quote(&format!("/newroot{directory}")));
        format!(
            "$B mkdir -p {inside} && $B mount --bind {outside} {inside} || fail {}",
            quote("cannot keep the directory")
        )
    });
    format!(
        r#"#!/bin/busybox sh
B=/bin/busybox
say() {{ echo "fluyt-vm: $1"; }}
fail() {{ echo "fluyt-vm: $1"; $B sleep 1; $B poweroff -f; }}
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs dev /dev
echo "{ALIVE}"
while read -r m; do $B insmod "/modules/$m" || fail "cannot load $m"; done < /modules.list
say "modules loaded"
$B mount -t virtiofs -o ro host /host || fail "the host's root is not shared"
$B mount -t ext4 -o noatime,nobarrier /dev/vda /scratch || fail "no scratch disk"
$B mkdir -p /scratch/upper /scratch/work /scratch/tmp /scratch/var
$B chmod 1777 /scratch/tmp
$B mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work root /newroot || fail "no overlay"
say "root mounted"
N=/newroot
$B mount -t tmpfs -o mode=755 run $N/run
$B mkdir -p $N{SHARE} $N/run/lock
$B mount -t virtiofs share $N{SHARE} || fail "no share"
{keep}
$B mount --rbind /scratch/tmp $N/tmp
for d in fluyt docker containerd containers; do
    $B mkdir -p /scratch/var/$d $N/var/lib/$d
    $B mount --bind /scratch/var/$d $N/var/lib/$d
done
$B mkdir -p /scratch/var/tmp $N/var/tmp
$B chmod 1777 /scratch/var/tmp
$B mount --bind /scratch/var/tmp $N/var/tmp
$B mount --move /proc $N/proc
$B mount --move /sys $N/sys
$B mount --move /dev $N/dev
say "leaving the initramfs"
exec $B switch_root $N /bin/sh {SHARE}/session
"#
    )
}

/// PID 1 in the shared root: finishes the machine, runs `{SHARE}/command`, stores its exit code, powers off.
pub fn session() -> String {
    format!(
        r#"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mkdir /sys/fs/cgroup/session
echo 1 > /sys/fs/cgroup/session/cgroup.procs
for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" > /sys/fs/cgroup/cgroup.subtree_control; done
for m in nf_tables nft_chain_nat nft_masq nft_ct nft_fib_inet nft_reject_inet nf_conntrack veth bridge br_netfilter \
    macvlan ipvlan dummy tun vxlan loop; do modprobe -q "$m"; done
hostname fluyt-vm
ip link set lo up
# A machine with an address and a default route that lead nowhere: enough for routing decisions and published ports.
ip link add uplink type dummy && ip addr add 192.0.2.2/24 dev uplink && ip link set uplink up \
    && ip route add default via 192.0.2.1
OUT=/dev/null
for p in /sys/class/virtio-ports/*; do [ -e "$p" ] && OUT=/dev/$(basename "$p"); done
echo "fluyt-vm: session ready"
setsid sh {SHARE}/command < /dev/null > "$OUT" 2>&1
echo $? > {SHARE}/code
sync
echo o > /proc/sysrq-trigger
sleep 60
"#
    )
}

/// The command as a script: its directory, its environment, its words.
pub fn command(directory: &str, environment: &[(String, String)], words: &[String]) -> String {
    let mut script = String::new();
    for (name, value) in environment {
        script.push_str(&format!("export {name}={}\n", quote(value)));
    }
    script.push_str(&format!("cd {} || exit 126\nexec", quote(directory)));
    for word in words {
        script.push(' ');
        script.push_str(&quote(word));
    }
    script.push('\n');
    script
}

/// One word for `sh`, whatever it contains.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        let script = command("/a b", &[("X".into(), "it's".into())], &["echo".into(), "$HOME; `x`".into()]);
        assert_eq!(script, "export X='it'\\''s'\ncd '/a b' || exit 126\nexec 'echo' '$HOME; `x`'\n");
    }
}
