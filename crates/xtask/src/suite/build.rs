//! Builds every test executable of the workspace once and says where they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{Failure, Result};

/// A test executable.
#[derive(Clone, Debug)]
pub struct Binary {
    /// The crate it tests, without the `fluyt-` prefix: `runtime`.
    pub package: String,
    /// `runtime` for unit tests, `runtime::cases` for the integration test `cases`.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// The directory it expects to run in: its package's.
    pub directory: PathBuf,
}

/// What a build yields.
pub struct Built {
    /// The tests.
    pub tests: Vec<Binary>,
    /// Ordinary executables by name (`fluyt`, `fluyt-xtask`).
    pub programs: BTreeMap<String, PathBuf>,
}

/// The cargo that runs us, else the one on PATH.
pub fn cargo() -> Command {
    Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
}

/// Builds the tests of the packages named (all, if none).
///
/// # Errors
/// The build fails; cargo has said why.
pub fn tests(root: &Path, packages: &[String]) -> Result<Built> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--message-format=json-render-diagnostics"]).current_dir(root);
    if packages.is_empty() {
        command.arg("--workspace");
    }
    for package in packages {
        command.args(["-p", &full_name(package)]);
    }
    built(&mut command)
}

/// Runs cargo and collects the executables that it names.
fn built(command: &mut Command) -> Result<Built> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure::new(format!("cargo: {e}")))?;
    if !output.status.success() {
        return Err(Failure::new("the build failed"));
    }
    let mut built = Built { tests: Vec::new(), programs: BTreeMap::new() };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Ok(message) = serde_json::from_str::<Value>(line) {
            collect(&message, &mut built);
        }
    }
    built.tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(built)
}

/// Builds one program with a profile; its executable.
///
/// # Errors
/// The build fails; cargo has said why.
pub fn program(root: &Path, package: &str, profile: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--profile", profile, "-p", &full_name(package)]);
    let built = built(command.arg("--message-format=json-render-diagnostics").current_dir(root))?;
    let path = built.programs.get(package).cloned();
    path.ok_or_else(|| Failure::new(format!("cargo built no program named {package}")))
}

/// `runtime` is the package `fluyt-runtime`; the binary's package is `fluyt`.
fn full_name(package: &str) -> String {
    if package == "fluyt" || package.starts_with("fluyt-") {
        package.to_owned()
    } else {
        format!("fluyt-{package}")
    }
}

/// Notes the executable of one of cargo's messages, if it has one.
fn collect(message: &Value, built: &mut Built) {
    let (Some(executable), Some(manifest)) =
        (message["executable"].as_str(), message["manifest_path"].as_str())
    else {
        return;
    };
    let directory = Path::new(manifest).parent().unwrap_or(Path::new("/")).to_path_buf();
    let package = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let target = message["target"]["name"].as_str().unwrap_or_default();
    let kind = message["target"]["kind"][0].as_str().unwrap_or_default();
    if message["profile"]["test"] == true {
        let name = if kind == "test" { format!("{package}::{target}") } else { package.clone() };
        built.tests.push(Binary { package, name, path: PathBuf::from(executable), directory });
    } else {
        built.programs.insert(target.to_owned(), PathBuf::from(executable));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_programs_are_told_apart() {
        let mut built = Built { tests: Vec::new(), programs: BTreeMap::new() };
        for (test, kind, target) in
            [(true, "test", "cases"), (true, "lib", "fluyt_net"), (false, "bin", "fluyt")]
        {
            let message = serde_json::json!({"executable": "/t/x", "manifest_path": "/r/crates/net/Cargo.toml",
                "profile": {"test": test}, "target": {"name": target, "kind": [kind]}});
            collect(&message, &mut built);
        }
        let names: Vec<&str> = built.tests.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["net::cases", "net"]);
        assert_eq!(built.programs["fluyt"], Path::new("/t/x"));
    }
}
