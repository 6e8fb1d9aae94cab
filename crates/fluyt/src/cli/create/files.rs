//! `--env-file` and `--label-file`: one `KEY=value` or `KEY` a line, `#` comments, no quoting.

use super::Host;

/// Where the value of a bare key comes from.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads one file; a bare `KEY` takes its value from `lookup`, and is dropped if there is none.
pub fn read(path: &str, host: &dyn Host, lookup: Option<Lookup<'_>>) -> Result<Vec<String>, String> {
    let bytes = host.read(path).map_err(|e| format!("open {path}: {}", super::go_errno(&e)))?;
    let mut lines = Vec::new();
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| format!("invalid env file ({path}): invalid utf8 bytes at line {}", number + 1))?;
        let line = if number == 0 { line.trim_start_matches('\u{feff}') } else { line };
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').map_or((line, None), |(k, v)| (k, Some(v)));
        if key.contains([' ', '\t']) {
            return Err(format!("invalid env file ({path}): variable '{key}' contains whitespaces"));
        }
        if key.is_empty() {
            return Err(format!("invalid env file ({path}): no variable name on line '{line}'"));
        }
        match (value, lookup) {
            (Some(_), _) => lines.push(line.to_owned()),
            (None, None) => lines.push(key.to_owned()),
            (None, Some(lookup)) => lines.extend(lookup(key).map(|value| format!("{key}={value}"))),
        }
    }
    Ok(lines)
}
