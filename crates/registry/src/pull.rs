//! Pulling: what a reference names, the image for one platform, its blobs in parallel while the caller unpacks.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fluyt_image::oci::{self, MAX_DOCUMENT};
use fluyt_image::{Blobs, Descriptor, Digest, Document, ImageConfig, Manifest, Platform, Progress};
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_trust::Signature;

use crate::board::{Board, Layer};
use crate::download::Download;
use crate::manifest::{self, Fetched};
use crate::places::Place;
use crate::platform;
use crate::registry::Registry;
use crate::remote::Remote;
use crate::signed::Judge;

/// Indexes within indexes that are followed.
const MAX_INDEX_DEPTH: usize = 4;
/// Layers of one image; more cannot be mounted.
const MAX_LAYERS: usize = 500;

/// How to pull.
pub struct PullOptions<'a> {
    /// The platform that was asked for; `None`: this machine's, or whatever a single image is for.
    pub platform: Option<Platform>,
    /// What the reference stands for here already, to find out cheaply that nothing changed.
    pub known: Option<Digest>,
    /// Tells of each layer, by the image's diff ids, whether it is unpacked and its blob not needed.
    pub unpacked: &'a dyn Fn(&[Digest]) -> Vec<bool>,
}

impl Default for PullOptions<'_> {
    fn default() -> Self {
        Self { platform: None, known: None, unpacked: &|_| Vec::new() }
    }
}

/// What was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The reference as it was asked for, normalised.
    pub reference: Reference,
    /// What the reference names: an index or a manifest.
    pub target: Descriptor,
    /// The manifest of the chosen image.
    pub manifest: Descriptor,
    /// Its content.
    pub document: Manifest,
    /// The image's configuration.
    pub config: ImageConfig,
    /// Whether nothing had to be fetched because the reference stands for the same as before.
    pub up_to_date: bool,
    /// The signatures by which a policy let it be used; empty when no policy wants any.
    pub signatures: Vec<Signature>,
}

impl Pulled {
    /// Docker's line about the digest: `Digest: sha256:…`.
    #[must_use]
    pub fn digest_line(&self) -> String {
        format!("Digest: {}", self.target.digest)
    }

    /// Docker's line about what happened: `Status: Downloaded newer image for busybox:latest`.
    #[must_use]
    pub fn status_line(&self) -> String {
        let name = self.reference.familiar();
        if self.up_to_date {
            format!("Status: Image is up to date for {name}")
        } else {
            format!("Status: Downloaded newer image for {name}")
        }
    }
}

/// An image whose layers are arriving.
pub struct Arriving<'a> {
    /// The manifest's content.
    pub manifest: &'a Manifest,
    /// The manifest's name.
    pub descriptor: &'a Descriptor,
    /// The configuration; its diff ids belong to the manifest's layers, one each.
    pub config: &'a ImageConfig,
    blobs: &'a Blobs,
    board: &'a Arc<Board>,
}

impl Arriving<'_> {
    /// Opens the blob of layer `index`, as soon as its first bytes are here; reading waits for the others and ends
    /// when the whole is verified.
    ///
    /// # Errors
    /// When its download, or another one, has failed.
    pub fn open_layer(&self, index: usize) -> Result<Layer> {
        self.board.open(self.blobs, &self.manifest.layers[index].digest)
    }
}

impl Registry {
    /// Pulls what `reference` names into `blobs` (those of a lease). `unpack` runs on this thread while the layers
    /// arrive; it opens each with [`Arriving::open_layer`].
    ///
    /// Mirrors are tried first, in their order; the registry itself comes last. [`Settings::policy`](crate::Settings::policy)
    /// decides before any layer is fetched.
    ///
    /// # Errors
    /// `Kind::NotFound`, `Kind::Unauthorized`, `Kind::PermissionDenied`, `Kind::RateLimited`, `Kind::Unavailable`,
    /// `Kind::Timeout`: what the registry said or did; `Kind::Corrupt`: what it sent is not what it promised;
    /// `Kind::Unsupported`: not an image for containers; and what `unpack` returns.
    pub fn pull<T>(
        &self,
        blobs: &Blobs,
        reference: &Reference,
        options: &PullOptions<'_>,
        progress: &dyn Progress,
        mut unpack: impl FnMut(&Arriving<'_>) -> Result<T>,
    ) -> Result<(Pulled, T)> {
        let reference = reference.clone().or_latest();
        let mut places = self.places(&reference)?;
        let itself = places.pop();
        let judge = Judge::of(&self.settings, &reference)?;
        let mut pull = |place: &Place| {
            let remote = place.remote(self)?;
            let (mut pulled, unpacked) =
                pull_from(&remote, blobs, &place.reference, options, &judge, progress, &mut unpack)?;
            pulled.reference = reference.clone();
            Ok((pulled, unpacked))
        };
        for mirror in &places {
            match pull(mirror) {
                Err(e) if is_remote_failure(&e) => {}
                other => return other,
            }
        }
        pull(&itself.ok_or_else(|| Error::internal(format!("no place for {reference}")))?)
    }

    /// Whether the registry has what a reference names.
    ///
    /// # Errors
    /// As [`Registry::pull`], but for `Kind::NotFound`.
    pub fn holds(&self, reference: &Reference) -> Result<bool> {
        match manifest::head(&*self.remote(reference.domain())?, reference) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The digest that a reference names now, without fetching anything else.
    ///
    /// # Errors
    /// As [`Registry::pull`].
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Digest>> {
        manifest::head(&*self.remote(reference.domain())?, reference)
    }
}

/// Whether another server may do better.
fn is_remote_failure(e: &Error) -> bool {
    matches!(
        e.kind(),
        Kind::NotFound
            | Kind::Unauthorized
            | Kind::PermissionDenied
            | Kind::RateLimited
            | Kind::Unavailable
            | Kind::Timeout
            | Kind::Corrupt
            | Kind::Invalid
    )
}

fn pull_from<T>(
    remote: &Remote,
    blobs: &Blobs,
    reference: &Reference,
    options: &PullOptions<'_>,
    judge: &Judge<'_>,
    progress: &dyn Progress,
    unpack: &mut dyn FnMut(&Arriving<'_>) -> Result<T>,
) -> Result<(Pulled, T)> {
    let target = resolve(remote, blobs, reference, options.known.as_ref())?;
    let chosen = choose(remote, blobs, reference, &target, options)?;
    let Document::Manifest(document) = chosen.document else {
        return Err(Error::corrupt(format!("{}: indexes are nested too deeply", reference.familiar())));
    };
    let signatures =
        judge.approve(remote, reference, &target.descriptor.digest, &chosen.descriptor.digest)?;
    let stop = AtomicBool::new(false);
    let config = fetch_config(remote, blobs, reference, &document, &stop)?;
    check_platform(&config, reference, options)?;
    check_layers(&document, &config, reference)?;
    let board = Arc::new(Board::default());
    enqueue(&board, &document, &(options.unpacked)(&config.rootfs.diff_ids));
    let fetched_any = board.lacks_any(blobs);
    let arriving = Arriving {
        manifest: &document,
        descriptor: &chosen.descriptor,
        config: &config,
        blobs,
        board: &board,
    };
    let unpacked = std::thread::scope(|scope| {
        let workers = remote.settings.downloads.clamp(1, 64).min(document.layers.len().max(1));
        for _ in 0..workers {
            scope.spawn(|| work(&board, remote, reference, blobs, progress));
        }
        let result = unpack(&arriving);
        if result.is_err() && !board.disturbed() {
            board.give_up();
        }
        result
    });
    if let Some(e) = board.take_failure()
        && (unpacked.is_ok() || e.kind() != Kind::Unavailable || !e.to_string().starts_with("given up"))
    {
        return Err(e);
    }
    // Some download began again while it was unpacked; now all of them are whole.
    let unpacked = if unpacked.is_err() && board.disturbed() { unpack(&arriving) } else { unpacked };
    let up_to_date = options.known.as_ref() == Some(&target.descriptor.digest) && !fetched_any;
    let pulled = Pulled {
        reference: reference.clone(),
        target: target.descriptor,
        manifest: chosen.descriptor,
        document,
        config,
        up_to_date,
        signatures,
    };
    Ok((pulled, unpacked?))
}

/// What the reference names. When it is known here, a look at the digest saves the document (and its price under
/// a rate limit).
fn resolve(remote: &Remote, blobs: &Blobs, reference: &Reference, known: Option<&Digest>) -> Result<Fetched> {
    if let (Some(known), None) = (known, reference.digest())
        && manifest::head(remote, reference)?.as_ref() == Some(known)
    {
        return manifest::fetch(remote, blobs, &reference.with_digest(known.as_str())?);
    }
    manifest::fetch(remote, blobs, reference)
}

fn choose(
    remote: &Remote,
    blobs: &Blobs,
    reference: &Reference,
    target: &Fetched,
    options: &PullOptions<'_>,
) -> Result<Fetched> {
    let wanted = options.platform.clone().unwrap_or_else(Platform::host);
    let mut current = target.clone();
    for _ in 0..MAX_INDEX_DEPTH {
        let Document::Index(index) = &current.document else { break };
        let child = platform::choose(index, &wanted, &reference.familiar())?;
        current = manifest::fetch_child(remote, blobs, reference, child)?;
    }
    Ok(current)
}

fn fetch_config(
    remote: &Remote,
    blobs: &Blobs,
    reference: &Reference,
    document: &Manifest,
    stop: &AtomicBool,
) -> Result<ImageConfig> {
    let descriptor = &document.config;
    if ![oci::OCI_CONFIG, oci::DOCKER_CONFIG].contains(&descriptor.media_type.as_str()) {
        let name = reference.familiar();
        return Err(Error::unsupported(format!(
            "{name} is not a container image but {}",
            descriptor.media_type
        ))
        .with_hint("it is an artifact for another program"));
    }
    if descriptor.size > MAX_DOCUMENT {
        return Err(Error::corrupt(format!("{}: its configuration is too large", reference.familiar())));
    }
    let download = Download {
        remote,
        repository: reference.path(),
        blobs,
        descriptor,
        progress: &fluyt_image::Silent,
        item: String::new(),
        stop,
        board: None,
    };
    download.run()?;
    let bytes = blobs.read_small(&descriptor.digest, MAX_DOCUMENT)?;
    ImageConfig::parse(&bytes, descriptor.digest.as_str())
}

/// A platform that was asked for must be the image's; by default any single image will do.
fn check_platform(config: &ImageConfig, reference: &Reference, options: &PullOptions<'_>) -> Result<()> {
    let Some(wanted) = &options.platform else { return Ok(()) };
    let actual = config.platform();
    if wanted.rank(&actual).is_some() {
        return Ok(());
    }
    Err(Error::not_found(format!(
        "image with reference {} was found but does not provide the specified platform ({wanted}); it is for {actual}",
        reference.familiar()
    )))
}

fn check_layers(document: &Manifest, config: &ImageConfig, reference: &Reference) -> Result<()> {
    let (layers, ids) = (document.layers.len(), config.rootfs.diff_ids.len());
    if layers != ids {
        return Err(Error::corrupt(format!(
            "{}: the manifest has {layers} layers, the configuration {ids}",
            reference.familiar()
        )));
    }
    if layers > MAX_LAYERS {
        return Err(Error::unsupported(format!(
            "{} has {layers} layers, too many to mount",
            reference.familiar()
        )));
    }
    match document.layers.iter().find(|l| !oci::is_layer(&l.media_type)) {
        Some(strange) => Err(Error::unsupported(format!(
            "{}: layer {} is of an unknown kind, {}",
            reference.familiar(),
            strange.digest,
            strange.media_type
        ))),
        None => Ok(()),
    }
}

/// Each blob once, lowest layer first.
fn enqueue(board: &Board, document: &Manifest, unpacked: &[bool]) {
    for (i, layer) in document.layers.iter().enumerate() {
        if !unpacked.get(i).copied().unwrap_or(false) {
            board.enqueue(layer);
        }
    }
}

fn work(board: &Board, remote: &Remote, reference: &Reference, blobs: &Blobs, progress: &dyn Progress) {
    while let Some(descriptor) = board.next() {
        let download = Download {
            remote,
            repository: reference.path(),
            blobs,
            descriptor: &descriptor,
            progress,
            item: format!("Downloading {}", descriptor.digest),
            stop: &board.stop,
            board: Some(board),
        };
        board.report(&descriptor.digest, download.run());
    }
}
