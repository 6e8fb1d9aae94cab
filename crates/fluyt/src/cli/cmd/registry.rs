//! Registries: `pull`, `push`, `login`, `logout`.

use std::io::{Read, Write, stdin};
use std::path::Path;

use fluyt_engine::Engine;
use fluyt_image::{Digest, Image, LayerSource, NewImage, Platform, Silent, Store};
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{CredentialFiles, Credentials, PullOptions, PushOptions, Registry, Settings};

use super::Cli;
use super::trust::{self, SIGNATURE_POLICY};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, switch, text};
use crate::cli::progress::Report;
use crate::cli::{print_line, terminal};

/// Podman's flag, for one command; `insecure-registries` of the settings is for good.
pub const TLS_VERIFY: Flag = switch(
    NONE,
    "tls-verify",
    "Require HTTPS and verify certificates (registries on loopback addresses and listed insecure ones excepted)",
)
.default("true");

/// `fluyt pull`.
pub const PULL: Command = Command {
    name: "pull",
    arguments: "NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    flags: &[&[
        switch('a', "all-tags", "Download all tagged images in the repository"),
        text(NONE, "platform", "Set platform if server is multi-platform capable"),
        switch('q', "quiet", "Suppress verbose output"),
        SIGNATURE_POLICY,
        TLS_VERIFY,
        switch(NONE, "disable-content-trust", "Skip image verification")
            .default("true")
            .deprecated("support for docker content trust was removed"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt push`.
pub const PUSH: Command = Command {
    name: "push",
    arguments: "NAME[:TAG]",
    about: "Upload an image to a registry",
    flags: &[&[
        switch('a', "all-tags", "Push all tags of an image to the repository"),
        text(
            NONE,
            "platform",
            "Push a platform-specific manifest as a single-platform image to the registry",
        ),
        switch('q', "quiet", "Suppress verbose output"),
        TLS_VERIFY,
        switch(NONE, "disable-content-trust", "Skip image signing")
            .default("true")
            .deprecated("support for docker content trust was removed"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// `fluyt login`.
pub const LOGIN: Command = Command {
    name: "login",
    arguments: "[SERVER]",
    about: "Authenticate to a registry",
    flags: &[&[
        text('p', "password", "Password or Personal Access Token (PAT)"),
        switch(NONE, "password-stdin", "Take the Password or Personal Access Token (PAT) from stdin"),
        TLS_VERIFY,
        text('u', "username", "Username"),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
};

/// `fluyt logout`.
pub const LOGOUT: Command = Command {
    name: "logout",
    arguments: "[SERVER]",
    about: "Log out from a registry",
    flags: &[],
    arity: Arity::AtMost(1),
    interspersed: true,
};

/// Where the progress of a pull is shown.
#[derive(Clone, Copy, Debug)]
pub enum Where {
    /// `pull` itself.
    Stdout {
        /// Only the name at the end.
        quiet: bool,
    },
    /// A pull for another command.
    Stderr {
        /// Nothing at all.
        quiet: bool,
    },
}

/// How registries are reached: credentials from where Docker and Podman keep them, the machine's settings.
///
/// # Errors
/// A settings file that is not valid.
pub fn settings() -> Result<Settings> {
    let mut settings = Settings {
        credentials: CredentialFiles::from_env(&|key| std::env::var_os(key)),
        ..Settings::default()
    };
    for path in ["/etc/docker/daemon.json", "/etc/fluyt/registries.json"] {
        settings.read_file(Path::new(path))?;
    }
    settings.read_registries_conf(&|key| std::env::var_os(key))?;
    Ok(settings)
}

/// The client of all registries, with the policy of a flag or of this machine.
///
/// # Errors
/// A settings file or a policy that is not valid.
pub fn client_with(verify: bool, policy: Option<&str>) -> Result<Registry> {
    let mut settings = settings()?;
    settings.policy = trust::policy(policy)?;
    if !verify {
        settings.insecure.push(Settings::EVERYBODY.to_owned());
    }
    Ok(Registry::new(settings))
}

/// The client of all registries, for a build.
///
/// # Errors
/// A settings file that is not valid.
pub fn client() -> Result<Registry> {
    client_with(true, None)
}

/// Runs `fluyt pull`.
pub fn pull(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let (name, quiet) = (&flags.args[0], flags.on("quiet"));
    let platform = flags.given("platform");
    let place = Where::Stdout { quiet };
    let registry = client_with(flags.on("tls-verify"), flags.given("signature-policy"))?;
    if !flags.on("all-tags") {
        pull_from(engine, &registry, name, platform, place)?;
        return Ok(0);
    }
    let reference = Reference::parse_untagged(name)?;
    if !reference.is_name_only() {
        return Err(Error::invalid("tag can't be used with --all-tags/-a").into());
    }
    for tag in registry.tags(&reference)? {
        pull_from(engine, &registry, &reference.with_tag(&tag)?.familiar(), platform, place)?;
    }
    Ok(0)
}

/// Pulls one image and shows what happens.
///
/// # Errors
/// What the registry says; a store that cannot be written. Nothing half-done stays.
pub fn pull_one(
    engine: &Engine,
    name: &str,
    platform: Option<&str>,
    policy: Option<&str>,
    place: Where,
) -> Result<()> {
    pull_from(engine, &client_with(true, policy)?, name, platform, place)
}

/// What a name stands for here: the digest that the registry gave, if it can be compared with what it gives now.
fn known(store: &Store, reference: &Reference) -> Result<Option<Digest>> {
    let Some(image) = store.by_reference(reference)?.filter(|_| reference.digest().is_none()) else {
        return Ok(None);
    };
    let name = reference.to_string();
    Ok(store.targets(&image.id)?.into_iter().find(|(n, _)| *n == name).map(|(_, target)| target))
}

fn pull_from(
    engine: &Engine,
    registry: &Registry,
    name: &str,
    platform: Option<&str>,
    place: Where,
) -> Result<()> {
    let bare = Reference::parse_untagged(name)?;
    let reference = bare.clone().or_latest();
    let platform = platform.map(Platform::parse).transpose()?;
    let (report, lines) = match place {
        Where::Stdout { quiet } => (Report::new(quiet), !quiet),
        Where::Stderr { quiet } => (Report::on_stderr(quiet), false),
    };
    if lines {
        if bare.is_name_only() {
            print_line("Using default tag: latest")?;
        }
        let what = reference.tag().or(reference.digest()).unwrap_or_default();
        print_line(&format!("{what}: Pulling from {}", reference.path()))?;
    }
    let store = engine.images();
    let known = known(store, &reference)?;
    let options = PullOptions { platform, known, ..PullOptions::default() };
    let (pulled, image) = store.undoing(|lease| {
        let blobs = lease.blobs();
        let (pulled, layers) = registry.pull(&blobs, &reference, &options, &report, |arriving| {
            let sources: Vec<LayerSource<'_>> = arriving
                .manifest
                .layers
                .iter()
                .zip(&arriving.config.rootfs.diff_ids)
                .enumerate()
                .map(|(index, (descriptor, diff_id))| LayerSource {
                    descriptor: descriptor.clone(),
                    diff_id: diff_id.clone(),
                    open: Box::new(move || {
                        let file = arriving.open_layer(index)?;
                        Ok(Box::new(file) as Box<dyn Read + Send>)
                    }),
                })
                .collect();
            store.unpack_layers(lease, &sources, &report)
        })?;
        let new = NewImage {
            manifest: pulled.manifest.digest.clone(),
            config: pulled.document.config.digest.clone(),
            layers,
            parent: None,
        };
        let digest = pulled.target.digest.clone();
        let mut names = vec![(reference.with_digest(digest.as_str())?, digest.clone())];
        if reference.digest().is_none() {
            names.push((reference.clone(), digest));
        }
        let image = store.record_image(lease, &new, &names)?;
        trust::remember(store, &image.id, &pulled)?;
        Ok((pulled, image))
    })?;
    engine.emit_image("pull", &reference.familiar(), &reference.familiar_name());
    match place {
        Where::Stdout { quiet: false } => {
            print_line(&pulled.digest_line())?;
            print_line(&pulled.status_line())?;
            print_line(&reference_in_full(&reference))
        }
        Where::Stdout { quiet: true } => print_line(&reference_in_full(&reference)),
        Where::Stderr { quiet } => {
            if !quiet {
                eprintln!("{}\n{}", pulled.digest_line(), pulled.status_line());
            }
            drop(image);
            Ok(())
        }
    }
}

fn reference_in_full(reference: &Reference) -> String {
    match (reference.tag(), reference.digest()) {
        (_, Some(digest)) => format!("{}@{digest}", reference.name()),
        (Some(tag), None) => format!("{}:{tag}", reference.name()),
        (None, None) => reference.name(),
    }
}

/// Runs `fluyt push`.
pub fn push(cli: &Cli, flags: &Parsed) -> Outcome {
    let engine = cli.engine()?;
    let given = Reference::parse_untagged(&flags.args[0])?;
    if given.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference").into());
    }
    let quiet = flags.on("quiet");
    let platform = flags.given("platform").map(Platform::parse).transpose()?;
    let references = if flags.on("all-tags") {
        if given.tag().is_some() {
            return Err(Error::invalid("tag can't be used with --all-tags/-a").into());
        }
        local_tags(engine, &given)?
    } else {
        if given.tag().is_none() && !quiet {
            print_line("Using default tag: latest")?;
        }
        vec![given.clone().or_latest()]
    };
    if !quiet {
        print_line(&format!("The push refers to repository [{}]", given.name()))?;
    }
    let registry = client_with(flags.on("tls-verify"), None)?;
    for reference in references {
        push_one(engine, &registry, &reference, platform.as_ref(), quiet)?;
    }
    Ok(0)
}

/// Every tag that this store has of a repository.
fn local_tags(engine: &Engine, repository: &Reference) -> Result<Vec<Reference>> {
    let mut found = Vec::new();
    for image in engine.images().images()? {
        found
            .extend(image.parsed_references().filter(|r| r.name() == repository.name() && r.tag().is_some()));
    }
    if found.is_empty() {
        return Err(Error::not_found(format!(
            "An image does not exist locally with the tag: {}",
            repository.familiar_name()
        )));
    }
    found.sort();
    Ok(found)
}

/// Pushes a document that is here, as it is, as a part of another command; the store's image is told where it is now.
/// Docker's line about it.
///
/// # Errors
/// What the registry says.
pub fn push_built(
    engine: &Engine,
    reference: &Reference,
    target: &Digest,
    image: Option<&Image>,
) -> Result<String> {
    let options = PushOptions { as_is: true, ..PushOptions::default() };
    send(engine, &client_with(true, None)?, reference, target, image, options, &Report::new(true))
}

fn push_one(
    engine: &Engine,
    registry: &Registry,
    reference: &Reference,
    platform: Option<&Platform>,
    quiet: bool,
) -> Result<()> {
    let store = engine.images();
    let missing = || {
        Error::not_found(format!(
            "An image does not exist locally with the tag: {}",
            reference.familiar_name()
        ))
        .with_hint(format!("give an image that name: fluyt tag IMAGE {}", reference.familiar()))
    };
    let image = store.by_reference(reference)?.ok_or_else(missing)?;
    let Some(platform) = platform else {
        let target = whole(store, registry, reference, &image)?;
        return tell_pushed(engine, registry, reference, &target, &image, quiet);
    };
    let image = store.resolve_for(&reference.to_string(), platform, &Silent).map_err(|e| match e.kind() {
        Kind::NotFound => Error::not_found(format!(
            "image {} is not here for the platform {platform}",
            reference.familiar()
        )),
        _ => e,
    })?;
    tell_pushed(engine, registry, reference, &image.manifest.clone(), &image, quiet)
}

/// Pushes a manifest or an index and says so.
fn tell_pushed(
    engine: &Engine,
    registry: &Registry,
    reference: &Reference,
    target: &Digest,
    image: &Image,
    quiet: bool,
) -> Result<()> {
    let (report, options) = (Report::new(quiet), PushOptions::default());
    let line = send(engine, registry, reference, target, Some(image), options, &report)?;
    print_line(&if quiet { reference_in_full(reference) } else { line })
}

/// Pushes a manifest or an index; Docker's line about it.
fn send(
    engine: &Engine,
    registry: &Registry,
    reference: &Reference,
    target: &Digest,
    image: Option<&Image>,
    mut options: PushOptions,
    report: &Report,
) -> Result<String> {
    let store = engine.images();
    options.mount_from = image
        .into_iter()
        .flat_map(Image::parsed_references)
        .filter(|r| r.domain() == reference.domain() && r.path() != reference.path())
        .map(|r| r.path().to_owned())
        .collect();
    let pushed = registry.push(&store.blobs(), target, reference, &options, report)?;
    if let Some(image) = image {
        // The name stands for this digest there now; remember it as Docker does.
        let name = reference.with_digest(pushed.target.digest.as_str())?;
        store.undoing(|lease| {
            lease.protect(&pushed.target.digest)?;
            store.name(&image.id, &[(name, pushed.target.digest.clone())])
        })?;
    }
    engine.emit_image("push", &reference.familiar(), &reference.familiar_name());
    Ok(pushed.line())
}

/// What is pushed for a name: the index that it stands for, if all of its images are here or there; else this image.
fn whole(store: &Store, registry: &Registry, reference: &Reference, image: &Image) -> Result<Digest> {
    let Some((target, index)) = store.index_of(&reference.to_string())? else {
        return Ok(image.manifest.clone());
    };
    for child in &index.manifests {
        let here = child.digest == image.manifest || store.is_whole(&child.digest)?;
        if !here && !registry.holds(&reference.with_digest(child.digest.as_str())?)? {
            eprintln!(
                "Not all images of the index {target} are here or in the repository: only the one for {} is pushed",
                image.config.platform()
            );
            return Ok(image.manifest.clone());
        }
    }
    Ok(target)
}

/// Runs `fluyt login`.
pub fn login(_: &Cli, flags: &Parsed) -> Outcome {
    let server = flags.args.first().map_or("docker.io", String::as_str);
    let from_stdin = flags.on("password-stdin");
    if flags.changed("password") && from_stdin {
        return Err(Error::invalid(
            "conflicting options: cannot specify both --password and --password-stdin",
        )
        .into());
    }
    if from_stdin && flags.text("username").is_empty() {
        return Err(Error::invalid("the --password-stdin option requires --username to be set").into());
    }
    let mut username = flags.text("username").to_owned();
    let asks_nothing = username.is_empty() && !flags.changed("password") && !from_stdin;
    if asks_nothing && with_kept_credentials(server, flags)? {
        return Ok(0);
    }
    if username.is_empty() {
        if !terminal::stdin_is_terminal() {
            return Err(Error::invalid("cannot perform an interactive login from a non TTY device")
                .with_hint("give --username and --password-stdin")
                .into());
        }
        username = read_line("Username: ")?;
    }
    let password = if from_stdin {
        let mut text = String::new();
        stdin().lock().read_to_string(&mut text).about(|| "standard input")?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else if let Some(password) = flags.given("password") {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        password.to_owned()
    } else {
        if !terminal::stdin_is_terminal() {
            return Err(Error::invalid("cannot perform an interactive login from a non TTY device")
                .with_hint("give --password-stdin")
                .into());
        }
        terminal::read_secret("Password: ")?
    };
    if password.is_empty() {
        return Err(Error::invalid("password is empty").into());
    }
    let done = client_with(flags.on("tls-verify"), None)?
        .login(server, &Credentials::Password { username, password })?;
    if let Some(warning) = done.warning {
        eprintln!("\n{warning}\n");
    }
    print_line("Login Succeeded")?;
    Ok(0)
}

/// Logs in with what an earlier login kept, as docker does when nothing is given; false when that is not good any more.
fn with_kept_credentials(server: &str, flags: &Parsed) -> Result<bool> {
    let registry = client_with(flags.on("tls-verify"), None)?;
    let Some(kept) = registry.credentials(server)? else { return Ok(false) };
    match &kept {
        Credentials::Password { username, .. } => {
            print_line(&format!("Authenticating with existing credentials... [Username: {username}]\n"))?;
        }
        _ => print_line("Authenticating with existing credentials...\n")?,
    }
    match registry.login(server, &kept) {
        Ok(_) => print_line("Login Succeeded").map(|()| true),
        Err(error) if error.kind() == Kind::Unauthorized => {
            eprintln!("Login did not succeed, error: {error}");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn read_line(prompt: &str) -> Result<String> {
    use std::io::BufRead;
    let _ = write!(std::io::stderr(), "{prompt}");
    let mut line = String::new();
    stdin().lock().read_line(&mut line).about(|| "standard input")?;
    let line = line.trim().to_owned();
    if line.is_empty() { Err(Error::invalid("username is empty")) } else { Ok(line) }
}

/// Runs `fluyt logout`.
pub fn logout(_: &Cli, flags: &Parsed) -> Outcome {
    let server = flags.args.first().map_or("docker.io", String::as_str);
    if client_with(true, None)?.logout(server)? {
        print_line(&format!("Removing login credentials for {server}"))?;
    } else {
        print_line(&format!("Not logged in to {server}"))?;
    }
    Ok(0)
}
