//! Pushing: blobs in parallel, then manifests from the leaves up, the tag last.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use fluyt_image::oci::{self, MAX_DOCUMENT};
use fluyt_image::{Blobs, Descriptor, Digest, Document, Outcome, Progress};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use ureq::http::Method;

use crate::compress;
use crate::http::{Ask, Payload};
use crate::registry::Registry;
use crate::remote::{Remote, Scope};
use crate::upload::Upload;

/// Indexes within indexes that are followed.
const MAX_DEPTH: usize = 4;

/// How to push.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Repositories of the same registry that the image's layers came from; blobs are mounted from there.
    pub mount_from: Vec<String>,
    /// Layers that are not compressed stay so.
    pub as_is: bool,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The reference that it is there under, normalised.
    pub reference: Reference,
    /// What the reference names there.
    pub target: Descriptor,
}

impl Pushed {
    /// Docker's line: `latest: digest: sha256:… size: 528`.
    #[must_use]
    pub fn line(&self) -> String {
        let name = self.reference.tag().unwrap_or("digest");
        format!("{name}: digest: {} size: {}", self.target.digest, self.target.size)
    }
}

/// A manifest or an index that is to be put there, after all that it names.
struct Put {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

impl Registry {
    /// Pushes the manifest or index `target` of the store under `reference`.
    ///
    /// Layers of a single image that are not compressed are pushed as gzip, under a manifest that says so and that
    /// is put into `blobs` as well (see [`Pushed::target`]). Every blob that it names must be in `blobs` or in the registry's repository. Of an index, images that are
    /// not here must be there already.
    ///
    /// # Errors
    /// What the registry says or does; `Kind::NotFound` for content that is in neither place.
    pub fn push(
        &self,
        blobs: &Blobs,
        target: &Digest,
        reference: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Pushed> {
        let reference = reference.clone().or_latest();
        if reference.digest().is_some_and(|d| d != target.as_str()) {
            return Err(Error::invalid(format!(
                "{} names another digest than what is pushed, {target}",
                reference.familiar()
            )));
        }
        let remote = self.remote(reference.domain())?;
        let scope = Scope::push(reference.path()).and_pull(&options.mount_from);
        let mut plan = Plan::default();
        let compressed = if options.as_is { None } else { compress::manifest(blobs, target, progress)? };
        // What is asked for by digest, or named by an index, stays as it is.
        let target = compressed.as_ref().filter(|_| reference.digest().is_none()).unwrap_or(target);
        plan.add(blobs, target, 0)?;
        let root = plan.puts.last().map(|p| p.descriptor.clone());
        let root = root.ok_or_else(|| Error::internal(format!("manifest {target} was not planned")))?;
        send_blobs(&remote, &reference, &scope, blobs, plan.blobs, options, progress)
            .map_err(|e| explain(e, &reference))?;
        for put in &plan.puts {
            let name = if put.descriptor.digest == *target && reference.tag().is_some() {
                reference.tag().unwrap_or_default()
            } else {
                put.descriptor.digest.as_str()
            };
            put_manifest(&remote, &reference, &scope, put, name).map_err(|e| explain(e, &reference))?;
        }
        Ok(Pushed { reference, target: root })
    }
}

/// What has to be sent: blobs in any order, then documents in this order.
#[derive(Default)]
struct Plan {
    blobs: VecDeque<Descriptor>,
    puts: Vec<Put>,
}

impl Plan {
    fn add(&mut self, blobs: &Blobs, digest: &Digest, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!("index {digest}: indexes are nested too deeply")));
        }
        if self.puts.iter().any(|p| p.descriptor.digest == *digest) {
            return Ok(());
        }
        let bytes = blobs.read_small(digest, MAX_DOCUMENT)?;
        let document = Document::parse(&bytes, digest.as_str())?;
        let media_type = match &document {
            Document::Manifest(m) => {
                self.blob(&m.config);
                m.layers.iter().for_each(|layer| self.blob(layer));
                m.media_type.clone().unwrap_or_else(|| oci::OCI_MANIFEST.to_owned())
            }
            Document::Index(index) => {
                for child in &index.manifests {
                    // Images of other platforms need not be here; the registry checks that it has them.
                    if blobs.has(&child.digest) {
                        self.add(blobs, &child.digest, depth + 1)?;
                    }
                }
                index.media_type.clone().unwrap_or_else(|| oci::OCI_INDEX.to_owned())
            }
        };
        let descriptor = Descriptor::new(&media_type, digest.clone(), bytes.len() as u64);
        self.puts.push(Put { descriptor, bytes });
        Ok(())
    }

    fn blob(&mut self, descriptor: &Descriptor) {
        if !self.blobs.iter().any(|d| d.digest == descriptor.digest) {
            self.blobs.push_back(descriptor.clone());
        }
    }
}

fn send_blobs(
    remote: &Remote,
    reference: &Reference,
    scope: &Scope,
    blobs: &Blobs,
    queue: VecDeque<Descriptor>,
    options: &PushOptions,
    progress: &dyn Progress,
) -> Result<()> {
    let workers = remote.settings.uploads.clamp(1, 64).min(queue.len());
    let queue = Mutex::new(queue);
    let failed: Mutex<Option<Error>> = Mutex::default();
    let stop = AtomicBool::new(false);
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(descriptor) = next.filter(|_| !stop.load(Ordering::Relaxed)) else { return };
            let upload = Upload {
                remote,
                repository: reference.path(),
                scope,
                blobs,
                descriptor: &descriptor,
                mount_from: &options.mount_from,
                progress,
                item: format!("Pushing {}", descriptor.digest),
                stop: &stop,
            };
            if let Err(e) = upload.run() {
                stop.store(true, Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn put_manifest(
    remote: &Remote,
    reference: &Reference,
    scope: &Scope,
    put: &Put,
    name: &str,
) -> Result<Outcome> {
    let url = remote.url(&format!("{}/manifests/{name}", reference.path()));
    let what = format!("push of manifest {}", reference.familiar());
    let answer = remote.ask(Some(scope), || {
        Ask::new(Method::PUT, url.clone(), what.clone())
            .header("content-type", put.descriptor.media_type.clone())
            .body(Payload::Bytes(&put.bytes))
            .patient()
    })?;
    let stored = answer.header("docker-content-digest").and_then(|d| Digest::parse(d).ok());
    match stored {
        Some(stored) if stored != put.descriptor.digest => Err(Error::corrupt(format!(
            "registry {}: {what}: it stored {stored} instead of {}",
            remote.host(),
            put.descriptor.digest
        ))),
        _ => Ok(Outcome::Done),
    }
}

pub(crate) fn explain(e: Error, reference: &Reference) -> Error {
    match e.kind() {
        Kind::Unauthorized | Kind::PermissionDenied => {
            let text = format!(
                "push access denied for {}, repository does not exist or may require 'fluyt login'",
                reference.familiar_name()
            );
            let hint = format!("run `fluyt login {}` as a user who may push there", reference.domain());
            Error::new(e.kind(), text).with_hint(hint).with_source(e)
        }
        _ => e,
    }
}
