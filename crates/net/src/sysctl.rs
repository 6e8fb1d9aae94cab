//! Kernel parameters of the current network namespace, written only where they differ.

use fluyt_model::error::{Error, IoContext, Kind, Result};
use rustix::fs::{Mode, OFlags};

/// The value of a parameter, by its path below `/proc/sys`; `None` if the kernel has no such parameter.
pub(crate) fn read(path: &str) -> Option<String> {
    let fd = rustix::fs::open(full(path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut buffer = [0_u8; 256];
    let length = rustix::io::read(&fd, &mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
}

/// Writes a parameter.
///
/// # Errors
/// `NotFound` if the kernel has no such parameter, else the errno.
pub(crate) fn write(path: &str, value: &str) -> Result<()> {
    let full = full(path);
    let fd =
        rustix::fs::open(&full, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).about(|| full.clone())?;
    rustix::io::write(&fd, value.as_bytes()).about(|| format!("{full}: cannot write {value:?}"))?;
    Ok(())
}

/// Writes a parameter if it has another value; a parameter that this kernel lacks (IPv6 switched off) is passed over.
pub(crate) fn ensure(path: &str, value: &str) -> Result<()> {
    match read(path) {
        None => Ok(()),
        Some(now) if now == value => Ok(()),
        Some(_) => write(path, value),
    }
}

/// Whether the kernel has IPv6 switched on (`ipv6.disable=1` switches it off as a whole). Where it has not, networks
/// and endpoints must be given IPv4 addresses only.
#[must_use]
pub fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// The path of a dotted name. Interface names may contain dots, so slashes are accepted as separators too.
///
/// # Errors
/// `Invalid` if the name leaves `/proc/sys/net`.
pub(crate) fn path_of(name: &str) -> Result<String> {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let inside = path.starts_with("net/") && path.split('/').all(|p| !p.is_empty() && p != "." && p != "..");
    if inside {
        Ok(path)
    } else {
        Err(Error::new(Kind::Invalid, format!("{name:?} is not a network parameter"))
            .with_hint("endpoint parameters begin with net."))
    }
}

fn full(path: &str) -> String {
    format!("/proc/sys/{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_net() {
        assert_eq!(path_of("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
        assert_eq!(path_of("net/ipv4/conf/eth0.5/arp_notify").unwrap(), "net/ipv4/conf/eth0.5/arp_notify");
        for bad in ["kernel.hostname", "net/../kernel/x", "net..x", ""] {
            assert!(path_of(bad).is_err(), "{bad}");
        }
    }
}
