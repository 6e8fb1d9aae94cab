//! What becomes of a build: an image, files, archives; and what is said about it.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use fluyt_build::plan::Plan;
use fluyt_build::solve::{Built, export as export_image};
use fluyt_build::solve::{files, select, tree};
use fluyt_engine::Engine;
use fluyt_image::{LayerRef, Lease, SaveOptions};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::progress::Progress;
use super::wanted::{Target, Wanted};
use crate::cli::print_line;

/// Makes everything that was asked for.
pub fn export(
    engine: &Engine,
    lease: &Lease,
    wanted: &Wanted,
    plan: &Plan,
    layers: &[LayerRef],
    carried: Option<serde_json::Value>,
    progress: &Progress,
) -> Result<()> {
    let store = engine.images();
    let mut built: Option<Built> = None;
    for target in &wanted.outputs {
        let began = Instant::now();
        match target {
            Target::Cache => {}
            Target::Local(dest) => {
                local(store.root(), layers, dest, store)?;
                progress.internal("exporting to client directory", &[], began.elapsed().as_secs_f64());
            }
            Target::Tar(dest) => {
                let dirs: Vec<_> = layers.iter().rev().map(|layer| layer.path(store.root())).collect();
                let mut out = writer(dest)?;
                fluyt_image::rootfs::export(&dirs, &mut out)?.flush().about(|| dest.clone())?;
                progress.internal("exporting to client tarball", &[], began.elapsed().as_secs_f64());
            }
            Target::Image { .. } | Target::Archive { .. } => {
                if built.is_none() {
                    let image = export_image(store, lease, plan, layers, &wanted.tags, carried.clone())?;
                    let mut lines = vec![
                        "exporting layers done".to_owned(),
                        format!("writing image {} done", image.image.id),
                    ];
                    lines.extend(wanted.tags.iter().map(|tag| format!("naming to {tag} done")));
                    progress.internal("exporting to image", &lines, began.elapsed().as_secs_f64());
                    built = Some(image);
                }
            }
        }
        if let (Target::Archive { dest, oci }, Some(built)) = (target, &built) {
            archive(engine, built, wanted, dest, *oci)?;
        }
        if matches!(target, Target::Image { push: true }) {
            if wanted.tags.is_empty() {
                return Err(Error::invalid("tag is needed when pushing to registry"));
            }
            for tag in &wanted.tags {
                crate::cli::cmd::push_for_build(engine, tag, wanted.quiet)?;
            }
        }
    }
    if let Some(built) = &built {
        tell(engine, wanted, built)?;
    }
    Ok(())
}

/// Events, files about the build, the id.
fn tell(engine: &Engine, wanted: &Wanted, built: &Built) -> Result<()> {
    let id = built.image.id.to_string();
    for tag in &wanted.tags {
        engine.emit_image("tag", &id, &tag.familiar());
    }
    if let Some(path) = &wanted.iidfile {
        std::fs::write(path, &id).about(|| path.display().to_string())?;
    }
    if let Some(path) = &wanted.metadata {
        let names: Vec<String> = wanted.tags.iter().map(ToString::to_string).collect();
        let mut document = serde_json::json!({
            "containerimage.config.digest": id,
            "containerimage.digest": built.manifest.digest.as_str(),
            "containerimage.descriptor": built.manifest,
        });
        if !names.is_empty() {
            document["image.name"] = serde_json::Value::from(names.join(","));
        }
        let text = serde_json::to_string_pretty(&document)
            .map_err(|e| Error::internal("writing JSON").with_source(e))?;
        std::fs::write(path, text).about(|| path.display().to_string())?;
    }
    if wanted.quiet {
        print_line(&id)?;
    }
    Ok(())
}

fn writer(dest: &str) -> Result<Box<dyn Write>> {
    if dest == "-" {
        if crate::cli::terminal::stdout_is_terminal() {
            return Err(Error::invalid(
                "dest file is required for a tar exporter. refusing to write to console",
            ));
        }
        return Ok(Box::new(std::io::stdout().lock()));
    }
    Ok(Box::new(std::io::BufWriter::new(std::fs::File::create(dest).about(|| dest.to_owned())?)))
}

fn local(root: &Path, layers: &[LayerRef], dest: &Path, store: &fluyt_image::Store) -> Result<()> {
    std::fs::create_dir_all(dest).about(|| dest.display().to_string())?;
    let spare = store.new_layer()?;
    let dirs: Vec<_> = layers.iter().rev().map(|layer| layer.path(root)).collect();
    let from = tree::open_layers(&dirs, &spare.mountpoint())?;
    let source = select::Source { root: &from, ignore: None, anonymous: false };
    let action = fluyt_build::solve::whole("/");
    files::copy(&source, &select::select(&source, &action)?, &tree::open_dir(dest)?, &action, None)
}

fn archive(engine: &Engine, built: &Built, wanted: &Wanted, dest: &str, oci: bool) -> Result<()> {
    let id = built.image.id.to_string();
    let tags: Vec<String> = wanted.tags.iter().map(ToString::to_string).collect();
    let names: Vec<&str> =
        if tags.is_empty() { vec![&id] } else { tags.iter().map(String::as_str).collect() };
    let options = SaveOptions { oci_only: oci, ..SaveOptions::default() };
    let out = writer(dest)?;
    engine.images().save(&names, out, &options, &fluyt_image::Silent)?.flush().about(|| dest.to_owned())
}
