//! The flags of `run` and `create` that Podman has and Docker has not: what Quadlet's services say.

use fluyt_docker_api::types::{CreateRequest, Mount, SdNotify};

use super::Host;
use crate::cli::flags::{Flag, NONE, Parsed, int, list, switch, text};

/// The flags.
pub const FLAGS: &[Flag] = &[
    switch(NONE, "replace", "Replace a container of the same name"),
    text(
        NONE,
        "sdnotify",
        "Who tells NOTIFY_SOCKET that the container is up (conmon|container|healthy|ignore)",
    )
    .default("ignore"),
    text(NONE, "cgroups", "Where the container's cgroup is (enabled|split: within the caller's)")
        .default("enabled"),
    text(NONE, "tz", "Time zone of the container (AREA/CITY, or 'local' for the host's)"),
    switch(NONE, "env-host", "Pass all environment variables of the caller"),
    switch(NONE, "http-proxy", "Pass the variables that name proxies"),
    switch(NONE, "read-only-tmpfs", "With --read-only, mount tmpfs on /run, /tmp and /var/tmp"),
    int(NONE, "retry", "How often a pull that fails is tried again"),
    text(NONE, "retry-delay", "How long to wait between two tries of a pull"),
    text(
        NONE,
        "health-on-failure",
        "What to do with a container that becomes unhealthy (none|kill|restart|stop)",
    ),
    text(NONE, "health-log-destination", "Accepted; results are kept with the container").hidden(),
    text(NONE, "health-max-log-count", "Accepted; the last five results are kept").hidden(),
    text(NONE, "health-max-log-size", "Accepted; 4096 bytes of a result are kept").hidden(),
    text(NONE, "health-startup-cmd", "See --health-start-period").hidden(),
    text(NONE, "health-startup-interval", "See --health-start-interval").hidden(),
    text(NONE, "health-startup-retries", "See --health-start-period").hidden(),
    text(NONE, "health-startup-success", "See --health-start-period").hidden(),
    text(NONE, "health-startup-timeout", "See --health-start-period").hidden(),
    switch(NONE, "rootfs", "Not here: containers are made from images").hidden(),
    list(NONE, "secret", "Not here: mount a file instead").hidden(),
    text(NONE, "subuidname", "Not here: ranges of users come from the entry of fluyt or containers").hidden(),
    text(NONE, "subgidname", "Not here: ranges of groups come from the entry of fluyt or containers")
        .hidden(),
];

/// Where time zones are.
const ZONES: &str = "/usr/share/zoneinfo";

/// Variables that name proxies.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];

/// Adds what these flags ask for.
///
/// # Errors
/// A sentence about what cannot be had.
pub fn apply(flags: &Parsed, host: &dyn Host, request: &mut CreateRequest) -> Result<(), String> {
    refuse(flags)?;
    environment(flags, host, request);
    let settings = &mut request.host_config;
    if flags.on("read-only-tmpfs") && flags.on("read-only") {
        for path in
            ["/run", "/tmp", "/var/tmp"].iter().filter(|path| !flags.all("tmpfs").any(|t| under(t, path)))
        {
            settings.tmpfs.insert((*path).to_owned(), "rw,nosuid,nodev,mode=1777".to_owned());
        }
    }
    if let Some(zone) = flags.given("tz").filter(|zone| !zone.is_empty()) {
        settings.mounts.push(time_zone(zone, host)?);
    }
    match flags.text("sdnotify") {
        "ignore" => {}
        mode @ ("conmon" | "container" | "healthy") => {
            let socket = host.env("NOTIFY_SOCKET").filter(|socket| !socket.is_empty());
            settings.sd_notify = socket.map(|socket| SdNotify { mode: mode.to_owned(), socket });
        }
        other => {
            return Err(format!("--sdnotify: {other:?} is not one of conmon, container, healthy and ignore"));
        }
    }
    match flags.text("cgroups") {
        "enabled" => {}
        "split" if flags.changed("cgroup-parent") => {
            return Err("conflicting options: --cgroups=split and --cgroup-parent".to_owned());
        }
        "split" => settings.resources.cgroup_parent = own_group(host).unwrap_or_default(),
        other => return Err(format!("--cgroups: {other:?} is not one of enabled and split")),
    }
    match flags.text("health-on-failure") {
        "" | "none" => {}
        action @ ("kill" | "stop") => settings.health_on_failure = action.to_owned(),
        "restart" => {
            if !settings.restart_policy.is_none() {
                return Err("--health-on-failure=restart cannot be combined with --restart".to_owned());
            }
            settings.restart_policy = super::restart_policy("on-unhealthy")?;
        }
        other => {
            return Err(format!("--health-on-failure: {other:?} is not one of none, kill, restart and stop"));
        }
    }
    Ok(())
}

fn refuse(flags: &Parsed) -> Result<(), String> {
    const INSTEAD: [(&str, &str); 9] = [
        ("rootfs", "make an image of the directory: tar -C DIR -c . | fluyt import - NAME"),
        ("secret", "mount the file: --mount type=bind,source=FILE,target=/run/secrets/NAME,readonly"),
        ("subuidname", "--userns=auto, or --uidmap and --gidmap"),
        ("subgidname", "--userns=auto, or --uidmap and --gidmap"),
        ("health-startup-cmd", "--health-start-period and --health-start-interval with --health-cmd"),
        ("health-startup-interval", "--health-start-interval"),
        ("health-startup-retries", "--health-start-period"),
        ("health-startup-success", "--health-start-period"),
        ("health-startup-timeout", "--health-start-period"),
    ];
    match INSTEAD.iter().find(|(flag, _)| flags.changed(flag)) {
        Some((flag, instead)) => Err(format!("--{flag} is not supported; instead: {instead}")),
        None => Ok(()),
    }
}

fn under(mount: &str, path: &str) -> bool {
    mount.split(':').next() == Some(path)
}

/// Variables of the caller, which all others go before.
fn environment(flags: &Parsed, host: &dyn Host, request: &mut CreateRequest) {
    let mut all = Vec::new();
    if flags.on("env-host") {
        all.extend(host.vars().into_iter().map(|(name, value)| format!("{name}={value}")));
    } else if flags.on("http-proxy") {
        let named = PROXIES.iter().filter_map(|name| Some((name, host.env(name)?)));
        all.extend(named.map(|(name, value)| format!("{name}={value}")));
    }
    if !all.is_empty() {
        all.extend(request.config.env.iter().cloned());
        request.config.env = all.into();
    }
}

/// The host's file about a time zone, where containers look for their own.
fn time_zone(zone: &str, host: &dyn Host) -> Result<Mount, String> {
    if zone.starts_with('/') || zone.split('/').any(|part| part == "..") {
        return Err(format!("--tz: {zone:?} is not the name of a time zone"));
    }
    let source = if zone == "local" { "/etc/localtime".to_owned() } else { format!("{ZONES}/{zone}") };
    host.read(&source)
        .map_err(|error| format!("--tz: finding time zone {zone}: {source}: {}", super::go_errno(&error)))?;
    Ok(Mount {
        kind: "bind".to_owned(),
        source,
        target: "/etc/localtime".to_owned(),
        read_only: true,
        ..Mount::default()
    })
}

/// The caller's own cgroup, where a service manager made one for it.
fn own_group(host: &dyn Host) -> Option<String> {
    let text = String::from_utf8(host.read("/proc/self/cgroup").ok()?).ok()?;
    let group = |prefix: &str| {
        text.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(prefix)).filter(|path| *path != "/")
    };
    // systemd's hierarchy where there are several.
    group("name=systemd:").or_else(|| group(":")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::create::{RUN, request};
    use crate::cli::flags::parse;

    struct Service;

    impl Host for Service {
        fn env(&self, key: &str) -> Option<String> {
            self.vars().into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
        }

        fn vars(&self) -> Vec<(String, String)> {
            [("NOTIFY_SOCKET", "/run/systemd/notify"), ("http_proxy", "http://p"), ("A", "host")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        }

        fn read(&self, path: &str) -> std::io::Result<Vec<u8>> {
            match path {
                "/proc/self/cgroup" => Ok(b"1:name=systemd:/system.slice/w.service\n0::/\n".to_vec()),
                "/usr/share/zoneinfo/Europe/Rome" => Ok(Vec::new()),
                _ => Err(std::io::Error::from_raw_os_error(2)),
            }
        }

        fn cwd(&self) -> std::path::PathBuf {
            "/".into()
        }
    }

    fn made(line: &str) -> Result<CreateRequest, String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let parsed = parse(&RUN, "run", &words).map_err(|e| format!("{e:?}"))?;
        request(&parsed, &Service)
    }

    #[test]
    fn a_service_of_quadlet_is_understood() {
        let made = made("--name w --replace --rm --cgroups=split --sdnotify=conmon -d i").unwrap();
        assert_eq!(made.host_config.resources.cgroup_parent, "/system.slice/w.service");
        let wanted = SdNotify { mode: "conmon".to_owned(), socket: "/run/systemd/notify".to_owned() };
        assert_eq!(made.host_config.sd_notify, Some(wanted));
        assert!(made.host_config.auto_remove);
    }

    #[test]
    fn surroundings_are_passed_on() {
        let env = |line: &str| made(line).unwrap().config.env.to_vec();
        assert_eq!(env("--http-proxy -e A=own i"), ["http_proxy=http://p", "A=own"]);
        assert_eq!(env("--env-host -e A=own i")[2..], ["A=host", "A=own"]);
        assert_eq!(env("--http-proxy=false i"), [""; 0]);
        let made = made("--tz Europe/Rome --read-only --read-only-tmpfs --tmpfs /tmp:size=1m i").unwrap();
        assert_eq!(made.host_config.mounts[0].source, "/usr/share/zoneinfo/Europe/Rome");
        let tmpfs: Vec<_> = made.host_config.tmpfs.keys().cloned().collect();
        assert_eq!(tmpfs, ["/run", "/tmp", "/var/tmp"]);
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        for (line, why) in [
            ("--sdnotify=maybe i", "is not one of conmon"),
            ("--cgroups=disabled i", "is not one of enabled"),
            ("--cgroups=split --cgroup-parent=/x i", "conflicting options"),
            ("--tz ../../etc/shadow i", "is not the name of a time zone"),
            ("--tz Mars/Base i", "finding time zone Mars/Base"),
            ("--rootfs /x", "--rootfs is not supported"),
            ("--health-on-failure=cry i", "is not one of none"),
            ("--health-on-failure=restart --restart=always i", "cannot be combined"),
        ] {
            let said = made(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
        let policy = made("--health-on-failure=restart i").unwrap().host_config.restart_policy;
        assert_eq!(policy.name, "on-unhealthy");
        assert_eq!(made("--health-on-failure=kill i").unwrap().host_config.health_on_failure, "kill");
    }
}
