//! Resource limits: what the flags say is what the kernel enforces, on both cgroup versions.

use fluyt_testkit::host::BOX;

use crate::{host, stay};

/// Reads the first of the named cgroup files (v2's name, v1's path) inside a container.
fn limit(flags: &str, v2: &str, v1: &str) -> Option<String> {
    let host = fluyt_testkit::Host::with_box(crate::PROGRAM)?;
    Some(host.sh(flags, &format!("cat /sys/fs/cgroup/{v2} /sys/fs/cgroup/{v1} 2>/dev/null; true")))
}

#[test]
fn memory() {
    let Some(seen) = limit("--memory 64m", "memory.max", "memory/memory.limit_in_bytes") else { return };
    assert_eq!(seen, (64 << 20).to_string());
}

#[test]
fn processes() {
    let Some(seen) = limit("--pids-limit 20", "pids.max", "pids/pids.max") else { return };
    assert_eq!(seen, "20");
}

#[test]
fn processor_time() {
    let Some(seen) = limit("--cpus 0.5", "cpu.max", "cpu/cpu.cfs_quota_us") else { return };
    assert!(["50000 100000", "50000"].contains(&seen.as_str()), "{seen}");
}

#[test]
fn processors() {
    let Some(seen) = limit("--cpuset-cpus 0", "cpuset.cpus", "cpuset/cpuset.cpus") else { return };
    assert_eq!(seen, "0");
}

#[test]
fn a_fork_bomb_stays_inside() {
    let host = host!();
    let script = "for i in $(seq 60); do sleep 2 & done 2>/tmp/err; grep -c fork /tmp/err; jobs | wc -l";
    let outcome = host.sh_outcome("--pids-limit 16", script);
    assert!(outcome.code != 0 || !outcome.stdout.starts_with("0\n"), "{outcome:?}");
}

#[test]
fn the_kernel_kills_a_memory_hog_and_it_is_said() {
    let host = host!();
    let hog = "x=$(dd if=/dev/zero bs=1M count=200 2>/dev/null | tr '\\0' x); echo survived";
    let outcome = host.run_words(&[
        "run",
        "--name",
        "hog",
        "--memory",
        "32m",
        "--memory-swap",
        "32m",
        BOX,
        "sh",
        "-c",
        hog,
    ]);
    assert_eq!(outcome.code, 137, "{outcome:?}");
    host.wait_for("hog", "{{.State.OOMKilled}}", "true");
}

#[test]
fn rlimits_shared_memory_and_sysctls() {
    let host = host!();
    assert_eq!(host.sh("--ulimit nofile=100:200", "ulimit -n; ulimit -H -n"), "100\n200");
    let size = host.sh("--shm-size 32m", "df -k /dev/shm | tail -1 | awk '{print $2}'");
    assert_eq!(size, "32768");
    assert_eq!(host.sh("--sysctl net.ipv4.ip_default_ttl=42", "cat /proc/sys/net/ipv4/ip_default_ttl"), "42");
    assert_eq!(host.sh("--oom-score-adj 500", "cat /proc/self/oom_score_adj"), "500");
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let host = host!();
    host.fails(125, "bogus", "run --rm --memory bogus box true");
    host.fails(125, "memory", "run --rm --memory 1k box true");
    host.fails(125, "cpus", "run --rm --cpus 10000 box true");
    host.fails(125, "ulimit", "run --rm --ulimit nofile box true");
    assert_eq!(host.ok("ps -aq"), "");
}

#[test]
fn the_container_sees_its_own_cgroup_as_the_root() {
    let host = host!();
    if host.is_reference() {
        return fluyt_testkit::skip("Docker 20.10 shares the host's cgroup namespace on v1");
    }
    let seen = host.sh("--cgroupns private", "cat /proc/self/cgroup");
    assert!(seen.lines().all(|l| l.ends_with(":/")), "{seen}");
    stay(&host, "--name c1 --cgroupns private");
    let seen = host.ok("exec c1 cat /proc/self/cgroup");
    assert!(seen.lines().all(|l| l.ends_with(":/")), "exec too: {seen}");
    host.ok("rm -f c1");
}
