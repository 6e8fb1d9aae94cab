//! Checks of single texts: what a text must be, said as the end of a sentence.

/// A name of a container.
pub fn container_name(text: &str) -> Result<(), String> {
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = chars.clone().count() >= 1 && chars.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if first && rest {
        return Ok(());
    }
    Err("must begin with a letter or digit and go on with letters, digits, _ . or -".to_owned())
}

/// When images are pulled.
pub fn pull_policy(text: &str) -> Result<(), String> {
    let known = ["always", "never", "build", "if_not_present", "missing", "refresh", "daily", "weekly"];
    let every = text.strip_prefix("every_").is_some_and(|d| crate::units::duration(d).is_ok());
    if known.contains(&text) || every {
        return Ok(());
    }
    Err(format!("must be one of {} or every_DURATION", known.join(", ")))
}

/// When containers restart.
pub fn restart(text: &str) -> Result<(), String> {
    let (policy, count) = text.split_once(':').map_or((text, None), |(p, c)| (p, Some(c)));
    let fine = match (policy, count) {
        ("" | "no" | "always" | "unless-stopped" | "on-failure", None) => true,
        ("on-failure", Some(count)) => count.parse::<u32>().is_ok(),
        _ => false,
    };
    if fine {
        Ok(())
    } else {
        Err("must be one of no, always, on-failure, on-failure:N, unless-stopped".to_owned())
    }
}

/// An address.
pub fn address(text: &str) -> Result<(), String> {
    text.parse::<std::net::IpAddr>().map(drop).map_err(|_| "must be an IP address".to_owned())
}

/// A protocol of a port.
pub fn not_blank(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("must not be blank".to_owned()) } else { Ok(()) }
}
