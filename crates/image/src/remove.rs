//! `rmi`: untagging, and deleting with the last name, under Docker's rules and in its words.

use fluyt_model::reference::{Reference, is_hex64};
use fluyt_model::{Error, Result};
use rusqlite::Connection;

use crate::digest::is_lower_hex;
use crate::failpoint;
use crate::gc::PARTIAL_AGE;
use crate::images::Image;
use crate::store::Store;

/// A container's use of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// The id of the container.
    pub container: String,
    /// Whether it runs (or is paused).
    pub running: bool,
    /// The id of its image, `sha256:HEX`.
    pub image: String,
    /// The short links (names under `l/`) of its lower layers.
    pub links: Vec<String>,
}

/// Tells which containers use images. Called inside the write transaction that removes, so that no container can
/// be created from the image meanwhile.
pub type Users<'a> = &'a dyn Fn(&Connection) -> Result<Vec<ImageUse>>;

/// No containers.
///
/// # Errors
/// None.
pub fn nobody(_: &Connection) -> Result<Vec<ImageUse>> {
    Ok(Vec::new())
}

/// What a removal did, one line of `rmi`'s output each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name was taken away.
    Untagged(String),
    /// An image, or a layer that only it had, was deleted.
    Deleted(String),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {name}"),
            Self::Deleted(id) => write!(f, "Deleted: {id}"),
        }
    }
}

/// What is to be done to one image.
struct Decision {
    untag: Vec<String>,
    delete: bool,
}

impl Store {
    /// Removes a name or an image, as `docker rmi` does. With `force`, also images of stopped containers and
    /// images with several names.
    ///
    /// # Errors
    /// `Kind::NotFound`; `Kind::Conflict` with Docker's text when a container uses the image or several
    /// repositories name it.
    pub fn remove_image(&self, name: &str, force: bool, users: Users<'_>) -> Result<Vec<Removed>> {
        let mut image = self.resolve(name)?;
        let mut removed = Vec::new();
        let links = self.db.write(|tx| {
            image = self.resolve(name)?;
            let all = users(tx)?;
            let decision = decide(&image, name, force, &all)?;
            for reference in &decision.untag {
                tx.execute("DELETE FROM refs WHERE name = ?1", [reference]).map_err(|e| self.db.error(e))?;
                let familiar =
                    Reference::parse_untagged(reference).map_or(reference.clone(), |r| r.familiar());
                removed.push(Removed::Untagged(familiar));
            }
            if decision.delete {
                tx.execute("DELETE FROM images WHERE id = ?1", [image.id.as_str()])
                    .map_err(|e| self.db.error(e))?;
                removed.push(Removed::Deleted(image.id.to_string()));
            }
            Ok(all.into_iter().flat_map(|u| u.links).collect::<Vec<_>>())
        })?;
        failpoint::pass("rmi-after-records");
        if matches!(removed.last(), Some(Removed::Deleted(_))) {
            let kept = self.referenced_layers()?;
            let chain = image.chain_ids();
            for (layer, chain_id) in image.layers.iter().zip(chain).rev() {
                if !kept.contains(&layer.key) && !links.contains(&layer.link) {
                    removed.push(Removed::Deleted(chain_id.to_string()));
                }
            }
            self.collect(users, PARTIAL_AGE)?;
        }
        Ok(removed)
    }

    /// Removes images that no container uses: those without a tag, or `all`; those for which `keep` holds stay.
    /// Returns what was removed and the bytes that came free.
    ///
    /// # Errors
    /// Those of the record file and of removing.
    pub fn prune_images(
        &self,
        all: bool,
        keep: &dyn Fn(&Image) -> bool,
        users: Users<'_>,
    ) -> Result<(Vec<Removed>, u64)> {
        let mut removed = Vec::new();
        self.db.write(|tx| {
            let uses = users(tx)?;
            for image in self.images()? {
                let tagged = image.parsed_references().any(|r| r.digest().is_none());
                let used = uses.iter().any(|u| u.image == image.id.as_str());
                if used || (tagged && !all) || keep(&image) {
                    continue;
                }
                tx.execute("DELETE FROM refs WHERE image = ?1", [image.id.as_str()])
                    .map_err(|e| self.db.error(e))?;
                tx.execute("DELETE FROM images WHERE id = ?1", [image.id.as_str()])
                    .map_err(|e| self.db.error(e))?;
                removed.extend(image.parsed_references().map(|r| Removed::Untagged(r.familiar())));
                removed.push(Removed::Deleted(image.id.to_string()));
            }
            Ok(())
        })?;
        let collected = self.collect(users, PARTIAL_AGE)?;
        Ok((removed, collected.bytes))
    }
}

/// Whether `name` was meant as an id: it is one, and no name of the image.
fn is_id(image: &Image, name: &str) -> bool {
    let bare = name.strip_prefix("sha256:").unwrap_or(name);
    if is_hex64(bare) || name.starts_with("sha256:") {
        return true;
    }
    let named = Reference::parse(name).is_ok_and(|r| matching(image, &r).is_some());
    !named && is_lower_hex(bare) && image.id.hex().starts_with(bare)
}

/// The stored form of the name that `reference` means.
fn matching(image: &Image, reference: &Reference) -> Option<String> {
    let wanted = match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => reference.to_string(),
    };
    image.references.iter().find(|name| **name == wanted).cloned()
}

fn decide(image: &Image, name: &str, force: bool, users: &[ImageUse]) -> Result<Decision> {
    let mine: Vec<&ImageUse> = users.iter().filter(|u| u.image == image.id.as_str()).collect();
    let running = mine.iter().find(|u| u.running);
    if is_id(image, name) {
        let repositories: std::collections::BTreeSet<String> =
            image.parsed_references().map(|r| r.name()).collect();
        if repositories.len() > 1 && !force {
            return Err(conflict(image, "must be forced", "image is referenced in multiple repositories"));
        }
        check_use(image, force, running, &mine)?;
        return Ok(Decision { untag: image.references.clone(), delete: true });
    }
    let reference = Reference::parse(name)?;
    let stored = matching(image, &reference).or_else(|| {
        // Named by a digest that only the target of a tag has.
        let of_repository =
            |n: &&String| Reference::parse_untagged(n).is_ok_and(|r| r.name() == reference.name());
        image.references.iter().find(of_repository).cloned()
    });
    let stored = stored.ok_or_else(|| crate::images::no_such_image(name))?;
    let mut untag = vec![stored.clone()];
    let mut rest: Vec<&String> = image.references.iter().filter(|n| **n != stored).collect();
    // When the last tag of a repository goes, its digest references go along.
    let of = |n: &str| Reference::parse_untagged(n).ok();
    let repository = of(&stored).map(|r| r.name());
    let other_tag = |n: &&String| of(n).is_some_and(|r| Some(r.name()) == repository && r.digest().is_none());
    if !rest.iter().any(other_tag) {
        let (same, others): (Vec<&String>, Vec<&String>) =
            rest.into_iter().partition(|n| of(n).map(|r| r.name()) == repository);
        untag.extend(same.into_iter().cloned());
        rest = others;
    }
    if !rest.is_empty() {
        return Ok(Decision { untag, delete: false });
    }
    if let Some(user) = mine.first()
        && !force
    {
        return Err(Error::conflict(format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its referenced image {}",
            short(&user.container),
            image.id.short()
        ))
        .with_hint("remove the container first, or use --force"));
    }
    // Forced while a container runs: the name goes, the image stays until the container does.
    Ok(Decision { untag, delete: running.is_none() })
}

fn check_use(image: &Image, force: bool, running: Option<&&ImageUse>, mine: &[&ImageUse]) -> Result<()> {
    if let Some(user) = running {
        let why = format!("image is being used by running container {}", short(&user.container));
        return Err(
            conflict(image, "cannot be forced", &why).with_hint("stop and remove the container first")
        );
    }
    if let Some(user) = mine.first()
        && !force
    {
        let why = format!("image is being used by stopped container {}", short(&user.container));
        return Err(
            conflict(image, "must be forced", &why).with_hint("remove the container first, or use --force")
        );
    }
    Ok(())
}

fn conflict(image: &Image, force: &str, why: &str) -> Error {
    Error::conflict(format!("conflict: unable to delete {} ({force}) - {why}", image.id.short()))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
