//! Checkouts of repositories. The key of one is made of the commit that the remote says its reference leads to, so a
//! branch that has not moved is not fetched again, and what comes after it is found.

use fluyt_image::{LayerRef, NewLayer, Store};
use fluyt_model::Result;
use fluyt_model::error::IoContext;

use super::{Solver, Source, files, select, tree, whole};
use crate::git::{Resolved, Wanted, forget};
use crate::graph::{GitOp, Op};

impl Solver<'_> {
    fn wanted<'a>(&'a self, op: &'a GitOp) -> Wanted<'a> {
        Wanted {
            remote: &op.remote,
            reference: &op.reference,
            checksum: &op.checksum,
            without_submodules: op.without_submodules,
            agent: self.world.agents.get("default").map(std::path::PathBuf::as_path),
        }
    }

    /// What the remote says now, and the operation as its content defines it.
    pub(super) fn resolve(&self, op: &GitOp) -> Result<(Resolved, String)> {
        let resolved = self.wanted(op).resolve()?;
        let reference = match op.keep_git_dir {
            // The name of the reference stays in the files.
            true => format!("{} {}", resolved.commit, op.reference),
            false => resolved.commit.clone(),
        };
        let content = GitOp { reference, checksum: String::new(), ..op.clone() };
        Ok((resolved, Op::Git(content).canonical()))
    }

    pub(super) fn git(
        &self,
        store: &Store,
        op: &GitOp,
        resolved: &Resolved,
        layer: NewLayer,
    ) -> Result<LayerRef> {
        let checkout = layer.dir().join("checkout");
        std::fs::create_dir(&checkout).about(|| checkout.display().to_string())?;
        self.wanted(op).checkout(resolved, &checkout)?;
        if !op.keep_git_dir {
            forget(&checkout)?;
        }
        let from = tree::open_dir(&checkout)?;
        let source = Source { root: &from, ignore: None, anonymous: true };
        let action = whole(&format!("/{}", op.subdir));
        let root = tree::open_dir(&layer.fs())?;
        files::copy(&source, &select::select(&source, &action)?, &root, &action, None)?;
        store.publish_layer(self.lease, layer, None)
    }
}
