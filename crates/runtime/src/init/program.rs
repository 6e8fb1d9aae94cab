//! Finding the program inside the container and becoming it.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fluyt_model::error::{Error, IoContext, Kind, Result};
use fluyt_sys::task::Program;
use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;

use crate::spec::Process;

/// A program that has been found, ready to be executed.
pub(crate) struct Target {
    path: CString,
    program: Program,
    name: String,
}

/// Looks the program up as the user that this process is by now, and checks that it can be executed.
pub(crate) fn find(process: &Process) -> Result<Target> {
    let name = process.args.first().ok_or_else(|| Error::invalid("process.args is empty"))?;
    let path = if name.contains('/') { direct(name)? } else { search(name, &process.env)? };
    let env = environment(process);
    let program = Program::new(&process.args, &env).about(|| "process.args or process.env")?;
    let path =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid("process.args[0] has a NUL"))?;
    Ok(Target { path, program, name: name.clone() })
}

impl Target {
    /// Executes it. Returns only with an error.
    pub(crate) fn exec(&self) -> Error {
        let e = self.program.exec(&self.path);
        let path = self.path.to_string_lossy();
        let text = reason(&e);
        match e.raw_os_error().map(Errno::from_raw_os_error) {
            // The file is there, so its interpreter is not.
            Some(Errno::NOENT) => {
                Error::new(Kind::CommandNotFound, format!("exec {path}: no such file or directory"))
                    .with_hint("the file exists; the interpreter or loader that it names does not")
            }
            Some(Errno::ACCESS | Errno::NOEXEC | Errno::PERM | Errno::ISDIR) => {
                Error::new(Kind::CommandNotExecutable, format!("exec {path}: {text}"))
            }
            _ => Error::io(format!("exec {:?}", self.name), e),
        }
    }
}

/// The words of an errno without Rust's decoration, first letter small, as Docker's users know them.
fn reason(e: &std::io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

fn direct(name: &str) -> Result<PathBuf> {
    match check(Path::new(name)) {
        Ok(()) => Ok(PathBuf::from(name)),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(Error::new(
            Kind::CommandNotFound,
            format!("exec: {name:?}: stat {name}: no such file or directory"),
        )),
        Err(Errno::ISDIR) => {
            Err(Error::new(Kind::CommandNotExecutable, format!("exec: {name:?}: is a directory")))
        }
        Err(Errno::ACCESS) => {
            Err(Error::new(Kind::CommandNotExecutable, format!("exec: {name:?}: permission denied")))
        }
        Err(e) => Err(Error::io(format!("exec: {name:?}"), e.into())),
    }
}

fn search(name: &str, env: &[String]) -> Result<PathBuf> {
    let path = env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or("");
    let mut forbidden = false;
    for dir in path.split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => forbidden = true,
            Err(_) => {}
        }
    }
    if forbidden {
        return Err(Error::new(Kind::CommandNotExecutable, format!("exec: {name:?}: permission denied")));
    }
    Err(Error::new(Kind::CommandNotFound, format!("exec: {name:?}: executable file not found in $PATH")))
}

fn check(path: &Path) -> std::result::Result<(), Errno> {
    // The call without flags is the one that old filters know. It forgets the capabilities of a user who is not root,
    // so a refusal is asked about once more.
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).map_err(|_| Errno::ACCESS)?
        }
        other => other?,
    }
    match FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode) {
        FileType::Directory => Err(Errno::ISDIR),
        _ => Ok(()),
    }
}

/// `process.env` with each name once, the last one counting, and HOME from the container's user database if it is
/// missing or empty.
pub(crate) fn environment(process: &Process) -> Vec<String> {
    let mut env: Vec<String> = Vec::with_capacity(process.env.len() + 1);
    let mut names: Vec<&str> = Vec::with_capacity(process.env.len());
    for entry in process.env.iter().rev() {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        if names.contains(&name) {
            continue;
        }
        names.push(name);
        if entry != "HOME=" {
            env.push(entry.clone());
        }
    }
    env.reverse();
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", home(process.user.uid)));
    }
    env
}

fn home(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut fields = text.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let uid = uid.to_string();
    let found = fields.find(|f| f.len() > 5 && f[2] == uid).map(|f| f[5].to_owned());
    found.filter(|h| !h.is_empty()).unwrap_or_else(|| "/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(list: &[&str]) -> Vec<String> {
        let env = list.iter().map(|s| (*s).to_owned()).collect();
        environment(&Process { env, ..Process::default() })
    }

    #[test]
    fn the_last_value_of_a_name_counts_and_an_empty_home_is_none() {
        assert_eq!(env(&["A=1", "B=2", "A=3", "HOME=/h"]), ["B=2", "A=3", "HOME=/h"]);
        let [_, _, home] = env(&["HOME=/x", "HOME=", "AB=1", "A=2"]).try_into().expect("three");
        assert_ne!(home, "HOME=/x");
        assert!(home.len() > "HOME=".len(), "{home}");
    }
}
