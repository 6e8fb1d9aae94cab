//! Image references, normalised as Docker does: `busybox` is `docker.io/library/busybox:latest`.
//!
//! The grammar is that of the distribution project (`[domain/]path[:tag][@digest]`); the defaults and the error
//! texts are those that users know from `docker`. Ids are not references: see [`Reference::parse`].

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The registry of names without one.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The older name of the same registry.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The namespace of one-part names of the default registry.
const OFFICIAL: &str = "library";
/// The tag of names without tag and digest.
pub const DEFAULT_TAG: &str = "latest";
/// The longest `domain/path`.
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// A normalised reference to an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Parses what a user typed: adds the default registry and namespace, but no default tag.
    ///
    /// # Errors
    /// `Kind::Invalid` with Docker's text, the reference named.
    pub fn parse_untagged(text: &str) -> Result<Self> {
        if is_hex64(text) {
            return Err(refuse(
                text,
                &format!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"),
            ));
        }
        let (name, tag, digest) = split(text)?;
        let (domain, path) = split_domain(name);
        if path.is_empty() {
            return Err(refuse(text, "invalid reference format"));
        }
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refuse(
                text,
                &format!("invalid reference format: repository name ({path}) must be lowercase"),
            ));
        }
        if !is_domain(&domain) || !is_path(&path) {
            return Err(refuse(text, "invalid reference format"));
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(refuse(text, "repository name must not be more than 255 characters"));
        }
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) })
    }

    /// Parses what a user typed; without tag and digest it gets the tag `latest`.
    ///
    /// A full image id (64 hex digits) is no reference; look ids up first.
    ///
    /// # Errors
    /// `Kind::Invalid` with Docker's text, the reference named.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self::parse_untagged(text)?.or_latest())
    }

    /// The registry's host, with its port if it has one.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, `library/busybox`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, `algorithm:hex`.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// Whether only the repository is named.
    #[must_use]
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The repository with its registry, `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it, `busybox`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let short = self.path.strip_prefix("library/").filter(|rest| !rest.contains('/'));
        // A one-part name that would be read as an id keeps its namespace.
        let short = short.filter(|rest| !is_hex64(rest)).unwrap_or(&self.path);
        // A namespace that would be read as a registry must not become one, nor vanish as the default one's name.
        let (domain, path) = split_domain(short);
        if domain == DEFAULT_DOMAIN && path == self.path { short.to_owned() } else { self.name() }
    }

    /// The whole reference as people write it, `busybox:1.36`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// The same repository with the tag `latest`, unless a tag or a digest is there.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The same repository with `tag` instead of tag and digest.
    ///
    /// # Errors
    /// `Kind::Invalid` for a malformed tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        if !is_tag(tag) {
            return Err(Error::invalid(format!("invalid tag format: {tag:?}")));
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with `digest` instead of tag and digest.
    ///
    /// # Errors
    /// `Kind::Invalid` for a malformed digest.
    pub fn with_digest(&self, digest: &str) -> Result<Self> {
        if !is_digest(digest) {
            return Err(Error::invalid(format!("invalid digest format: {digest:?}")));
        }
        Ok(Self { tag: None, digest: Some(digest.to_owned()), ..self.clone() })
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest);
        }
        text
    }
}

/// The full form, `docker.io/library/busybox:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for Reference {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Whether `text` is 64 lower-case hex digits: an id, never a repository.
#[must_use]
pub fn is_hex64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(is_hex)
}

fn refuse(text: &str, why: &str) -> Error {
    Error::invalid(format!("invalid reference {text:?}: {why}"))
        .with_hint("a reference is [REGISTRY[:PORT]/]NAME[:TAG][@DIGEST], the name in lower case")
}

/// Splits off digest and tag, both verified.
fn split(text: &str) -> Result<(&str, Option<&str>, Option<&str>)> {
    let malformed = || refuse(text, "invalid reference format");
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) if is_digest(digest) => (rest, Some(digest)),
        Some(_) => return Err(malformed()),
        None => (text, None),
    };
    let colon = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = match colon {
        Some(at) if is_tag(&rest[at + 1..]) => (&rest[..at], Some(&rest[at + 1..])),
        Some(_) => return Err(malformed()),
        None => (rest, None),
    };
    if name.is_empty() { Err(malformed()) } else { Ok((name, tag, digest)) }
}

/// What stands before the first slash is a registry if it has a dot or a colon, is `localhost` or has upper case.
fn split_domain(name: &str) -> (String, String) {
    let looks_like_domain = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
    };
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') && !path.is_empty() {
        return (domain.to_owned(), format!("{OFFICIAL}/{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn is_hex(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = tag.bytes();
    tag.len() <= MAX_TAG && bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

/// `sha256:` with 64 or `sha512:` with 128 lower-case hex digits: the registered algorithms.
fn is_digest(digest: &str) -> bool {
    match digest.split_once(':') {
        Some(("sha256", hex)) => hex.len() == 64 && hex.bytes().all(is_hex),
        Some(("sha512", hex)) => hex.len() == 128 && hex.bytes().all(is_hex),
        _ => false,
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, tail)) => {
                if v6.is_empty() || !v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
                    return false;
                }
                match tail.strip_prefix(':') {
                    Some(port) => return is_port(port),
                    None => return tail.is_empty(),
                }
            }
            None => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, None),
        },
    };
    let component = |c: &str| {
        !c.is_empty()
            && !c.starts_with('-')
            && !c.ends_with('-')
            && c.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(component) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

/// Letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn is_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().copied().is_some_and(alnum) || !bytes.last().copied().is_some_and(alnum) {
        return false;
    }
    bytes.split(|b| alnum(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_docker_s_defaults() {
        for (typed, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("docker.io/docker.io/a/b", "docker.io/docker.io/a/b:latest", "docker.io/docker.io/a/b:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
            (
                "127.0.0.1:5000/a/b_c/d--e",
                "127.0.0.1:5000/a/b_c/d--e:latest",
                "127.0.0.1:5000/a/b_c/d--e:latest",
            ),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
            ("Example/app", "Example/app:latest", "Example/app:latest"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
        ] {
            let r = Reference::parse(typed).unwrap();
            assert_eq!((r.to_string().as_str(), r.familiar().as_str()), (full, familiar), "{typed}");
            assert_eq!(Reference::parse(full).unwrap(), r);
            assert_eq!(Reference::parse(familiar).unwrap(), r);
        }
    }

    #[test]
    fn digests_stand_alone_or_after_a_tag() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let r = Reference::parse(&format!("busybox@{digest}")).unwrap();
        assert_eq!((r.tag(), r.digest()), (None, Some(&*digest)));
        let both = Reference::parse(&format!("busybox:1@{digest}")).unwrap();
        assert_eq!((both.tag(), both.digest()), (Some("1"), Some(&*digest)));
        assert_eq!(r.with_tag("x").unwrap().familiar(), "busybox:x");
        assert!(r.with_tag("-x").is_err() && r.with_digest("sha256:00").is_err());
        assert!(Reference::parse_untagged("busybox").unwrap().is_name_only());
    }

    #[test]
    fn malformed_references_are_refused_in_docker_s_words() {
        for (bad, why) in [
            ("", "invalid reference format"),
            ("UPPER", "repository name (library/UPPER) must be lowercase"),
            ("a/Upper", "must be lowercase"),
            ("a:", "invalid reference format"),
            (":tag", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a/", "invalid reference format"),
            ("localhost:5000/", "invalid reference format"),
            ("../etc", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("a@b@c", "invalid reference format"),
            ("http://x/y", "invalid reference format"),
            ("a:x@", "invalid reference format"),
        ] {
            let e = Reference::parse(bad).unwrap_err();
            assert!(e.to_string().contains(why), "{bad:?}: {e}");
        }
        let id = "a".repeat(64);
        assert!(Reference::parse(&id).unwrap_err().to_string().contains("64-byte hexadecimal"));
        assert!(Reference::parse(&format!("a:{}", "t".repeat(129))).is_err());
        assert!(Reference::parse(&"n".repeat(250)).unwrap_err().to_string().contains("255 characters"));
    }

    #[test]
    fn short_names_mean_the_same() {
        for text in [
            "docker.io/a.b/c",
            "docker.io/localhost/c",
            "docker.io/library/c",
            "docker.io/a/c",
            "h.example/c",
        ] {
            let reference = Reference::parse(text).expect(text);
            assert_eq!(Reference::parse(&reference.familiar()).expect(text), reference, "{text}");
        }
        assert_eq!(Reference::parse("docker.io/a.b/c").expect("one").familiar_name(), "docker.io/a.b/c");
    }
}
