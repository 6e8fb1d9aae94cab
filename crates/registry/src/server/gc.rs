//! What is no longer needed: blobs that no manifest of their repository refers to, manifests without a tag if that
//! is asked for, then content that nothing in the data root needs.
//!
//! Safe while pushes go on. A pusher uploads blobs (or is told that they are there) some time before the manifest
//! that needs them: nothing that was pushed or asked for within the grace goes. A manifest is recorded in one
//! transaction with the check that its blobs are there, and this works in one transaction too.

use std::time::Duration;

use fluyt_image::gc::PARTIAL_AGE;
use fluyt_image::time::now;
use fluyt_model::Result;
use rusqlite::params;

use super::records::{Records, Transaction};

/// What a collection may remove.
#[derive(Clone, Debug)]
pub struct CollectOptions {
    /// How long ago something must have been pushed or asked for by a pusher.
    pub grace: Duration,
    /// Also manifests that no tag, no index and no subject leads to.
    pub untagged: bool,
    /// Count only.
    pub dry_run: bool,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self { grace: Duration::from_secs(3600), untagged: false, dry_run: false }
    }
}

/// What a collection removed, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Manifests taken out of repositories.
    pub manifests: u64,
    /// Blobs taken out of repositories.
    pub links: u64,
    /// Blobs removed from the store.
    pub blobs: u64,
    /// Bytes on disk that are free now.
    pub bytes: u64,
}

/// No tag, nothing above it that is still there, older than the grace.
const UNTAGGED: &str = "DELETE FROM registry_manifests AS m WHERE added <= ?1
    AND NOT EXISTS (SELECT 1 FROM registry_tags t WHERE t.repo = m.repo AND t.digest = m.digest)
    AND NOT EXISTS (SELECT 1 FROM registry_links l WHERE l.repo = m.repo AND l.target = m.digest AND l.is_manifest)
    AND NOT EXISTS (SELECT 1 FROM registry_manifests s WHERE s.repo = m.repo AND s.digest = m.subject)";

const LINKS_OF_GONE: &str = "DELETE FROM registry_links AS l WHERE NOT EXISTS
    (SELECT 1 FROM registry_manifests m WHERE m.repo = l.repo AND m.digest = l.manifest)";

const UNUSED: &str = "DELETE FROM registry_blobs AS b WHERE touched <= ?1
    AND NOT EXISTS (SELECT 1 FROM registry_links l WHERE l.repo = b.repo AND l.target = b.digest)";

/// Levels of indexes in indexes that are followed in one collection; the next one goes on.
const LEVELS: usize = 32;

/// Runs a collection.
pub(crate) fn run(records: &Records, options: &CollectOptions) -> Result<Swept> {
    let before = now() - i64::try_from(options.grace.as_secs()).unwrap_or(i64::MAX);
    let mut swept = Swept::default();
    let work = |tx: &Transaction<'_>, swept: &mut Swept| -> Result<()> {
        for _ in 0..LEVELS {
            let gone = if options.untagged { tx.execute(UNTAGGED, params![before])? } else { 0 };
            tx.execute(LINKS_OF_GONE, [])?;
            swept.manifests += gone as u64;
            if gone == 0 {
                break;
            }
        }
        swept.links = tx.execute(UNUSED, params![before])? as u64;
        Ok(())
    };
    if options.dry_run {
        records.try_out(|tx| work(tx, &mut swept))?;
        return Ok(swept);
    }
    records.write(true, |tx| work(tx, &mut swept))?;
    let collected = records.with(|store| store.collect_blobs(PARTIAL_AGE))?;
    swept.blobs = collected.blobs;
    swept.bytes = collected.bytes;
    Ok(swept)
}
