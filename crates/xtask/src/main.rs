//! `cargo xtask COMMAND`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use fluyt_xtask::{Result, demo, packages, suite, tidy, vm};

const USAGE: &str = "\
usage: cargo xtask COMMAND
  demo [--keep]           builds the program and runs a real server in a container
  setup                   installs the Debian packages that the other commands need (as root)
  test [FLAGS] [FILTER]   builds and runs every test, here and on a cgroup v2 machine, and the lints
      -p CRATE --jobs N --quick (no machine, no lints) --no-vm --vm-only --no-lint --install
  tidy                    checks the rules of this repository
  vm [FLAGS] -- COMMAND…  runs a command on a virtual machine that has cgroup v2 alone
      --memory MIB --cpus N --timeout SECONDS --accel auto|kvm|tcg --results DIR --quiet
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(e) => {
            eprintln!("xtask: {e}");
            ExitCode::from(125)
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<i32> {
    match arguments.split_first() {
        Some((command, rest)) if command == "demo" => demo::main(rest),
        Some((command, rest)) if command == "test" => suite::main(rest),
        Some((command, rest)) if command == "run-list" => suite::run_list(rest),
        Some((command, _)) if command == "setup" => packages::install().map(|()| 0),
        Some((command, _)) if command == "tidy" => tidy::main(),
        Some((command, rest)) if command == "vm" => vm::main(rest),
        Some((command, _)) if command == "help" || command == "--help" => {
            print!("{USAGE}");
            Ok(0)
        }
        _ => {
            eprint!("{USAGE}");
            Ok(125)
        }
    }
}
