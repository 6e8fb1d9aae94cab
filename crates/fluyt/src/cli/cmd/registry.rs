//! Registries: `pull`, `push`, `login`, `logout`.

use std::io::{Read, Write, stdin};

use fluyt_docker_api::transfer;
use fluyt_engine::Engine;
use fluyt_image::Platform;
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{Credentials, Registry};

use super::trust::SIGNATURE_POLICY;
use super::{Cli, remotely};
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, int, switch, text};
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
    flags: &[
        &[
            switch('a', "all-tags", "Download all tagged images in the repository"),
            text(NONE, "platform", "Set platform if server is multi-platform capable"),
            switch('q', "quiet", "Suppress verbose output"),
            SIGNATURE_POLICY,
            TLS_VERIFY,
            switch(NONE, "disable-content-trust", "Skip image verification")
                .default("true")
                .deprecated("support for docker content trust was removed"),
        ],
        PODMAN,
    ],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// What Podman's `pull` has beside that, for Quadlet's `.image` units.
const PODMAN: &[Flag] = &[
    text(NONE, "arch", "Architecture to pull, instead of this machine's"),
    text(NONE, "authfile", "File with credentials"),
    text(NONE, "cert-dir", "Directory with the certificates (*.crt, *.cert, *.key) to use"),
    text(NONE, "creds", "Credentials (USERNAME[:PASSWORD]) to use"),
    text(NONE, "decryption-key", "Not here: layers are not decrypted").hidden(),
    text(NONE, "os", "Operating system to pull, instead of linux"),
    text(NONE, "policy", "When to pull (always|missing|newer|never)").default("always"),
    int(NONE, "retry", "How often a request that fails is tried again"),
    text(NONE, "retry-delay", "How long to wait before it is tried again"),
    text(NONE, "variant", "Variant of the architecture to pull"),
];

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

/// An image that another command needs.
#[derive(Clone, Copy, Debug)]
pub struct Pulled<'a> {
    /// Its name.
    pub name: &'a str,
    /// For which platform.
    pub platform: Option<&'a str>,
    /// A policy of signatures.
    pub policy: Option<&'a str>,
}

/// Pulls an image for another command, here or at the daemon that is named.
///
/// # Errors
/// What the registry says.
pub fn pull_for(cli: &Cli, pulled: &Pulled<'_>, quiet: bool) -> Result<()> {
    let place = Where::Stderr { quiet };
    match cli.remote()? {
        Some(remote) => remotely::pull(remote, pulled, false, place),
        None => {
            let engine = cli.local()?.engine()?;
            pull_one(&engine, pulled.name, pulled.platform, pulled.policy, place)
        }
    }
}

/// Runs `fluyt pull`.
pub fn pull(cli: &Cli, flags: &Parsed) -> Outcome {
    let (name, quiet) = (&flags.args[0], flags.on("quiet"));
    if flags.changed("decryption-key") {
        return Err(Error::unsupported("encrypted layers cannot be read here").into());
    }
    let platform = platform(flags)?;
    let platform = platform.as_deref();
    if !is_wanted(cli, flags)? {
        return Ok(0);
    }
    if let Some(remote) = cli.remote()? {
        if let Some(flag) =
            ["authfile", "cert-dir", "creds", "retry", "retry-delay"].iter().find(|flag| flags.changed(flag))
        {
            let text = format!("--{flag} is for pulls on this machine, and a daemon is named");
            return Err(Error::unsupported(text)
                .with_hint("'fluyt login' tells a daemon credentials")
                .into());
        }
        let policy = flags.given("signature-policy");
        let pulled = Pulled { name, platform, policy };
        remotely::pull(remote, &pulled, flags.on("all-tags"), Where::Stdout { quiet })?;
        return Ok(0);
    }
    let engine = cli.engine()?;
    let place = Where::Stdout { quiet };
    let registry = client(flags, name)?;
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

/// `--platform`, or what the flags for its parts make.
fn platform(flags: &Parsed) -> Result<Option<String>> {
    let part = |name: &str| flags.given(name).filter(|text| !text.is_empty());
    let parts = (part("os"), part("arch"), part("variant"));
    match (flags.given("platform"), parts) {
        (Some(_), (Some(_), ..) | (_, Some(_), _) | (.., Some(_))) => {
            Err(Error::invalid("--platform cannot be combined with --os, --arch and --variant"))
        }
        (given, (None, None, None)) => Ok(given.map(str::to_owned)),
        (_, (os, arch, variant)) => {
            let arch = arch.map_or_else(|| Platform::host().architecture.clone(), str::to_owned);
            let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
            Ok(Some(format!("{}/{arch}{variant}", os.unwrap_or("linux"))))
        }
    }
}

/// Whether `--policy` wants the image, which may be here.
fn is_wanted(cli: &Cli, flags: &Parsed) -> Result<bool> {
    let name = &flags.args[0];
    let here = || match cli.docker()?.image_inspect(name, "") {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    match flags.text("policy") {
        "always" | "newer" => Ok(true),
        "missing" => Ok(!here()?),
        "never" if here()? => Ok(false),
        "never" => Err(Error::not_found(format!("No such image: {name}"))),
        other => {
            Err(Error::invalid(format!("--policy: {other:?} is not one of always, missing, newer and never")))
        }
    }
}

/// The client of registries with what the flags of a pull say.
fn client(flags: &Parsed, name: &str) -> Result<Registry> {
    let pause = match flags.given("retry-delay") {
        None => None,
        Some(text) => Some(fluyt_model::quantity::parse_duration(text)?),
    };
    let tries =
        u32::try_from(flags.int("retry")).map_err(|_| Error::invalid("--retry cannot be negative"))?;
    let registry =
        transfer::client_by(flags.on("tls-verify"), flags.given("signature-policy"), &|settings| {
            settings.certificates = flags.given("cert-dir").map(Into::into);
            if let Some(path) = flags.given("authfile") {
                settings.credentials.docker = None;
                settings.credentials.podman = vec![path.into()];
            }
            if flags.changed("retry") {
                settings.attempts = tries + 1;
            }
            if let Some(pause) = pause.and_then(|nanos| u64::try_from(nanos).ok()) {
                settings.retry_pause = std::time::Duration::from_nanos(pause);
            }
        })?;
    if let Some(creds) = flags.given("creds") {
        let (username, password) = creds.split_once(':').unwrap_or((creds, ""));
        let reference = Reference::parse_untagged(name)?;
        let credentials =
            Credentials::Password { username: username.to_owned(), password: password.to_owned() };
        registry.use_credentials(reference.domain(), credentials);
    }
    Ok(registry)
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
    pull_from(engine, &transfer::client(true, policy)?, name, platform, place)
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
    let (pulled, _) = transfer::pull(engine, registry, &reference, platform, &report)?;
    match place {
        Where::Stdout { quiet: false } => {
            print_line(&pulled.digest_line())?;
            print_line(&pulled.status_line())?;
            print_line(&transfer::in_full(&reference))
        }
        Where::Stdout { quiet: true } => print_line(&transfer::in_full(&reference)),
        Where::Stderr { quiet } => {
            if !quiet {
                eprintln!("{}\n{}", pulled.digest_line(), pulled.status_line());
            }
            Ok(())
        }
    }
}

/// Runs `fluyt push`.
pub fn push(cli: &Cli, flags: &Parsed) -> Outcome {
    if let Some(remote) = cli.remote()? {
        return remotely::push(remote, flags);
    }
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
        transfer::local_tags(engine, &given)?
    } else {
        if given.tag().is_none() && !quiet {
            print_line("Using default tag: latest")?;
        }
        vec![given.clone().or_latest()]
    };
    if !quiet {
        print_line(&format!("The push refers to repository [{}]", given.name()))?;
    }
    let registry = transfer::client(flags.on("tls-verify"), None)?;
    for reference in references {
        let report = Report::new(quiet);
        let note = |text: &str| eprintln!("{text}");
        let pushed = transfer::push(engine, &registry, &reference, platform.as_ref(), &report, &note)?;
        print_line(&if quiet { transfer::in_full(&reference) } else { pushed.line() })?;
    }
    Ok(0)
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
    let done = transfer::client(flags.on("tls-verify"), None)?
        .login(server, &Credentials::Password { username, password })?;
    if let Some(warning) = done.warning {
        eprintln!("\n{warning}\n");
    }
    print_line("Login Succeeded")?;
    Ok(0)
}

/// Logs in with what an earlier login kept, as docker does when nothing is given; false when that is not good any more.
fn with_kept_credentials(server: &str, flags: &Parsed) -> Result<bool> {
    let registry = transfer::client(flags.on("tls-verify"), None)?;
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
    if transfer::client(true, None)?.logout(server)? {
        print_line(&format!("Removing login credentials for {server}"))?;
    } else {
        print_line(&format!("Not logged in to {server}"))?;
    }
    Ok(0)
}
