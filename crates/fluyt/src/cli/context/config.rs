//! The parts of Docker's `config.json` that say where the daemon is. Everything else in it is kept as it is.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use serde::Serialize;
use serde_json::{Map, Value};

fn read(dir: &Path) -> Result<Option<Vec<u8>>> {
    let path = dir.join("config.json");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(e) => Err(e).about(|| path.display().to_string()),
    }
}

fn parse(dir: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    let path = dir.join("config.json");
    serde_json::from_slice(bytes)
        .map_err(|e| Error::invalid(format!("{}: not a valid configuration", path.display())).with_source(e))
}

/// One field, without taking the file apart when the field's name is not in it: this is asked at every command.
fn field(dir: &Path, name: &str) -> Result<Option<Value>> {
    let Some(bytes) = read(dir)? else { return Ok(None) };
    if !bytes.windows(name.len()).any(|w| w == name.as_bytes()) {
        return Ok(None);
    }
    Ok(parse(dir, &bytes)?.remove(name))
}

/// The context of `context use`.
///
/// # Errors
/// The file cannot be read.
pub fn current_context(dir: &Path) -> Result<Option<String>> {
    let found = field(dir, "currentContext")?;
    Ok(found.and_then(|v| v.as_str().map(str::to_owned)).filter(|name| !name.is_empty()))
}

/// Headers that are sent with each request.
///
/// # Errors
/// The file cannot be read.
pub fn http_headers(dir: &Path) -> Result<Vec<(String, String)>> {
    let found = field(dir, "HttpHeaders")?;
    let headers = found.as_ref().and_then(Value::as_object).into_iter().flatten();
    // The program says itself what it is.
    let headers = headers.filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"));
    Ok(headers.filter_map(|(name, v)| Some((name.clone(), v.as_str()?.to_owned()))).collect())
}

/// Notes the context that is used from now on; `None`: the default one.
///
/// # Errors
/// The file cannot be read or written.
pub fn set_current_context(dir: &Path, name: Option<&str>) -> Result<()> {
    let mut config = match read(dir)? {
        Some(bytes) => parse(dir, &bytes)?,
        None => Map::new(),
    };
    let before = config.get("currentContext").and_then(Value::as_str).filter(|n| !n.is_empty());
    if before == name {
        return Ok(());
    }
    match name {
        Some(name) => config.insert("currentContext".to_owned(), Value::from(name)),
        None => config.remove("currentContext"),
    };
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    config
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, format))
        .map_err(|e| Error::internal("config.json").with_source(e))?;
    replace(dir, &text)
}

fn replace(dir: &Path, text: &[u8]) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).about(|| dir.display().to_string())?;
    // A link (dotfiles kept elsewhere) stays a link.
    let path = dir.join("config.json");
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    let temporary = path.with_extension(format!("json.{}.tmp", std::process::id()));
    let _ = std::fs::remove_file(&temporary);
    let done = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(text)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&temporary, &path));
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done.about(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_file_stays() {
        let dir = fluyt_testkit::Scratch::new("config");
        let dir = dir.path();
        assert_eq!(current_context(dir).unwrap(), None);
        set_current_context(dir, None).unwrap();
        assert!(!dir.join("config.json").exists());
        std::fs::write(
            dir.join("config.json"),
            r#"{"auths":{"x":{}},"HttpHeaders":{"A":"b","User-Agent":"c"}}"#,
        )
        .unwrap();
        set_current_context(dir, Some("far")).unwrap();
        assert_eq!(current_context(dir).unwrap().as_deref(), Some("far"));
        assert_eq!(http_headers(dir).unwrap(), [("A".to_owned(), "b".to_owned())]);
        set_current_context(dir, None).unwrap();
        assert_eq!(current_context(dir).unwrap(), None);
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        assert!(text.contains("auths") && !text.contains("currentContext"), "{text}");
    }
}
