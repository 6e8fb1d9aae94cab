//! `--allow`: what steps may do beyond their own container only when it was granted.

use fluyt_build::dockerfile::Fault;
use fluyt_build::graph::Op;
use fluyt_build::plan::Joined;
use fluyt_model::{Error, Kind, Result};

use super::wanted::Wanted;
use crate::cli::flags::Parsed;

/// Commands without confinement.
const INSECURE: &str = "security.insecure";
/// Commands in the network of the host.
const HOST: &str = "network.host";
/// Commands with devices.
const DEVICE: &str = "device";

/// Reads the flag.
///
/// # Errors
/// A grant that does not exist.
pub fn read(flags: &Parsed) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for text in flags.all("allow").flat_map(|text| text.split(',')).map(str::trim) {
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        if !matches!(name, INSECURE | HOST | DEVICE) {
            return Err(Error::invalid(format!("invalid entitlement: {text}"))
                .with_hint(format!("{HOST}, {INSECURE} and {DEVICE}[=NAME] can be granted")));
        }
        found.push(text.to_owned());
    }
    // Who asks for it for all steps has granted it.
    if flags.text("network") == "host" {
        found.push(HOST.to_owned());
    }
    Ok(found)
}

/// Refuses a plan that needs what was not granted; nothing has run then.
///
/// # Errors
/// The first step that does, with its lines.
pub fn check(wanted: &Wanted, plan: &Joined) -> std::result::Result<(), Fault> {
    let granted = |name: &str| wanted.allowed.iter().any(|text| text == name);
    let needed = plan.graph.needed_by(&plan.results());
    for (vertex, _) in plan.graph.vertices.iter().zip(needed).filter(|(_, needed)| *needed) {
        let Op::Exec(exec) = &vertex.op else { continue };
        let device = exec.devices.iter().chain(&exec.optional_devices).find(|text| {
            let name = text.split(',').map(|f| f.trim_start_matches("name=")).next().unwrap_or("");
            !granted(DEVICE) && !granted(&format!("{DEVICE}={name}"))
        });
        let missing = if exec.insecure && !granted(INSECURE) {
            INSECURE
        } else if exec.network == "host" && !granted(HOST) {
            HOST
        } else if device.is_some() {
            DEVICE
        } else {
            continue;
        };
        let error = Error::new(Kind::PermissionDenied, format!("{missing} is not allowed"))
            .with_hint(format!("grant it with --allow {missing}, if the Dockerfile is to be trusted"));
        return Err(Fault { error, lines: vertex.lines });
    }
    Ok(())
}
