//! Checks of flag values, with Docker's and Go's wording.

use fluyt_model::quantity;

/// Everything goes.
pub fn any(_: &str) -> Result<(), String> {
    Ok(())
}

/// A signed 64-bit integer.
pub fn int(text: &str) -> Result<(), String> {
    number::<i64>(text, "ParseInt").map(|_| ())
}

/// An unsigned 16-bit integer.
pub fn uint16(text: &str) -> Result<(), String> {
    number::<u16>(text, "ParseUint").map(|_| ())
}

/// An unsigned 64-bit integer.
pub fn uint64(text: &str) -> Result<(), String> {
    number::<u64>(text, "ParseUint").map(|_| ())
}

fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(
    text: &str,
    function: &str,
) -> Result<T, String> {
    use std::num::IntErrorKind as K;
    text.parse().map_err(|e: std::num::ParseIntError| {
        let why = match e.kind() {
            K::PosOverflow | K::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.{function}: parsing \"{text}\": {why}")
    })
}

/// A size in bytes.
pub fn bytes(text: &str) -> Result<(), String> {
    quantity::parse_bytes(text).map(|_| ()).map_err(|e| e.to_string())
}

/// A size in bytes, or -1.
pub fn swap_bytes(text: &str) -> Result<(), String> {
    if text == "-1" { Ok(()) } else { bytes(text) }
}

/// A number of CPUs.
pub fn cpus(text: &str) -> Result<(), String> {
    quantity::parse_cpus(text).map(|_| ()).map_err(|e| e.to_string())
}

/// A duration.
pub fn duration(text: &str) -> Result<(), String> {
    quantity::parse_duration(text).map(|_| ()).map_err(|e| e.to_string())
}

/// An address (a network attachment's).
pub fn ip(text: &str) -> Result<(), String> {
    if text.trim().parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("failed to parse IP: \"{text}\""))
}

/// An address (a name server's).
pub fn dns_ip(text: &str) -> Result<(), String> {
    if text.trim().parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("IP address is not correctly formatted: {text}"))
}

/// A filter `name=value`.
pub fn filter(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}

/// One of the standard streams.
pub fn stream(text: &str) -> Result<(), String> {
    if matches!(text.to_ascii_lowercase().as_str(), "stdin" | "stdout" | "stderr") {
        return Ok(());
    }
    Err("valid streams are STDIN, STDOUT and STDERR".to_owned())
}

/// An environment variable: `KEY=value` or `KEY`.
pub fn env(text: &str) -> Result<(), String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(())
}

/// A label: `key[=value]`.
pub fn label(text: &str) -> Result<(), String> {
    let key = text.split_once('=').map_or(text, |(k, _)| k).trim_start_matches([' ', '\t']);
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if key.contains([' ', '\t']) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok(())
}

/// A sysctl that has a namespace: `key=value`.
pub fn sysctl(text: &str) -> Result<(), String> {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match text.split_once('=') {
        Some((key, _))
            if NAMES.contains(&key) || key.starts_with("net.") || key.starts_with("fs.mqueue.") =>
        {
            Ok(())
        }
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

/// A DNS search domain.
pub fn dns_search(text: &str) -> Result<(), String> {
    let domain = text.trim_matches(' ');
    if domain == "." {
        return Ok(());
    }
    let bare = domain.strip_suffix('.').unwrap_or(domain);
    let part_ok = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if bare.len() < 255 && bare.bytes().any(|b| b.is_ascii_alphabetic()) && bare.split('.').all(part_ok) {
        return Ok(());
    }
    Err(format!("{domain} is not a valid domain"))
}

/// A line of /etc/hosts: `name:address` or `name=address`.
pub fn extra_host(text: &str) -> Result<(), String> {
    extra_host_parts(text).map(|_| ())
}

/// The name and the address of a line of /etc/hosts; `host-gateway` stays as it is.
pub fn extra_host_parts(text: &str) -> Result<(&str, String), String> {
    let bad = || format!("bad format for add-host: {text:?}");
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(bad)?;
    if name.is_empty() || name.contains(':') {
        return Err(bad());
    }
    if address == "host-gateway" {
        return Ok((name, address.to_owned()));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if bare.trim().parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {bare:?}"));
    }
    Ok((name, bare.to_owned()))
}

/// A link `container[:alias]`.
pub fn link(text: &str) -> Result<(), String> {
    match text.split(':').count() {
        _ if text.is_empty() => Err("empty string specified for links".to_owned()),
        0..=2 => Ok(()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

/// A device cgroup rule `c 1:3 rwm`.
pub fn device_rule(text: &str) -> Result<(), String> {
    let number = |n: &str| n == "*" || (!n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let words: Vec<&str> = text.split(' ').collect();
    let good = match words.as_slice() {
        [kind, numbers, access] => {
            matches!(*kind, "a" | "c" | "b")
                && numbers.split_once(':').is_some_and(|(a, b)| number(a) && number(b))
                && matches!(access.len(), 1..=3)
                && access.bytes().all(|b| b"rwm".contains(&b))
        }
        _ => false,
    };
    if good { Ok(()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (Check, &'static str, Option<&'static str>);
    type Check = fn(&str) -> Result<(), String>;

    #[test]
    fn checks_speak_dockers_words() {
        let cases: &[Case] = &[
            (int, "12", None),
            (int, "x", Some("strconv.ParseInt: parsing \"x\": invalid syntax")),
            (uint16, "70000", Some("strconv.ParseUint: parsing \"70000\": value out of range")),
            (env, "=a", Some("invalid environment variable: =a")),
            (env, "A", None),
            (label, "a b=c", Some("label 'a b' contains whitespaces")),
            (label, "=c", Some("invalid label '=c': empty name")),
            (sysctl, "net.a=1", None),
            (sysctl, "kernel.x=1", Some("sysctl 'kernel.x=1' is not allowed")),
            (extra_host, "a:1.2.3.4", None),
            (extra_host, "a:::1", None),
            (extra_host, "a=[::1]", None),
            (extra_host, "h:host-gateway", None),
            (extra_host, "a", Some("bad format for add-host: \"a\"")),
            (extra_host, "a:x", Some("invalid IP address in add-host: \"x\"")),
            (device_rule, "c *:3 rw", None),
            (device_rule, "c 1 rw", Some("invalid device cgroup format 'c 1 rw'")),
            (dns_search, "example.com.", None),
            (dns_search, "a..b", Some("a..b is not a valid domain")),
            (dns_search, "1.2", Some("1.2 is not a valid domain")),
            (link, "a:b:c", Some("bad format for links: a:b:c")),
            (stream, "STDIN", None),
            (swap_bytes, "-1", None),
            (bytes, "-1", Some("invalid size: '-1'")),
        ];
        for (check, text, error) in cases {
            assert_eq!(check(text).err().as_deref(), *error, "{text}");
        }
    }
}
