//! Containers' `registries.conf`, version 2 (containers-registries.conf(5)): where names are fetched from in truth. Pure but
//! for reading the files.
//!
//! Not taken from it: searching several registries for a name without one. A name means here what it means for Docker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use serde::Deserialize;

/// What the files say together.
#[derive(Clone, Debug, Default)]
pub struct RegistriesConf {
    registries: Vec<Entry>,
    aliases: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default, rename = "mirror")]
    mirrors: Vec<Mirror>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: PullFrom,
}

/// Which names a mirror is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFrom {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    #[serde(default, rename = "registry")]
    registries: Vec<Entry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(default)]
    registries_v1: Option<toml::Value>,
}

/// Where a name is fetched from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    /// The name at each mirror, in their order.
    pub mirrors: Vec<Reference>,
    /// The name at the registry itself.
    pub location: Option<Reference>,
}

impl RegistriesConf {
    /// Adds a file and, after it, the `*.conf` files of the directory `PATH.d`, in the order of their names; what is not
    /// there says nothing. An entry of a later file replaces one with the same prefix.
    ///
    /// `aliases` says whether short names are taken from it too.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid` for what is not understood.
    pub fn read(&mut self, path: &Path, aliases: bool) -> Result<()> {
        let mut dropins: Vec<PathBuf> = Vec::new();
        if let Ok(entries) = std::fs::read_dir(format!("{}.d", path.display())) {
            dropins.extend(entries.flatten().map(|e| e.path()));
        }
        dropins.retain(|p| p.extension().is_some_and(|e| e == "conf"));
        dropins.sort();
        for path in std::iter::once(path.to_owned()).chain(dropins) {
            match std::fs::read_to_string(&path) {
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) => {}
                other => self.add(&other.about(|| path.display().to_string())?, &path, aliases)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str, path: &Path, aliases: bool) -> Result<()> {
        let bad = |why: &str| {
            Error::invalid(format!("{}: not a valid registries.conf{why}", path.display()))
                .with_hint("containers-registries.conf(5) describes the file (version 2)")
        };
        let document: Document = toml::from_str(text).map_err(|e| bad("").with_source(e))?;
        if document.registries_v1.is_some() {
            return Err(bad(": it is of version 1"));
        }
        for mut entry in document.registries {
            if entry.prefix.is_empty() {
                entry.prefix.clone_from(&entry.location);
            }
            let trimmed = |text: &str| text.trim_end_matches('/').to_owned();
            (entry.prefix, entry.location) = (trimmed(&entry.prefix), trimmed(&entry.location));
            if entry.prefix.is_empty() {
                return Err(bad(": a registry has neither prefix nor location"));
            }
            if entry.prefix.starts_with("*.") && !entry.location.is_empty() {
                return Err(bad(&format!(": the wildcard {} cannot have a location", entry.prefix)));
            }
            self.registries.retain(|other| other.prefix != entry.prefix);
            self.registries.push(entry);
        }
        if aliases {
            self.aliases.extend(document.aliases);
        }
        Ok(())
    }

    /// The hosts that it calls insecure.
    pub fn insecure_hosts(&self) -> impl Iterator<Item = &str> {
        let host = |location: &'_ str| -> usize { location.find('/').unwrap_or(location.len()) };
        self.registries.iter().flat_map(move |entry| {
            let own = if entry.location.is_empty() { &entry.prefix } else { &entry.location };
            let own = entry.insecure.then(|| &own[..host(own)]);
            let mirrors = entry.mirrors.iter().filter(|m| m.insecure);
            own.into_iter().chain(mirrors.map(move |m| &m.location[..host(&m.location)]))
        })
    }

    /// Where `reference` is fetched from.
    ///
    /// # Errors
    /// `Kind::PermissionDenied` for a blocked name; `Kind::Invalid` for locations that are no names.
    pub(crate) fn route(&self, reference: &Reference) -> Result<Route> {
        let aliased = self.aliases.get(&reference.familiar_name());
        let aliased = match aliased.filter(|a| !a.is_empty()) {
            Some(name) => rewritten(name, "", reference)?,
            None => reference.clone(),
        };
        let name = aliased.name();
        let entry =
            self.registries.iter().filter(|e| matches(&e.prefix, &name)).max_by_key(|e| e.prefix.len());
        let Some(entry) = entry else {
            return Ok(Route { mirrors: Vec::new(), location: Some(aliased).filter(|a| a != reference) });
        };
        if entry.blocked {
            let text =
                format!("registries.conf blocks {} (the entry {})", reference.familiar(), entry.prefix);
            return Err(Error::new(Kind::PermissionDenied, text).with_hint("use another registry"));
        }
        // A wildcard stands for a whole host.
        let rest = name
            .strip_prefix(entry.prefix.as_str())
            .unwrap_or_else(|| name.find('/').map_or("", |slash| &name[slash..]));
        let by_digest = reference.digest().is_some();
        let mut mirrors = Vec::new();
        for mirror in &entry.mirrors {
            let wanted = match mirror.pull_from_mirror {
                _ if entry.mirror_by_digest_only && !by_digest => false,
                PullFrom::All => true,
                PullFrom::DigestOnly => by_digest,
                PullFrom::TagOnly => !by_digest,
            };
            if wanted {
                mirrors.push(rewritten(mirror.location.trim_end_matches('/'), rest, reference)?);
            }
        }
        let location = match entry.location.as_str() {
            "" => aliased,
            location => rewritten(location, rest, reference)?,
        };
        Ok(Route { mirrors, location: Some(location).filter(|l| l != reference) })
    }
}

/// Whether a name falls under a prefix, which ends at a border of components.
fn matches(prefix: &str, name: &str) -> bool {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = name.split(['/', ':']).next().unwrap_or_default();
        return host.ends_with(domain);
    }
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `location` and `rest` as a name, with the tag and the digest of `reference`.
fn rewritten(location: &str, rest: &str, reference: &Reference) -> Result<Reference> {
    let host = location.split('/').next().unwrap_or_default();
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err(Error::invalid(format!("registries.conf: the location {location:?} names no registry"))
            .with_hint("a location is HOST[:PORT][/NAMESPACE], without a scheme"));
    }
    let mut text = format!("{location}{rest}");
    if let Some(tag) = reference.tag() {
        text.push_str(&format!(":{tag}"));
    }
    if let Some(digest) = reference.digest() {
        text.push_str(&format!("@{digest}"));
    }
    Reference::parse_untagged(&text)
        .map_err(|e| Error::invalid(format!("registries.conf: the location {location:?}")).with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> Result<RegistriesConf> {
        let mut conf = RegistriesConf::default();
        conf.add(text, Path::new("/r.conf"), true)?;
        Ok(conf)
    }

    fn route(conf: &RegistriesConf, name: &str) -> (Vec<String>, Option<String>) {
        let route = conf.route(&Reference::parse(name).unwrap()).unwrap();
        (route.mirrors.iter().map(ToString::to_string).collect(), route.location.map(|l| l.to_string()))
    }

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn names_are_fetched_from_where_the_longest_prefix_says() {
        let conf = conf(
            r#"
            unqualified-search-registries = ["docker.io"]
            short-name-mode = "enforcing"
            [aliases]
            "tool" = "quay.io/tools/tool"
            [[registry]]
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.lan:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "second.lan"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "docker.io/library"
            location = "quay.io/official"
            [[registry]]
            prefix = "bad.org"
            blocked = true
            [[registry]]
            prefix = "*.corp.lan"
            [[registry.mirror]]
            location = "cache.lan"
            "#,
        )
        .unwrap();
        let (mirrors, location) = route(&conf, "me/app:1");
        assert_eq!((mirrors, location), (vec!["mirror.lan:5000/hub/me/app:1".to_owned()], None));
        let (mirrors, _) = route(&conf, &format!("me/app@{DIGEST}"));
        assert_eq!(mirrors[1], format!("second.lan/me/app@{DIGEST}"));
        assert_eq!(route(&conf, "busybox").1, Some("quay.io/official/busybox:latest".to_owned()));
        assert_eq!(route(&conf, "tool:3").1, Some("quay.io/tools/tool:3".to_owned()));
        assert_eq!(route(&conf, "a.corp.lan:80/x").0, ["cache.lan/x:latest"]);
        assert_eq!(conf.insecure_hosts().collect::<Vec<_>>(), ["mirror.lan:5000"]);
        let e = conf.route(&Reference::parse("bad.org/x").unwrap()).unwrap_err();
        assert_eq!(e.kind(), Kind::PermissionDenied);
        assert!(conf.route(&Reference::parse("bad.org.uk/x").unwrap()).unwrap().location.is_none());
    }

    #[test]
    fn files_that_are_not_understood_are_named() {
        for text in [
            "[[registry]]\ninsecure = true",
            "[[registry]]\nlocation = 'a.b'\nstrange = 1",
            "[[registry]]\nprefix = '*.a.b'\nlocation = 'c.d'",
            "not toml",
        ] {
            let e = conf(text).expect_err(text);
            assert!(e.kind() == Kind::Invalid && e.to_string().contains("/r.conf"), "{e}");
        }
    }

    #[test]
    fn a_directory_beside_the_file_adds_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.conf");
        let mut conf = RegistriesConf::default();
        conf.read(&path, false).unwrap();
        std::fs::write(&path, "[[registry]]\nlocation = 'a.b'\ninsecure = true\n").unwrap();
        std::fs::create_dir(dir.path().join("registries.conf.d")).unwrap();
        let dropin = dir.path().join("registries.conf.d/1.conf");
        std::fs::write(dropin, "[[registry]]\nlocation = 'a.b'\nblocked = true\n[aliases]\nx = 'y.z/x'\n")
            .unwrap();
        conf.read(&path, false).unwrap();
        assert_eq!(conf.insecure_hosts().count(), 0);
        assert!(conf.route(&Reference::parse("a.b/c").unwrap()).is_err());
        assert_eq!(conf.route(&Reference::parse("x").unwrap()).unwrap(), Route::default());
    }
}
