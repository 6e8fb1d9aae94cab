//! Signatures in a registry, in cosign's two layouts: an image under the tag `ALGORITHM-HEX.sig` with a layer for each
//! signature, or manifests that refer to what is signed (distribution specification 1.1).

use std::time::SystemTime;

use fluyt_image::oci::{self, Manifest};
use fluyt_image::{Descriptor, Digest, Document, Index};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use fluyt_trust::{Decision, Policy, Signature};
use serde_json::{Value, json};

use crate::content::{self, RawDocument, found};
use crate::registry::Registry;
use crate::remote::Remote;
use crate::settings::Settings;

/// The longest payload that is read.
const MAX_PAYLOAD: u64 = 1 << 20;
/// Signatures of one document that are looked at.
const MAX_SIGNATURES: usize = 256;
/// A time that cosign writes where a time would only make two signatures of one thing differ.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Where a new signature is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureMode {
    /// Under the tag that cosign, podman and skopeo look for.
    #[default]
    Tag,
    /// As a referrer of what is signed.
    Referrers,
}

impl Registry {
    /// Everything that calls itself a signature of `digest` in a repository. Nothing of it is verified.
    ///
    /// # Errors
    /// What the registry says or does.
    pub fn signatures(&self, repository: &Reference, digest: &Digest) -> Result<Vec<Signature>> {
        signatures(&*self.remote(repository.domain())?, repository, digest)
    }

    /// Adds a signature of `subject` to a repository.
    ///
    /// # Errors
    /// What the registry says or does.
    pub fn attach_signature(
        &self,
        repository: &Reference,
        subject: &Descriptor,
        signature: &Signature,
        mode: SignatureMode,
    ) -> Result<()> {
        let payload = signature.payload.as_bytes();
        let digest = self.put_blob(repository, payload)?;
        let mut layer = Descriptor::new(Signature::MEDIA_TYPE, digest, payload.len() as u64);
        layer.annotations = signature.annotations();
        match mode {
            SignatureMode::Tag => self.attach_under_tag(repository, &subject.digest, layer),
            SignatureMode::Referrers => self.attach_as_referrer(repository, subject, layer),
        }
    }

    fn attach_under_tag(&self, repository: &Reference, subject: &Digest, layer: Descriptor) -> Result<()> {
        let name = repository.with_tag(&signature_tag(subject))?;
        let existing = self.find_document(&name)?;
        let (mut layers, annotations) = match existing.as_ref().map(RawDocument::parse).transpose()? {
            None => (Vec::new(), std::collections::BTreeMap::new()),
            Some(Document::Manifest(manifest)) => (manifest.layers, manifest.annotations),
            Some(Document::Index(_)) => {
                return Err(Error::conflict(format!("{} is an index, not signatures", name.familiar())));
            }
        };
        if layers.contains(&layer) {
            return Ok(());
        }
        layers.push(layer);
        let config = self.put_config(repository, &layers, oci::OCI_CONFIG)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(oci::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            annotations,
        };
        self.put_document(&name, oci::OCI_MANIFEST, &to_bytes(&manifest)?).map(|_| ())
    }

    fn attach_as_referrer(
        &self,
        repository: &Reference,
        subject: &Descriptor,
        layer: Descriptor,
    ) -> Result<()> {
        let layers = vec![layer];
        let config = self.put_config(repository, &layers, Signature::ARTIFACT_TYPE)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": oci::OCI_MANIFEST,
            "artifactType": Signature::ARTIFACT_TYPE,
            "config": config,
            "layers": layers,
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
        });
        let bare = Reference::parse_untagged(&repository.name())?;
        let put = self.put_document(&bare, oci::OCI_MANIFEST, &to_bytes(&manifest)?)?;
        if put.listed {
            return Ok(());
        }
        self.list_referrer(&bare, &subject.digest, put.descriptor)
    }

    /// Adds to the index that lists referrers where the registry does not.
    fn list_referrer(&self, repository: &Reference, subject: &Digest, mut entry: Descriptor) -> Result<()> {
        entry.artifact_type = Some(Signature::ARTIFACT_TYPE.to_owned());
        let name = repository.with_tag(&content::fallback_tag(subject))?;
        let mut index = match self.find_document(&name)?.as_ref().map(RawDocument::parse).transpose()? {
            Some(Document::Index(index)) => index,
            _ => Index {
                schema_version: 2,
                media_type: Some(oci::OCI_INDEX.to_owned()),
                manifests: Vec::new(),
                annotations: std::collections::BTreeMap::new(),
            },
        };
        if index.manifests.iter().any(|m| m.digest == entry.digest) {
            return Ok(());
        }
        index.manifests.push(entry);
        self.put_document(&name, oci::OCI_INDEX, &to_bytes(&index)?).map(|_| ())
    }

    /// The configuration of an image of these layers, which are no file systems.
    fn put_config(
        &self,
        repository: &Reference,
        layers: &[Descriptor],
        media_type: &str,
    ) -> Result<Descriptor> {
        let history: Vec<Value> = layers.iter().map(|_| json!({"created": NO_TIME})).collect();
        let ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
        let config = json!({
            "architecture": "", "os": "", "created": NO_TIME, "config": {}, "history": history,
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let bytes = to_bytes(&config)?;
        let digest = self.put_blob(repository, &bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }
}

fn to_bytes(document: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|e| Error::internal("writing a manifest").with_source(e))
}

/// `sha256-HEX.sig`.
fn signature_tag(digest: &Digest) -> String {
    format!("{}.sig", content::fallback_tag(digest))
}

/// See [`Registry::signatures`].
fn signatures(remote: &Remote, repository: &Reference, digest: &Digest) -> Result<Vec<Signature>> {
    let mut all = Vec::new();
    let tag = repository.with_tag(&signature_tag(digest))?;
    if let Some(document) = found(content::document(remote, &tag))? {
        collect(remote, repository, &document, &mut all)?;
    }
    for referrer in content::referrers(remote, repository, digest, Some(Signature::ARTIFACT_TYPE))? {
        let name = repository.with_digest(referrer.digest.as_str())?;
        if let Some(document) = found(content::document(remote, &name))? {
            collect(remote, repository, &document, &mut all)?;
        }
        if all.len() >= MAX_SIGNATURES {
            break;
        }
    }
    Ok(all)
}

fn collect(
    remote: &Remote,
    repository: &Reference,
    document: &RawDocument,
    all: &mut Vec<Signature>,
) -> Result<()> {
    let Document::Manifest(manifest) = document.parse()? else { return Ok(()) };
    for layer in manifest.layers.iter().filter(|l| l.media_type == Signature::MEDIA_TYPE) {
        if all.len() >= MAX_SIGNATURES {
            break;
        }
        let payload = content::bytes_of_blob(remote, repository.path(), layer, MAX_PAYLOAD)?;
        all.extend(Signature::from_annotations(&payload, &layer.annotations));
    }
    Ok(())
}

/// The policy about one name.
pub(crate) struct Judge<'a> {
    reference: &'a Reference,
    policy: Option<&'a Policy>,
}

impl<'a> Judge<'a> {
    /// Fails at once when nothing could change the policy's mind.
    pub fn of(settings: &'a Settings, reference: &'a Reference) -> Result<Self> {
        let policy = settings.policy.as_deref();
        let Some(policy) = policy else { return Ok(Self { reference, policy: None }) };
        let decision = policy.decide(policy.requirements(reference), &reference.familiar())?;
        Ok(Self { reference, policy: (decision == Decision::Signatures).then_some(policy) })
    }

    /// Decides with the signatures that a registry has of the manifest `manifest` and of `target`, the index that it was
    /// chosen from. `there` is the name at that registry.
    pub fn approve(
        &self,
        remote: &Remote,
        there: &Reference,
        target: &Digest,
        manifest: &Digest,
    ) -> Result<Vec<Signature>> {
        let Some(policy) = self.policy else { return Ok(Vec::new()) };
        let mut found = signatures(remote, there, target)?;
        if target != manifest {
            found.extend(signatures(remote, there, manifest)?);
        }
        policy.judge(self.reference, &[target.as_str(), manifest.as_str()], &found, now())?;
        Ok(found)
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
