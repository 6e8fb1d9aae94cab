//! Images at a daemon: `pull`, `push`, `load`, `save`, `import`, and the display of what it tells meanwhile.
//!
//! Over the engine these verbs show progress from the work itself; here it comes in messages.

use std::collections::HashMap;
use std::fs::File;
use std::io::{IsTerminal, Read, Write, stderr, stdin, stdout};
use std::sync::{Mutex, PoisonError};

use fluyt_docker_api::api::{
    AuthConfig, Docker, ImportImage, Progress, ProgressMessage, PullImage, PushImage, Quiet,
};
use fluyt_docker_api::transfer;
use fluyt_model::error::IoContext;
use fluyt_model::quantity::human_size_with;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};
use fluyt_registry::Credentials;

use super::content::apart;
use super::registry::{Pulled, Where};
use crate::cli::fail::Outcome;
use crate::cli::flags::Parsed;
use crate::cli::output::to_output;
use crate::cli::{print_line, terminal};

/// The name under which clients know Docker's own registry.
const DOCKER_IO: &str = "https://index.docker.io/v1/";

/// What this machine's user has for the registry of a name: a daemon elsewhere does not know it.
///
/// # Errors
/// A settings file or a helper fails.
pub fn auth_for(name: &str) -> Result<Option<AuthConfig>> {
    let reference = Reference::parse_untagged(name)?;
    let domain = reference.domain();
    let found = transfer::client(true, None)?.credentials(domain)?;
    Ok(found.map(|credentials| auth_of(&credentials, domain)))
}

/// Credentials as a daemon takes them.
fn auth_of(credentials: &Credentials, domain: &str) -> AuthConfig {
    let server_address = if domain == "docker.io" { DOCKER_IO } else { domain }.to_owned();
    let auth = AuthConfig { server_address, ..AuthConfig::default() };
    match credentials {
        Credentials::Password { username, password } => {
            AuthConfig { username: username.clone(), password: password.clone(), ..auth }
        }
        Credentials::IdentityToken(token) => AuthConfig { identity_token: token.clone(), ..auth },
        Credentials::RegistryToken(token) => AuthConfig { registry_token: token.clone(), ..auth },
    }
}

/// Pulls at the daemon.
///
/// # Errors
/// What it and the registry say.
pub fn pull(docker: &dyn Docker, pulled: &Pulled<'_>, all_tags: bool, place: Where) -> Result<()> {
    let bare = Reference::parse_untagged(pulled.name)?;
    if all_tags && !bare.is_name_only() {
        return Err(Error::invalid("tag can't be used with --all-tags/-a"));
    }
    let reference = if all_tags { bare.clone() } else { bare.clone().or_latest() };
    let wanted = PullImage {
        reference: reference.familiar(),
        all_tags,
        platform: pulled.platform.unwrap_or_default().to_owned(),
        auth: auth_for(pulled.name)?,
        signature_policy: pulled.policy.map(str::to_owned),
    };
    match place {
        Where::Stdout { quiet } => {
            if !quiet && !all_tags && bare.is_name_only() {
                print_line("Using default tag: latest")?;
            }
            if quiet {
                docker.image_pull(&wanted, &Quiet)?;
            } else {
                docker.image_pull(&wanted, &Display::on_stdout())?;
            }
            print_line(&transfer::in_full(&reference))
        }
        Where::Stderr { quiet: true } => docker.image_pull(&wanted, &Quiet),
        Where::Stderr { quiet: false } => docker.image_pull(&wanted, &Display::on_stderr()),
    }
}

/// Pushes at the daemon.
///
/// # Errors
/// What it and the registry say.
pub fn push(docker: &dyn Docker, flags: &Parsed) -> Outcome {
    let given = Reference::parse_untagged(&flags.args[0])?;
    if given.digest().is_some() {
        return Err(Error::invalid("cannot push a digest reference").into());
    }
    let (quiet, all) = (flags.on("quiet"), flags.on("all-tags"));
    if all && given.tag().is_some() {
        return Err(Error::invalid("tag can't be used with --all-tags/-a").into());
    }
    if !all && given.tag().is_none() && !quiet {
        print_line("Using default tag: latest")?;
    }
    let reference = if all { given.clone() } else { given.clone().or_latest() };
    let text = reference.familiar();
    let (name, tag) = apart(&text);
    let wanted = PushImage {
        name: name.to_owned(),
        tag: tag.to_owned(),
        platform: flags.text("platform").to_owned(),
        auth: auth_for(&flags.args[0])?,
    };
    if quiet {
        docker.image_push(&wanted, &Quiet)?;
        print_line(&transfer::in_full(&reference))?;
    } else {
        docker.image_push(&wanted, &Display::on_stdout())?;
    }
    Ok(0)
}

fn platforms(flags: &Parsed) -> Vec<String> {
    flags.given("platform").filter(|p| !p.is_empty()).map(str::to_owned).into_iter().collect()
}

/// Loads at the daemon.
///
/// # Errors
/// A file that cannot be read; what the daemon says.
pub fn load(docker: &dyn Docker, flags: &Parsed) -> Outcome {
    let mut input: Box<dyn Read + Send> = match flags.given("input") {
        Some(path) if path != "-" => Box::new(File::open(path).about(|| path.to_owned())?),
        _ if terminal::stdin_is_terminal() => {
            return Err(Error::invalid("requested load from stdin, but stdin is empty")
                .with_hint("name a file: fluyt load -i FILE")
                .into());
        }
        _ => Box::new(stdin()),
    };
    // Which images came is told even when the rest is not.
    let quiet = flags.on("quiet") || !terminal::stdout_is_terminal();
    docker.image_load(&mut *input, &platforms(flags), quiet, &Display::on_stdout())?;
    Ok(0)
}

/// Saves from the daemon.
///
/// # Errors
/// What the daemon says; a file that cannot be written.
pub fn save(docker: &dyn Docker, flags: &Parsed) -> Outcome {
    to_output(flags.given("output"), |out| docker.image_save(&flags.args, &platforms(flags))?(out))?;
    Ok(0)
}

/// Imports at the daemon.
///
/// # Errors
/// A file that cannot be read; what the daemon says.
pub fn import(docker: &dyn Docker, flags: &Parsed) -> Outcome {
    let source = flags.args[0].as_str();
    let url = source.starts_with("http://") || source.starts_with("https://");
    let (repository, tag) = flags.args.get(1).map_or(("", ""), |name| apart(name));
    let message = flags.given("message").map_or_else(|| format!("Imported from {source}"), str::to_owned);
    let wanted = ImportImage {
        url: if url { source.to_owned() } else { String::new() },
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        message,
        changes: flags.list("change"),
        platform: flags.text("platform").to_owned(),
    };
    let mut input: Box<dyn Read + Send> = match source {
        _ if url => Box::new(std::io::empty()),
        "-" => Box::new(stdin()),
        path => Box::new(File::open(path).about(|| path.to_owned())?),
    };
    print_line(&docker.image_import(&wanted, &mut *input, &Quiet)?)?;
    Ok(0)
}

/// Shows messages: on a terminal one line for each thing, which changes; elsewhere the lines that stay.
pub struct Display {
    state: Mutex<State>,
}

struct State {
    out: Box<dyn Write + Send>,
    terminal: bool,
    /// Which line a thing has, counted from the first; and how many there are.
    lines: HashMap<String, usize>,
    count: usize,
}

impl Display {
    /// On standard output.
    pub fn on_stdout() -> Self {
        Self::over(Box::new(stdout()), stdout().is_terminal())
    }

    /// On standard error.
    pub fn on_stderr() -> Self {
        Self::over(Box::new(stderr()), stderr().is_terminal())
    }

    fn over(out: Box<dyn Write + Send>, terminal: bool) -> Self {
        Self { state: Mutex::new(State { out, terminal, lines: HashMap::new(), count: 0 }) }
    }
}

impl Progress for Display {
    fn tell(&self, message: ProgressMessage) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.show(&message).about(|| "standard output")
    }
}

impl State {
    fn show(&mut self, message: &ProgressMessage) -> std::io::Result<()> {
        if !message.stream.is_empty() {
            self.start_over();
            self.out.write_all(message.stream.as_bytes())?;
            return self.out.flush();
        }
        let bar = bar_of(message);
        if message.status.is_empty() || (!self.terminal && !bar.is_empty()) {
            return Ok(());
        }
        let id = &message.id;
        let text = match (id.is_empty(), bar.is_empty()) {
            (true, true) => message.status.clone(),
            (true, false) => format!("{} {bar}", message.status),
            (false, true) => format!("{id}: {}", message.status),
            (false, false) => format!("{id}: {} {bar}", message.status),
        };
        if !self.terminal || id.is_empty() {
            self.start_over();
            writeln!(self.out, "{text}")?;
        } else if let Some(line) = self.lines.get(id) {
            let up = self.count - line;
            write!(self.out, "\x1b[{up}A\x1b[2K\r{text}\x1b[{up}B\r")?;
        } else {
            self.lines.insert(id.clone(), self.count);
            self.count += 1;
            writeln!(self.out, "{text}")?;
        }
        self.out.flush()
    }

    /// Lines above what does not belong to one thing stay as they are.
    fn start_over(&mut self) {
        self.lines.clear();
        self.count = 0;
    }
}

/// How far something has come, if it is known.
fn bar_of(message: &ProgressMessage) -> String {
    let Some(detail) = message.detail.filter(|d| d.current > 0 || d.total > 0) else {
        return message.progress.clone();
    };
    let current = human_size_with(detail.current as f64, 4);
    if detail.total == 0 || detail.current > detail.total {
        return format!("{current:>8}");
    }
    let filled = usize::try_from(detail.current * 50 / detail.total).unwrap_or(50).min(50);
    let total = human_size_with(detail.total as f64, 4);
    let head = if filled < 50 { ">" } else { "" };
    let blank = " ".repeat(50 - filled - head.len());
    format!("[{}{head}{blank}]  {current:>8}/{total}", "=".repeat(filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fluyt_docker_api::api::ProgressDetail;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(terminal: bool) -> String {
        let seen = Seen::default();
        let display = Display::over(Box::new(seen.clone()), terminal);
        let status = |id: &str, status: &str, detail: Option<(u64, u64)>| ProgressMessage {
            id: id.to_owned(),
            status: status.to_owned(),
            detail: detail.map(|(current, total)| ProgressDetail { current, total }),
            ..ProgressMessage::default()
        };
        display.tell(status("a", "Waiting", None)).unwrap();
        display.tell(status("b", "Waiting", None)).unwrap();
        display.tell(status("a", "Downloading", Some((50, 100)))).unwrap();
        display.tell(status("", "Done", None)).unwrap();
        let bytes = seen.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_stay_apart_from_bars() {
        assert_eq!(shown(false), "a: Waiting\nb: Waiting\nDone\n");
        let text = shown(true);
        assert!(text.contains("\x1b[2A\x1b[2K\ra: Downloading [=========================>"), "{text:?}");
    }
}
