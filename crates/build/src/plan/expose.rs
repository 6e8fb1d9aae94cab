//! `EXPOSE`: ports and ranges with their protocol.

use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::lint::{Lint, Rule};
use crate::dockerfile::{Lines, quoted};

/// The ports that one word stands for, as `port/protocol`.
///
/// # Errors
/// No port, a port out of range, an unknown protocol.
pub fn ports(word: &str, lines: Lines, lint: &mut Lint) -> Result<Vec<String>> {
    let bad = |why: &str| Fault::new(format!("invalid containerPort: {why}"));
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    if range.is_empty() {
        return Err(Fault::new(format!("no port specified: {word}")));
    }
    let lower = match protocol.to_lowercase() {
        empty if empty.is_empty() => "tcp".to_owned(),
        lower => lower,
    };
    if !matches!(lower.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Fault::new(format!("invalid proto: {protocol}")));
    }
    if lower != protocol && !protocol.is_empty() {
        let message = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
        lint.tell(Rule::ExposeProtoCasing, lines, message);
    }
    let range = match range.rsplit_once(':') {
        Some((_, inner)) => {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
            );
            lint.tell(Rule::ExposeInvalidFormat, lines, message);
            inner
        }
        None => range,
    };
    let number = |text: &str| text.parse::<u16>().map_err(|_| bad(range));
    let (low, high) = match range.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(range)?, number(range)?),
    };
    if low > high {
        return Err(Fault::new(format!("invalid port range: {}", quoted(range))));
    }
    Ok((low..=high).map(|port| format!("{port}/{lower}")).collect())
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
