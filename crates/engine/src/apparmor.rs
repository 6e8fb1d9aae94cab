//! AppArmor: the profile that containers get where the kernel enforces profiles and none was asked for.
//!
//! The profile is ours, held in this file, and given to the kernel by `apparmor_parser` once a boot: what compiles profiles
//! is part of the host's AppArmor, and the compiled form depends on the kernel. No profile of the host's is touched.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use fluyt_model::error::IoContext;
use fluyt_model::sandbox::Security;
use fluyt_model::{Error, Kind, Result};

use crate::Engine;

/// The profile of containers that ask for none.
pub const DEFAULT_PROFILE: &str = "fluyt-default";

/// What the kernel knows; it exists only while AppArmor is on.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// Where distributions put the compiler of profiles.
const PARSERS: [&str; 4] = [
    "/usr/sbin/apparmor_parser",
    "/sbin/apparmor_parser",
    "/usr/bin/apparmor_parser",
    "/usr/local/sbin/apparmor_parser",
];

/// What is allowed is everything that file permissions, capabilities and seccomp allow, less what changes the host: the
/// kernel's settings in /proc and /sys, mounts, memory images, and processes outside (ptrace, signals). It stands behind
/// read-only and masked paths, which a container with CAP_SYS_ADMIN could undo.
const TEXT: &str = "\
profile fluyt-default flags=(attach_disconnected, mediate_deleted) {
  file,
  network,
  capability,
  umount,

  # Signals come from the host and from equals, and go to equals.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=fluyt-default,
  ptrace (trace, read, tracedby, readby) peer=fluyt-default,

  deny mount,

  # Of /proc: processes, and the System V limits of the own IPC namespace (kernel/shm*).
  deny /proc/* w,
  deny /proc/[^1-9st]*/** w,
  deny /proc/{scsi,sysvipc,tty}/** w,
  deny /proc/sys/[^k]** w,
  deny /proc/sys/kernel/{[^s]**,s[^h]**,sh[^m]**} w,
  deny /proc/{kcore,sysrq-trigger} rwklx,

  # Of /sys: the own cgroups.
  deny /sys/{[^f]**,f[^s]**,fs/[^c]**,fs/c[^g]**} wklx,
  deny /sys/{firmware,kernel/security,devices/virtual/powercap}/** rwklx,
}
";

/// Whether the kernel enforces profiles.
pub(crate) fn is_on() -> bool {
    Path::new(PROFILES).exists()
}

/// The profile of a container's processes; empty: none. Loads the default one where it is missing.
///
/// # Errors
/// The default profile cannot be loaded although its compiler is there.
pub(crate) fn profile(security: &Security) -> Result<String> {
    match security.apparmor.as_str() {
        "unconfined" => Ok(String::new()),
        "" if security.privileged => Ok(String::new()),
        "" | DEFAULT_PROFILE => {
            Ok(if ensure_default()? { DEFAULT_PROFILE.to_owned() } else { String::new() })
        }
        // As Docker: what this kernel cannot enforce is not asked for.
        named => Ok(if is_on() { named.to_owned() } else { String::new() }),
    }
}

/// Whether the default profile is in force; false where it cannot be.
fn ensure_default() -> Result<bool> {
    // One read a start, and where AppArmor is off only the try to open.
    let Ok(known) = std::fs::read_to_string(PROFILES) else { return Ok(false) };
    if is_loaded(&known) {
        return Ok(true);
    }
    let Some(parser) = parser() else { return Ok(false) };
    load(parser)?;
    Ok(true)
}

fn is_loaded(profiles: &str) -> bool {
    profiles.lines().any(|l| l.strip_prefix(DEFAULT_PROFILE).is_some_and(|rest| rest.starts_with(" (")))
}

fn parser() -> Option<&'static str> {
    PARSERS.into_iter().find(|p| Path::new(p).exists())
}

fn load(parser: &str) -> Result<()> {
    let about = || parser.to_owned();
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .about(about)?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends early says why on its standard error.
        let _ = input.write_all(TEXT.as_bytes());
    }
    let output = child.wait_with_output().about(about)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::new(Kind::Internal, format!("cannot load the AppArmor profile {DEFAULT_PROFILE}: {said}"))
        .with_hint("`--security-opt apparmor=unconfined` starts the container without it"))
}

impl Engine {
    /// What of AppArmor's protection is missing, although the kernel has it.
    #[must_use]
    pub fn apparmor_complaint(&self) -> Option<String> {
        let known = std::fs::read_to_string(PROFILES).ok()?;
        (!is_loaded(&known) && parser().is_none()).then(|| {
            "AppArmor is on, but apparmor_parser is not installed: containers run without the profile fluyt-default"
                .to_owned()
        })
    }

    /// [`Engine::apparmor_complaint`], once a boot and data root.
    #[must_use]
    pub fn apparmor_complaint_once(&self) -> Option<String> {
        if !is_on() {
            return None;
        }
        let complaint = self.apparmor_complaint()?;
        let stamp = self.paths.run().join("apparmor-said");
        std::fs::File::create_new(stamp).is_ok().then_some(complaint)
    }
}

/// The profile that `inspect` shows for a container; empty where the kernel enforces none.
#[must_use]
pub fn profile_shown(security: &Security) -> String {
    let Ok(known) = std::fs::read_to_string(PROFILES) else { return String::new() };
    match security.apparmor.as_str() {
        "" if security.privileged => "unconfined".to_owned(),
        "" if is_loaded(&known) || parser().is_some() => DEFAULT_PROFILE.to_owned(),
        named => named.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loaded_profile_is_found_by_its_whole_name() {
        assert!(is_loaded("a (enforce)\nfluyt-default (enforce)\n"));
        assert!(!is_loaded("fluyt-default-2 (enforce)\nfluyt (complain)\n"));
    }

    #[test]
    fn who_asks_for_none_gets_none() {
        let wants = |apparmor: &str, privileged: bool| {
            profile(&Security { apparmor: apparmor.into(), privileged, ..Security::default() }).unwrap()
        };
        assert_eq!((wants("unconfined", false), wants("", true)), (String::new(), String::new()));
    }
}
