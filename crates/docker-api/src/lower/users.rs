//! The user namespace: Docker's `host`, Podman's other words.

use fluyt_model::sandbox::UserNamespace;
use fluyt_model::{Error, Result};

use crate::types::HostConfig;

type Triple = (u32, u32, u32);

/// Reads `UsernsMode` and `IDMappings`.
///
/// # Errors
/// `Invalid` for what is none, `Unsupported` for what only makes sense without root.
pub(super) fn namespace(host: &HostConfig) -> Result<UserNamespace> {
    let mode = host.userns_mode.as_str();
    if let Some(maps) = &host.id_mappings {
        if !matches!(mode, "" | "private") {
            return Err(Error::invalid(format!(
                "--userns={mode} cannot be combined with --uidmap and --gidmap"
            )));
        }
        let read = |list: &[String]| list.iter().map(|text| triple(text)).collect::<Result<Vec<_>>>();
        let (mut uids, mut gids) = (read(&maps.uid_map)?, read(&maps.gid_map)?);
        if uids.is_empty() {
            uids.clone_from(&gids);
        }
        if gids.is_empty() {
            gids.clone_from(&uids);
        }
        return Ok(UserNamespace::Mapped { uids, gids });
    }
    let (word, rest) = mode.split_once(':').map_or((mode, None), |(word, rest)| (word, Some(rest)));
    match (word, rest) {
        ("" | "host", None) => Ok(UserNamespace::Host),
        ("private" | "auto", None) => Ok(UserNamespace::Auto { size: 0 }),
        ("auto", Some(options)) => auto(options),
        ("container", Some(name)) if !name.is_empty() => Ok(UserNamespace::Container(name.to_owned())),
        ("ns", Some(path)) if path.starts_with('/') => Ok(UserNamespace::Path(path.into())),
        ("keep-id" | "nomap", _) => {
            Err(Error::unsupported(format!("--userns={word} needs a rootless engine"))
                .with_hint("use --userns=auto, or --uidmap and --gidmap"))
        }
        _ => Err(Error::invalid(format!("--userns: invalid USER mode: {mode}"))
            .with_hint("host, auto[:size=N], private, container:NAME or ns:PATH")),
    }
}

fn auto(options: &str) -> Result<UserNamespace> {
    let mut size = 0;
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("size", text)) => {
                size = text.parse().ok().filter(|n| *n > 0).ok_or_else(|| {
                    Error::invalid(format!("--userns=auto: invalid size {text:?}"))
                        .with_hint("a number of ids, as in --userns=auto:size=65536")
                })?;
            }
            _ => {
                return Err(Error::invalid(format!("--userns=auto: unknown option {option:?}"))
                    .with_hint("size=N is there; for single ids use --uidmap and --gidmap"));
            }
        }
    }
    Ok(UserNamespace::Auto { size })
}

/// `CONTAINERID:HOSTID[:COUNT]`.
fn triple(text: &str) -> Result<Triple> {
    let wrong = || {
        Error::invalid(format!("invalid id mapping {text:?}"))
            .with_hint("CONTAINERID:HOSTID:COUNT, as in 0:100000:65536")
    };
    let numbers: Vec<u32> =
        text.split(':').map(str::parse).collect::<std::result::Result<_, _>>().map_err(|_| wrong())?;
    match numbers[..] {
        [inside, outside] => Ok((inside, outside, 1)),
        [inside, outside, count] if count > 0 && outside.checked_add(count).is_some() => {
            Ok((inside, outside, count))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::IdMappings;

    fn of(mode: &str) -> String {
        let host = HostConfig { userns_mode: mode.to_owned(), ..HostConfig::default() };
        namespace(&host).map_or_else(|e| e.to_string(), |n| format!("{n:?}"))
    }

    #[test]
    fn modes_read_as_podmans() {
        for (mode, expected) in [
            ("", "Host"),
            ("host", "Host"),
            ("auto", "Auto { size: 0 }"),
            ("auto:size=1000", "Auto { size: 1000 }"),
            ("auto:size=0", "--userns=auto: invalid size \"0\""),
            ("auto:x=1", "--userns=auto: unknown option \"x=1\""),
            ("container:c1", "Container(\"c1\")"),
            ("ns:/run/x", "Path(\"/run/x\")"),
            ("ns:x", "--userns: invalid USER mode: ns:x"),
            ("keep-id", "--userns=keep-id needs a rootless engine"),
        ] {
            assert_eq!(of(mode), expected);
        }
    }

    #[test]
    fn one_list_of_mappings_serves_both() {
        let maps = IdMappings { uid_map: vec!["0:1000:10".to_owned()].into(), ..IdMappings::default() };
        let host = HostConfig { id_mappings: Some(maps), ..HostConfig::default() };
        let expected = UserNamespace::Mapped { uids: vec![(0, 1000, 10)], gids: vec![(0, 1000, 10)] };
        assert_eq!(namespace(&host).unwrap(), expected);
        for bad in ["0", "0:x:1", "0:1:0", "0:4294967295:2"] {
            assert!(triple(bad).is_err(), "{bad}");
        }
    }
}
