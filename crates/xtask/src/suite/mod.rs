//! `cargo xtask test`: everything that must hold, in one command, with one summary as its last line.
//!
//! Builds once; runs every test of the workspace in a PID namespace of its own, so that orphans are reaped at once and
//! nothing outlives the run; runs the suites that touch the kernel again on a machine with cgroup v2 alone; checks the
//! format and clippy.

mod build;
mod kernel;
mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use build::program;

use crate::{Failure, Result, packages, repository, vm};
use build::{Binary, Built};
use run::{Count, Manner};

/// What the user asked for.
#[derive(Clone, Default)]
struct Options {
    vm: bool,
    host: bool,
    lint: bool,
    install: bool,
    packages: Vec<String>,
    filter: String,
    jobs: usize,
}

fn parse(arguments: &[String]) -> Result<Options> {
    let mut options = Options { vm: true, host: true, lint: true, jobs: 2, ..Options::default() };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or_else(|| Failure::new(format!("{word} needs a value")));
        match word.as_str() {
            "--no-vm" => options.vm = false,
            "--vm-only" => (options.host, options.lint) = (false, false),
            "--no-lint" => options.lint = false,
            "--quick" => (options.vm, options.lint) = (false, false),
            "--install" => options.install = true,
            "-p" => options.packages.push(value()?),
            "--jobs" => {
                options.jobs = value()?.parse().map_err(|_| Failure::new("--jobs needs a number"))?;
            }
            flag if flag.starts_with('-') => {
                return Err(Failure::new(format!("unknown flag {flag} (see cargo xtask help)")));
            }
            filter => options.filter = filter.to_owned(),
        }
    }
    Ok(options)
}

/// `cargo xtask test`: 0 when nothing failed.
///
/// # Errors
/// A missing package, or a build that fails.
pub fn main(arguments: &[String]) -> Result<i32> {
    let options = parse(arguments)?;
    if options.install {
        packages::install()?;
    }
    if let Some(complaint) = packages::complaint() {
        return Err(Failure::new(complaint));
    }
    if std::env::var_os("FLUYT_TEST_NAMESPACE").is_none() && in_namespace_works() {
        return in_namespace(arguments);
    }
    let root = repository()?;
    let started = Instant::now();
    let built = build::tests(&root, &options.packages)?;
    println!("built {} test programs in {:.0} s", built.tests.len(), started.elapsed().as_secs_f64());

    let mut count = Count::default();
    if options.host {
        count.add(run_here(&built.tests, &options)?);
    }
    if options.vm {
        count.add(run_in_vm(&built, &options)?);
    }
    if options.lint {
        count.add(lint(&root));
    }
    Ok(summary(&count, started))
}

/// Prints what failed and what was skipped, then the one closing line.
fn summary(count: &Count, started: Instant) -> i32 {
    println!();
    for name in &count.skipped {
        println!("skipped {name}");
    }
    for name in &count.failed {
        println!("FAILED  {name}");
    }
    println!("took {:.0} s", started.elapsed().as_secs_f64());
    println!("{} passed, {} failed, {} skipped", count.passed, count.failed.len(), count.skipped.len());
    i32::from(!count.failed.is_empty())
}

fn run_here(binaries: &[Binary], options: &Options) -> Result<Count> {
    let mut tests = Vec::new();
    for binary in binaries {
        tests.extend(run::list(binary, &options.filter)?);
    }
    let manner = Manner { jobs: options.jobs, timeout: Duration::from_secs(400), label: "" };
    Ok(run::run(tests, &manner))
}

/// Runs the kernel's tests in the machine; one failure of its own when the machine fails.
fn run_in_vm(built: &Built, options: &Options) -> Result<Count> {
    let chosen: Vec<Value> = built
        .tests
        .iter()
        .filter(|b| kernel::CRATES.contains(&b.package.as_str()))
        .map(|b| json!({"package": b.package, "name": b.name, "path": b.path, "directory": b.directory}))
        .collect();
    if chosen.is_empty() {
        return Ok(Count::default());
    }
    let program = this_program(built)?;
    let results = program.with_file_name(format!("vm-results-{}", std::process::id()));
    let list = results.join("binaries.json");
    let fail = |e: std::io::Error| Failure::new(format!("{}: {e}", list.display()));
    fs::create_dir_all(&results).map_err(fail)?;
    fs::write(&list, Value::from(chosen).to_string()).map_err(fail)?;
    let words: Vec<String> =
        [program.as_os_str(), "run-list".as_ref(), list.as_os_str(), options.filter.as_ref()]
            .iter()
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
    let machine = vm::Options {
        results: Some(results.clone()),
        verbose: true,
        timeout: Duration::from_secs(50 * 60),
        ..vm::Options::default()
    };
    let ran = vm::run(&machine, &words);
    let count = fs::read_to_string(results.join("count.json")).ok().and_then(|t| parse_count(&t));
    let _ = fs::remove_dir_all(&results);
    Ok(match (ran, count) {
        (_, Some(count)) => count,
        (outcome, None) => {
            let why = outcome.map_or_else(|e| e.to_string(), |code| format!("exit code {code}"));
            println!("FAIL the cgroup v2 machine: {why}");
            Count { failed: vec!["the cgroup v2 machine".to_owned()], ..Count::default() }
        }
    })
}

/// The executable of this tool: the one just built, since the build may have replaced the running one.
fn this_program(built: &Built) -> Result<PathBuf> {
    match built.programs.get("fluyt-xtask") {
        Some(path) => Ok(path.clone()),
        None => std::env::current_exe().map_err(|e| Failure::new(format!("this program: {e}"))),
    }
}

/// `cargo xtask run-list FILE [FILTER]`: the part that runs inside the machine.
///
/// # Errors
/// The list cannot be read, or the results not be written.
pub fn run_list(arguments: &[String]) -> Result<i32> {
    let file = arguments.first().ok_or_else(|| Failure::new("run-list needs a file"))?;
    let filter = arguments.get(1).map_or("", String::as_str);
    let text = fs::read_to_string(file).map_err(|e| Failure::new(format!("{file}: {e}")))?;
    let list: Vec<Value> = serde_json::from_str(&text).map_err(|e| Failure::new(format!("{file}: {e}")))?;
    let mut tests = Vec::new();
    for entry in &list {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let binary = Binary {
            package: text("package"),
            name: text("name"),
            path: PathBuf::from(text("path")),
            directory: PathBuf::from(text("directory")),
        };
        tests.extend(run::list(&binary, filter)?.into_iter().filter(|t| kernel::is_chosen(&t.title())));
    }
    // Emulation is an order of magnitude slower.
    let manner = Manner { jobs: 2, timeout: Duration::from_secs(600), label: "cgroup2: " };
    let count = run::run(tests, &manner);
    let document = json!({"passed": count.passed, "failed": count.failed, "skipped": count.skipped});
    let results = Path::new("/run/fluyt-vm/results/count.json");
    fs::write(results, document.to_string())
        .map_err(|e| Failure::new(format!("{}: {e}", results.display())))?;
    Ok(i32::from(!count.failed.is_empty()))
}

fn parse_count(text: &str) -> Option<Count> {
    let document: Value = serde_json::from_str(text).ok()?;
    let names = |key: &str| -> Option<Vec<String>> {
        document[key].as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let passed = usize::try_from(document["passed"].as_u64()?).ok()?;
    Some(Count { passed, failed: names("failed")?, skipped: names("skipped")? })
}

/// The format and clippy, each counted as one test.
fn lint(root: &Path) -> Count {
    let checks: [(&str, &[&str]); 2] = [
        ("cargo fmt --check", &["fmt", "--all", "--check"]),
        ("cargo clippy", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ];
    let mut count = Count::default();
    for (name, arguments) in checks {
        let status = build::cargo().args(arguments).current_dir(root).stdin(Stdio::null()).status();
        if status.is_ok_and(|s| s.success()) {
            println!("pass {name}");
            count.passed += 1;
        } else {
            println!("FAIL {name}");
            count.failed.push(name.to_owned());
        }
    }
    count
}

/// Whether this user may make a PID namespace.
fn in_namespace_works() -> bool {
    let probe = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|s| s.success())
}

/// Runs this command again inside a PID namespace whose first process is a shell that waits: it reaps every orphan,
/// and when it ends the kernel kills what is left.
fn in_namespace(arguments: &[String]) -> Result<i32> {
    let program = std::env::current_exe().map_err(|e| Failure::new(format!("this program: {e}")))?;
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child=KILL", "sh", "-c"])
        .args(["\"$@\" & wait $!", "reaper"])
        .arg(program)
        .arg("test")
        .args(arguments)
        .env("FLUYT_TEST_NAMESPACE", "1")
        .stdin(Stdio::null())
        .status()
        .map_err(|e| Failure::new(format!("unshare: {e}: apt-get install util-linux")))?;
    Ok(status.code().unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_select_parts() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let quick = parse(&words("--quick -p net bridge")).expect("parsed");
        assert!(
            !quick.vm && !quick.lint && quick.host && quick.packages == ["net"] && quick.filter == "bridge"
        );
        let vm = parse(&words("--vm-only --jobs 4")).expect("parsed");
        assert!(vm.vm && !vm.host && vm.jobs == 4);
        assert!(parse(&words("--nonsense")).is_err());
    }

    #[test]
    fn a_count_survives_its_file() {
        let count = parse_count(r#"{"passed": 3, "failed": ["a"], "skipped": []}"#).expect("parsed");
        assert_eq!((count.passed, count.failed.len(), count.skipped.len()), (3, 1, 0));
        assert!(parse_count("{}").is_none());
    }
}
