//! A member of a pod as the document that other clients see: what they would have sent to make it.

use fluyt_docker_api::types::host_config::{DeviceMapping, LogConfig, Resources, Ulimit};
use fluyt_docker_api::types::mount::{BindOptions, ImageOptions, TmpfsOptions, VolumeOptions};
use fluyt_docker_api::types::{
    ContainerConfig, CreateRequest, HealthConfig, HostConfig, List, Mount, RestartPolicy,
};
use fluyt_model::sandbox::{ContainerSpec, MountSource, MountSpec, Seccomp, Stdin};
use fluyt_pod::lower::Member;

/// The document of a member of the pod `pod`.
pub fn of(member: &Member, pod: &str) -> CreateRequest {
    CreateRequest { config: config(member), host_config: host(member, pod), ..CreateRequest::default() }
}

fn config(member: &Member) -> ContainerConfig {
    let (spec, process) = (&member.spec, &member.spec.process);
    let signed = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX);
    ContainerConfig {
        user: process.user.clone(),
        tty: process.tty,
        open_stdin: process.stdin != Stdin::Null,
        stdin_once: process.stdin == Stdin::Once,
        env: process.env.clone().into(),
        entrypoint: List::null_if_empty(member.entrypoint.clone()),
        cmd: List::null_if_empty(member.cmd.clone()),
        healthcheck: spec.health.as_ref().map(|check| HealthConfig {
            test: std::iter::once("CMD".to_owned())
                .chain(check.args.iter().cloned())
                .collect::<Vec<_>>()
                .into(),
            interval: signed(check.interval),
            timeout: signed(check.timeout),
            start_period: signed(check.start_period),
            start_interval: signed(check.start_interval),
            retries: i64::from(check.retries),
        }),
        image: spec.image.clone(),
        working_dir: process.cwd.clone(),
        labels: member.labels.clone().into(),
        stop_signal: spec.stop.signal.clone(),
        stop_timeout: spec.stop.timeout,
        ..ContainerConfig::default()
    }
}

fn host(member: &Member, pod: &str) -> HostConfig {
    let (spec, security) = (&member.spec, &member.spec.security);
    let mut from = Vec::new();
    for mount in &spec.mounts {
        if let MountSource::VolumesFrom { container } = &mount.source {
            from.push(if mount.read_only { format!("{container}:ro") } else { container.clone() });
        }
    }
    let masked = |paths: &Option<Vec<String>>| paths.clone().map_or_else(List::null, List::from);
    HostConfig {
        log_config: LogConfig { kind: spec.log.driver.clone(), config: spec.log.options.clone().into() },
        network_mode: "default".to_owned(),
        restart_policy: RestartPolicy {
            name: spec.restart.condition.as_str().to_owned(),
            maximum_retry_count: i64::from(spec.restart.max_retries),
        },
        auto_remove: member.auto_remove,
        volumes_from: List::null_if_empty(from),
        annotations: member.annotations.clone().into(),
        cap_add: List::null_if_empty(security.cap_add.clone()),
        cap_drop: List::null_if_empty(security.cap_drop.clone()),
        group_add: List::null_if_empty(spec.process.groups.clone()),
        privileged: security.privileged,
        readonly_rootfs: security.read_only_root,
        security_opt: List::null_if_empty(options(spec)),
        resources: resources(spec),
        mounts: spec.mounts.iter().filter_map(mount).collect::<Vec<_>>().into(),
        masked_paths: masked(&security.masked_paths),
        readonly_paths: masked(&security.read_only_paths),
        init: spec.init.then_some(true),
        pod: pod.to_owned(),
        ..HostConfig::default()
    }
}

fn options(spec: &ContainerSpec) -> Vec<String> {
    let security = &spec.security;
    let mut options: Vec<String> = Vec::new();
    match &security.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(text) => options.push(format!("seccomp={text}")),
    }
    if !security.apparmor.is_empty() {
        options.push(format!("apparmor={}", security.apparmor));
    }
    options.extend(security.selinux.iter().map(|part| format!("label={part}")));
    if security.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    options
}

fn resources(spec: &ContainerSpec) -> Resources {
    let limits = &spec.resources;
    let limit = |value: u64| if value == u64::MAX { -1 } else { i64::try_from(value).unwrap_or(-1) };
    Resources {
        memory: limits.memory.unwrap_or(0),
        memory_reservation: limits.memory_reservation.unwrap_or(0),
        nano_cpus: limits.nano_cpus.unwrap_or(0),
        cpu_shares: limits.cpu_shares.and_then(|n| i64::try_from(n).ok()).unwrap_or(0),
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        pids_limit: limits.pids_limit,
        devices: (spec.devices.iter())
            .map(|device| DeviceMapping {
                path_on_host: device.host_path.display().to_string(),
                path_in_container: device.container_path.display().to_string(),
                cgroup_permissions: device.permissions.clone(),
            })
            .collect::<Vec<_>>()
            .into(),
        ulimits: (spec.process.rlimits.iter())
            .map(|(name, soft, hard)| Ulimit {
                name: name.to_lowercase(),
                soft: limit(*soft),
                hard: limit(*hard),
            })
            .collect::<Vec<_>>()
            .into(),
        ..Resources::default()
    }
}

fn mount(spec: &MountSpec) -> Option<Mount> {
    let base = Mount { target: spec.target.clone(), read_only: spec.read_only, ..Mount::default() };
    Some(match &spec.source {
        MountSource::VolumesFrom { .. } => return None,
        MountSource::Bind { path, create } => Mount {
            kind: "bind".to_owned(),
            source: path.display().to_string(),
            bind_options: Some(BindOptions {
                propagation: spec.propagation.clone(),
                create_mountpoint: *create,
                read_only_force_recursive: spec.recursive_read_only,
                ..BindOptions::default()
            }),
            ..base
        },
        MountSource::Volume { name, no_copy, subpath, .. } => Mount {
            kind: "volume".to_owned(),
            source: name.clone(),
            volume_options: Some(VolumeOptions {
                no_copy: *no_copy,
                subpath: subpath.clone(),
                ..VolumeOptions::default()
            }),
            ..base
        },
        MountSource::Tmpfs { options } => Mount {
            kind: "tmpfs".to_owned(),
            tmpfs_options: Some(TmpfsOptions {
                options: options.iter().map(|o| o.split('=').map(str::to_owned).collect()).collect(),
                ..TmpfsOptions::default()
            }),
            ..base
        },
        MountSource::Image { image, subpath } => Mount {
            kind: "image".to_owned(),
            source: image.clone(),
            image_options: Some(ImageOptions { subpath: subpath.clone(), ..ImageOptions::default() }),
            ..base
        },
    })
}
