//! What a client of BuildKit asks for, as flags of `fluyt build`. Pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fluyt_buildkit::Build;
use fluyt_buildkit::proto::{CacheEntry, Exporter};
use fluyt_model::{Error, Result};
use serde::Deserialize;

/// Where an output is made before the client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// A file: an archive.
    File(PathBuf),
    /// A directory.
    Directory(PathBuf),
}

/// What of the outputs the client gets: the output's number, and where it is made.
pub type Gift = (usize, Handed);

/// An entry of the attribute `cache-imports`.
#[derive(Deserialize)]
struct Import {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Attrs", default)]
    attrs: BTreeMap<String, String>,
}

/// The flags that follow from the attributes alone.
///
/// # Errors
/// What `fluyt build` has no flag for.
pub fn of_attributes(build: &Build) -> Result<Vec<String>> {
    let mut flags = Vec::new();
    for (key, value) in &build.attrs {
        let flag = |name: &str| format!("--{name}={value}");
        match key.as_str() {
            "target" => flags.push(flag("target")),
            "platform" => flags.push(flag("platform")),
            "cgroup-parent" => flags.push(flag("cgroup-parent")),
            "shm-size" => flags.push(flag("shm-size")),
            "force-network-mode" => flags.push(flag("network")),
            "no-cache" if value.is_empty() => flags.push("--no-cache".to_owned()),
            "no-cache" => flags.extend(value.split(',').map(|stage| format!("--no-cache-filter={stage}"))),
            "image-resolve-mode" if value == "pull" => flags.push("--pull".to_owned()),
            "add-hosts" => flags.extend(value.split(',').map(|host| format!("--add-host={host}"))),
            "ulimit" => flags.extend(value.split(',').map(|limit| format!("--ulimit={limit}"))),
            // Made for indexes by default (buildx does not ask its user): here only what somebody asked for is said.
            "attest:provenance" if value.contains("inline-only=true") => {}
            "attest:provenance" => flags.push(attestation("provenance", value)),
            "attest:sbom" => flags.push(attestation("sbom", value)),
            _ => {
                if let Some(name) = key.strip_prefix("build-arg:") {
                    flags.push(format!("--build-arg={name}={value}"));
                } else if let Some(name) = key.strip_prefix("label:") {
                    flags.push(format!("--label={name}={value}"));
                }
            }
        }
    }
    flags.extend(build.entitlements.iter().map(|name| format!("--allow={name}")));
    for entry in imports(build)? {
        flags.push(format!("--cache-from={}", cache("from", &entry)?));
    }
    for entry in &build.cache_to {
        flags.push(format!("--cache-to={}", cache("to", entry)?));
    }
    Ok(flags)
}

fn attestation(kind: &str, value: &str) -> String {
    format!("--attest={}", [format!("type={kind}"), value.to_owned()].join(",").trim_end_matches(','))
}

/// Caches that are read: told as entries, as an attribute in JSON, or as a list of references.
fn imports(build: &Build) -> Result<Vec<CacheEntry>> {
    let mut all = build.cache_from.clone();
    if let Some(text) = build.attrs.get("cache-imports") {
        let told: Vec<Import> =
            serde_json::from_str(text).map_err(|e| Error::invalid(format!("cache-imports: {e}")))?;
        all.extend(told.into_iter().map(|import| CacheEntry { kind: import.kind, attrs: import.attrs }));
    } else if let Some(references) = build.attrs.get("cache-from").filter(|text| !text.is_empty()) {
        all.extend(references.split(',').map(|reference| CacheEntry {
            kind: "registry".to_owned(),
            attrs: BTreeMap::from([("ref".to_owned(), reference.to_owned())]),
        }));
    }
    all.dedup();
    Ok(all)
}

fn cache(direction: &str, entry: &CacheEntry) -> Result<String> {
    if entry.kind == "local" {
        return Err(Error::unsupported(format!(
            "--cache-{direction} type=local: the directory is the client's, and is not brought here"
        ))
        .with_hint("keep the cache in a registry (type=registry,ref=…), or build with `fluyt build`"));
    }
    fields(&entry.kind, &entry.attrs)
}

/// Whether a context is fetched from elsewhere: what else lies on this machine is not the client's to name.
///
/// # Errors
/// An address of a repository that contradicts itself.
pub fn is_address(text: &str) -> Result<bool> {
    let git = fluyt_build::gitref::parse(text).map_err(|f| f.error)?;
    Ok(git.is_some() || text.starts_with("http://") || text.starts_with("https://"))
}

/// `type=KIND,key=value,…`, quoted where it has to be.
///
/// # Errors
/// A key that would be read as another one, so that it could stand for what was not meant.
pub fn fields(kind: &str, attrs: &BTreeMap<String, String>) -> Result<String> {
    let mut seen = vec!["type".to_owned()];
    for key in attrs.keys() {
        let read = key.trim().to_lowercase();
        if key.contains('=') || seen.contains(&read) {
            return Err(Error::invalid(format!("invalid attribute {key:?} of {kind:?}")));
        }
        seen.push(read);
    }
    let all = std::iter::once(format!("type={kind}")).chain(attrs.iter().map(|(k, v)| format!("{k}={v}")));
    let quoted = |field: String| {
        let plain = !field.contains([',', '"', '\n', '\r']) && !field.starts_with(' ');
        if plain { field } else { format!("\"{}\"", field.replace('"', "\"\"")) }
    };
    Ok(all.map(quoted).collect::<Vec<_>>().join(","))
}

/// The flags of the outputs, and what of them the client gets, by its number; things for it are made below `scratch`.
///
/// # Errors
/// An output that does not exist here.
pub fn of_outputs(exporters: &[Exporter], scratch: &Path) -> Result<(Vec<String>, Vec<Gift>)> {
    let (mut flags, mut handed) = (Vec::new(), Vec::new());
    for (number, exporter) in exporters.iter().enumerate() {
        let mut attrs = exporter.attrs.clone();
        let place = scratch.join(format!("output-{number}"));
        // Images are known by their configuration's digest here, as by default everywhere.
        attrs.remove("prefer-image-digest");
        let kind = match exporter.kind.as_str() {
            "image" | "moby" => "image",
            "local" => {
                handed.push((number, Handed::Directory(place.clone())));
                attrs.insert("dest".to_owned(), place.display().to_string());
                // What is to happen with files that are there already is the client's business.
                attrs.remove("mode");
                "local"
            }
            kind @ ("tar" | "oci" | "docker") => {
                if attrs.get("tar").is_some_and(|value| value == "false") {
                    return Err(Error::unsupported(format!("--output type={kind},tar=false"))
                        .with_hint("leave tar=false out, or build with `fluyt build`"));
                }
                handed.push((number, Handed::File(place.clone())));
                attrs.insert("dest".to_owned(), place.display().to_string());
                kind
            }
            other => return Err(Error::unsupported(format!("exporter {other:?} could not be found"))),
        };
        flags.push(format!("--output={}", fields(kind, &attrs)?));
    }
    if flags.is_empty() {
        flags.push("--output=type=cacheonly".to_owned());
    }
    Ok((flags, handed))
}

/// The patterns of a `.dockerignore`, as clients want them.
pub fn patterns(text: &str) -> Vec<String> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let cleaned = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (sign, path) = line.strip_prefix('!').map_or(("", line), |rest| ("!", rest.trim()));
        let path = path.trim_start_matches("./").trim_matches('/');
        format!("{sign}{}", if path.is_empty() { "." } else { path })
    });
    cleaned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn attributes_become_flags() {
        let build = Build {
            attrs: map(&[
                ("add-hosts", "a=1.2.3.4,b=::1"),
                ("attest:provenance", "mode=min,inline-only=true"),
                ("attest:sbom", ""),
                ("build-arg:A", "x y"),
                ("cache-imports", r#"[{"Type":"registry","Attrs":{"ref":"r/x"}}]"#),
                ("filename", "Dockerfile"),
                ("label:l", "v=w"),
                ("no-cache", ""),
                ("target", "t"),
            ]),
            entitlements: vec!["network.host".to_owned()],
            ..Build::default()
        };
        assert_eq!(
            of_attributes(&build).unwrap(),
            [
                "--add-host=a=1.2.3.4",
                "--add-host=b=::1",
                "--attest=type=sbom",
                "--build-arg=A=x y",
                "--label=l=v=w",
                "--no-cache",
                "--target=t",
                "--allow=network.host",
                "--cache-from=type=registry,ref=r/x",
            ]
        );
        let local = CacheEntry { kind: "local".to_owned(), attrs: map(&[("dest", "x")]) };
        assert!(of_attributes(&Build { cache_to: vec![local], ..Build::default() }).is_err());
    }

    #[test]
    fn outputs_become_flags_and_gifts() {
        let exporters = [
            Exporter { kind: "moby".to_owned(), attrs: map(&[("name", "a:1,b:2")]) },
            Exporter { kind: "local".to_owned(), attrs: map(&[("mode", "delete")]) },
            Exporter { kind: "oci".to_owned(), attrs: map(&[]) },
        ];
        let (flags, handed) = of_outputs(&exporters, Path::new("/s")).unwrap();
        assert_eq!(
            flags,
            [
                "--output=type=image,\"name=a:1,b:2\"",
                "--output=type=local,dest=/s/output-1",
                "--output=type=oci,dest=/s/output-2",
            ]
        );
        assert_eq!(
            handed,
            [(1, Handed::Directory("/s/output-1".into())), (2, Handed::File("/s/output-2".into()))]
        );
        assert_eq!(of_outputs(&[], Path::new("/s")).unwrap().0, ["--output=type=cacheonly"]);
        let none = [Exporter { kind: "x".to_owned(), ..Exporter::default() }];
        assert!(of_outputs(&none, Path::new("/s")).is_err());
    }

    #[test]
    fn a_client_names_nothing_of_this_machine() {
        for attrs in [
            [("type", "local"), ("dest", "/etc")],
            [("DEST", "/etc"), ("x", "")],
            [("dest=/etc", ""), ("x", "")],
        ] {
            let local = Exporter { kind: "local".to_owned(), attrs: map(&attrs) };
            assert!(of_outputs(&[local], Path::new("/s")).is_err(), "{attrs:?}");
            let cache = CacheEntry {
                kind: "registry".to_owned(),
                attrs: map(&[("Type ", "local"), ("src", "/etc")]),
            };
            assert!(of_attributes(&Build { cache_from: vec![cache], ..Build::default() }).is_err());
        }
        let secret = map(&[("id", "x,src=/etc/shadow"), ("src", "/proc/1/fd/3")]);
        assert_eq!(fields("file", &secret).unwrap(), "type=file,\"id=x,src=/etc/shadow\",src=/proc/1/fd/3");
        for own in ["/etc", ".", "etc", "../x", "file:///etc", "-", "/etc/x.git", "local/repo.git"] {
            assert!(!is_address(own).unwrap(), "{own}");
        }
        for other in [
            "https://h/x",
            "http://h/x.tar",
            "git://h/x",
            "git@h:x",
            "https://h/x.git#main:d",
            "github.com/o/x",
        ] {
            assert!(is_address(other).unwrap(), "{other}");
        }
    }

    #[test]
    fn patterns_of_dockerignore_files() {
        let text = "\u{feff}# no\n\n  /a/b/ \n!./c\n! d\n/\n**/*.o\n";
        assert_eq!(patterns(text), ["a/b", "!c", "!d", ".", "**/*.o"]);
    }
}
