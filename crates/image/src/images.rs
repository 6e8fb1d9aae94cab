//! Image records: what is here under which names, and how a name or an id finds it.
//!
//! Everything that a container start needs of an image is in its row: [`Store::resolve`] is one query.

use std::path::PathBuf;

use fluyt_model::reference::{Reference, is_hex64};
use fluyt_model::{Error, Result};
use rusqlite::{OptionalExtension, Row};

use crate::digest::{Digest, is_lower_hex};
use crate::failpoint;
use crate::layer::unpack::{LayerRef, LayerSource, chain_ids};
use crate::lease::Lease;
use crate::oci::{self, Document, ImageConfig, Manifest, Platform};
use crate::origins::{Origin, set_origin};
use crate::progress::Progress;
use crate::store::Store;
use crate::time;

/// An image of the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its configuration.
    pub config: ImageConfig,
    /// Its unpacked layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// Its names in full form, sorted: `docker.io/library/x:tag`, `docker.io/library/x@sha256:…`.
    pub references: Vec<String>,
    /// The sum of its unpacked files' sizes, in bytes.
    pub size: u64,
    /// When it was made, in seconds since the epoch; 0 when its configuration does not say.
    pub created: i64,
    /// When it came into this store, in seconds since the epoch.
    pub added: i64,
    /// The image it was committed from.
    pub parent: Option<Digest>,
}

impl Image {
    /// The tags as people write them, `busybox:latest`.
    #[must_use]
    pub fn repo_tags(&self) -> Vec<String> {
        self.parsed_references().filter(|r| r.digest().is_none()).map(|r| r.familiar()).collect()
    }

    /// The digest references as people write them, `busybox@sha256:…`.
    #[must_use]
    pub fn repo_digests(&self) -> Vec<String> {
        self.parsed_references().filter(|r| r.digest().is_some()).map(|r| r.familiar()).collect()
    }

    /// Its names, parsed.
    pub fn parsed_references(&self) -> impl Iterator<Item = Reference> {
        self.references.iter().filter_map(|name| Reference::parse_untagged(name).ok())
    }

    /// The ids of the chains of its layers, lowest first.
    #[must_use]
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(self.layers.iter().map(|layer| &layer.diff_id))
    }
}

/// An image to record. Its blobs and layers must be here, protected by a lease.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// The digest of the manifest blob.
    pub manifest: Digest,
    /// The digest of the configuration blob.
    pub config: Digest,
    /// The unpacked layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// The image it was committed from.
    pub parent: Option<Digest>,
}

/// A name to give, and the manifest or index that it stands for.
pub type Name = (Reference, Digest);

const COLUMNS: &str = "i.id, i.manifest, i.config, i.layers, i.size, i.created, i.added, i.parent,
    (SELECT group_concat(name, char(10)) FROM refs WHERE image = i.id)";

impl Store {
    /// Finds an image by `name`, `name:tag`, `name@digest`, `name:tag@digest`, id or unique prefix of an id.
    ///
    /// # Errors
    /// `Kind::NotFound` when there is none; `Kind::Invalid` for a malformed name or an ambiguous prefix.
    pub fn resolve(&self, name: &str) -> Result<Image> {
        let bare = name.strip_prefix("sha256:").unwrap_or(name);
        if is_hex64(bare) {
            return self.by_id_prefix(bare)?.ok_or_else(|| no_such_image(name));
        }
        let as_reference = if name.starts_with("sha256:") { None } else { Some(Reference::parse(name)) };
        if let Some(Ok(reference)) = &as_reference
            && let Some(image) = self.by_reference(reference)?
        {
            return Ok(image);
        }
        if (1..64).contains(&bare.len())
            && is_lower_hex(bare)
            && let Some(image) = self.by_id_prefix(bare)?
        {
            return Ok(image);
        }
        match as_reference {
            Some(Err(e)) => Err(e),
            Some(Ok(reference)) => Err(no_such_image(&reference.familiar())),
            None => Err(no_such_image(name)),
        }
    }

    /// The image of this full reference, if it is here.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn by_reference(&self, reference: &Reference) -> Result<Option<Image>> {
        let key = match reference.digest() {
            // With a digest the tag is only decoration.
            Some(digest) => format!("{}@{digest}", reference.name()),
            None => reference.to_string(),
        };
        let found = self.one_image("JOIN refs r ON r.image = i.id WHERE r.name = ?1", &key)?;
        match (found, reference.digest()) {
            (None, Some(digest)) => {
                // Loaded under a tag of that repository, and named by the digest of its manifest or index.
                let sql = "JOIN refs r ON r.image = i.id WHERE (r.target = ?1 OR i.manifest = ?1)";
                let image = self.one_image(sql, digest)?;
                let of_repository = |i: &Image| i.parsed_references().any(|r| r.name() == reference.name());
                Ok(image.filter(of_repository))
            }
            (found, _) => Ok(found),
        }
    }

    /// The image of this id.
    ///
    /// # Errors
    /// `Kind::NotFound`.
    pub fn image(&self, id: &Digest) -> Result<Image> {
        self.one_image("WHERE i.id = ?1", id.as_str())?.ok_or_else(|| no_such_image(id.as_str()))
    }

    /// The image of this manifest, if it is recorded.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn by_manifest(&self, manifest: &Digest) -> Result<Option<Image>> {
        self.one_image("WHERE i.manifest = ?1", manifest.as_str())
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn images(&self) -> Result<Vec<Image>> {
        let sql = format!("SELECT {COLUMNS} FROM images i ORDER BY i.created DESC, i.added DESC, i.id");
        let mut statement = self.db.connection().prepare_cached(&sql).map_err(|e| self.db.error(e))?;
        let rows = statement.query_map([], raw_image).map_err(|e| self.db.error(e))?;
        rows.map(|raw| raw.map_err(|e| self.db.error(e)).and_then(parse_image)).collect()
    }

    /// The lower directories of an image for an overlay, topmost first, as short links under `l/`.
    ///
    /// A layer that an image has twice (empty ones are) is named once, at its topmost place, which decides what it
    /// shows and hides: an overlay refuses a directory that comes twice.
    #[must_use]
    pub fn snapshot_lowers(&self, image: &Image) -> Vec<PathBuf> {
        let mut seen = std::collections::HashSet::new();
        let topmost = image.layers.iter().rev().filter(|layer| seen.insert(layer.link.as_str()));
        topmost.map(|layer| layer.path(&self.root)).collect()
    }

    /// What a configuration blob of an image says, verbatim, unknown fields and all.
    ///
    /// # Errors
    /// `Kind::NotFound`; those of the record file.
    pub fn raw_config(&self, id: &Digest) -> Result<String> {
        let found =
            self.db
                .connection()
                .query_row("SELECT config FROM images WHERE id = ?1", [id.as_str()], |row| row.get(0));
        found.optional().map_err(|e| self.db.error(e))?.ok_or_else(|| no_such_image(id.as_str()))
    }

    /// The manifest or index that each name of an image stands for: name and target, sorted.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn targets(&self, id: &Digest) -> Result<Vec<(String, Digest)>> {
        let mut statement = self
            .db
            .connection()
            .prepare_cached("SELECT name, target FROM refs WHERE image = ?1 ORDER BY name")
            .map_err(|e| self.db.error(e))?;
        let rows = statement
            .query_map([id.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .map_err(|e| self.db.error(e))?;
        rows.map(|row| {
            let (name, target) = row.map_err(|e| self.db.error(e))?;
            Ok((name, Digest::parse(&target)?))
        })
        .collect()
    }

    /// Unpacks and records the image of a manifest whose blobs are all here, and gives it `names`.
    ///
    /// The last step of a pull and of a load. `manifest` is the digest of the manifest itself, not of an index;
    /// the target of a name may be the index that it was chosen from.
    ///
    /// # Errors
    /// `Kind::Corrupt` when the documents do not fit together; those of [`Store::unpack_layers`].
    pub fn register(
        &self,
        lease: &Lease,
        manifest: &Digest,
        names: &[Name],
        progress: &dyn Progress,
    ) -> Result<Image> {
        self.register_from(lease, manifest, names, &[], progress)
    }

    /// As [`Store::register`], and where it came from.
    pub(crate) fn register_from(
        &self,
        lease: &Lease,
        manifest: &Digest,
        names: &[Name],
        origins: &[Origin],
        progress: &dyn Progress,
    ) -> Result<Image> {
        let blobs = lease.blobs();
        let (document, config, _) = self.read_image_documents(lease, manifest)?;
        let mut sources = Vec::new();
        for (descriptor, diff_id) in document.layers.iter().zip(&config.rootfs.diff_ids) {
            sources.push(LayerSource::blob(&blobs, descriptor, diff_id));
        }
        let layers = self.unpack_layers(lease, &sources, progress)?;
        let new =
            NewImage { manifest: manifest.clone(), config: document.config.digest, layers, parent: None };
        self.record_image_from(lease, &new, names, origins)
    }

    /// Reads and checks the manifest and the configuration of an image.
    ///
    /// # Errors
    /// `Kind::Corrupt`, `Kind::NotFound`.
    pub fn read_image_documents(
        &self,
        lease: &Lease,
        manifest: &Digest,
    ) -> Result<(Manifest, ImageConfig, Vec<u8>)> {
        let blobs = lease.blobs();
        let bytes = blobs.read_small(manifest, oci::MAX_DOCUMENT)?;
        let Document::Manifest(document) = Document::parse(&bytes, manifest.as_str())? else {
            return Err(Error::corrupt(format!(
                "{manifest} is an index where an image manifest is expected"
            )));
        };
        if !matches!(document.config.media_type.as_str(), oci::OCI_CONFIG | oci::DOCKER_CONFIG) {
            return Err(Error::unsupported(format!(
                "{manifest} is no container image: its configuration has the type {}",
                document.config.media_type
            )));
        }
        lease.protect(&document.config.digest)?;
        let raw = blobs.read_small(&document.config.digest, oci::MAX_DOCUMENT)?;
        let config = ImageConfig::parse(&raw, document.config.digest.as_str())?;
        check_documents(manifest, &document, &config)?;
        for layer in &document.layers {
            lease.protect(&layer.digest)?;
        }
        Ok((document, config, raw))
    }

    /// Records an image and gives it `names`, in one transaction. Recording it again changes only names.
    ///
    /// # Errors
    /// `Kind::NotFound` when a blob is missing; those of the record file.
    pub fn record_image(&self, lease: &Lease, new: &NewImage, names: &[Name]) -> Result<Image> {
        self.record_image_from(lease, new, names, &[])
    }

    /// As [`Store::record_image`], and where it came from in the same transaction: an image that is here has its origin.
    ///
    /// # Errors
    /// As [`Store::record_image`].
    pub fn record_image_from(
        &self,
        lease: &Lease,
        new: &NewImage,
        names: &[Name],
        origins: &[Origin],
    ) -> Result<Image> {
        let raw = lease.blobs().read_small(&new.config, oci::MAX_DOCUMENT)?;
        let config = ImageConfig::parse(&raw, new.config.as_str())?;
        let text = String::from_utf8(raw)
            .map_err(|e| Error::corrupt(format!("image configuration {}", new.config)).with_source(e))?;
        let layers = serde_json::to_string(&new.layers)
            .map_err(|e| Error::internal("writing the list of layers").with_source(e))?;
        let size: u64 = new.layers.iter().map(|layer| layer.size).sum();
        let created = config.created.as_deref().and_then(time::parse_rfc3339).unwrap_or(0);
        failpoint::pass("image-before-record");
        self.db.write(|tx| {
            tx.execute(
                "INSERT INTO images(id, manifest, config, layers, size, created, added, parent)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT(id) DO UPDATE SET manifest = ?2, layers = ?4, size = ?5",
                rusqlite::params![
                    new.config.as_str(),
                    new.manifest.as_str(),
                    text,
                    layers,
                    size.cast_signed(),
                    created,
                    time::now(),
                    new.parent.as_ref().map(Digest::as_str)
                ],
            )
            .map_err(|e| self.db.error(e))?;
            for (name, target) in names {
                set_reference(tx, name, target, &new.config).map_err(|e| self.db.error(e))?;
            }
            for origin in origins {
                set_origin(tx, &new.config, origin).map_err(|e| self.db.error(e))?;
            }
            Ok(())
        })?;
        failpoint::pass("image-after-record");
        self.image(&new.config)
    }

    /// Gives an image that is recorded further names.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn name(&self, image: &Digest, names: &[Name]) -> Result<()> {
        self.db.write(|tx| {
            for (name, target) in names {
                set_reference(tx, name, target, image).map_err(|e| self.db.error(e))?;
            }
            Ok(())
        })
    }

    /// Gives an image the names back that it had before another image of the same indexes came.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn keep_names(&self, before: &Image, other: &Image) -> Result<()> {
        if before.id == other.id {
            return Ok(());
        }
        let taken: Vec<Name> = self
            .targets(&other.id)?
            .into_iter()
            .filter(|(name, _)| before.references.contains(name))
            .filter_map(|(name, target)| Some((Reference::parse_untagged(&name).ok()?, target)))
            .collect();
        // An index that does not have the former image says nothing about it.
        let blobs = self.blobs();
        let of_both = |target: &Digest| {
            let Ok(bytes) = blobs.read_small(target, oci::MAX_DOCUMENT) else { return false };
            let Ok(Document::Index(index)) = Document::parse(&bytes, target.as_str()) else { return false };
            index.manifests.iter().any(|m| m.digest == before.manifest)
        };
        let kept: Vec<Name> = taken.into_iter().filter(|(_, target)| of_both(target)).collect();
        self.name(&before.id, &kept)
    }

    /// Gives the image that `source` finds the further name `target` (with `latest` when it has no tag).
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Invalid` for a malformed name or one with a digest.
    pub fn tag(&self, source: &str, target: &str) -> Result<Reference> {
        let reference = Reference::parse(target)?;
        if reference.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        let image = self.resolve(source)?;
        // The new name stands for the same index as the old one.
        let wanted = Reference::parse(source).map(|r| r.to_string()).unwrap_or_default();
        let targets = self.targets(&image.id)?;
        let same = targets.iter().find(|(name, _)| *name == wanted).or_else(|| targets.first());
        let digest = same.map_or(&image.manifest, |(_, digest)| digest);
        self.db.write(|tx| set_reference(tx, &reference, digest, &image.id).map_err(|e| self.db.error(e)))?;
        Ok(reference)
    }

    fn by_id_prefix(&self, prefix: &str) -> Result<Option<Image>> {
        let (low, high) = (format!("sha256:{prefix}"), format!("sha256:{prefix}g"));
        let sql = format!("SELECT {COLUMNS} FROM images i WHERE i.id >= ?1 AND i.id < ?2 LIMIT 2");
        let mut statement = self.db.connection().prepare_cached(&sql).map_err(|e| self.db.error(e))?;
        let mut rows = statement.query_map([low, high], raw_image).map_err(|e| self.db.error(e))?;
        let Some(first) = rows.next() else { return Ok(None) };
        if rows.next().is_some() {
            return Err(Error::invalid(format!("multiple image IDs found with the prefix {prefix}"))
                .with_hint("give more digits of the id"));
        }
        parse_image(first.map_err(|e| self.db.error(e))?).map(Some)
    }

    fn one_image(&self, rest: &str, key: &str) -> Result<Option<Image>> {
        let sql = format!("SELECT {COLUMNS} FROM images i {rest} LIMIT 1");
        let mut statement = self.db.connection().prepare_cached(&sql).map_err(|e| self.db.error(e))?;
        let raw = statement.query_row([key], raw_image).optional().map_err(|e| self.db.error(e))?;
        raw.map(parse_image).transpose()
    }
}

/// The error of every operation on an image that is not here.
#[must_use]
pub fn no_such_image(name: &str) -> Error {
    Error::not_found(format!("No such image: {name}"))
        .with_hint("`fluyt images` lists what is here; `fluyt pull` fetches from a registry")
}

fn set_reference(
    tx: &rusqlite::Connection,
    name: &Reference,
    target: &Digest,
    image: &Digest,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT INTO refs(name, target, image, updated) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT(name) DO UPDATE SET target = ?2, image = ?3, updated = ?4",
        rusqlite::params![name.to_string(), target.as_str(), image.as_str(), time::now()],
    )?;
    Ok(())
}

fn check_documents(name: &Digest, manifest: &Manifest, config: &ImageConfig) -> Result<()> {
    let (stated, found) = (config.rootfs.diff_ids.len(), manifest.layers.len());
    if stated != found {
        return Err(Error::corrupt(format!(
            "invalid manifest {name}, layers length mismatch: expected {stated}, got {found}"
        )));
    }
    if let Some(layer) = manifest.layers.iter().find(|layer| !oci::is_layer(&layer.media_type)) {
        return Err(Error::unsupported(format!(
            "manifest {name}: the layer {} has the unknown type {}",
            layer.digest, layer.media_type
        )));
    }
    if config.os == "windows" {
        let platform = Platform::host();
        return Err(Error::unsupported(format!("image {name} is for windows, this machine is {platform}")));
    }
    Ok(())
}

type Raw = (String, String, String, String, i64, i64, i64, Option<String>, Option<String>);

fn raw_image(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
        row.get(8)?,
    ))
}

fn parse_image(raw: Raw) -> Result<Image> {
    let (id, manifest, config, layers, size, created, added, parent, names) = raw;
    let corrupt = |e: serde_json::Error| {
        Error::corrupt(format!("the record of image {id}"))
            .with_source(e)
            .with_hint("run `fluyt system fsck`")
    };
    let mut references: Vec<String> = names.unwrap_or_default().lines().map(str::to_owned).collect();
    references.sort();
    Ok(Image {
        config: serde_json::from_str(&config).map_err(corrupt)?,
        layers: serde_json::from_str(&layers).map_err(corrupt)?,
        id: Digest::parse(&id)?,
        manifest: Digest::parse(&manifest)?,
        references,
        size: size.cast_unsigned(),
        created,
        added,
        parent: parent.map(|p| Digest::parse(&p)).transpose()?,
    })
}
