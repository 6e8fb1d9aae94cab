//! Platforms: parsing `os/arch/variant`, the host's own, and the choice among the images of an index.
//!
//! Names are Go's, normalised as other container programs do (`x86_64` is `amd64`, `aarch64` is `arm64`).

use fluyt_model::{Error, Result};

use crate::oci::{Descriptor, Platform};

impl Platform {
    /// The platform of this machine.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = normalise(std::env::consts::ARCH, None);
        Self { architecture, os: "linux".to_owned(), os_version: None, variant }
    }

    /// Parses `os`, `arch`, `os/arch` or `os/arch/variant`; what is left out is the host's.
    ///
    /// # Errors
    /// `Kind::Invalid`.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let well =
            |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !parts.iter().all(well) || parts.len() > 3 {
            return Err(Error::invalid(format!("{text:?} is an invalid platform"))
                .with_hint("a platform is OS/ARCHITECTURE[/VARIANT], for instance linux/amd64"));
        }
        let lower = |s: &str| s.to_ascii_lowercase();
        let (os, architecture, variant) = match *parts.as_slice() {
            [one] if matches!(one, "linux" | "windows" | "darwin" | "freebsd") => {
                return Ok(Self { os: lower(one), ..Self::host() });
            }
            [one] => ("linux", one, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => unreachable!("one to three parts"),
        };
        let (architecture, variant) = normalise(&lower(architecture), variant.map(lower).as_deref());
        Ok(Self { architecture, os: lower(os), os_version: None, variant })
    }

    /// How well an image for `image` runs where `self` is asked for: `None` not at all, lower is better.
    #[must_use]
    pub fn rank(&self, image: &Self) -> Option<u32> {
        let (architecture, variant) = normalise(&image.architecture, image.variant.as_deref());
        if image.os != self.os && !(image.os.is_empty() && self.os == "linux") {
            return None;
        }
        if architecture == self.architecture {
            return match (self.architecture.as_str(), self.variant.as_deref(), variant.as_deref()) {
                (_, wanted, found) if wanted == found => Some(0),
                // A newer ARM or x86-64 level runs what was made for an older one.
                (_, Some(wanted), found) => {
                    let level = |v: &str| v.strip_prefix('v')?.parse::<u32>().ok();
                    let found = found.map_or(Some(0), level)?;
                    level(wanted)?.checked_sub(found)
                }
                ("arm", None, Some(_)) => Some(1),
                _ => None,
            };
        }
        // 64-bit ARM processors run 32-bit programs, most of them.
        if self.architecture != "arm64" || architecture != "arm" {
            return None;
        }
        let level = variant.as_deref().and_then(|v| v.strip_prefix('v')?.parse::<u32>().ok()).unwrap_or(5);
        Some(100 - level.min(8))
    }

    /// The best of an index's images for this platform: its place in the list.
    #[must_use]
    pub fn choose(&self, manifests: &[Descriptor]) -> Option<usize> {
        let ranked = manifests.iter().enumerate().filter_map(|(at, descriptor)| {
            let attestation = descriptor.annotations.contains_key("vnd.docker.reference.type");
            let platform = descriptor.platform.as_ref().filter(|_| !attestation)?;
            Some((self.rank(platform)?, at))
        });
        ranked.min().map(|(_, at)| at)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// Go's names for an architecture and its variant; the default variant is left out.
fn normalise(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let (architecture, implied) = match architecture {
        "x86_64" | "x86-64" | "amd64" => ("amd64", None),
        "x86" | "i386" | "i486" | "i586" | "i686" | "386" => ("386", None),
        "aarch64" | "arm64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "arm" => ("arm", Some("v7")),
        "powerpc64le" | "ppc64le" => ("ppc64le", None),
        "loongarch64" | "loong64" => ("loong64", None),
        other => (other, None),
    };
    let variant = match (architecture, variant.filter(|v| !v.is_empty()).or(implied)) {
        ("arm64", Some("v8" | "8")) | ("amd64", Some("v1")) => None,
        ("arm", Some(digit @ ("5" | "6" | "7" | "8"))) => Some(format!("v{digit}")),
        (_, variant) => variant.map(str::to_owned),
    };
    (architecture.to_owned(), variant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn p(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn spellings_are_normalised() {
        assert_eq!(p("linux/x86_64").to_string(), "linux/amd64");
        assert_eq!(p("linux/arm64/v8").to_string(), "linux/arm64");
        assert_eq!(p("linux/arm").to_string(), "linux/arm/v7");
        assert_eq!(p("arm64").to_string(), "linux/arm64");
        for bad in ["", "a/b/c/d", "linux/", "linux//v7", "a b"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_image_is_chosen() {
        let list: Vec<Descriptor> =
            ["linux/arm/v5", "linux/arm/v6", "linux/amd64", "windows/amd64", "linux/arm64"]
                .iter()
                .map(|text| {
                    let mut d = Descriptor::new("x", Digest::of(b""), 0);
                    d.platform = Some(p(text));
                    d
                })
                .collect();
        assert_eq!(p("linux/arm/v7").choose(&list), Some(1));
        assert_eq!(p("linux/amd64").choose(&list), Some(2));
        assert_eq!(p("linux/amd64/v3").choose(&list), Some(2));
        assert_eq!(p("linux/arm64").choose(&list), Some(4));
        assert_eq!(p("linux/s390x").choose(&list), None);
        assert_eq!(p("linux/arm64").choose(&list[..2]), Some(1));
    }
}
