//! `cargo xtask demo`: the main job from end to end on real input. Builds the program, makes an image from Debian's nginx
//! package, runs it as a container behind a published port, asks it for a page, shows its logs, removes it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fluyt_testkit::{debian, wait};

use crate::{Failure, Result, packages, repository, suite};

/// What the container runs: nginx in the foreground, its access log on stdout as containers do it.
const SERVER: &str = "echo 'Hello from a container.' > /var/www/html/index.html; \
                      ln -sf /dev/stdout /var/log/nginx/access.log; \
                      exec nginx -g 'daemon off; error_log stderr notice;'";

/// Runs the demonstration; `--keep` leaves the container running.
///
/// # Errors
/// The first step that fails, with what it said.
pub fn main(arguments: &[String]) -> Result<i32> {
    let keep = match arguments {
        [] => false,
        [flag] if flag == "--keep" => true,
        _ => return Err(Failure::new("usage: cargo xtask demo [--keep]")),
    };
    let missing: Vec<&str> = packages::missing()
        .into_iter()
        .filter(|p| ["gcc", "libc6-dev", "debootstrap", "util-linux"].contains(p))
        .collect();
    if !missing.is_empty() {
        let names = missing.join(" ");
        return Err(Failure::new(format!("missing: {names} (apt-get install -y {names})")));
    }
    if !fluyt_testkit::is_root() {
        return Err(Failure::new("containers need root here: run it as root (sudo -E cargo xtask demo)"));
    }
    let root = repository()?;
    let program = build(&root)?;
    println!("== an image from Debian's nginx package (debootstrap; kept for the next time)");
    let archive =
        debian::root_file_system(&["nginx-light"]).ok_or_else(|| Failure::new("no image to run"))?;
    let fluyt = Fluyt { program, root: root.join("target/demo") };
    let _ = fluyt.quiet(&["rm", "-f", "demo"]);
    fluyt.show(&["import", "-c", "EXPOSE 80", &archive.to_string_lossy(), "demo/nginx"])?;

    let port = wait::free_port();
    let publish = format!("127.0.0.1:{port}:80");
    fluyt.show(&["run", "-d", "--name", "demo", "-p", &publish, "demo/nginx", "sh", "-c", SERVER])?;
    let answer = ask(&format!("127.0.0.1:{port}"));
    if let Some(answer) = &answer {
        println!("== http://127.0.0.1:{port}/\n{}", answer.trim_end());
    }
    fluyt.show(&["ps"])?;
    fluyt.show(&["logs", "demo"])?;
    if answer.is_none() {
        return Err(Failure::new(format!("nothing answers on 127.0.0.1:{port}")));
    }
    if keep {
        println!("== still running: curl http://127.0.0.1:{port}/ ; {} rm -f demo", fluyt.line());
    } else {
        fluyt.show(&["stop", "demo"])?;
        fluyt.show(&["rm", "demo"])?;
    }
    println!("== done");
    Ok(0)
}

/// The page, within ten seconds.
fn ask(address: &str) -> Option<String> {
    for _ in 0..100 {
        if let Some(answer) = wait::http_get(address, "/").filter(|a| a.contains("200 OK")) {
            return Some(answer);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

/// Builds the program with the profile that is nearly as fast as `release` and builds in a fraction of its time.
fn build(root: &Path) -> Result<PathBuf> {
    println!("== building (cargo build --profile fast)");
    suite::program(root, "fluyt", "fast")
}

/// The program on the demonstration's own data root.
struct Fluyt {
    program: PathBuf,
    root: PathBuf,
}

impl Fluyt {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(words).stdin(Stdio::null());
        command
    }

    fn line(&self) -> String {
        format!("{} --root {}", self.program.display(), self.root.display())
    }

    /// Prints the command, runs it, lets it print.
    fn show(&self, words: &[&str]) -> Result<()> {
        println!("== fluyt {}", words.join(" "));
        let status = self.command(words).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(format!("fluyt {} ended with {status}", words[0]))),
            Err(e) => Err(Failure::new(format!("{}: {e}", self.program.display()))),
        }
    }

    fn quiet(&self, words: &[&str]) -> bool {
        self.command(words).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    }
}
