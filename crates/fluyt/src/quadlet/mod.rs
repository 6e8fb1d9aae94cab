//! The systemd generator: called by systemd at boot and at `daemon-reload` under the name `fluyt-system-generator` or
//! `fluyt-user-generator`, it writes the services of the Quadlet units (systemd.generator(7), podman-systemd.unit(5)).
//!
//! It runs before almost everything else: it opens no data root, speaks to nobody and reads nothing but units. What there
//! is to say goes to the kernel's log, as nothing else takes it then.

mod disk;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_quadlet::find::{self, Whose};
use fluyt_quadlet::{Options, Service};

pub use disk::Disk;

/// Names of the generator.
const NAMES: [(&str, bool); 2] = [("fluyt-system-generator", false), ("fluyt-user-generator", true)];

/// Whether the program was called as a generator; then, whether as a user's.
pub fn role(name: &str) -> Option<bool> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, user)| *user)
}

/// The program that services call. Where the generator is a copy and no link, it is taken to be in its usual place.
pub fn program() -> String {
    let own = std::env::current_exe().unwrap_or_default();
    let name = own.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match own.to_str() {
        Some(path) if !name.is_empty() && role(name).is_none() && !name.ends_with(" (deleted)") => {
            path.to_owned()
        }
        _ => "/usr/bin/fluyt".to_owned(),
    }
}

/// Whose units: the system's, or those of the user who runs this.
pub fn whose(user: bool) -> Whose {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Whose {
        user: user.then(|| rustix::process::getuid().as_raw()),
        directories: std::env::var("QUADLET_UNIT_DIRS").ok(),
        runtime: path("XDG_RUNTIME_DIR"),
        config: path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config"))),
    }
}

/// What the generator was asked for.
#[derive(Default)]
struct Asked {
    user: bool,
    dry_run: bool,
    verbose: bool,
    no_kernel_log: bool,
    version: bool,
    output: Option<PathBuf>,
}

/// Runs the generator; its exit code.
pub fn main(user: bool, args: &[String]) -> i32 {
    let mut asked = Asked { user, ..Asked::default() };
    for arg in args {
        match arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) {
            Some("dryrun" | "dry-run") => asked.dry_run = true,
            Some("user") => asked.user = true,
            Some("v" | "verbose") => asked.verbose = true,
            Some("no-kmsg-log") => asked.no_kernel_log = true,
            Some("version") => asked.version = true,
            Some(_) => {
                eprintln!(
                    "fluyt: unknown flag {arg}: the generator has --dryrun, --user, --no-kmsg-log, -v, --version"
                );
                return 2;
            }
            // The directories for early and late services follow; ours go between.
            None if asked.output.is_none() => asked.output = Some(PathBuf::from(arg)),
            None => {}
        }
    }
    if asked.version {
        println!("{}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    let mut log = Log::new(&asked);
    if !generate(&asked, &mut log) {
        log.say("processing encountered some errors");
        return 1;
    }
    0
}

/// Makes the services; whether all went well.
fn generate(asked: &Asked, log: &mut Log) -> bool {
    let output = match (&asked.output, asked.dry_run) {
        (_, true) => None,
        (Some(path), false) => Some(path),
        (None, false) => {
            log.say("missing output directory argument");
            return false;
        }
    };
    let directories = match find::directories(&Disk, &whose(asked.user)) {
        Ok(directories) => directories,
        Err(error) => {
            log.error(&error);
            return false;
        }
    };
    let (units, wrong) = find::units(&Disk, &directories);
    wrong.iter().for_each(|error| log.error(error));
    for unit in &units {
        log.detail(&format!("Loading source unit file {}", unit.path));
    }
    if units.is_empty() {
        let places: Vec<_> = directories.iter().map(|path| path.display().to_string()).collect();
        log.detail(&format!("No files parsed from [{}]", places.join(" ")));
        return wrong.is_empty();
    }
    let mut well = wrong.is_empty();
    let program = program();
    let options = Options { program: &program, user: asked.user, machine: &Disk };
    for made in fluyt_quadlet::generate(&units, &options) {
        made.warnings.iter().for_each(|warning| log.say(warning));
        let name = made.name;
        let written =
            made.service.map_err(|e| e.context(format!("converting {name:?}"))).and_then(|service| {
                match output {
                    None => crate::cli::print_text(&shown(&service)),
                    Some(output) => write(output, &service),
                }
            });
        if let Err(error) = written {
            log.error(&error);
            well = false;
        }
    }
    well
}

/// A service as a dry run shows it.
pub fn shown(service: &Service) -> String {
    format!("---{}---\n{}\n", service.unit.name, service.unit.to_text())
}

/// Writes a service and its links.
///
/// # Errors
/// A file that cannot be written.
pub fn write(output: &Path, service: &Service) -> Result<()> {
    std::fs::create_dir_all(output).about(|| output.display().to_string())?;
    let path = output.join(&service.unit.name);
    let text =
        format!("# Made by {} of the unit that SourcePath= names.\n\n{}", NAMES[0].0, service.unit.to_text());
    std::fs::write(&path, text).about(|| path.display().to_string())?;
    for link in &service.links {
        let at = output.join(&link.at);
        let about = || at.display().to_string();
        if let Some(directory) = at.parent() {
            std::fs::create_dir_all(directory).about(about)?;
        }
        match std::fs::remove_file(&at) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(about(), error));
            }
            _ => {}
        }
        std::os::unix::fs::symlink(&link.target, &at).about(about)?;
    }
    Ok(())
}

/// Where the generator says something: the kernel's log, else standard error.
struct Log {
    kernel: Option<File>,
    verbose: bool,
}

impl Log {
    fn new(asked: &Asked) -> Self {
        let kernel = !(asked.no_kernel_log || asked.dry_run);
        let kernel = kernel.then(|| File::options().write(true).open("/dev/kmsg").ok()).flatten();
        Self { kernel, verbose: asked.verbose || asked.dry_run }
    }

    fn say(&mut self, text: &str) {
        let line = format!("fluyt-generator[{}]: {text}\n", std::process::id());
        if let Some(kernel) = &mut self.kernel
            && kernel.write_all(line.as_bytes()).is_ok()
        {
            return;
        }
        self.kernel = None;
        // Nobody is left to be told.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn detail(&mut self, text: &str) {
        if self.verbose {
            self.say(text);
        }
    }

    fn error(&mut self, error: &Error) {
        match error.hint() {
            Some(hint) => self.say(&format!("{}; {hint}", error.chain())),
            None => self.say(&error.chain()),
        }
    }
}
