//! `EXPOSE`: ports and ranges with their protocol.

use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::lint::{Lint, Rule};
use crate::dockerfile::{Lines, quoted};

/// The ports that one word stands for, as `port/protocol`: `[[ADDRESS:]HOST:]PORT[-LAST][/PROTOCOL]`, of which the
/// address and the host's port are of no use here.
///
/// # Errors
/// No port, a port out of range, an unknown protocol.
pub fn ports(word: &str, lines: Lines, lint: &mut Lint) -> Result<Vec<String>> {
    let (address, host, rest) = parts(word);
    let wrong = |why: &str| Fault::new(format!("invalid port: {}: {why}", quoted(word)));
    let (port, protocol) = rest.split_once('/').unwrap_or((rest, ""));
    if port.is_empty() {
        return Err(wrong("no port specified"));
    }
    let lower = match protocol.to_lowercase() {
        none if none.is_empty() => "tcp".to_owned(),
        known if matches!(known.as_str(), "tcp" | "udp" | "sctp") => known,
        _ => return Err(wrong(&format!("invalid proto: {protocol}"))),
    };
    if !protocol.is_empty() && protocol != lower {
        let message = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
        lint.tell(Rule::ExposeProtoCasing, lines, message);
    }
    if !address.is_empty() || !host.is_empty() {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
        );
        lint.tell(Rule::ExposeInvalidFormat, lines, message);
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(&address);
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(Fault::new(format!("invalid IP address: {bare}")));
    }
    let (first, last) = range(port).ok_or_else(|| Fault::new(format!("invalid containerPort: {port}")))?;
    if !host.is_empty() {
        let (host_first, host_last) =
            range(host).ok_or_else(|| Fault::new(format!("invalid hostPort: {host}")))?;
        if last - first != host_last - host_first && first != last {
            return Err(Fault::new(format!(
                "invalid ranges specified for container and host Ports: {port} and {host}"
            )));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{lower}")).collect())
}

/// The address, the host's port, the rest.
fn parts(word: &str) -> (String, &str, &str) {
    let all: Vec<&str> = word.split(':').collect();
    match &all[..] {
        [rest] => (String::new(), "", rest),
        [host, rest] => (String::new(), host, rest),
        [address @ .., host, rest] => (address.join(":"), host, rest),
        [] => (String::new(), "", word),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.parse::<u16>().ok();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        let mut lint = Lint::default();
        let mut of = |word: &str| ports(word, Lines::default(), &mut lint).map_err(|e| e.to_string());
        assert_eq!(of("80").unwrap(), ["80/tcp"]);
        assert_eq!(of("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(of("8000-8002/tcp").unwrap().len(), 3);
        assert_eq!(of("127.0.0.1:80:8080").unwrap(), ["8080/tcp"]);
        assert!(of("x").unwrap_err().contains("invalid containerPort: x"));
        assert!(of("80/icmp").unwrap_err().contains("invalid proto: icmp"));
        assert!(of("90000").is_err() && of("9-8").is_err() && of("/tcp").is_err());
        assert_eq!(lint.warnings().len(), 2);
    }
}
