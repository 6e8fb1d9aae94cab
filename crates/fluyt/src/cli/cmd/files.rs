//! `top` and `port`.

use fluyt_docker_api::types::PortNumber;
use fluyt_model::Error;

use super::Cli;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Parsed};
use crate::cli::format::tabs;
use crate::cli::{print_line, print_text};

/// `fluyt top`.
pub const TOP: Command = Command {
    name: "top",
    arguments: "CONTAINER [ps OPTIONS]",
    about: "Display the running processes of a container",
    flags: &[],
    arity: Arity::AtLeast(1),
    interspersed: false,
};

/// Runs `fluyt top`.
pub fn top(cli: &Cli, flags: &Parsed) -> Outcome {
    let found = cli.docker()?.container_top(&flags.args[0], &flags.args[1..])?;
    let rows = std::iter::once(&found.titles).chain(&found.processes);
    let lines: Vec<String> = rows.map(|cells| cells.join("\t")).collect();
    print_text(&tabs::align(&(lines.join("\n") + "\n"), tabs::TOP))?;
    Ok(0)
}

/// `fluyt port`.
pub const PORT: Command = Command {
    name: "port",
    arguments: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List port mappings or a specific mapping for the container",
    flags: &[],
    arity: Arity::Between(1, 2),
    interspersed: true,
};

/// Runs `fluyt port`.
pub fn port(cli: &Cli, flags: &Parsed) -> Outcome {
    let ports = cli.docker()?.container_inspect(&flags.args[0], false)?.network_settings.ports;
    let host = |ip: &str, port: &str| {
        if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
    };
    let Some(wanted) = flags.args.get(1) else {
        let lines = ports.iter().flat_map(|(port, bindings)| {
            bindings.iter().map(move |b| format!("{port} -> {}\n", host(&b.host_ip, &b.host_port)))
        });
        print_text(&lines.collect::<String>())?;
        return Ok(0);
    };
    let key: PortNumber = wanted.parse()?;
    match ports.get(&key).filter(|bindings| !bindings.is_vacant()) {
        Some(bindings) => {
            for binding in bindings.iter() {
                print_line(&host(&binding.host_ip, &binding.host_port))?;
            }
            Ok(0)
        }
        None => {
            Err(Error::not_found(format!("no public port '{wanted}' published for {}", flags.args[0])).into())
        }
    }
}
