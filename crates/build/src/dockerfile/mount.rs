//! `RUN --mount`: the fields of one mount, checked.

use fluyt_model::quantity;

use super::fault::{Fault, Result};
use super::suggest::with_nearest;

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that stays from build to build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the caller.
    Secret,
    /// The caller's SSH agent.
    Ssh,
}

impl MountKind {
    const ALL: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("bind", |(name, _)| name)
    }
}

/// How builds share a cache mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each its own, when another one uses it.
    Private,
    /// One after another.
    Locked,
}

/// One `--mount`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// The stage or image; empty: the context.
    pub from: String,
    /// The path in there; the id of a secret.
    pub source: String,
    /// Where it appears.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// The size of a tmpfs in bytes; 0: no limit.
    pub size: u64,
    /// The id of a cache, secret or agent.
    pub id: String,
    /// How a cache is shared.
    pub sharing: Sharing,
    /// A secret or agent that must be there.
    pub required: bool,
    /// The variable that a secret is put into.
    pub env: Option<String>,
    /// Mode, owner, group.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Reads a mount; `expand` replaces the variables of a value.
///
/// # Errors
/// The field that is wrong.
pub fn parse(text: &str, expand: &mut dyn FnMut(&str) -> Result<String>) -> Result<Mount> {
    let mut mount = Mount::default();
    let mut read_only = None;
    let mut sharing = None;
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), Some(expand(value)?)),
            None => (field.to_lowercase(), None),
        };
        let Some(value) = value else {
            match key.as_str() {
                "readonly" | "ro" => read_only = Some(true),
                "readwrite" | "rw" => read_only = Some(false),
                "required" => mount.required = required_allowed(&mount, &key).map(|()| true)?,
                _ => return Err(Fault::new(format!("invalid field '{field}' must be a key=value pair"))),
            }
            continue;
        };
        match key.as_str() {
            "readonly" | "ro" => read_only = Some(boolean(&key, &value)?),
            "readwrite" | "rw" => read_only = Some(!boolean(&key, &value)?),
            "sharing" => sharing = Some(sharing_of(&value)?),
            _ => set(&mut mount, &key, value, &field)?,
        }
    }
    check(&mount, sharing)?;
    let writable = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
    mount.read_only = read_only.unwrap_or(!writable);
    mount.sharing = sharing.unwrap_or_default();
    Ok(mount)
}

/// The value of `from`, which is needed before anything can be expanded.
///
/// # Errors
/// It has a variable in it; the list of fields is malformed.
pub fn from_of(text: &str) -> Result<String> {
    let mut from = String::new();
    for field in fields(text)? {
        if let Some((key, value)) = field.split_once('=')
            && key.eq_ignore_ascii_case("from")
        {
            if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                return Err(Fault::new(
                    "'from' doesn't support variable expansion, define alias stage instead",
                ));
            }
            value.clone_into(&mut from);
        }
    }
    Ok(from)
}

fn set(mount: &mut Mount, key: &str, value: String, field: &str) -> Result<()> {
    let invalid = || Fault::new(format!("invalid value for {key}: {value}"));
    let number = |radix: u32| {
        u32::from_str_radix(&value, radix)
            .map(Some)
            .map_err(|_| Fault::new(format!("invalid value {value} for {key}")))
    };
    match key {
        "type" => {
            let kind = MountKind::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(&value));
            mount.kind = kind.map(|(_, kind)| *kind).ok_or_else(|| {
                let message = format!("unsupported mount type {}", super::quoted(&value));
                Fault::new(with_nearest(message, &value, MountKind::ALL.map(|(name, _)| name), true))
            })?;
        }
        "from" => mount.from = value,
        "source" | "src" => mount.source = value,
        "target" | "dst" | "destination" => mount.target = value,
        "required" => {
            required_allowed(mount, key)?;
            mount.required = boolean(key, &value)?;
        }
        "size" if mount.kind == MountKind::Tmpfs => {
            mount.size = quantity::parse_bytes(&value)
                .ok()
                .and_then(|bytes| u64::try_from(bytes).ok())
                .ok_or_else(invalid)?;
        }
        "size" => return Err(unexpected_for(key, mount)),
        "id" => mount.id = value,
        "mode" => mount.mode = number(8)?,
        "uid" => mount.uid = number(10)?,
        "gid" => mount.gid = number(10)?,
        "env" => mount.env = Some(value),
        _ => {
            let message = format!("unexpected key '{key}' in '{field}'");
            return Err(Fault::new(with_nearest(message, key, KEYS, true)));
        }
    }
    Ok(())
}

fn check(mount: &Mount, sharing: Option<Sharing>) -> Result<()> {
    let kind = mount.kind;
    if !matches!(kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache) {
        let given =
            [("mode", mount.mode.is_some()), ("uid", mount.uid.is_some()), ("gid", mount.gid.is_some())];
        if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(Fault::new(format!("{key} not allowed for \"{}\" type mounts", kind.name())));
        }
    }
    if kind == MountKind::Secret {
        if !mount.from.is_empty() {
            return Err(Fault::new("secret mount should not have a from"));
        }
        if sharing.is_some() {
            return Err(Fault::new("secret mount should not define sharing"));
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err(Fault::new("invalid secret mount. one of source, target required"));
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err(Fault::new("both source and id can't be set"));
        }
    }
    if kind == MountKind::Ssh && !mount.source.is_empty() {
        return Err(Fault::new("ssh does not support source"));
    }
    if sharing.is_some() && kind != MountKind::Cache {
        return Err(Fault::new(format!("invalid cache sharing set for {} mount", kind.name())));
    }
    Ok(())
}

fn required_allowed(mount: &Mount, key: &str) -> Result<()> {
    if matches!(mount.kind, MountKind::Secret | MountKind::Ssh) {
        return Ok(());
    }
    Err(unexpected_for(key, mount))
}

fn unexpected_for(key: &str, mount: &Mount) -> Fault {
    Fault::new(format!("unexpected key '{key}' for mount type '{}'", mount.kind.name()))
}

pub(super) fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(Fault::new(format!("invalid value for {key}: {value}"))),
    }
}

fn sharing_of(value: &str) -> Result<Sharing> {
    Ok(match value.to_lowercase().as_str() {
        "shared" => Sharing::Shared,
        "private" => Sharing::Private,
        "locked" => Sharing::Locked,
        _ => {
            let message = format!("unsupported sharing value {}", super::quoted(value));
            return Err(Fault::new(with_nearest(message, value, ["shared", "private", "locked"], true)));
        }
    })
}

/// Splits a line of comma-separated values; a field in quotes may hold commas.
///
/// # Errors
/// A quote is not closed, or something follows one.
pub fn fields(text: &str) -> Result<Vec<String>> {
    csv(text).map_err(|e| e.prefixed("failed to parse csv mounts: "))
}

/// Splits a line of comma-separated values; a field in quotes may hold commas.
///
/// # Errors
/// A quote is not closed, or something follows one.
pub(super) fn csv(text: &str) -> Result<Vec<String>> {
    if text.is_empty() {
        return Err(Fault::new("EOF"));
    }
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut after = quoted;
            loop {
                let Some((piece, tail)) = after.split_once('"') else {
                    return Err(Fault::new("extraneous or missing \" in quoted-field"));
                };
                field.push_str(piece);
                after = tail;
                match after.strip_prefix('"') {
                    Some(tail) => {
                        field.push('"');
                        after = tail;
                    }
                    None => break,
                }
            }
            found.push(field);
            rest = match after.strip_prefix(',') {
                Some(rest) => rest,
                None if after.is_empty() => return Ok(found),
                None => {
                    return Err(Fault::new("extraneous or missing \" in quoted-field"));
                }
            };
            continue;
        }
        let (field, tail) = rest.split_once(',').map_or((rest, None), |(field, tail)| (field, Some(tail)));
        if field.contains('"') {
            return Err(Fault::new("bare \" in non quoted-field"));
        }
        found.push(field.to_owned());
        match tail {
            Some(tail) => rest = tail,
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(text: &str) -> Result<Mount> {
        parse(text, &mut |value| Ok(value.replace("$ID", "expanded")))
    }

    #[test]
    fn mounts_have_defaults() {
        let m = mount("target=/x").unwrap();
        assert_eq!((m.kind, m.read_only, m.target.as_str()), (MountKind::Bind, true, "/x"));
        let m = mount("type=cache,target=/c,id=$ID,sharing=locked,mode=0700,uid=1").unwrap();
        assert_eq!((m.read_only, m.id.as_str(), m.sharing), (false, "expanded", Sharing::Locked));
        assert_eq!((m.mode, m.uid), (Some(0o700), Some(1)));
        let m = mount("type=tmpfs,dst=/t,size=1m").unwrap();
        assert_eq!(m.size, 1 << 20);
        let m = mount("type=secret,id=a,required,env=TOKEN").unwrap();
        assert!(m.required && m.env.as_deref() == Some("TOKEN"));
        assert!(!mount("type=bind,target=/x,rw").unwrap().read_only);
        assert!(mount("\"target=/a,b\"").unwrap().target == "/a,b");
        assert_eq!(from_of("type=bind,from=stage,target=/x").unwrap(), "stage");
    }

    #[test]
    fn wrong_mounts_are_refused() {
        for (text, why) in [
            ("type=bnd,target=/x", "unsupported mount type \"bnd\" (did you mean bind?)"),
            ("type=bind,size=1", "unexpected key 'size' for mount type 'bind'"),
            ("type=tmpfs,size=x", "invalid value for size: x"),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("required", "unexpected key 'required' for mount type 'bind'"),
            ("sorce=/x", "unexpected key 'sorce' in 'sorce=/x' (did you mean source?)"),
            ("mode=0755", "mode not allowed for \"bind\" type mounts"),
            ("type=cache,mode=9", "invalid value 9 for mode"),
            ("type=secret", "one of source, target required"),
            ("type=secret,id=a,source=b", "both source and id"),
            ("type=secret,id=a,from=b", "should not have a from"),
            ("type=bind,sharing=locked", "invalid cache sharing set for bind mount"),
            ("type=cache,sharing=lock", "unsupported sharing value \"lock\""),
            ("type=ssh,source=/x", "ssh does not support source"),
            ("ro=maybe", "invalid value for ro: maybe"),
            ("type=\"x", "bare \" in non quoted-field"),
        ] {
            let error = mount(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(from_of("from=$x").unwrap_err().to_string().contains("doesn't support variable expansion"));
    }
}
