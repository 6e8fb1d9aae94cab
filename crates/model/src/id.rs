//! Container ids and names.

use crate::{Error, Result};

/// Digits of a full container, network or image id.
pub const FULL_LEN: usize = 64;
/// Digits shown to people.
pub const SHORT_LEN: usize = 12;

/// Renders 32 random bytes as a full id: 64 lower-case hexadecimal digits.
#[must_use]
pub fn from_random(bytes: [u8; 32]) -> String {
    hex(&bytes)
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char])
        .collect()
}

/// The first twelve digits, without an algorithm prefix.
#[must_use]
pub fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..SHORT_LEN).unwrap_or(id)
}

/// Checks a name against Docker's rule `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
///
/// # Errors
/// `Invalid`, naming the object and the rule.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    check(what, name, 2)
}

/// The same for a network, whose name may be a single character and may have blanks in it.
///
/// # Errors
/// `Invalid`, naming the object and the rule.
pub fn check_network_name(name: &str) -> Result<()> {
    let rest: String = name.chars().map(|c| if c == ' ' { '_' } else { c }).collect();
    if name.trim() == name {
        return check("network", &rest, 1);
    }
    Err(Error::invalid(format!("Invalid network name ({name}): blanks at its ends")))
}

fn check(what: &str, name: &str, shortest: usize) -> Result<()> {
    let mut chars = name.bytes();
    let first_ok = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest_ok = chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'));
    if first_ok && rest_ok && name.len() >= shortest {
        return Ok(());
    }
    Err(Error::invalid(format!("Invalid {what} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "web-1", "a.b_c", "0a"] {
            assert!(check_name("container", good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "a b", "a/b", "ü1"] {
            assert!(check_name("container", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn short_ids_drop_the_algorithm() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short("01"), "01");
    }
}
