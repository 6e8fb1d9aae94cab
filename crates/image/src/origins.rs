//! Where images came from: the names they were pulled under and the signatures that were there, so that a policy can be
//! asked again when an image is used. What was built or loaded here has no origin.

use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use rusqlite::Connection;

use crate::digest::Digest;
use crate::store::Store;

/// One name an image was pulled under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name, in full.
    pub reference: Reference,
    /// The index or manifest that the name stood for.
    pub target: Digest,
    /// The image's manifest.
    pub manifest: Digest,
    /// The signatures, a JSON list as the caller wrote it.
    pub signatures: String,
}

/// Remembers where an image came from; replaces what was known of that name.
pub(crate) fn set_origin(tx: &Connection, image: &Digest, origin: &Origin) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO origins(image, name, target, manifest, signatures)
         SELECT id, ?2, ?3, ?4, ?5 FROM images WHERE id = ?1",
        rusqlite::params![
            image.as_str(),
            origin.reference.to_string(),
            origin.target.as_str(),
            origin.manifest.as_str(),
            origin.signatures
        ],
    )
    .map(|_| ())
}

impl Store {
    /// The names that an image was pulled under.
    ///
    /// # Errors
    /// Those of the record file; `Kind::Corrupt`.
    pub fn origins(&self, image: &Digest) -> Result<Vec<Origin>> {
        let mut statement = self
            .db
            .connection()
            .prepare_cached("SELECT name, target, manifest, signatures FROM origins WHERE image = ?1")
            .map_err(|e| self.db.error(e))?;
        let text = |row: &rusqlite::Row<'_>, i| row.get::<_, String>(i);
        let rows = statement
            .query_map([image.as_str()], |row| {
                Ok((text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?))
            })
            .map_err(|e| self.db.error(e))?;
        rows.map(|row| {
            let (name, target, manifest, signatures) = row.map_err(|e| self.db.error(e))?;
            let reference = Reference::parse_untagged(&name)
                .map_err(|e| Error::corrupt(format!("the origin of image {image}")).with_source(e))?;
            Ok(Origin {
                reference,
                target: Digest::parse(&target)?,
                manifest: Digest::parse(&manifest)?,
                signatures,
            })
        })
        .collect()
    }
}
