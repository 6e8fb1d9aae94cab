//! Resource limits of a process: raised from outside, where the right to do so is, and lowered by the process itself
//! just before it gives up its privileges.

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

/// Gives `pid`, whose limits are still the caller's, the room that its process may take; what is lower comes later,
/// from the process itself ([`lower`]): the init stage needs descriptors and memory of its own.
pub(crate) fn raise(pid: i32, limits: &[spec::Rlimit]) -> Result<()> {
    for l in limits {
        let which = named(l)?;
        let now = rustix::process::getrlimit(which);
        let (soft, hard) = (now.current.unwrap_or(u64::MAX), now.maximum.unwrap_or(u64::MAX));
        if l.soft > soft || l.hard > hard {
            let new = rustix::process::Rlimit {
                current: finite(l.soft.max(soft)),
                maximum: finite(l.hard.max(hard)),
            };
            prlimit(Pid::from_raw(pid), which, new).about(|| describe(l))?;
        }
    }
    Ok(())
}

/// Sets the calling process's limits to what is wanted; none of them is raised any more.
pub(crate) fn lower(limits: &[spec::Rlimit]) -> Result<()> {
    for l in limits {
        let new = rustix::process::Rlimit { current: finite(l.soft), maximum: finite(l.hard) };
        rustix::process::setrlimit(named(l)?, new).about(|| describe(l))?;
    }
    Ok(())
}

fn finite(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

fn named(l: &spec::Rlimit) -> Result<Resource> {
    resource(&l.kind).ok_or_else(|| Error::invalid(format!("invalid rlimit type {:?}", l.kind)))
}

fn describe(l: &spec::Rlimit) -> String {
    format!("setting {} to soft {}, hard {}", l.kind, l.soft, l.hard)
}
