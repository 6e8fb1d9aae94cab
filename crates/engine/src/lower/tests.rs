//! Lowering to an OCI configuration, case by case.

use fluyt_model::sandbox::{NetworkAttachment, Resources};

use super::*;

fn lowered(change: impl FnOnce(&mut SandboxSpec, &mut Resolved)) -> Spec {
    let mut sandbox = SandboxSpec {
        networks: vec![NetworkAttachment::default()],
        containers: vec![ContainerSpec::default()],
        ..SandboxSpec::default()
    };
    sandbox.containers[0].process.args = vec!["true".into()];
    sandbox.containers[0].process.env = vec!["PATH=/bin".into()];
    let mut resolved =
        Resolved { hostname: "h".into(), home: "/root".into(), shm_size: 1 << 26, ..Resolved::default() };
    change(&mut sandbox, &mut resolved);
    let container = sandbox.containers[0].clone();
    oci(&sandbox, &container, &resolved).unwrap()
}

fn kinds(spec: &Spec) -> Vec<&str> {
    spec.linux().namespaces.iter().map(|n| n.kind.as_str()).collect()
}

#[test]
fn a_plain_container_is_isolated_and_confined() {
    let spec = lowered(|_, _| {});
    assert_eq!(kinds(&spec), ["mount", "network", "pid", "ipc", "uts", "cgroup"]);
    let linux = spec.linux();
    assert!(linux.seccomp.is_some() && !linux.masked_paths.is_empty() && !linux.readonly_paths.is_empty());
    let process = spec.process.unwrap();
    assert_eq!(process.env, ["PATH=/bin", "HOSTNAME=h", "HOME=/root"]);
    assert_eq!(process.capabilities.unwrap().effective.len(), 14);
}

#[test]
fn a_privileged_container_is_not() {
    let spec = lowered(|s, _| s.containers[0].security.privileged = true);
    let linux = spec.linux();
    assert!(linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert_eq!(linux.resources.as_ref().unwrap().devices.len(), 1);
}

#[test]
fn a_user_without_privileges_holds_no_capabilities() {
    let spec = lowered(|_, r| r.user = (1000, 1000, vec![]));
    let capabilities = spec.process.unwrap().capabilities.unwrap();
    assert!(capabilities.effective.is_empty() && capabilities.permitted.is_empty());
    assert_eq!(capabilities.bounding.len(), 14);
}

#[test]
fn a_users_mount_takes_the_place_of_a_default_one() {
    let shm = ResolvedMount { target: "/dev/shm".into(), kind: "tmpfs".into(), ..ResolvedMount::default() };
    let inner = ResolvedMount { target: "/a/b".into(), source: "/x".into(), ..ResolvedMount::default() };
    let outer = ResolvedMount {
        target: "/a".into(),
        source: "/y".into(),
        read_only: true,
        ..ResolvedMount::default()
    };
    let spec = lowered(|_, r| r.mounts = vec![inner, outer, shm]);
    let targets: Vec<_> = spec.mounts.iter().map(|m| m.destination.display().to_string()).collect();
    assert_eq!(targets.iter().filter(|t| *t == "/dev/shm").count(), 1);
    let (a, b) = (targets.iter().position(|t| t == "/a"), targets.iter().position(|t| t == "/a/b"));
    assert!(a < b, "{targets:?}");
}

#[test]
fn limits_become_resources() {
    let wanted = Resources {
        memory: Some(64 << 20),
        nano_cpus: Some(1_500_000_000),
        pids_limit: Some(9),
        ..Resources::default()
    };
    let spec = lowered(|s, _| s.containers[0].resources = wanted);
    let r = spec.linux().resources.clone().unwrap();
    assert_eq!(r.memory.unwrap().swap, Some(128 << 20));
    let cpu = r.cpu.unwrap();
    assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
    assert_eq!(r.pids.unwrap().limit, Some(9));
}

#[test]
fn impossible_limits_are_refused() {
    let bad = |r: Resources| validate(&r, &|| 2).unwrap_err().to_string();
    assert!(bad(Resources { memory: Some(1 << 20), ..Resources::default() }).contains("6MB"));
    assert!(bad(Resources { nano_cpus: Some(3_000_000_000), ..Resources::default() }).contains("2.00"));
    assert!(bad(Resources { cpuset_cpus: "0-7".into(), ..Resources::default() }).contains("0-1"));
    assert!(bad(Resources { cpuset_cpus: "x".into(), ..Resources::default() }).contains('x'));
    assert!(
        bad(Resources { memory: Some(64 << 20), memory_swap: Some(32 << 20), ..Resources::default() })
            .contains("memoryswap")
    );
}
