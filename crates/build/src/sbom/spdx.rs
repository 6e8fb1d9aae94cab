//! An inventory as SPDX 2.3 in JSON. The document depends on the inventory, its name and its time only.

use fluyt_image::Digest;
use serde_json::{Value, json};

use super::{Distribution, Inventory, Package};
use crate::attest::escape;

/// What SPDX calls something that nobody says anything about.
const UNSAID: &str = "NOASSERTION";
/// The id of the root file system.
const ROOT: &str = "SPDXRef-DocumentRoot-Directory-rootfs";

/// The document of an inventory; `created` is in RFC 3339, in whole seconds.
#[must_use]
pub fn document(inventory: &Inventory, name: &str, created: &str) -> Value {
    let mut packages = vec![json!({
        "name": name, "SPDXID": ROOT, "downloadLocation": UNSAID, "filesAnalyzed": false,
        "licenseConcluded": UNSAID, "licenseDeclared": UNSAID, "copyrightText": UNSAID,
        "primaryPackagePurpose": "FILE",
    })];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", ROOT, "DESCRIBES")];
    for package in &inventory.packages {
        let entry = entry(package, &inventory.distribution);
        relations.push(relation(ROOT, entry["SPDXID"].as_str().unwrap_or(""), "CONTAINS"));
        packages.push(entry);
    }
    let own = Digest::of(format!("{name}\n{created}\n{packages:?}").as_bytes());
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": format!("https://fluyt.invalid/sbom/{}", own.hex()),
        "creationInfo": {
            "creators": [format!("Tool: fluyt-{}", env!("CARGO_PKG_VERSION"))],
            "created": created,
        },
        "packages": packages,
        "relationships": relations,
    })
}

fn relation(from: &str, to: &str, kind: &str) -> Value {
    json!({"spdxElementId": from, "relatedSpdxElement": to, "relationshipType": kind})
}

fn entry(package: &Package, distribution: &Distribution) -> Value {
    let address = address(package, distribution);
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = package.name.chars().map(allowed).collect();
    let id = format!("SPDXRef-Package-{}-{name}-{}", package.kind, Digest::of(address.as_bytes()).short());
    let supplier = match package.maintainer.as_str() {
        "" => UNSAID.to_owned(),
        who => format!("Person: {}", person(who)),
    };
    json!({
        "name": package.name,
        "SPDXID": id,
        "versionInfo": package.version,
        "supplier": supplier,
        "downloadLocation": UNSAID,
        "filesAnalyzed": false,
        "sourceInfo": format!("the package's record: {}", package.found_in),
        "licenseConcluded": UNSAID,
        "licenseDeclared": license(&package.license),
        "copyrightText": UNSAID,
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": address,
        }],
    })
}

/// `Name <mail>` as `Name (mail)`.
fn person(text: &str) -> String {
    text.replace(" <", " (").replace('>', ")")
}

/// A licence that is an expression of SPDX ids; any other text would make the document invalid.
fn license(text: &str) -> &str {
    let word = |word: &str| {
        let bare = word.trim_matches(['(', ')']);
        let id = |b: u8| b.is_ascii_alphanumeric() || b"-.+:".contains(&b);
        !bare.is_empty() && bare.bytes().all(id)
    };
    let words: Vec<&str> = text.split(' ').collect();
    let joined = words.iter().enumerate().all(|(at, w)| match at % 2 {
        1 => matches!(*w, "AND" | "OR" | "WITH"),
        _ => word(w),
    });
    if joined && words.len() % 2 == 1 { text } else { UNSAID }
}

/// The package's address, as the purl specification has it.
fn address(package: &Package, distribution: &Distribution) -> String {
    let fine = |text: &str| escape(text, b"+:");
    let mut qualifiers = Vec::new();
    if !package.architecture.is_empty() {
        qualifiers.push(format!("arch={}", escape(&package.architecture, b"")));
    }
    let of_distribution = matches!(package.kind, "deb" | "apk" | "rpm");
    // RPM's addresses have the epoch apart.
    let (epoch, version) = match package.version.split_once(':') {
        Some((epoch, version)) if package.kind == "rpm" => (epoch, version),
        _ => ("", package.version.as_str()),
    };
    if of_distribution && !distribution.id.is_empty() {
        let version = &distribution.version;
        let tail = if version.is_empty() { String::new() } else { format!("-{version}") };
        qualifiers.push(format!("distro={}", escape(&format!("{}{tail}", distribution.id), b"")));
    }
    if !epoch.is_empty() {
        qualifiers.push(format!("epoch={epoch}"));
    }
    if !package.source.is_empty() {
        qualifiers.push(format!("upstream={}", escape(&package.source, b"")));
    }
    let tail = if qualifiers.is_empty() { String::new() } else { format!("?{}", qualifiers.join("&")) };
    let name = match package.kind {
        "deb" | "apk" | "rpm" => {
            let vendor = match (distribution.id.as_str(), package.kind) {
                ("", "apk") => "alpine",
                ("", "rpm") => "redhat",
                ("", _) => "debian",
                (id, _) => id,
            };
            format!("{vendor}/{}", fine(&package.name))
        }
        "pypi" => fine(&package.name.to_lowercase().replace('_', "-")),
        _ => package.name.split('/').map(|part| escape(part, b"")).collect::<Vec<_>>().join("/"),
    };
    format!("pkg:{}/{name}@{}{tail}", package.kind, fine(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(kind: &'static str, name: &str, version: &str) -> Package {
        Package { kind, name: name.to_owned(), version: version.to_owned(), ..Package::default() }
    }

    #[test]
    fn addresses() {
        let debian = Distribution { id: "debian".to_owned(), version: "12".to_owned() };
        let mut libc = package("deb", "libstdc++6", "1:2+b1~x");
        "amd64".clone_into(&mut libc.architecture);
        assert_eq!(address(&libc, &debian), "pkg:deb/debian/libstdc++6@1:2+b1~x?arch=amd64&distro=debian-12");
        assert_eq!(address(&package("npm", "@a/b", "1"), &debian), "pkg:npm/%40a/b@1");
        assert_eq!(
            address(&package("golang", "example.com/a/b", "v1"), &debian),
            "pkg:golang/example.com/a/b@v1"
        );
        let fedora = Distribution { id: "fedora".to_owned(), version: "38".to_owned() };
        let mut bash = package("rpm", "bash", "1:5.2-3");
        "x86_64".clone_into(&mut bash.architecture);
        let expected = "pkg:rpm/fedora/bash@5.2-3?arch=x86_64&distro=fedora-38&epoch=1";
        assert_eq!(address(&bash, &fedora), expected);
        assert_eq!(address(&package("pypi", "Zope_Event", "5"), &debian), "pkg:pypi/zope-event@5");
    }

    #[test]
    fn only_expressions_are_licences() {
        assert_eq!(license("MIT OR (Apache-2.0 AND BSD-3-Clause)"), "MIT OR (Apache-2.0 AND BSD-3-Clause)");
        for text in ["", "see LICENSE file", "MIT, BSD", "MIT AND"] {
            assert_eq!(license(text), UNSAID, "{text}");
        }
    }

    #[test]
    fn a_document_is_whole() {
        let inventory =
            Inventory { packages: vec![package("apk", "musl", "1.2-r0")], ..Inventory::default() };
        let text = document(&inventory, "image", "2024-01-01T00:00:00Z");
        assert_eq!(text["relationships"][1]["relatedSpdxElement"], text["packages"][1]["SPDXID"]);
        assert_eq!(text, document(&inventory, "image", "2024-01-01T00:00:00Z"));
    }
}
