//! Which versions of the API there are, and which one a request speaks.

use std::fmt;

use fluyt_model::{Error, Result};

/// A version of the API; the first number has always been 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u16);

/// The newest that is spoken.
pub const NEWEST: ApiVersion = ApiVersion(55);
/// The oldest.
pub const OLDEST: ApiVersion = ApiVersion(24);

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Splits `/v1.41/info` into the version and `/info`; without a version it is the newest.
///
/// # Errors
/// `Invalid` for versions that are not spoken.
pub fn split(path: &str) -> Result<(ApiVersion, &str)> {
    let versioned = path.strip_prefix("/v").and_then(|rest| {
        let (version, _) = rest.split_once('/')?;
        let numbers = version.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !version.is_empty();
        numbers.then(|| (version, &rest[version.len()..]))
    });
    match versioned {
        None => Ok((NEWEST, path)),
        Some((text, rest)) => Ok((parse(text)?, rest)),
    }
}

fn parse(text: &str) -> Result<ApiVersion> {
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let minor = minor.split('.').next().unwrap_or_default();
    let version = match (major.parse::<u64>(), minor.parse::<u64>()) {
        (Ok(major), Ok(minor)) => (major, minor),
        _ => return Err(Error::invalid(format!("invalid API version ({text})"))),
    };
    if version < (1, OLDEST.0.into()) {
        return Err(Error::invalid(format!(
            "client version {text} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer version"
        )));
    }
    match u16::try_from(version.1) {
        Ok(minor) if version.0 == 1 && minor <= NEWEST.0 => Ok(ApiVersion(minor)),
        _ => Err(Error::invalid(format!(
            "client version {text} is too new. Maximum supported API version is {NEWEST}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_says_what_it_speaks() {
        assert_eq!(NEWEST.to_string(), crate::render::API_VERSION);
        assert_eq!(OLDEST.to_string(), crate::render::MIN_API_VERSION);
    }

    #[test]
    fn paths_with_and_without_a_version() {
        assert_eq!(split("/v1.41/info").unwrap(), (ApiVersion(41), "/info"));
        assert_eq!(split("/info").unwrap(), (NEWEST, "/info"));
        assert_eq!(split("/version").unwrap(), (NEWEST, "/version"));
        assert_eq!(split("/volumes/v1.2").unwrap().1, "/volumes/v1.2");
        let error = |path| split(path).unwrap_err().to_string();
        assert!(error("/v1.12/info").starts_with("client version 1.12 is too old. Minimum supported API"));
        assert_eq!(
            error("/v1.99/info"),
            "client version 1.99 is too new. Maximum supported API version is 1.55"
        );
        assert!(error("/v2.0/info").contains("too new") && error("/v0.9/x").contains("too old"));
        assert!(error("/v1./info").contains("invalid") && error("/v./x").contains("invalid"));
    }
}
