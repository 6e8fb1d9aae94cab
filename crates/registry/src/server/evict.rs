//! What a cache throws away: images that nobody has asked for for long, then the least recently asked for until the rest
//! fits. What is thrown away is fetched again when it is wanted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fluyt_image::Digest;
use fluyt_image::time::now;
use fluyt_model::Result;
use rusqlite::params;

use super::gc::{self, CollectOptions, Swept};
use super::records::Records;

/// How much a cache may keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of content.
    pub size: Option<u64>,
    /// Since somebody asked for it.
    pub age: Option<Duration>,
}

/// Blobs that came or were begun lately stay: their manifest may be about to be fetched.
pub(crate) const GRACE: Duration = Duration::from_secs(300);

/// When manifests were asked for last; kept in memory and written down now and then, as a pull shall write nothing.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<HashMap<(String, Digest), i64>>);

impl Uses {
    /// Somebody asks for a manifest.
    pub fn note(&self, repository: &str, digest: &Digest) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.insert((repository.to_owned(), digest.clone()), now());
    }

    /// Writes down what was noted.
    ///
    /// # Errors
    /// Those of the record file.
    pub fn write(&self, records: &Records) -> Result<()> {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if noted.is_empty() {
            return Ok(());
        }
        records.write(false, |tx| {
            for ((repository, digest), at) in &noted {
                tx.execute(
                    "INSERT OR REPLACE INTO registry_uses(repo, digest, used)
                     SELECT id, ?2, ?3 FROM registry_repos WHERE name = ?1",
                    params![repository, digest.as_str(), at],
                )?;
            }
            Ok(())
        })
    }
}

/// A manifest that is kept, with what it alone or with others needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub repository: i64,
    pub digest: String,
    /// When it was asked for last, in seconds since the epoch.
    pub used: i64,
    /// Its own bytes.
    pub size: u64,
    /// The blobs that it refers to.
    pub blobs: Vec<String>,
}

/// Which of `kept` go (by their places), given the sizes of blobs.
pub(crate) fn plan(kept: &[Kept], sizes: &BTreeMap<String, u64>, bounds: &Bounds, now: i64) -> Vec<usize> {
    let oldest = bounds.age.map(|age| now - i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    let mut order: Vec<usize> = (0..kept.len()).collect();
    order.sort_by(|a, b| (kept[*a].used, &kept[*a].digest).cmp(&(kept[*b].used, &kept[*b].digest)));
    let mut users: HashMap<&str, usize> = HashMap::new();
    for blob in kept.iter().flat_map(|m| &m.blobs) {
        *users.entry(blob).or_default() += 1;
    }
    let size_of = |blob: &str| sizes.get(blob).copied().unwrap_or(0);
    let mut total: u64 =
        users.keys().map(|b| size_of(b)).sum::<u64>() + kept.iter().map(|m| m.size).sum::<u64>();
    let mut goes = Vec::new();
    for at in order {
        let manifest = &kept[at];
        let too_old = oldest.is_some_and(|oldest| manifest.used < oldest);
        let too_much = bounds.size.is_some_and(|most| total > most);
        if !too_old && !too_much {
            break;
        }
        total = total.saturating_sub(manifest.size);
        for blob in &manifest.blobs {
            if let Some(n) = users.get_mut(blob.as_str()) {
                *n -= 1;
                if *n == 0 {
                    total = total.saturating_sub(size_of(blob));
                }
            }
        }
        goes.push(at);
    }
    goes
}

/// Throws away what is beyond the bounds.
///
/// # Errors
/// Those of the record file and of removing.
pub(crate) fn run(records: &Records, bounds: &Bounds, grace: Duration) -> Result<Swept> {
    let kept = kept(records)?;
    let mut sizes = BTreeMap::new();
    if bounds.size.is_some() {
        for blob in kept.iter().flat_map(|m| &m.blobs) {
            if !sizes.contains_key(blob) {
                // What is not here yet takes no room.
                let size = Digest::parse(blob).ok().and_then(|d| records.blobs().size(&d).ok());
                sizes.insert(blob.clone(), size.unwrap_or(0));
            }
        }
    }
    let goes = plan(&kept, &sizes, bounds, now());
    if goes.is_empty() {
        return Ok(Swept::default());
    }
    records.write(false, |tx| {
        for at in &goes {
            let Kept { repository, digest, used, .. } = &kept[*at];
            // Asked for meanwhile: then not now.
            tx.execute(
                "DELETE FROM registry_manifests WHERE repo = ?1 AND digest = ?2 AND NOT EXISTS
                 (SELECT 1 FROM registry_uses u WHERE u.repo = ?1 AND u.digest = ?2 AND u.used > ?3)",
                params![repository, digest, used],
            )?;
        }
        for table in ["registry_tags", "registry_uses"] {
            tx.execute(
                &format!(
                    "DELETE FROM {table} AS t WHERE NOT EXISTS
                     (SELECT 1 FROM registry_manifests m WHERE m.repo = t.repo AND m.digest = t.digest)"
                ),
                [],
            )?;
        }
        Ok(())
    })?;
    let mut swept = gc::run(records, &CollectOptions { grace, untagged: false, dry_run: false })?;
    swept.manifests += goes.len() as u64;
    Ok(swept)
}

fn kept(records: &Records) -> Result<Vec<Kept>> {
    let rows = records.read(|connection| {
        let mut statement = connection.prepare_cached(
            "SELECT m.repo, m.digest, max(m.added, coalesce(u.used, 0)), m.size,
               (SELECT group_concat(target, ' ') FROM registry_links l
                WHERE l.repo = m.repo AND l.manifest = m.digest AND NOT l.is_manifest)
             FROM registry_manifests m LEFT JOIN registry_uses u ON u.repo = m.repo AND u.digest = m.digest",
        )?;
        let rows = statement.query_map([], |row| {
            Ok(Kept {
                repository: row.get(0)?,
                digest: row.get(1)?,
                used: row.get(2)?,
                size: row.get::<_, i64>(3)?.cast_unsigned(),
                blobs: row
                    .get::<_, Option<String>>(4)?
                    .map(|text| text.split(' ').map(str::to_owned).collect())
                    .unwrap_or_default(),
            })
        })?;
        rows.collect()
    })?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(digest: &str, used: i64, blobs: &[&str]) -> Kept {
        Kept {
            repository: 1,
            digest: digest.to_owned(),
            used,
            size: 1,
            blobs: blobs.iter().map(|b| (*b).to_owned()).collect(),
        }
    }

    #[test]
    fn the_least_recently_used_goes_until_the_rest_fits() {
        let sizes = BTreeMap::from([("a".into(), 100), ("b".into(), 10), ("shared".into(), 50)]);
        let kept = [
            manifest("3", 30, &["b", "shared"]),
            manifest("1", 10, &["a", "shared"]),
            manifest("2", 20, &["shared"]),
        ];
        let goes = |size, age: Option<u64>| {
            let bounds = Bounds { size, age: age.map(Duration::from_secs) };
            plan(&kept, &sizes, &bounds, 40).iter().map(|at| kept[*at].digest.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(goes(None, None), [""; 0]);
        assert_eq!(goes(Some(163), None), [""; 0], "163 bytes are all");
        assert_eq!(goes(Some(162), None), ["1"]);
        assert_eq!(goes(Some(61), None), ["1", "2"]);
        assert_eq!(goes(Some(60), None), ["1", "2", "3"], "what is shared goes with its last user");
        assert_eq!(goes(None, Some(15)), ["1", "2"]);
        assert_eq!(goes(None, Some(100)), [""; 0]);
    }
}
