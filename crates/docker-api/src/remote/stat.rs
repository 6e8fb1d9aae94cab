//! What is at a path in a container, as `X-Docker-Container-Path-Stat` says it: JSON in Base64, modes as Go has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fluyt_model::{Error, Result};
use serde::Deserialize;

use crate::api::PathStat;
use crate::time;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    name: String,
    size: i64,
    mode: u32,
    mtime: String,
    #[serde(rename = "linkTarget")]
    link_target: String,
}

/// Reads the header.
pub(super) fn parse(header: Option<&str>) -> Result<PathStat> {
    let bad = || Error::corrupt("the daemon does not say what is at the path");
    let bytes = STANDARD.decode(header.ok_or_else(bad)?).map_err(|e| bad().with_source(e))?;
    let found: Document = serde_json::from_slice(&bytes).map_err(|e| bad().with_source(e))?;
    let mode = mode_of(found.mode);
    let kind = mode & 0o170_000;
    Ok(PathStat {
        name: found.name,
        size: u64::try_from(found.size).unwrap_or(0),
        mode,
        mtime: time::stamp(&found.mtime).unwrap_or(0),
        is_dir: kind == 0o040_000,
        is_special: !matches!(kind, 0o040_000 | 0o100_000 | 0o120_000),
        link_target: found.link_target,
    })
}

/// The kernel's mode bits of Go's.
fn mode_of(go: u32) -> u32 {
    let has = |bit: u32| go & (1 << bit) != 0;
    let kind = match () {
        () if has(31) => 0o040_000,
        () if has(27) => 0o120_000,
        () if has(26) && has(21) => 0o020_000,
        () if has(26) => 0o060_000,
        () if has(25) => 0o010_000,
        () if has(24) => 0o140_000,
        () => 0o100_000,
    };
    let bit = |bit: u32, mode: u32| if has(bit) { mode } else { 0 };
    kind | bit(23, 0o4000) | bit(22, 0o2000) | bit(20, 0o1000) | (go & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read() {
        let text =
            r#"{"name":"tmp","size":4096,"mode":2148532735,"mtime":"2006-01-02T15:04:05Z","linkTarget":""}"#;
        let stat = parse(Some(&STANDARD.encode(text))).unwrap();
        assert_eq!((stat.mode, stat.is_dir, stat.is_special), (0o041_777, true, false));
        assert_eq!(stat.mtime, 1_136_214_245_000_000_000);
        assert_eq!(mode_of(0o644), 0o100_644);
        assert_eq!(mode_of((1 << 26) | (1 << 21) | 0o666), 0o020_666);
        assert_eq!(mode_of((1 << 23) | 0o755), 0o104_755);
        assert!(parse(None).is_err() && parse(Some("%")).is_err());
    }
}
