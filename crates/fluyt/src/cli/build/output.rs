//! What becomes of a build: images, files, archives, pushes; and what is said about it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use fluyt_build::attest::Attestation;
use fluyt_build::plan::Joined;
use fluyt_build::sbom;
use fluyt_build::solve::{Exported, Form, Solved, Work, told, tree};
use fluyt_engine::Engine;
use fluyt_image::{Descriptor, Image, LayerRef, Lease, Root, SaveOptions, Silent};
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use serde_json::Value;

use super::facts::About;
use super::files;
use super::outputs::{Output, Target};
use super::progress::Progress;
use super::wanted::Wanted;
use crate::cli::print_line;

/// A build that is to be put out.
pub struct Export<'a> {
    /// Where images go.
    pub engine: &'a Engine,
    /// What protects them.
    pub lease: &'a Lease,
    /// What was asked for.
    pub wanted: &'a Wanted,
    /// What was planned.
    pub plan: &'a Joined,
    /// What came of it.
    pub solved: &'a Solved,
    /// What is known about it.
    pub about: &'a About,
    /// Who watches.
    pub progress: &'a Progress,
    boms: OnceCell<Vec<Value>>,
    carried: Vec<Option<Value>>,
}

/// What was exported in one form, under some names.
struct Done {
    form: Form,
    names: Vec<Reference>,
    exported: Exported,
    image: Option<Image>,
}

impl<'a> Export<'a> {
    /// For a build.
    pub fn new(
        engine: &'a Engine,
        lease: &'a Lease,
        wanted: &'a Wanted,
        (plan, solved): (&'a Joined, &'a Solved),
        about: &'a About,
        progress: &'a Progress,
    ) -> Self {
        Self {
            engine,
            lease,
            wanted,
            plan,
            solved,
            about,
            progress,
            boms: OnceCell::new(),
            carried: Vec::new(),
        }
    }

    /// With the caches that the images of the goals carry for other machines.
    pub fn carrying(self, carried: Vec<Option<Value>>) -> Self {
        Self { carried, ..self }
    }

    /// Makes everything that was asked for.
    pub fn run(&self) -> Result<()> {
        let mut all: Vec<Done> = Vec::new();
        for output in &self.wanted.outputs {
            match &output.target {
                Target::Cache => {}
                Target::Local(dest, layout) => {
                    self.step("exporting to client directory", || {
                        files::local(self, dest, layout).map(|()| Vec::new())
                    })?;
                }
                Target::Tar(dest, layout) => {
                    self.step("exporting to client tarball", || {
                        files::tar(self, dest, layout).map(|()| Vec::new())
                    })?;
                }
                Target::Image { .. } | Target::Archive { .. } => self.image(output, &mut all)?,
            }
        }
        // An image of the store is what a build is known by; else whatever became an image.
        let first = all.iter().find(|done| done.image.is_some()).or(all.first());
        self.report(first)
    }

    /// Does something that the progress shows; the lines that it returns are shown with it.
    fn step(&self, what: &str, work: impl FnOnce() -> Result<Vec<String>>) -> Result<()> {
        let began = Instant::now();
        self.progress.begin(what);
        match work() {
            Ok(lines) => self.progress.internal(what, &lines, began.elapsed().as_secs_f64()),
            Err(e) => {
                self.progress.failed(what);
                return Err(e);
            }
        }
        Ok(())
    }

    /// An output that is an image or an archive of one.
    fn image(&self, output: &Output, all: &mut Vec<Done>) -> Result<()> {
        if self.wanted.attests.sbom {
            self.boms()?;
        }
        let what = match &output.target {
            Target::Archive { oci: true, .. } => "exporting to oci image format",
            Target::Archive { .. } => "exporting to docker image format",
            _ => "exporting to image",
        };
        let known = all.iter().position(|done| done.form == output.form && done.names == output.names);
        let at = known.unwrap_or(all.len());
        self.step(what, || {
            if known.is_none() {
                all.push(self.documents(output)?);
            }
            let done = &mut all[at];
            let mut lines = vec!["exporting layers done".to_owned()];
            lines.extend(document_lines(&done.exported));
            match &output.target {
                Target::Image { store: true, .. } if done.image.is_none() => {
                    done.image = Some(self.work(&output.names).record(&done.exported)?);
                    lines.extend(output.names.iter().map(|name| format!("naming to {name} done")));
                }
                Target::Archive { dest, oci, tar } => {
                    self.archive(done, dest, *oci, *tar)?;
                    let sent = || format!("writing {dest} done");
                    lines.push(if *tar { "sending tarball done".to_owned() } else { sent() });
                }
                _ => {}
            }
            Ok(lines)
        })?;
        match &output.target {
            Target::Image { push: true, by_digest, .. } => self.push(&all[at], *by_digest),
            _ => Ok(()),
        }
    }

    /// The documents of an output.
    fn documents(&self, output: &Output) -> Result<Done> {
        let say = |goal: usize, layers: &[Descriptor]| self.attestations(goal, layers, true);
        let attest = (!self.wanted.attests.is_empty()).then_some(&say as fluyt_build::solve::Attest<'_>);
        let exported = self.work(&output.names).export(&output.form, attest)?;
        Ok(Done { form: output.form.clone(), names: output.names.clone(), exported, image: None })
    }

    fn work<'b>(&'b self, names: &'b [Reference]) -> Work<'b> {
        Work {
            store: self.engine.images(),
            lease: self.lease,
            plan: self.plan,
            goals: &self.solved.goals,
            names,
            carried: &self.carried,
        }
    }

    fn push(&self, done: &Done, by_digest: bool) -> Result<()> {
        if done.names.is_empty() {
            return Err(Error::invalid("tag is needed when pushing to registry")
                .with_hint("give -t NAME, or name=NAME in --output"));
        }
        let top = &done.exported.top.digest;
        for name in &done.names {
            let name = if by_digest { name.with_digest(top.as_str())? } else { name.clone() };
            self.step(&format!("pushing {name}"), || {
                let line = crate::cli::cmd::push_for_build(self.engine, &name, top, done.image.as_ref())?;
                Ok(vec![line])
            })?;
        }
        Ok(())
    }

    fn archive(&self, done: &Done, dest: &str, oci: bool, tar: bool) -> Result<()> {
        if !oci && done.exported.members.len() > 1 {
            return Err(Error::unsupported(
                "docker exporter does not currently support exporting manifest lists",
            )
            .with_hint("give type=oci, or one --platform"));
        }
        let mut descriptor = done.exported.top.clone();
        let created = "org.opencontainers.image.created".to_owned();
        descriptor.annotations.entry(created).or_insert_with(|| self.about.created());
        let roots = [Root { descriptor, names: done.names.clone() }];
        let store = self.engine.images();
        if !tar {
            return store.save_roots_in(&roots, std::path::Path::new(dest));
        }
        let options = SaveOptions { oci_only: oci, ..SaveOptions::default() };
        let out = files::writer(dest)?;
        store.save_roots(&roots, out, &options, &Silent)?.flush().about(|| dest.to_owned())
    }

    /// What is said of a goal whose image has these layers; `inline`: it goes into an image.
    pub fn attestations(&self, goal: usize, layers: &[Descriptor], inline: bool) -> Result<Vec<Attestation>> {
        let mut said = Vec::new();
        if self.wanted.attests.sbom {
            let predicate = self.boms()?[goal].clone();
            let file = "sbom.spdx.json".to_owned();
            said.push(Attestation { predicate_type: fluyt_build::attest::SPDX, predicate, file });
        }
        if let Some(provenance) = self.wanted.attests.provenance.as_ref().filter(|p| inline || !p.inline_only)
        {
            said.push(self.about.provenance(self.plan, goal, &provenance.options, layers));
        }
        Ok(said)
    }

    /// The inventories of all goals; each is taken once.
    fn boms(&self) -> Result<&Vec<Value>> {
        if let Some(known) = self.boms.get() {
            return Ok(known);
        }
        let mut found = Vec::new();
        self.step("generating sbom", || {
            let mut lines = Vec::new();
            for (goal, layers) in self.plan.goals.iter().zip(&self.solved.goals) {
                let inventory = self.with_tree(layers, &|root| sbom::scan(root))?;
                lines.push(format!("{}: {} packages", goal.platform, inventory.packages.len()));
                let name = if goal.stage.is_empty() { "image" } else { &goal.stage };
                found.push(sbom::document(&inventory, name, &self.about.created()));
            }
            Ok(lines)
        })?;
        Ok(self.boms.get_or_init(|| found))
    }

    /// Calls `work` with the tree of layers.
    pub fn with_tree<T>(&self, layers: &[LayerRef], work: &dyn Fn(&tree::Root) -> Result<T>) -> Result<T> {
        let store = self.engine.images();
        let spare = store.new_layer()?;
        let dirs: Vec<_> = layers.iter().rev().map(|layer| layer.path(store.root())).collect();
        work(&tree::open_layers(&dirs, &spare.mountpoint())?)
    }

    /// Events, files about the build, the id.
    fn report(&self, done: Option<&Done>) -> Result<()> {
        let wanted = self.wanted;
        let id = done.map(|done| done.exported.chosen().config.to_string());
        if let Some(done) = done.filter(|done| done.image.is_some()) {
            for name in &done.names {
                let id = id.as_deref().unwrap_or("");
                self.engine.emit_image("tag", id, &name.familiar());
            }
        }
        if let (Some(path), Some(id)) = (&wanted.iidfile, &id) {
            std::fs::write(path, id).about(|| path.display().to_string())?;
        }
        if let Some(path) = &wanted.metadata {
            let text = serde_json::to_string_pretty(&self.metadata(done))
                .map_err(|e| Error::internal("writing JSON").with_source(e))?;
            std::fs::write(path, text).about(|| path.display().to_string())?;
        }
        match id {
            Some(id) if wanted.quiet => print_line(&id),
            _ => Ok(()),
        }
    }

    /// What `--metadata-file` holds.
    fn metadata(&self, done: Option<&Done>) -> Value {
        let mut document = BTreeMap::from([("buildx.build.ref".to_owned(), self.about.reference().into())]);
        if let Some(options) = super::facts::metadata_provenance() {
            for (at, goal) in self.plan.goals.iter().enumerate() {
                let key = match self.plan.goals.len() {
                    1 => "buildx.build.provenance".to_owned(),
                    _ => format!("buildx.build.provenance/{}", goal.platform),
                };
                document.insert(key, self.about.provenance(self.plan, at, &options, &[]).predicate);
            }
        }
        if let Some(Done { exported, names, .. }) = done {
            let config = (!exported.is_index).then(|| &exported.chosen().config);
            document.insert("containerimage.digest".to_owned(), exported.top.digest.as_str().into());
            if let Some(config) = config {
                document.insert("containerimage.config.digest".to_owned(), config.as_str().into());
            }
            let descriptor = told(&exported.top, config, &self.about.created());
            document.insert("containerimage.descriptor".to_owned(), descriptor);
            if !names.is_empty() {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                document.insert("image.name".to_owned(), names.join(",").into());
            }
        }
        serde_json::json!(document)
    }
}

/// What is told of the documents of an export.
fn document_lines(exported: &Exported) -> Vec<String> {
    let mut lines = Vec::new();
    if exported.is_index {
        lines.extend(
            exported.members.iter().map(|m| format!("exporting manifest {} done", m.manifest.digest)),
        );
        lines.push(format!("exporting manifest list {} done", exported.top.digest));
    }
    lines.push(format!("writing image {} done", exported.chosen().config));
    lines
}
