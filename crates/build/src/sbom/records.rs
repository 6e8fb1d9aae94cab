//! What package managers write down, read without them. A record that is damaged gives no package.

use serde_json::Value;

use super::{Distribution, Package};

/// `/etc/os-release`.
pub fn release(text: &str) -> Distribution {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim().trim_matches(['"', '\'']).to_owned()).unwrap_or_default()
    };
    Distribution { id: field("ID"), version: field("VERSION_ID") }
}

/// Paragraphs of `Name: value` lines; a line that begins with a space continues the one before.
fn paragraphs(text: &str) -> impl Iterator<Item = Vec<(&str, &str)>> {
    text.split("\n\n").map(|paragraph| {
        let lines = paragraph.lines().filter(|line| !line.starts_with([' ', '\t']));
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect()
    })
}

fn value(fields: &[(&str, &str)], name: &str) -> String {
    fields.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()).unwrap_or_default()
}

/// dpkg's `status`. A file of `status.d` has no `Status`.
pub fn dpkg(text: &str, path: &str) -> Vec<Package> {
    paragraphs(text)
        .filter_map(|fields| {
            let status = value(&fields, "Status");
            let (name, version) = (value(&fields, "Package"), value(&fields, "Version"));
            if name.is_empty() || version.is_empty() || !(status.is_empty() || status.ends_with(" installed"))
            {
                return None;
            }
            Some(Package {
                kind: "deb",
                name,
                version,
                architecture: value(&fields, "Architecture"),
                source: value(&fields, "Source").split(' ').next().unwrap_or("").to_owned(),
                license: String::new(),
                maintainer: value(&fields, "Maintainer"),
                found_in: path.to_owned(),
            })
        })
        .collect()
}

/// apk's `installed`.
pub fn apk(text: &str, path: &str) -> Vec<Package> {
    paragraphs(text)
        .filter_map(|fields| {
            let (name, version) = (value(&fields, "P"), value(&fields, "V"));
            if name.is_empty() || version.is_empty() {
                return None;
            }
            let source = value(&fields, "o");
            Some(Package {
                kind: "apk",
                source: if source == name { String::new() } else { source },
                name,
                version,
                architecture: value(&fields, "A"),
                license: value(&fields, "L"),
                maintainer: value(&fields, "m"),
                found_in: path.to_owned(),
            })
        })
        .collect()
}

/// Whether a file at this path is a record of one package.
pub fn is_record(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (name, dir) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match name {
        "METADATA" => dir.ends_with(".dist-info"),
        "PKG-INFO" => dir.ends_with(".egg-info") || dir == "EGG-INFO",
        "package.json" => {
            let above = parts.next().unwrap_or("");
            above == "node_modules" || above.starts_with('@') && parts.next() == Some("node_modules")
        }
        "installed.json" => dir == "composer",
        other if other.ends_with(".gemspec") => {
            dir == "specifications" || dir == "default" && parts.next() == Some("specifications")
        }
        other => other.ends_with(".egg-info"),
    }
}

/// The packages of a record.
pub fn of_file(path: &str, text: &str) -> Vec<Package> {
    match path.rsplit('/').next() {
        Some("package.json") => node(path, text).into_iter().collect(),
        Some("installed.json") => composer(path, text),
        Some(name) if name.ends_with(".gemspec") => gem(path, text).into_iter().collect(),
        _ => python(path, text).into_iter().collect(),
    }
}

/// Composer's list: of version 2 under `packages`, of version 1 bare.
fn composer(path: &str, text: &str) -> Vec<Package> {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let list = document.get("packages").unwrap_or(&document).as_array();
    let package = |entry: &Value| {
        let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let (name, version) = (field("name"), field("version"));
        let licenses = entry["license"].as_array().map(Vec::as_slice).unwrap_or_default();
        let licenses: Vec<&str> = licenses.iter().filter_map(Value::as_str).collect();
        (!name.is_empty() && !version.is_empty()).then(|| Package {
            kind: "composer",
            name,
            version,
            license: licenses.join(" OR "),
            found_in: path.to_owned(),
            ..Package::default()
        })
    };
    list.map(Vec::as_slice).unwrap_or_default().iter().filter_map(package).collect()
}

/// The specification of an installed gem, as RubyGems writes it: `s.name = "x".freeze`, one field a line.
fn gem(path: &str, text: &str) -> Option<Package> {
    let field = |names: [&str; 2]| {
        let value = text.lines().find_map(|line| {
            let (left, right) = line.trim().split_once(" = ")?;
            let name = left.strip_prefix("s.")?;
            names.contains(&name).then_some(right)
        })?;
        value.split('"').nth(1).map(str::to_owned)
    };
    Some(Package {
        kind: "gem",
        name: field(["name", "name"])?,
        version: field(["version", "version"])?,
        license: field(["license", "licenses"]).unwrap_or_default(),
        maintainer: field(["author", "authors"]).unwrap_or_default(),
        found_in: path.to_owned(),
        ..Package::default()
    })
}

/// The head of a Python distribution's metadata.
fn python(path: &str, text: &str) -> Option<Package> {
    let head = paragraphs(text).next()?;
    let (name, version) = (value(&head, "Name"), value(&head, "Version"));
    if name.is_empty() || version.is_empty() {
        return None;
    }
    let expression = value(&head, "License-Expression");
    let license = if expression.is_empty() { value(&head, "License") } else { expression };
    let author = [value(&head, "Author"), value(&head, "Author-email")];
    Some(Package {
        kind: "pypi",
        name,
        version,
        license,
        maintainer: author.into_iter().find(|who| !who.is_empty()).unwrap_or_default(),
        found_in: path.to_owned(),
        ..Package::default()
    })
}

fn node(path: &str, text: &str) -> Option<Package> {
    let document: Value = serde_json::from_str(text).ok()?;
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (name, version) = (text(&document["name"]), text(&document["version"]));
    if name.is_empty() || version.is_empty() {
        return None;
    }
    let license = match &document["license"] {
        Value::Object(fields) => fields.get("type").map(text).unwrap_or_default(),
        other => text(other),
    };
    let maintainer = match &document["author"] {
        Value::Object(fields) => fields.get("name").map(text).unwrap_or_default(),
        other => text(other),
    };
    Some(Package {
        kind: "npm",
        name,
        version,
        license,
        maintainer,
        found_in: path.to_owned(),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_package_managers() {
        let status = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nSource: src (1.0)\nVersion: 1:2-3\n\
            Description: x\n more: lines\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nbroken";
        let found = dpkg(status, "/s");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].version.as_str(), found[0].source.as_str()), ("1:2-3", "src"));
        assert_eq!(apk("C:Q1x=\nP:musl\nV:1.2-r0\nA:x86_64\nL:MIT\no:musl\n\nP:b\n", "/i").len(), 1);
        let text =
            "Metadata-Version: 2.1\nName: requests\nVersion: 2.3\nLicense: Apache-2.0\n\nName: not this\n";
        assert_eq!(of_file("/x/requests-2.3.dist-info/METADATA", text)[0].name, "requests");
        let json = r#"{"name":"@a/b","version":"1.0.0","license":{"type":"MIT"},"author":"Me"}"#;
        assert_eq!(of_file("/x/node_modules/@a/b/package.json", json)[0].license, "MIT");
        assert_eq!(of_file("/x/node_modules/b/package.json", "{"), []);
        let json =
            r#"{"packages":[{"name":"a/b","version":"v1.2","license":["MIT","BSD-3-Clause"]},{"name":"c"}]}"#;
        let found = of_file("/app/vendor/composer/installed.json", json);
        assert_eq!((found.len(), found[0].license.as_str()), (1, "MIT OR BSD-3-Clause"));
        let gemspec = "# -*- encoding: utf-8 -*-\n# stub: rake 13.0 ruby lib\n\nGem::Specification.new do |s|\n  s.name = \"rake\".freeze\n  \
            s.version = \"13.0.6\"\n  s.licenses = [\"MIT\".freeze]\nend\n";
        let found = &of_file("/usr/share/rubygems/specifications/rake-13.0.6.gemspec", gemspec)[0];
        assert_eq!(
            (found.name.as_str(), found.version.as_str(), found.license.as_str()),
            ("rake", "13.0.6", "MIT")
        );
        assert_eq!(
            release("ID=debian\nVERSION_ID=\"12\"\n"),
            Distribution { id: "debian".into(), version: "12".into() }
        );
    }

    #[test]
    fn where_records_lie() {
        for path in [
            "/usr/lib/python3/dist-packages/six-1.egg-info/PKG-INFO",
            "/v/x.dist-info/METADATA",
            "/app/node_modules/a/package.json",
            "/app/node_modules/@s/a/package.json",
            "/l/y.egg-info",
            "/app/vendor/composer/installed.json",
            "/g/specifications/x-1.gemspec",
            "/g/specifications/default/x-1.gemspec",
        ] {
            assert!(is_record(path), "{path}");
        }
        for path in ["/app/package.json", "/app/node_modules/a/lib/package.json", "/METADATA", "/x/RECORD"] {
            assert!(!is_record(path), "{path}");
        }
    }
}
