//! The fluyt binary: which role this process plays.
//!
//! The role is chosen from the program's name and the first argument before anything is parsed, so that the hot roles
//! pay for nothing that only the command line needs.
#![forbid(unsafe_code)]

mod buildkit;
mod cli;
mod quadlet;
mod runtime_cli;

use std::os::unix::ffi::OsStrExt;

fn main() {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    std::process::exit(run(&args));
}

fn run(args: &[String]) -> i32 {
    let name = args.first().map(std::path::Path::new).and_then(std::path::Path::file_name);
    if name.is_some_and(|n| n.as_bytes() == b"fluyt-runc") {
        return runtime_cli::main(&args[1..]);
    }
    if name.is_some_and(|n| n.as_bytes() == fluyt_monitor::pid1::NAME.as_bytes()) {
        return fluyt_monitor::pid1::main(&args[1..]);
    }
    if name.is_some_and(|n| n.as_bytes() == buildkit::credentials::NAME.as_bytes()) {
        return buildkit::credentials::main(&args[1..]);
    }
    if let Some(user) = name.and_then(|n| quadlet::role(n.to_str()?)) {
        return quadlet::main(user, &args[1..]);
    }
    match args.get(1).map(String::as_str) {
        Some("monitor") => fluyt_monitor::main(&args[2..]),
        Some("attend") => fluyt_engine::attend(),
        Some("step") => fluyt_monitor::step::main(),
        Some(buildkit::hidden::ROLE) => buildkit::hidden::main(&args[2..]),
        Some("runtime") => runtime_cli::main(&args[2..]),
        _ => cli::main(std::env::args_os().skip(1)),
    }
}
