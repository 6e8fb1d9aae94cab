//! Builds over an engine: what runs steps, what finds base images and contexts, and the classic form of a build.
//!
//! The command line's `build` composes the same parts with its terminal, its caches and its outputs.

pub mod base;
mod binfmt;
pub mod classic;
pub mod context;
mod runner;
mod steps;

use fluyt_build::dockerfile::Dockerfile;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

pub use runner::{Fetcher, Runner};

/// The front end that a file asks for must be the one that is built in, under whatever address. `given` is what a build
/// argument asks for instead.
///
/// # Errors
/// `Unsupported` for another one.
pub fn front_end(given: Option<&String>, file: &Dockerfile) -> Result<()> {
    let Some(text) = given.or(file.syntax.as_ref()) else { return Ok(()) };
    // What follows a blank is for the front end.
    let name = text.split_whitespace().next().unwrap_or_default();
    let reference = Reference::parse_untagged(name).map_err(|e| e.context(format!("syntax {name}")))?;
    let repository = reference.path();
    let known = ["docker/dockerfile", "docker/dockerfile-upstream", "docker/dockerfile-labs"];
    if known.iter().any(|known| repository == *known || repository.ends_with(&format!("/{known}"))) {
        return Ok(());
    }
    Err(Error::unsupported(format!("the front end {name}: only Dockerfiles are understood here")).with_hint(
        "the front end of docker/dockerfile is built in; if the file is a Dockerfile, remove its syntax line",
    ))
}
