//! Names of repositories and tags as the distribution specification allows them, and the paths that contain them.

use fluyt_image::Digest;

use super::failure::{Answered, Code, Failure};

/// The longest name of a repository.
const MAX_NAME: usize = 255;

/// Checks the name of a repository: components of lower-case letters and digits with single separators inside.
pub(crate) fn repository(name: &str) -> Answered<()> {
    if name.len() <= MAX_NAME && !name.is_empty() && name.split('/').all(is_component) {
        return Ok(());
    }
    let text =
        format!("invalid repository name {name:?}: lower-case letters, digits and single separators only");
    Err(Failure::new(Code::NameInvalid, text))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else { return false };
    if !plain(first) || !plain(last) {
        return false;
    }
    for byte in text.bytes() {
        if plain(byte) {
            let fits =
                matches!(separator.as_str(), "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
            if !fits {
                return false;
            }
            separator.clear();
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    true
}

/// Whether `text` can be a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub(crate) fn is_tag(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with(['.', '-'])
}

/// A digest from a path or a query.
pub(crate) fn digest(text: &str) -> Answered<Digest> {
    Digest::parse(text).map_err(|e| Failure::new(Code::DigestInvalid, e.to_string()))
}

/// What names a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Tag(String),
    Digest(Digest),
}

impl Key {
    /// Reads a tag or a digest.
    pub fn parse(text: &str) -> Answered<Self> {
        if text.contains(':') {
            return digest(text).map(Self::Digest);
        }
        if is_tag(text) {
            return Ok(Self::Tag(text.to_owned()));
        }
        Err(Failure::new(Code::TagInvalid, format!("invalid tag {text:?}")))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route<'p> {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/NAME/tags/list`
    Tags(&'p str),
    /// `/v2/NAME/manifests/KEY`
    Manifest(&'p str, &'p str),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(&'p str, &'p str),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(&'p str),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(&'p str, &'p str),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(&'p str, &'p str),
    /// `/v1/search`
    Search,
    /// `/token`
    Token,
    /// `/` and `/v1/_ping`: is anybody there? Load balancers ask, and Docker's search.
    Root,
}

impl<'p> Route<'p> {
    /// Finds where `path` leads. Names may have slashes, so paths are read from their end.
    pub fn of(path: &'p str) -> Option<Self> {
        match path {
            "/" | "/v1/_ping" => return Some(Self::Root),
            "/v2" | "/v2/" => return Some(Self::Base),
            "/v2/_catalog" => return Some(Self::Catalog),
            "/v1/search" | "/v2/_search" => return Some(Self::Search),
            "/token" | "/auth/token" => return Some(Self::Token),
            _ => {}
        }
        let rest = path.strip_prefix("/v2/")?;
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Some(Self::Tags(name));
        }
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Some(Self::Uploads(name));
        }
        let (before, last) = rest.rsplit_once('/')?;
        if let Some(name) = before.strip_suffix("/blobs/uploads") {
            return Some(Self::Upload(name, last));
        }
        let (name, kind) = before.rsplit_once('/')?;
        match kind {
            "manifests" => Some(Self::Manifest(name, last)),
            "blobs" => Some(Self::Blob(name, last)),
            "referrers" => Some(Self::Referrers(name, last)),
            _ => None,
        }
    }

    /// The repository that it is about.
    pub fn repository(&self) -> Option<&'p str> {
        match self {
            Self::Tags(name)
            | Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Referrers(name, _) => Some(name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_specification_has_them() {
        for good in ["a", "a/b", "library/busybox", "a.b", "a_b", "a__b", "a---b/c0", &"x".repeat(255)] {
            assert!(repository(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "A",
            "a//b",
            "/a",
            "a/",
            ".a",
            "a.",
            "a..b",
            "a___b",
            "a._b",
            "a/../b",
            "ä",
            &"x".repeat(256),
        ] {
            assert!(repository(bad).is_err(), "{bad}");
        }
        for good in ["latest", "1.0", "_x", "A-b", &"t".repeat(128)] {
            assert!(is_tag(good), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a b", &"t".repeat(129)] {
            assert!(!is_tag(bad), "{bad}");
        }
    }

    #[test]
    fn paths_are_read_from_their_end() {
        assert_eq!(Route::of("/v2/"), Some(Route::Base));
        assert_eq!(Route::of("/v2/a/b/tags/list"), Some(Route::Tags("a/b")));
        assert_eq!(Route::of("/v2/a/blobs/uploads/"), Some(Route::Uploads("a")));
        assert_eq!(Route::of("/v2/a/blobs/uploads/7"), Some(Route::Upload("a", "7")));
        assert_eq!(Route::of("/v2/blobs/blobs/sha256:0"), Some(Route::Blob("blobs", "sha256:0")));
        assert_eq!(Route::of("/v2/a/manifests/x"), Some(Route::Manifest("a", "x")));
        assert_eq!(Route::of("/v2/a/referrers/x"), Some(Route::Referrers("a", "x")));
        assert_eq!(Route::of("/v3/"), None);
        assert_eq!(Route::of("/v2/a/b"), None);
    }
}
