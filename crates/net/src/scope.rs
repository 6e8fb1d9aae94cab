//! What keeps the networks of two data roots apart on one host: names that carry a short hash of the root.

use crate::addr::fnv1a;

/// The names that belong to one data root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    suffix: String,
}

impl Scope {
    /// The scope of the default root (`""`) or of another one (a short hash of its path, hexadecimal).
    #[must_use]
    pub fn new(suffix: impl Into<String>) -> Self {
        Self { suffix: suffix.into() }
    }

    /// What tells this scope from others; empty for the default root.
    #[must_use]
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Name of the nftables table (family inet).
    #[must_use]
    pub fn table(&self) -> String {
        if self.suffix.is_empty() { "fluyt".to_owned() } else { format!("fluyt-{}", self.suffix) }
    }

    /// Interface name of the default bridge.
    #[must_use]
    pub fn default_bridge(&self) -> String {
        if self.suffix.is_empty() {
            "fluyt0".to_owned()
        } else {
            format!("fy-{:010x}", fnv1a(self.suffix.as_bytes()) & 0xff_ffff_ffff)
        }
    }

    /// Interface name of the bridge of the network `id`; at most 15 bytes.
    #[must_use]
    pub fn bridge_of(&self, id: &str) -> String {
        let hash = fnv1a(format!("{}/{id}", self.suffix).as_bytes());
        format!("fy-{:012x}", hash & 0xffff_ffff_ffff)
    }

    /// Name of the host's end of a sandbox's link; at most 15 bytes.
    #[must_use]
    pub fn host_end(&self, sandbox_id: &str, network_id: &str) -> String {
        let hash = fnv1a(format!("{}/{sandbox_id}/{network_id}", self.suffix).as_bytes());
        format!("fv{:012x}", hash & 0xffff_ffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_an_interface_name_and_differ() {
        let (a, b) = (Scope::new(""), Scope::new("3f2a"));
        for scope in [&a, &b] {
            for name in [scope.default_bridge(), scope.bridge_of("net1"), scope.host_end("c1", "net1")] {
                assert!(name.len() <= 15, "{name}");
            }
        }
        assert_eq!((a.default_bridge().as_str(), a.table().as_str()), ("fluyt0", "fluyt"));
        assert_eq!(b.table(), "fluyt-3f2a");
        assert_ne!(a.bridge_of("net1"), b.bridge_of("net1"));
        assert_ne!(a.host_end("c1", "n1"), a.host_end("c1", "n2"));
    }
}
