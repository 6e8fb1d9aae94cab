//! Manifest lists that are being put together here (`manifest create`), before they are pushed. They are records of the
//! store, not images: nothing runs from them. The blobs that they need stay while they exist.

use std::collections::BTreeMap;

use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::lease::Lease;
use crate::oci::{DOCKER_MANIFEST_LIST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::store::Store;
use crate::time;

/// A list in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestList {
    /// What is in it, in its order.
    pub members: Vec<Member>,
    /// Annotations of the list itself; they need an OCI index.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// One image of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its manifest, with platform and annotations.
    pub descriptor: Descriptor,
    /// Features of the operating system that it needs.
    #[serde(default)]
    pub os_features: Vec<String>,
    /// The name it was added by, in full.
    pub from: String,
    /// Whether its blobs are in the store, and not in a registry.
    #[serde(default)]
    pub local: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    media_type: &'a str,
    size: u64,
    digest: &'a Digest,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Target<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: &'a Option<String>,
}

/// A platform with the field that images' own platforms lack here.
#[derive(Serialize)]
struct Target<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    os_version: &'a Option<String>,
    #[serde(rename = "os.features", skip_serializing_if = "<[String]>::is_empty")]
    os_features: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: &'a Option<String>,
}

impl ManifestList {
    /// The type of the index: OCI's if anything in it needs that, as docker chooses.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        let annotated = !self.annotations.is_empty()
            || self
                .members
                .iter()
                .any(|m| !m.descriptor.annotations.is_empty() || m.descriptor.media_type == OCI_MANIFEST);
        if annotated { OCI_INDEX } else { DOCKER_MANIFEST_LIST }
    }

    /// The index, in the layout that docker writes, so that equal lists have equal digests.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let manifests = self.members.iter().map(Member::entry).collect();
        let document = Document {
            schema_version: 2,
            media_type: self.media_type(),
            manifests,
            annotations: &self.annotations,
        };
        let mut bytes = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"   ");
        document
            .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, format))
            .map_err(|e| Error::internal("writing a manifest list").with_source(e))?;
        Ok(bytes)
    }

    /// The member of this name or digest.
    pub fn member_mut(&mut self, name: &str) -> Option<&mut Member> {
        let full = Reference::parse(name).map(|r| r.to_string()).unwrap_or_default();
        self.members.iter_mut().find(|m| m.from == full || m.descriptor.digest.as_str() == name)
    }

    /// Adds an image, in the place of one that had its name.
    pub fn add(&mut self, member: Member) {
        match self.members.iter_mut().find(|m| m.from == member.from) {
            Some(old) => *old = member,
            None => self.members.push(member),
        }
    }
}

impl Member {
    fn entry(&self) -> Entry<'_> {
        let descriptor = &self.descriptor;
        let platform = descriptor.platform.as_ref().map(|platform| Target {
            architecture: &platform.architecture,
            os: &platform.os,
            os_version: &platform.os_version,
            os_features: &self.os_features,
            variant: &platform.variant,
        });
        Entry {
            media_type: &descriptor.media_type,
            size: descriptor.size,
            digest: &descriptor.digest,
            annotations: &descriptor.annotations,
            platform,
            artifact_type: &descriptor.artifact_type,
        }
    }
}

impl Store {
    /// The list of this name, if there is one.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn manifest_list(&self, name: &Reference) -> Result<Option<ManifestList>> {
        let sql = "SELECT content FROM manifest_lists WHERE name = ?1";
        let found: Option<String> = self
            .db
            .connection()
            .query_row(sql, [name.to_string()], |row| row.get(0))
            .optional()
            .map_err(|e| self.db.error(e))?;
        let corrupt =
            |e| Error::corrupt(format!("the record of manifest list {}", name.familiar())).with_source(e);
        found.map(|text| serde_json::from_str(&text).map_err(corrupt)).transpose()
    }

    /// Keeps a list, in the place of an older one of that name, and `blobs`, all that is needed to push it and not
    /// elsewhere. They are protected by `lease` until now.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn keep_manifest_list(
        &self,
        _lease: &Lease,
        name: &Reference,
        list: &ManifestList,
        blobs: &[Digest],
    ) -> Result<()> {
        let text = serde_json::to_string(list)
            .map_err(|e| Error::internal("writing a manifest list").with_source(e))?;
        let name = name.to_string();
        self.db.write(|tx| {
            let done = || -> rusqlite::Result<()> {
                tx.execute(
                    "INSERT INTO manifest_lists(name, content, updated) VALUES (?1, ?2, ?3)
                     ON CONFLICT(name) DO UPDATE SET content = ?2, updated = ?3",
                    rusqlite::params![name, text, time::now()],
                )?;
                for digest in blobs {
                    tx.execute(
                        "INSERT OR IGNORE INTO manifest_list_blobs(list, digest) VALUES (?1, ?2)",
                        [name.as_str(), digest.as_str()],
                    )?;
                }
                Ok(())
            };
            done().map_err(|e| self.db.error(e))
        })
    }

    /// Forgets a list; false when there was none. Its blobs go with the next collection.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn remove_manifest_list(&self, name: &Reference) -> Result<bool> {
        self.db.write(|tx| {
            tx.execute("DELETE FROM manifest_lists WHERE name = ?1", [name.to_string()])
                .map(|rows| rows > 0)
                .map_err(|e| self.db.error(e))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::PARTIAL_AGE;
    use crate::oci::{DOCKER_MANIFEST, Platform};
    use crate::remove::nobody;

    #[test]
    fn lists_are_written_as_docker_writes_them_and_keep_their_blobs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let name = Reference::parse("reg.io/list:1").unwrap();
        let lease = store.lease().unwrap();
        let blob = lease.blobs().put_bytes(b"layer").unwrap();
        let mut descriptor = Descriptor::new(DOCKER_MANIFEST, blob.clone(), 5);
        descriptor.platform = Some(Platform {
            architecture: "arm64".into(),
            os: "linux".into(),
            os_version: Some("1".into()),
            variant: Some("v8".into()),
        });
        let member =
            Member { descriptor, os_features: vec!["f1".into()], from: "reg.io/a:1".into(), local: true };
        let mut list = ManifestList::default();
        list.add(member.clone());
        list.add(member);
        store.keep_manifest_list(&lease, &name, &list, std::slice::from_ref(&blob)).unwrap();
        drop(lease);
        assert_eq!(store.manifest_list(&name).unwrap(), Some(list.clone()));
        let expected = format!(
            "{{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"{DOCKER_MANIFEST_LIST}\",\n   \"manifests\": [\n      {{\n         \
             \"mediaType\": \"{DOCKER_MANIFEST}\",\n         \"size\": 5,\n         \"digest\": \"{blob}\",\n         \
             \"platform\": {{\n            \"architecture\": \"arm64\",\n            \"os\": \"linux\",\n            \
             \"os.version\": \"1\",\n            \"os.features\": [\n               \"f1\"\n            ],\n            \
             \"variant\": \"v8\"\n         }}\n      }}\n   ]\n}}"
        );
        assert_eq!(String::from_utf8(list.to_bytes().unwrap()).unwrap(), expected);
        store.collect(&nobody, PARTIAL_AGE).unwrap();
        assert!(store.blobs().has(&blob));
        assert!(store.remove_manifest_list(&name).unwrap() && !store.remove_manifest_list(&name).unwrap());
        store.collect(&nobody, PARTIAL_AGE).unwrap();
        assert!(!store.blobs().has(&blob));
    }
}
