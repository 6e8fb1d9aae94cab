//! The check of a whole store: records, blobs, layers, links, left-overs; and repair of what can be repaired.
//!
//! A *problem* is something that a record promises and the disk does not have, or has damaged. A *left-over* is
//! the trace of work that was killed: harmless, collected by the next removal or prune.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use crate::digest::{Digest, Hasher};
use crate::gc;
use crate::images::Image;
use crate::layer::unpack::{LayerRef, LayerSource};
use crate::lease;
use crate::oci::{self, Document};
use crate::progress::{Outcome, Progress};
use crate::remove::Users;
use crate::store::Store;

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The object: a blob, a layer, an image, a path.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// What was done about it; `None` when nothing was, or could be.
    pub repaired: Option<String>,
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What contradicts the records.
    pub problems: Vec<Finding>,
    /// Traces of killed work.
    pub leftovers: Vec<Finding>,
    /// How many blobs were read and verified.
    pub blobs: u64,
    /// How many layers were looked at.
    pub layers: u64,
    /// How many images were looked at.
    pub images: u64,
}

impl Report {
    /// Whether nothing is wrong, or everything was repaired.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|finding| finding.repaired.is_some())
    }

    fn problem(&mut self, object: impl Into<String>, problem: impl Into<String>, repaired: Option<&str>) {
        self.problems.push(Finding {
            object: object.into(),
            problem: problem.into(),
            repaired: repaired.map(str::to_owned),
        });
    }
}

impl Store {
    /// Checks the store and, if `repair` is set, repairs what it can: damaged blobs are removed, missing links and
    /// layers are made anew from their blobs, left-overs are removed. `users` are the containers.
    ///
    /// Images that lack something for good are reported, not removed: containers may still run from them.
    ///
    /// # Errors
    /// When the check itself cannot go on.
    pub fn fsck(&self, users: Users<'_>, repair: bool, progress: &dyn Progress) -> Result<Report> {
        let mut report = Report::default();
        for line in self.db.integrity_check()? {
            report.problem(self.db.path().display().to_string(), line, None);
        }
        self.check_references(&mut report, repair)?;
        self.check_blobs(&mut report, repair, progress)?;
        for image in self.images()? {
            report.images += 1;
            self.check_image(&image, &mut report)?;
            self.check_layers(&image, &mut report, repair, progress)?;
        }
        self.check_leftovers(users, &mut report, repair)?;
        Ok(report)
    }

    fn check_references(&self, report: &mut Report, repair: bool) -> Result<()> {
        let sql = "SELECT name FROM refs WHERE image NOT IN (SELECT id FROM images)";
        let mut statement = self.db.connection().prepare(sql).map_err(|e| self.db.error(e))?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(|e| self.db.error(e))?;
        let names: Vec<String> = rows.collect::<rusqlite::Result<_>>().map_err(|e| self.db.error(e))?;
        for name in names {
            if repair {
                let sql = "DELETE FROM refs WHERE name = ?1";
                self.db.connection().execute(sql, [&name]).map_err(|e| self.db.error(e))?;
            }
            report.problem(name, "names an image that is not here", repair.then_some("name removed"));
        }
        Ok(())
    }

    fn check_blobs(&self, report: &mut Report, repair: bool, progress: &dyn Progress) -> Result<()> {
        let (blobs, strays) = self.blobs().list()?;
        for path in strays {
            if repair {
                gc::remove_tree(&path)?;
            }
            report.leftovers.push(Finding {
                object: path.display().to_string(),
                problem: "is not named by a digest".to_owned(),
                repaired: repair.then(|| "removed".to_owned()),
            });
        }
        let item = "Verifying blobs";
        progress.begin(item, Some(blobs.iter().map(|b| b.size).sum()));
        let mut buffer = vec![0; 1 << 20];
        for blob in blobs {
            report.blobs += 1;
            let Some(found) = self.content_of(&blob.digest, &mut buffer)? else { continue };
            progress.advance(item, blob.size);
            if found != blob.digest {
                if repair {
                    self.blobs().remove(&blob.digest)?;
                }
                let problem = format!("its content has the digest {found}");
                report.problem(format!("blob {}", blob.digest), problem, repair.then_some("removed"));
            }
        }
        progress.finish(item, Outcome::Done);
        Ok(())
    }

    /// The digest of a blob's content; `None` when it was removed meanwhile.
    fn content_of(&self, digest: &Digest, buffer: &mut [u8]) -> Result<Option<Digest>> {
        let mut file = match self.blobs().open(digest) {
            Ok(file) => file,
            Err(e) if e.kind() == fluyt_model::Kind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut hasher = Hasher::new(digest.algorithm());
        loop {
            match file.read(buffer).about(|| format!("blob {digest}"))? {
                0 => return Ok(Some(hasher.finish())),
                n => hasher.update(&buffer[..n]),
            }
        }
    }

    fn check_image(&self, image: &Image, report: &mut Report) -> Result<()> {
        let name = || format!("image {}", image.repo_tags().first().map_or(image.id.short(), String::as_str));
        let again = "pull or load it again";
        let blobs = self.blobs();
        if Digest::of(self.raw_config(&image.id)?.as_bytes()) != image.id {
            report.problem(name(), "the configuration in its record is damaged", None);
        }
        if !blobs.has(&image.id) {
            report.problem(name(), format!("its configuration blob is missing; {again}"), None);
        }
        for (reference, target) in self.targets(&image.id)? {
            if !blobs.has(&target) {
                report.problem(
                    name(),
                    format!("the manifest {target} of {reference} is missing; {again}"),
                    None,
                );
            }
        }
        let manifest = blobs
            .read_small(&image.manifest, oci::MAX_DOCUMENT)
            .and_then(|bytes| Document::parse(&bytes, image.manifest.as_str()));
        match manifest {
            Ok(Document::Manifest(manifest)) => {
                for layer in manifest.layers.iter().filter(|layer| !blobs.has(&layer.digest)) {
                    report.problem(
                        name(),
                        format!("the layer blob {} is missing; {again}", layer.digest),
                        None,
                    );
                }
            }
            Ok(Document::Index(_)) => report.problem(name(), "its manifest is an index", None),
            Err(e) => report.problem(name(), format!("{}; {again}", e.chain()), None),
        }
        Ok(())
    }

    fn check_layers(
        &self,
        image: &Image,
        report: &mut Report,
        repair: bool,
        progress: &dyn Progress,
    ) -> Result<()> {
        report.layers += image.layers.len() as u64;
        let problems: Vec<(String, String)> = image
            .layers
            .iter()
            .filter_map(|layer| Some((format!("layer {}", layer.key), self.layer_problem(layer)?)))
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        let result = if repair { self.restore_layers(image, progress) } else { Ok(()) };
        for (object, problem) in problems {
            match (&result, repair) {
                (Ok(()), true) => report.problem(object, problem, Some("made anew")),
                (Err(e), _) => report.problem(object, format!("{problem} ({})", e.chain()), None),
                (Ok(()), false) => report.problem(object, problem, None),
            }
        }
        Ok(())
    }

    fn layer_problem(&self, layer: &LayerRef) -> Option<String> {
        if !self.dir("layers").join(layer.key.hex()).join("fs").is_dir() {
            return Some("it is not unpacked".to_owned());
        }
        let link = layer.path(&self.root);
        match std::fs::read_link(&link) {
            Ok(target) if target == link_target(layer) => None,
            Ok(_) => Some(format!("its link {} leads elsewhere", link.display())),
            Err(_) => Some(format!("its link {} is missing", link.display())),
        }
    }

    /// Makes the links of an image's layers anew, and unpacks those that are gone.
    fn restore_layers(&self, image: &Image, progress: &dyn Progress) -> Result<()> {
        let lease = self.lease()?;
        for layer in &image.layers {
            let link = layer.path(&self.root);
            if std::fs::read_link(&link).is_ok_and(|found| found == link_target(layer)) {
                continue;
            }
            gc::remove_tree(&link)?;
            std::os::unix::fs::symlink(link_target(layer), &link).about(|| link.display().to_string())?;
        }
        let (manifest, config, _) = self.read_image_documents(&lease, &image.manifest)?;
        let blobs = lease.blobs();
        let sources: Vec<LayerSource<'_>> = manifest
            .layers
            .iter()
            .zip(&config.rootfs.diff_ids)
            .map(|(descriptor, diff_id)| LayerSource::blob(&blobs, descriptor, diff_id))
            .collect();
        let layers = self.unpack_layers(&lease, &sources, progress)?;
        if layers != image.layers {
            let text = serde_json::to_string(&layers)
                .map_err(|e| Error::internal("writing the list of layers").with_source(e))?;
            self.db
                .connection()
                .execute("UPDATE images SET layers = ?2 WHERE id = ?1", [image.id.as_str(), &text])
                .map_err(|e| self.db.error(e))?;
        }
        Ok(())
    }

    fn check_leftovers(&self, users: Users<'_>, report: &mut Report, repair: bool) -> Result<()> {
        let _guard = lease::lock_exclusive(&self.root)?;
        let plan = gc::plan(&self.needed(users)?, &self.present()?, Duration::ZERO);
        let mut found: Vec<(String, &str)> = Vec::new();
        found.extend(plan.blobs.iter().map(|b| (format!("blob {}", b.digest), "no image needs it")));
        found.extend(plan.layers.iter().map(|l| (format!("layer {}", l.key), "no image needs it")));
        found.extend(plan.layer_dirs.iter().map(|d| (format!("layers/{d}"), "it has no record")));
        found.extend(plan.links.iter().map(|l| (format!("l/{l}"), "it has no record")));
        found.extend(plan.ingests.iter().map(|p| (p.display().to_string(), "its writer is gone")));
        if repair {
            self.execute(&plan)?;
        }
        report.leftovers.extend(found.into_iter().map(|(object, problem)| Finding {
            object,
            problem: problem.to_owned(),
            repaired: repair.then(|| "removed".to_owned()),
        }));
        Ok(())
    }
}

/// Where the short link of a layer leads.
fn link_target(layer: &LayerRef) -> PathBuf {
    PathBuf::from(format!("../layers/{}/fs", layer.key.hex()))
}
