//! What is asked of systemd, through `systemctl`: units' states, stopping them, reading everything anew.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use super::of_user;

/// Where systemd is in charge, this exists (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// The state of a service.
#[derive(Debug, Default)]
pub struct State {
    load: String,
    active: String,
    sub: String,
}

impl State {
    /// In one word or two.
    pub fn shown(&self) -> String {
        if self.load == "loaded" { format!("{}/{}", self.active, self.sub) } else { "Not loaded".to_owned() }
    }

    /// Whether it runs.
    pub fn is_active(&self) -> bool {
        self.load == "loaded" && self.active == "active"
    }
}

fn systemctl(words: &[&str]) -> Result<String> {
    let mut command = Command::new("systemctl");
    if of_user() {
        command.arg("--user");
    }
    let output = command.args(words).output().about(|| "systemctl")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::internal(format!("systemctl {}: {}", words.join(" "), said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The states of services by name. Where there is no systemd nothing is loaded.
///
/// # Errors
/// systemd does not answer.
pub fn states(services: &[&str]) -> Result<BTreeMap<String, State>> {
    // A template has no state; its instances have.
    let known: Vec<&str> = services.iter().copied().filter(|name| !name.contains("@.")).collect();
    if known.is_empty() || !Path::new(BOOTED).exists() {
        return Ok(BTreeMap::new());
    }
    let mut words = vec!["show", "--property=Id,LoadState,ActiveState,SubState", "--"];
    words.extend(&known);
    let text = systemctl(&words)?;
    // A paragraph for each, in the order in which they were asked for: `Id` names what an alias leads to.
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    let state = |paragraph: &str| {
        let value = |key: &str| {
            let line = paragraph.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().to_owned()
        };
        State { load: value("LoadState"), active: value("ActiveState"), sub: value("SubState") }
    };
    Ok(known.iter().map(|name| (*name).to_owned()).zip(paragraphs.map(state)).collect())
}

/// Stops a service and waits for its end.
///
/// # Errors
/// It does not stop.
pub fn stop(service: &str) -> Result<()> {
    systemctl(&["stop", "--", service]).map(drop)
}

/// Has systemd run its generators and read all units again. Does nothing where there is no systemd.
///
/// # Errors
/// systemd does not answer.
pub fn reload() -> Result<()> {
    if Path::new(BOOTED).exists() { systemctl(&["daemon-reload"]).map(drop) } else { Ok(()) }
}
