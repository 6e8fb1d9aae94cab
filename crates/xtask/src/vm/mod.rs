//! `cargo xtask vm -- COMMAND…`: runs one command on a machine with cgroup v2 alone.
//!
//! Debian's cloud kernel boots under qemu; its root is this machine's, shared read-only by virtiofs under an overlay on
//! a scratch disk, so every program and the repository are where they are here, and nothing written there arrives
//! here. Output is streamed, the exit code is the command's. There is no network but what the command makes.

mod guest;
mod initramfs;
mod machine;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Failure, Result};
use machine::{Accelerator, Machine};

/// What the guest is given.
pub struct Options {
    /// Memory in MiB.
    pub memory: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// The machine is killed after this time.
    pub timeout: Duration,
    /// `None`: KVM where a boot under it works, emulation else.
    pub accelerator: Option<Accelerator>,
    /// Copies what the command left in `/run/fluyt-vm/results` to this directory.
    pub results: Option<PathBuf>,
    /// Tells how long the machine took.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: 3072,
            cpus: 2,
            timeout: Duration::from_secs(30 * 60),
            accelerator: None,
            results: None,
            verbose: false,
        }
    }
}

/// Environment variables that the guest's command inherits.
const INHERITED: [&str; 6] = ["PATH", "HOME", "TERM", "LANG", "RUST_BACKTRACE", "CI"];

/// Parses `cargo xtask vm`'s words and runs the command.
///
/// # Errors
/// A bad flag, a missing package, or a machine that does not come up.
pub fn main(arguments: &[String]) -> Result<i32> {
    let mut options = Options { verbose: true, ..Options::default() };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value =
            |what: &str| words.next().cloned().ok_or_else(|| Failure::new(format!("{what} needs a value")));
        match word.as_str() {
            "--" => {
                let command: Vec<String> = words.cloned().collect();
                return run(&options, &command);
            }
            "--memory" => options.memory = number(&value("--memory")?)?,
            "--cpus" => options.cpus = number(&value("--cpus")?)?,
            "--timeout" => options.timeout = Duration::from_secs(u64::from(number(&value("--timeout")?)?)),
            "--accel" => options.accelerator = Accelerator::parse(&value("--accel")?)?,
            "--results" => options.results = Some(PathBuf::from(value("--results")?)),
            "--quiet" => options.verbose = false,
            other => return Err(Failure::new(format!("unknown flag {other} (see cargo xtask help)"))),
        }
    }
    Err(Failure::new("no command: cargo xtask vm [FLAGS] -- COMMAND [ARGUMENTS]"))
}

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| Failure::new(format!("{text:?} is not a number")))
}

/// Boots, runs `command` in the present directory, powers off; the command's exit code.
///
/// # Errors
/// A missing package (named), a machine that does not boot, or the time-out.
pub fn run(options: &Options, command: &[String]) -> Result<i32> {
    if command.is_empty() {
        return Err(Failure::new("no command: cargo xtask vm [FLAGS] -- COMMAND [ARGUMENTS]"));
    }
    let scratch = Scratch::new()?;
    let kernel = initramfs::find_kernel()?;
    let share = scratch.path.join("share");
    let results = share.join("results");
    fs::create_dir_all(&results).map_err(|e| Failure::new(format!("{}: {e}", results.display())))?;
    let directory = std::env::current_dir().map_err(|e| Failure::new(format!("current directory: {e}")))?;
    let kept = Some(directory.to_string_lossy()).filter(|d| d.starts_with("/tmp/"));
    initramfs::write(&kernel, &guest::init(kept.as_deref()), &scratch.path.join("initramfs"))?;
    let mut environment: Vec<(String, String)> =
        INHERITED.iter().filter_map(|n| std::env::var(n).ok().map(|v| ((*n).to_owned(), v))).collect();
    environment.extend(std::env::vars().filter(|(name, _)| name.starts_with("FLUYT_")));
    environment.push(("FLUYT_VM".to_owned(), "1".to_owned()));
    write(&share.join("session"), &guest::session())?;
    write(&share.join("command"), &guest::command(&directory.to_string_lossy(), &environment, command))?;

    let deadline = Instant::now() + options.timeout;
    let outcome = boot(options, &scratch.path, &kernel, deadline)?;
    if options.verbose {
        eprintln!(
            "vm: {} booted in {:.1} s, ran {:.1} s",
            outcome.accelerator.name(),
            outcome.boot.as_secs_f64(),
            outcome.total.saturating_sub(outcome.boot).as_secs_f64()
        );
    }
    if let Some(target) = &options.results {
        copy_results(&results, target)?;
    }
    match fs::read_to_string(share.join("code")).ok().and_then(|t| t.trim().parse().ok()) {
        Some(code) => Ok(code),
        None => Err(Failure::new(format!(
            "the machine stopped before the command ended; its console said:\n{}",
            tail(&scratch.path.join("console"), 40)
        ))),
    }
}

/// How a run of the machine went.
struct Outcome {
    accelerator: Accelerator,
    boot: Duration,
    total: Duration,
}

/// Tries each accelerator in turn: one whose guest says nothing within its time is not usable here.
fn boot(options: &Options, scratch: &Path, kernel: &initramfs::Kernel, deadline: Instant) -> Result<Outcome> {
    let candidates = match options.accelerator {
        Some(one) => vec![one],
        None if Path::new("/dev/kvm").exists() => vec![Accelerator::Kvm, Accelerator::Emulation],
        None => vec![Accelerator::Emulation],
    };
    let mut last = String::new();
    for accelerator in candidates {
        let started = Instant::now();
        let mut machine = Machine::start(options, scratch, kernel, accelerator)?;
        let patience = if accelerator == Accelerator::Kvm { 5 } else { 180 };
        let alive_by = deadline.min(started + Duration::from_secs(patience));
        if let Some(boot) = machine.wait_for_console(guest::ALIVE, started, alive_by) {
            machine.wait(deadline)?;
            return Ok(Outcome { accelerator, boot, total: started.elapsed() });
        }
        last = format!("{}\n{}", tail(&scratch.join("console"), 20), tail(&scratch.join("qemu.log"), 10));
    }
    Err(Failure::new(format!("the guest did not come up; its console said:\n{last}")))
}

fn copy_results(from: &Path, to: &Path) -> Result<()> {
    let fail = |path: &Path, e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    fs::create_dir_all(to).map_err(|e| fail(to, e))?;
    for entry in fs::read_dir(from).map_err(|e| fail(from, e))?.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_file()) {
            fs::copy(entry.path(), to.join(entry.file_name())).map_err(|e| fail(&entry.path(), e))?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// The last `lines` lines of a file, as far as it can be read.
fn tail(path: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A directory of this process under the system's temporary directory, removed when dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Self> {
        let base = std::env::temp_dir();
        remove_stale(&base);
        let path = base.join(format!("fluyt-vm-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what an earlier run that was killed left behind.
fn remove_stale(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("fluyt-vm-") else { continue };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
