//! Privileges: users, groups, capabilities, profiles.

use std::collections::BTreeMap;

use fluyt_model::sandbox::{CAPABILITIES, Seccomp, Security};

use super::{Facts, ImageFacts, Lowering, Problem, Subject};
use crate::annotations;
use crate::objects::{Container, PodSpec, Profile, SeLinux};

/// Parameters of the kernel.
pub(super) fn sysctls(spec: &PodSpec) -> Lowering<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    let Some(security) = &spec.security_context else { return Ok(all) };
    for (index, sysctl) in security.sysctls.iter().enumerate() {
        let path = format!("spec.securityContext.sysctls[{index}]");
        if sysctl.name.is_empty() {
            return Err(Problem::new(path, "the parameter does not have a name"));
        }
        if spec.host_network && sysctl.name.starts_with("net.") {
            return Err(Problem::new(
                path,
                format!("{} would be the machine's, with hostNetwork", sysctl.name),
            ));
        }
        if spec.host_ipc && (sysctl.name.starts_with("kernel.") || sysctl.name.starts_with("fs.mqueue.")) {
            return Err(Problem::new(path, format!("{} would be the machine's, with hostIPC", sysctl.name)));
        }
        all.insert(sysctl.name.replace('/', "."), sysctl.value.clone());
    }
    Ok(all)
}

/// `user[:group]`.
pub(super) fn user(pod: Subject<'_>, container: &Container, image: &ImageFacts) -> Lowering<String> {
    let own = container.security_context.clone().unwrap_or_default();
    let of_pod = pod.spec.security_context.clone().unwrap_or_default();
    let wanted = own.run_as_user.or(of_pod.run_as_user);
    let group = own.run_as_group.or(of_pod.run_as_group);
    for (field, id) in [("runAsUser", wanted), ("runAsGroup", group)] {
        if id.is_some_and(|id| u32::try_from(id).is_err()) {
            return Err(Problem::new(
                format!("securityContext.{field}"),
                format!("{} is not an id", id.unwrap_or_default()),
            ));
        }
    }
    let user = match (wanted, group) {
        (Some(user), None) => user.to_string(),
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (None, None) => image.user.clone(),
        (None, Some(group)) => {
            let user = image.user.split(':').next().unwrap_or_default();
            format!("{}:{group}", if user.is_empty() { "0" } else { user })
        }
    };
    let plain = user.split(':').next().unwrap_or_default();
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) && matches!(plain, "" | "0" | "root") {
        return Err(Problem::new(
            "securityContext.runAsNonRoot",
            format!("container {:?} would run as root", container.name),
        )
        .hint("say with runAsUser as whom it runs"));
    }
    Ok(user)
}

/// Further groups.
pub(super) fn groups(spec: &PodSpec) -> Vec<String> {
    let Some(security) = &spec.security_context else { return Vec::new() };
    let mut groups: Vec<String> = security.supplemental_groups.iter().map(i64::to_string).collect();
    if let Some(group) = security.fs_group.map(|g| g.to_string())
        && !groups.contains(&group)
    {
        groups.push(group);
    }
    groups
}

/// All other privileges.
pub(super) fn security(pod: Subject<'_>, container: &Container, facts: &Facts<'_>) -> Lowering<Security> {
    let own = container.security_context.clone().unwrap_or_default();
    let of_pod = pod.spec.security_context.clone().unwrap_or_default();
    let capabilities = own.capabilities.unwrap_or_default();
    let unmasked = match own.proc_mount.as_str() {
        "" | "Default" => None,
        "Unmasked" => Some(Vec::new()),
        other => {
            return Err(Problem::new(
                "securityContext.procMount",
                format!("{other:?} is not a kind of /proc"),
            )
            .hint("use Default or Unmasked"));
        }
    };
    let mut selinux = own.se_linux_options.or(of_pod.se_linux_options).map(label).unwrap_or_default();
    if let Some(label) = annotations::own(pod.annotations, annotations::LABEL, &container.name)
        && !selinux.iter().any(|part| part == label)
    {
        selinux.push(label.to_owned());
    }
    Ok(Security {
        privileged: own.privileged == Some(true),
        cap_add: names(&capabilities.add, "add")?,
        cap_drop: names(&capabilities.drop, "drop")?,
        seccomp: seccomp(pod, container, own.seccomp_profile.or(of_pod.seccomp_profile), facts)?,
        apparmor: apparmor(pod, container, own.app_armor_profile.or(of_pod.app_armor_profile))?,
        selinux,
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_root: own.read_only_root_filesystem == Some(true),
        masked_paths: unmasked.clone(),
        read_only_paths: unmasked,
    })
}

fn names(list: &[String], which: &str) -> Lowering<Vec<String>> {
    let one = |(index, name): (usize, &String)| {
        let upper = name.to_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if short == "ALL" || CAPABILITIES.contains(&short) {
            return Ok(short.to_owned());
        }
        Err(Problem::new(
            format!("securityContext.capabilities.{which}[{index}]"),
            format!("{name:?} is not a capability"),
        )
        .hint("capabilities are named as in NET_ADMIN, or ALL"))
    };
    list.iter().enumerate().map(one).collect()
}

fn label(options: SeLinux) -> Vec<String> {
    let parts = [
        ("user", options.user),
        ("role", options.role),
        ("type", options.kind),
        ("level", options.level),
        ("filetype", options.file_type),
    ];
    parts.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}:{v}")).collect()
}

fn seccomp(
    pod: Subject<'_>,
    container: &Container,
    profile: Option<Profile>,
    facts: &Facts<'_>,
) -> Lowering<Seccomp> {
    let read = |path: &str| {
        (facts.profile)(path).map(Seccomp::Profile).map_err(|e| Problem {
            kind: e.kind(),
            ..Problem::new("securityContext.seccompProfile", format!("seccomp profile {path}: {}", e.chain()))
        })
    };
    if let Some(profile) = profile {
        return match profile.kind.as_str() {
            "RuntimeDefault" => Ok(Seccomp::Default),
            "Unconfined" => Ok(Seccomp::Unconfined),
            "Localhost" => read(&profile.localhost_profile),
            other => Err(unknown_profile("seccompProfile", other)),
        };
    }
    let words = pod.annotations;
    let annotated = annotations::own(words, annotations::SECCOMP, &container.name)
        .or_else(|| annotations::own(words, annotations::OLD_SECCOMP, &container.name))
        .or_else(|| words.get(annotations::OLD_SECCOMP_POD).map(String::as_str));
    match annotated {
        None | Some("" | "runtime/default" | "docker/default") => Ok(Seccomp::Default),
        Some("unconfined") => Ok(Seccomp::Unconfined),
        Some(path) => read(path.strip_prefix("localhost/").unwrap_or(path)),
    }
}

fn apparmor(pod: Subject<'_>, container: &Container, profile: Option<Profile>) -> Lowering<String> {
    let Some(profile) = profile else {
        let own = annotations::own(pod.annotations, annotations::APPARMOR, &container.name);
        return Ok(own.unwrap_or_default().to_owned());
    };
    match profile.kind.as_str() {
        "RuntimeDefault" => Ok(String::new()),
        "Unconfined" => Ok("unconfined".to_owned()),
        "Localhost" if !profile.localhost_profile.is_empty() => Ok(profile.localhost_profile),
        other => Err(unknown_profile("appArmorProfile", other)),
    }
}

fn unknown_profile(field: &str, kind: &str) -> Problem {
    Problem::new(format!("securityContext.{field}.type"), format!("{kind:?} is not a kind of profile"))
        .hint("use RuntimeDefault, Unconfined, or Localhost with localhostProfile")
}
