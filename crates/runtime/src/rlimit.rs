//! Resource limits of a process, set from outside just before it executes its program.

use fluyt_model::error::{Error, IoContext, Result};
use rustix::process::{Pid, Resource, prlimit};

use crate::spec;

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}

/// Checks names and order of the limits, and that none is listed twice.
pub(crate) fn validate(limits: &[spec::Rlimit]) -> Result<()> {
    for (i, l) in limits.iter().enumerate() {
        if resource(&l.kind).is_none() {
            return Err(Error::invalid(format!("invalid rlimit type {:?}", l.kind)));
        }
        if l.soft > l.hard {
            return Err(Error::invalid(format!(
                "{}: soft limit {} is above hard limit {}",
                l.kind, l.soft, l.hard
            )));
        }
        if limits[..i].iter().any(|o| o.kind == l.kind) {
            return Err(Error::invalid(format!("rlimit {} is listed twice", l.kind)));
        }
    }
    Ok(())
}

/// Sets the limits of `pid`.
pub(crate) fn set(pid: i32, limits: &[spec::Rlimit]) -> Result<()> {
    let finite = |v: u64| (v != u64::MAX).then_some(v);
    for l in limits {
        let which =
            resource(&l.kind).ok_or_else(|| Error::invalid(format!("invalid rlimit type {:?}", l.kind)))?;
        let new = rustix::process::Rlimit { current: finite(l.soft), maximum: finite(l.hard) };
        prlimit(Pid::from_raw(pid), which, new)
            .about(|| format!("setting {} to soft {}, hard {}", l.kind, l.soft, l.hard))?;
    }
    Ok(())
}
