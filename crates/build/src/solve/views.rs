//! What a build has seen of its contexts. Everything that a build takes from a context is looked at once, before anything
//! runs; keys are made of that, and what is copied later is held against it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use fluyt_image::Digest;
use fluyt_model::Result;

use super::select::{self, Selection, Source};
use super::{Memos, World, context, tree};
use crate::graph::CopyAction;

/// What was seen of one source.
pub(super) struct View {
    /// Of all that was found.
    pub digest: Digest,
    /// What was found, with what each file was.
    pub selection: Selection,
}

/// What was seen, by what was asked for.
#[derive(Default)]
pub(super) struct Views {
    seen: Mutex<BTreeMap<String, Arc<View>>>,
}

impl Views {
    /// What `action` takes from the context `name`: as it was seen before, or as it is now.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub fn of(&self, world: &World<'_>, memos: &Memos, name: &str, action: &CopyAction) -> Result<Arc<View>> {
        // What decides about which files are found, and nothing else.
        let what = (name, &action.path, action.wildcards, &action.exclude, &action.parents);
        let what = format!("{what:?}");
        if let Some(view) = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&what) {
            return Ok(Arc::clone(view));
        }
        let context = context(world, name)?;
        let root = tree::open_dir(&context.path)?;
        let source = Source { root: &root, ignore: Some(&context.ignore), anonymous: true };
        let mut selection = select::select(&source, action)?;
        let digest = select::digest(&source, &mut selection, memos.get(name))?;
        let view = Arc::new(View { digest, selection });
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(what, Arc::clone(&view));
        Ok(view)
    }
}
