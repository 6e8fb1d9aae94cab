//! From layers to documents: compressed archives, configurations, manifests, the index, attestations; then records.

use std::collections::BTreeMap;

use fluyt_image::oci::{self, Document};
use fluyt_image::{
    Blobs, Descriptor, Digest, Image, ImageConfig, LayerRef, Lease, Manifest, NewImage, Packing, Platform,
    Store,
};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use serde_json::{Value, json};

use crate::attest::{self, Attestation, Subject};
use crate::plan::{Goal, Joined};

/// Notes on documents, by the document that they are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// On the index.
    pub index: BTreeMap<String, String>,
    /// On what names the index.
    pub index_descriptor: BTreeMap<String, String>,
    /// On manifests, of one platform or of all (`None`).
    pub manifest: Vec<(Option<Platform>, String, String)>,
    /// On what the index, or an archive, says of manifests.
    pub manifest_descriptor: Vec<(Option<Platform>, String, String)>,
}

/// How documents are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Media types of OCI; Docker's otherwise.
    pub oci: bool,
    /// Attestations as artifacts with a subject, for registries that list referrers.
    pub artifact: bool,
    /// The archives of layers.
    pub packing: Packing,
    /// Notes.
    pub annotations: Annotations,
}

impl Default for Form {
    fn default() -> Self {
        Self { oci: true, artifact: false, packing: Packing::default(), annotations: Annotations::default() }
    }
}

/// The documents of one platform.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it was built for.
    pub platform: Platform,
    /// The digest of its configuration: the image's id.
    pub config: Digest,
    /// What an index says of its manifest.
    pub manifest: Descriptor,
    /// Its unpacked layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// The archives of them.
    pub blobs: Vec<Descriptor>,
}

/// What a build became.
#[derive(Clone, Debug)]
pub struct Exported {
    /// One for each platform, in order.
    pub members: Vec<Member>,
    /// The index, or the only manifest.
    pub top: Descriptor,
    /// [`Exported::top`] is an index.
    pub is_index: bool,
}

impl Exported {
    /// The member that a name stands for on this machine: the one for it, else the first.
    #[must_use]
    pub fn chosen(&self) -> &Member {
        let host = Platform::host();
        let ranked = self.members.iter().filter_map(|m| Some((host.rank(&m.platform)?, m)));
        ranked.min_by_key(|(rank, _)| *rank).map_or(&self.members[0], |(_, member)| member)
    }
}

/// What is said of a goal (its place) whose image has these archives of layers.
pub type Attest<'a> = &'a dyn Fn(usize, &[Descriptor]) -> Result<Vec<Attestation>>;

/// What documents are made of.
pub struct Work<'a> {
    /// The store that they go into.
    pub store: &'a Store,
    /// What protects them.
    pub lease: &'a Lease,
    /// What was planned.
    pub plan: &'a Joined,
    /// The layers of each goal.
    pub goals: &'a [Vec<LayerRef>],
    /// The names of the result.
    pub names: &'a [Reference],
    /// For each goal the cache that its image carries for other machines ([`crate::cache::Ledger::inline`]).
    pub carried: &'a [Option<Value>],
}

impl Work<'_> {
    /// Writes the documents of all goals.
    ///
    /// # Errors
    /// I/O errors; a layer that has been changed; a form that does not fit.
    pub fn export(&self, form: &Form, attest: Option<Attest<'_>>) -> Result<Exported> {
        check(form, self.plan, attest.is_some())?;
        remember_bases(self.store, self.lease, self.plan)?;
        let mut members = Vec::new();
        for at in 0..self.plan.goals.len() {
            members.push(self.member(at, form)?);
        }
        let single = members.len() == 1 && attest.is_none();
        if single {
            let top = members[0].manifest.clone();
            return Ok(Exported { members, top, is_index: false });
        }
        let mut manifests: Vec<Descriptor> = members.iter().map(|m| m.manifest.clone()).collect();
        if let Some(attest) = attest {
            for (at, member) in members.iter().enumerate() {
                let said = attest(at, &member.blobs)?;
                if !said.is_empty() {
                    manifests.push(self.attestations(member, &said, form)?);
                }
            }
        }
        let annotations = &form.annotations;
        let media_type = if form.oci { oci::OCI_INDEX } else { oci::DOCKER_MANIFEST_LIST };
        let index = fluyt_image::Index {
            schema_version: 2,
            media_type: Some(media_type.to_owned()),
            manifests,
            annotations: annotations.index.clone(),
        };
        let mut top = put(&self.lease.blobs(), media_type, &index)?;
        top.annotations.clone_from(&annotations.index_descriptor);
        Ok(Exported { members, top, is_index: true })
    }

    fn member(&self, at: usize, form: &Form) -> Result<Member> {
        let (store, lease) = (self.store, self.lease);
        let (goal, layers) = (&self.plan.goals[at], &self.goals[at]);
        let bases: Vec<&Digest> = self.plan.images.values().flat_map(|b| &b.config.rootfs.diff_ids).collect();
        let foreign = |layer: &LayerRef| bases.contains(&&layer.diff_id);
        let mut blobs = store.packed_layers(lease, layers, form.packing, &foreign)?;
        for blob in &mut blobs {
            blob.media_type = layer_type(&blob.media_type, form.oci).to_owned();
        }
        let config = self.configuration(goal, layers, self.carried.get(at).cloned().flatten())?;
        let config_type = if form.oci { oci::OCI_CONFIG } else { oci::DOCKER_CONFIG };
        let platform = config.platform();
        let config = put(&lease.blobs(), config_type, &config)?;
        let of = |list: &[(Option<Platform>, String, String)]| {
            let mine =
                list.iter().filter(|(for_one, _, _)| for_one.as_ref().is_none_or(|p| *p == goal.platform));
            mine.map(|(_, key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let manifest_type = if form.oci { oci::OCI_MANIFEST } else { oci::DOCKER_MANIFEST };
        let id = config.digest.clone();
        let document = Manifest {
            schema_version: 2,
            media_type: Some(manifest_type.to_owned()),
            artifact_type: None,
            config,
            layers: blobs.clone(),
            annotations: of(&form.annotations.manifest),
        };
        let mut manifest = put(&lease.blobs(), manifest_type, &document)?;
        manifest.platform = Some(platform);
        manifest.annotations = of(&form.annotations.manifest_descriptor);
        Ok(Member { platform: goal.platform.clone(), config: id, manifest, layers: layers.clone(), blobs })
    }

    fn configuration(&self, goal: &Goal, layers: &[LayerRef], carried: Option<Value>) -> Result<ImageConfig> {
        let mut config = goal.config.clone();
        // A base image's own cache is not this image's.
        config.build_cache = carried;
        config.rootfs.kind = "layers".to_owned();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let now = match goal.epoch {
            Some(epoch) => crate::plan::rfc3339(epoch),
            None => fluyt_image::time::now_rfc3339(),
        };
        let time = match goal.epoch {
            Some(_) => now,
            None => self.existing(&config)?.unwrap_or(now),
        };
        config.created = Some(time.clone());
        for line in &mut config.history {
            line.created.get_or_insert_with(|| time.clone());
        }
        Ok(config)
    }

    /// The time of an image that is the same but for its times, the one that a name stands for first: a build from the
    /// cache gives the image that is there.
    fn existing(&self, config: &ImageConfig) -> Result<Option<String>> {
        let bare = |config: &ImageConfig| {
            let mut config = config.clone();
            config.created = None;
            config.history.iter_mut().for_each(|line| line.created = None);
            config
        };
        let wanted = bare(config);
        for name in self.names {
            let Some(image) = self.store.by_reference(name)? else { continue };
            if bare(&image.config) == wanted {
                return Ok(image.config.created);
            }
            let Some((_, index)) = self.store.index_of(&name.to_string())? else { continue };
            for child in &index.manifests {
                if let Some(known) = self.read_config(&child.digest)
                    && bare(&known) == wanted
                {
                    return Ok(known.created);
                }
            }
        }
        // It may be here under another name, or under none.
        let same = |image: &Image| bare(&image.config) == wanted;
        Ok(self.store.images()?.into_iter().find(same).and_then(|image| image.config.created))
    }

    fn read_config(&self, manifest: &Digest) -> Option<ImageConfig> {
        let blobs = self.store.blobs();
        let bytes = blobs.read_small(manifest, oci::MAX_DOCUMENT).ok()?;
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, manifest.as_str()) else {
            return None;
        };
        let raw = blobs.read_small(&manifest.config.digest, oci::MAX_DOCUMENT).ok()?;
        ImageConfig::parse(&raw, manifest.config.digest.as_str()).ok()
    }

    /// The manifest of what is said of a member, and how the index names it.
    fn attestations(&self, member: &Member, said: &[Attestation], form: &Form) -> Result<Descriptor> {
        let blobs = self.lease.blobs();
        let subjects: Vec<Subject> = self
            .names
            .iter()
            .map(|name| Subject::new(attest::purl(name, Some(&member.platform)), &member.manifest.digest))
            .collect();
        let mut layers = Vec::new();
        for attestation in said {
            let bytes = attestation.statement(&subjects, false);
            let mut layer = Descriptor::new(attest::MEDIA_TYPE, blobs.put_bytes(&bytes)?, bytes.len() as u64);
            let kind = attestation.predicate_type.to_owned();
            layer.annotations.insert("in-toto.io/predicate-type".to_owned(), kind);
            layers.push(layer);
        }
        let unknown = || "unknown".to_owned();
        let ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
        let mut document = json!({"schemaVersion": 2, "mediaType": oci::OCI_MANIFEST, "layers": layers});
        if form.artifact {
            let config = put(&blobs, "application/vnd.oci.empty.v1+json", &json!({}))?;
            document["config"] = json!(config);
            document["config"]["data"] = json!("e30=");
            document["artifactType"] = json!("application/vnd.docker.attestation.manifest.v1+json");
            let subject = &member.manifest;
            document["subject"] =
                json!({"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size});
        } else {
            let config = json!({"architecture": unknown(), "os": unknown(), "config": {},
                "rootfs": {"type": "layers", "diff_ids": ids}});
            document["config"] = json!(put(&blobs, oci::OCI_CONFIG, &config)?);
        }
        let mut descriptor = put(&blobs, oci::OCI_MANIFEST, &document)?;
        descriptor.platform =
            Some(Platform { architecture: unknown(), os: unknown(), ..Platform::default() });
        descriptor.annotations = BTreeMap::from([
            ("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned()),
            ("vnd.docker.reference.digest".to_owned(), member.manifest.digest.to_string()),
        ]);
        Ok(descriptor)
    }

    /// Records what was exported and gives it the names. The names stand for the index, if there is one, and for the
    /// image of it that this machine runs; without names every image is recorded, as nothing else would keep it.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn record(&self, exported: &Exported) -> Result<Image> {
        let chosen = exported.chosen();
        let named: Vec<_> =
            self.names.iter().map(|name| (name.clone(), exported.top.digest.clone())).collect();
        let new = |member: &Member| NewImage {
            manifest: member.manifest.digest.clone(),
            config: member.config.clone(),
            layers: member.layers.clone(),
            parent: None,
        };
        if named.is_empty() {
            for member in &exported.members {
                self.store.record_image(self.lease, &new(member), &[])?;
            }
        }
        self.store.record_image(self.lease, &new(chosen), &named)
    }
}

/// Refuses what cannot be written in a form.
fn check(form: &Form, plan: &Joined, attested: bool) -> Result<()> {
    let notes = &form.annotations;
    if !form.oci {
        if attested {
            return Err(Error::invalid("cannot export attestations with \"oci-mediatypes=false\""));
        }
        if *notes != Annotations::default() {
            return Err(Error::invalid("cannot export annotations with \"oci-mediatypes=false\""));
        }
        if form.packing.compression == fluyt_image::layer::codec::Compression::Zstd {
            return Err(Error::invalid(
                "exporter option \"compression=zstd\" conflicts with \"oci-mediatypes=false\"",
            ));
        }
    }
    let single = plan.goals.len() == 1 && !attested;
    if single && !(notes.index.is_empty() && notes.index_descriptor.is_empty()) {
        return Err(Error::invalid("index annotations not supported for single platform export")
            .with_hint("an index comes of several --platform, or of --provenance or --sbom"));
    }
    let wanted = notes.manifest.iter().chain(&notes.manifest_descriptor).filter_map(|(p, _, _)| p.as_ref());
    for platform in wanted {
        if !plan.goals.iter().any(|goal| goal.platform == *platform) {
            return Err(Error::invalid(format!(
                "invalid annotation: no platform {platform} found in source"
            )));
        }
    }
    Ok(())
}

fn put<T: serde::Serialize>(blobs: &Blobs, media_type: &str, document: &T) -> Result<Descriptor> {
    let bytes =
        serde_json::to_vec(document).map_err(|e| Error::internal("writing a document").with_source(e))?;
    Ok(Descriptor::new(media_type, blobs.put_bytes(&bytes)?, bytes.len() as u64))
}

/// The media type of a layer in the other family of names.
fn layer_type(media_type: &str, to_oci: bool) -> &str {
    let pairs = [(oci::OCI_LAYER, oci::DOCKER_LAYER), (oci::OCI_LAYER_GZIP, oci::DOCKER_LAYER_GZIP)];
    for (ours, dockers) in pairs {
        match to_oci {
            true if media_type == dockers => return ours,
            false if media_type == ours => return dockers,
            _ => {}
        }
    }
    media_type
}

/// What a build tells of a document, as `containerimage.descriptor` has it.
#[must_use]
pub fn told(descriptor: &Descriptor, config: Option<&Digest>, created: &str) -> Value {
    let mut value = json!(descriptor);
    if let Some(config) = config {
        value["annotations"]["config.digest"] = json!(config);
    }
    value["annotations"]["org.opencontainers.image.created"] = json!(created);
    value
}

/// The layers of base images have archives already: those they came with.
fn remember_bases(store: &Store, lease: &Lease, plan: &Joined) -> Result<()> {
    for base in plan.images.values() {
        let Ok(bytes) = lease.blobs().read_small(&base.manifest, oci::MAX_DOCUMENT) else { continue };
        let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, base.manifest.as_str()) else {
            continue;
        };
        let diff_ids: &[Digest] = &base.config.rootfs.diff_ids;
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            if lease.blobs().has(&descriptor.digest) {
                store.remember_blob(diff_id, descriptor)?;
            }
        }
    }
    Ok(())
}
