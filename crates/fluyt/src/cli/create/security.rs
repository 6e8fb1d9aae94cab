//! `--security-opt`.

use fluyt_docker_api::types::List;

use super::Host;

/// Security options with seccomp files read in, and the path lists that `systempaths=unconfined` empties.
#[derive(Debug, Default)]
pub struct Options {
    /// What the engine gets.
    pub options: List<String>,
    /// Not `null` if the user wants none hidden.
    pub masked_paths: List<String>,
    /// Not `null` if the user wants none read-only.
    pub readonly_paths: List<String>,
}

/// Reads all `--security-opt` values.
pub fn read<'a>(values: impl Iterator<Item = &'a str>, host: &dyn Host) -> Result<Options, String> {
    let mut result = Options::default();
    for text in values {
        if text == "systempaths=unconfined" {
            result.masked_paths = List::empty();
            result.readonly_paths = List::empty();
            continue;
        }
        let split = text
            .split_once('=')
            .or_else(|| if text.starts_with("no-new-privileges") { None } else { text.split_once(':') });
        let (key, value) = split.unwrap_or((text, ""));
        if value.is_empty() && key != "no-new-privileges" && !key.starts_with("no-new-privileges:") {
            return Err(format!("invalid --security-opt: {text:?}"));
        }
        let seccomp_file = key == "seccomp" && value != "unconfined" && value != "builtin";
        result.options.push(if seccomp_file { seccomp(value, host)? } else { text.to_owned() });
    }
    Ok(result)
}

/// The profile itself, compacted, in place of its file's name.
fn seccomp(path: &str, host: &dyn Host) -> Result<String, String> {
    let bytes = host.read(path).map_err(|e| {
        format!("opening seccomp profile ({path}) failed: open {path}: {}", super::go_errno(&e))
    })?;
    let profile: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|e| format!("compacting json for seccomp profile ({path}) failed: {e}"))?;
    Ok(format!("seccomp={profile}"))
}
