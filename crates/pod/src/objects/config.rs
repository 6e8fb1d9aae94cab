//! What pods refer to: ConfigMaps, Secrets, PersistentVolumeClaims.

use std::collections::BTreeMap;

use super::{Binary, Meta, Resources};

objects! {
    /// Texts and bytes by keys.
    ConfigMap {
        /// `v1`.
        api_version: String,
        /// `ConfigMap`.
        kind: String,
        /// Its name.
        metadata: Meta,
        /// Texts.
        data: BTreeMap<String, String>,
        /// Bytes.
        binary_data: BTreeMap<String, Binary>,
        /// It is not to change.
        immutable: Option<bool>,
    }

    /// Bytes by keys, that not everybody is to see.
    Secret {
        /// `v1`.
        api_version: String,
        /// `Secret`.
        kind: String,
        /// Its name.
        metadata: Meta,
        /// What it is for.
        #[serde(rename = "type")]
        purpose: String,
        /// Bytes.
        data: BTreeMap<String, Binary>,
        /// Bytes, given as texts; they come before those of `data`.
        string_data: BTreeMap<String, String>,
        /// It is not to change.
        immutable: Option<bool>,
    }

    /// A volume that somebody wants.
    Claim {
        /// `v1`.
        api_version: String,
        /// `PersistentVolumeClaim`.
        kind: String,
        /// Its name.
        metadata: Meta,
        /// What is wanted.
        spec: ClaimSpec,
    }

    /// What is wanted of a volume.
    ClaimSpec {
        /// `ReadWriteOnce`, …
        access_modes: Vec<String>,
        /// How much.
        resources: Resources,
        /// Of which kind.
        storage_class_name: Option<String>,
    }
}

impl Secret {
    /// All its keys and bytes.
    #[must_use]
    pub fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all: BTreeMap<String, Vec<u8>> =
            self.data.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect();
        all.extend(self.string_data.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes())));
        all
    }
}

impl ConfigMap {
    /// All its keys and bytes.
    #[must_use]
    pub fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let texts = self.data.iter().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        texts.chain(self.binary_data.iter().map(|(key, value)| (key.clone(), value.0.clone()))).collect()
    }
}
