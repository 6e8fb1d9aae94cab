//! `--mount`, `--volume` and `--tmpfs`.

use std::path::{Component, Path, PathBuf};

use fluyt_docker_api::filter::boolean;
use fluyt_docker_api::types::{
    BindOptions, DriverConfig, Empty, ImageOptions, Map, Mount, TmpfsOptions, VolumeOptions,
};
use fluyt_model::quantity;

use super::csv;

/// The check of `--mount`.
pub fn check(text: &str) -> Result<(), String> {
    mount(text, Path::new("/")).map(|_| ())
}

/// Reads `--mount`; relative bind sources start at `cwd`.
pub fn mount(text: &str, cwd: &Path) -> Result<Mount, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".to_owned());
    }
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if key.trim() != key {
            let key = key.trim();
            return Err(format!("invalid option '{key}' in '{field}': option should not have whitespace"));
        }
        match value {
            Some(v) if v.trim().is_empty() => {
                return Err(format!("invalid value for '{key}': value is empty"));
            }
            Some(v) if v.trim() != v => {
                return Err(format!(
                    "invalid value for '{key}' in '{field}': value should not have whitespace"
                ));
            }
            _ => {}
        }
        let key = key.to_ascii_lowercase();
        let bare = [
            "noidmap",
            "readwrite",
            "rw",
            "readonly",
            "ro",
            "volume-nocopy",
            "bind-nonrecursive",
            "bind-create-src",
            "idmap",
        ];
        if value.is_none() && !bare.contains(&key.as_str()) {
            return Err(format!("invalid field '{field}' must be a key=value pair"));
        }
        option(&mut mount, &key, value, &field, cwd)?;
    }
    validate(&mount)?;
    Ok(mount)
}

fn option(mount: &mut Mount, key: &str, value: Option<&str>, field: &str, cwd: &Path) -> Result<(), String> {
    let text = value.unwrap_or_default();
    let wrong = || format!("invalid value for {key}: {text}");
    match key {
        "type" => mount.kind = text.to_ascii_lowercase(),
        "source" | "src" => mount.source = absolute_if_dotted(text, cwd),
        "target" | "dst" | "destination" => mount.target = text.to_owned(),
        "readonly" | "ro" => mount.read_only = flag_value(key, value)?,
        "consistency" => mount.consistency = text.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = text.to_ascii_lowercase(),
        "bind-nonrecursive" => {
            return Err("bind-nonrecursive is deprecated, use bind-recursive=disabled instead".to_owned());
        }
        "bind-recursive" => match text {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            _ => {
                let allowed = "must be \"enabled\", \"disabled\", \"writable\", or \"readonly\"";
                return Err(format!("invalid value for {key}: {text} ({allowed})"));
            }
        },
        "bind-create-src" => bind(mount).create_mountpoint = flag_value(key, value)?,
        "idmap" => bind(mount).idmap = value.unwrap_or("auto").to_owned(),
        "noidmap" => {
            bind(mount).idmap = if flag_value(key, value)? { "false" } else { "" }.to_owned();
        }
        "volume-subpath" => volume(mount).subpath = text.to_owned(),
        "volume-nocopy" => volume(mount).no_copy = flag_value(key, value)?,
        "volume-label" => insert(&mut volume(mount).labels, text),
        "volume-driver" => driver(mount).name = text.to_owned(),
        "volume-opt" => insert(&mut driver(mount).options, text),
        "readwrite" | "rw" => {
            image(mount).read_write = flag_value(key, value)?;
        }
        "image-subpath" | "subpath" => image(mount).subpath = text.to_owned(),
        "tmpfs-size" => tmpfs(mount).size_bytes = quantity::parse_bytes(text).map_err(|_| wrong())?,
        "tmpfs-mode" => tmpfs(mount).mode = u32::from_str_radix(text, 8).map_err(|_| wrong())?,
        _ => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

/// Refuses options that belong to another type of mount.
fn validate(mount: &Mount) -> Result<(), String> {
    let kind = mount.kind.as_str();
    let mixed = |options: &str| Err(format!("cannot mix '{options}' options with mount type '{kind}'"));
    if mount.bind_options.is_some() && kind != "bind" {
        return mixed("bind-*");
    }
    if mount.volume_options.is_some() && kind != "volume" {
        return mixed("volume-*");
    }
    if mount.image_options.is_some() && kind != "image" {
        return mixed("image-*");
    }
    if mount.tmpfs_options.is_some() && kind != "tmpfs" {
        return mixed("tmpfs-*");
    }
    let Some(bind) = &mount.bind_options else {
        return Ok(());
    };
    if bind.read_only_non_recursive && !mount.read_only {
        return Err(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned()
        );
    }
    if bind.read_only_force_recursive {
        let need = |what: &str| {
            Err(format!("option 'bind-recursive=readonly' requires '{what}' to be specified in conjunction"))
        };
        if !mount.read_only {
            return need("readonly");
        }
        if bind.propagation != "rprivate" {
            return need("bind-propagation=rprivate");
        }
    }
    Ok(())
}

fn flag_value(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None => Ok(true),
        Some(text) => boolean(text).ok_or_else(|| {
            format!("invalid value for '{key}': invalid boolean value (\"{text}\"): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")")
        }),
    }
}

fn insert(map: &mut Map<String>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    map.insert(key.to_owned(), value.to_owned());
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_default()
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    volume(mount).driver_config.get_or_insert_default()
}

fn image(mount: &mut Mount) -> &mut ImageOptions {
    mount.image_options.get_or_insert_default()
}

fn tmpfs(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

/// Sorts `--volume` values into anonymous volumes and binds (`Binds` of the host's part).
pub fn volumes<'a>(
    specs: impl Iterator<Item = &'a str>,
    cwd: &Path,
) -> Result<(Map<Empty>, Vec<String>), String> {
    let mut anonymous = Map::empty();
    let mut binds: Vec<String> = Vec::new();
    for spec in specs {
        if spec.is_empty() {
            return Err("invalid empty volume spec".to_owned());
        }
        let parts: Vec<&str> = if spec.len() < 3 { vec![spec] } else { spec.split(':').collect() };
        let wrong = |why: &str| Err(format!("invalid spec: {spec}: {why}"));
        if parts.iter().any(|p| p.is_empty()) {
            return wrong("empty section between colons");
        }
        if parts.len() > 3 {
            return wrong("too many colons");
        }
        if parts.len() == 1 {
            anonymous.insert(spec.to_owned(), Empty {});
            continue;
        }
        let source = absolute_if_dotted(parts[0], cwd);
        let bind = format!("{source}:{}", parts[1..].join(":"));
        if !binds.contains(&bind) {
            binds.push(bind);
        }
    }
    Ok((anonymous, binds))
}

/// Reads `--tmpfs path[:options]`.
pub fn tmpfs_map<'a>(specs: impl Iterator<Item = &'a str>) -> Map<String> {
    specs
        .map(|spec| spec.split_once(':').unwrap_or((spec, "")))
        .map(|(path, options)| (path.to_owned(), options.to_owned()))
        .collect()
}

/// Makes `.`, `./x` and `../x` absolute, lexically; leaves everything else alone (volume names above all).
fn absolute_if_dotted(source: &str, cwd: &Path) -> String {
    if !source.starts_with('.') {
        return source.to_owned();
    }
    let mut path = PathBuf::new();
    for part in cwd.join(source).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        match mount(text, Path::new("/home/me")) {
            Ok(mount) => serde_json::to_string(&mount).unwrap(),
            Err(why) => why,
        }
    }

    #[test]
    fn mounts_read_as_dockers_do() {
        let cases = [
            ("type=bind,src=/a,dst=/b", r#"{"Type":"bind","Source":"/a","Target":"/b"}"#),
            (
                "type=bind,src=./a,dst=/b,ro",
                r#"{"Type":"bind","Source":"/home/me/a","Target":"/b","ReadOnly":true}"#,
            ),
            (
                "src=v,dst=/b,volume-nocopy,volume-opt=type=nfs",
                r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"NoCopy":true,"DriverConfig":{"Options":{"type":"nfs"}}}}"#,
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770",
                r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1016}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=disabled",
                r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"NonRecursive":true}}"#,
            ),
            ("type=bind,\"src=/a,b\",dst=/c", r#"{"Type":"bind","Source":"/a,b","Target":"/c"}"#),
            (
                "type=image,src=i,dst=/i,image-subpath=x",
                r#"{"Type":"image","Source":"i","Target":"/i","ImageOptions":{"Subpath":"x"}}"#,
            ),
            (
                "type=image,src=i,dst=/i,rw",
                r#"{"Type":"image","Source":"i","Target":"/i","ImageOptions":{"ReadWrite":true}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,noidmap",
                r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Idmap":"false"}}"#,
            ),
            (
                "type=bind,src=/a,dst=/b,idmap",
                r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Idmap":"auto"}}"#,
            ),
            ("", "value is empty"),
            ("type=bind,dst", "invalid field 'dst' must be a key=value pair"),
            ("type=bind,dst=", "invalid value for 'dst': value is empty"),
            ("type=bind,src=/a,dst=/b,x=1", "unknown option 'x' in 'x=1'"),
            (
                "type=bind,src=/a,dst=/b,readonly=maybe",
                "invalid value for 'readonly': invalid boolean value (\"maybe\"): must be one of \"true\", \"1\", \"false\", or \"0\" (default \"true\")",
            ),
            (
                "type=volume,src=/a,dst=/b,bind-propagation=shared",
                "cannot mix 'bind-*' options with mount type 'volume'",
            ),
            ("type=tmpfs,dst=/b,tmpfs-size=x", "invalid value for tmpfs-size: x"),
            (
                "type=bind,src=/a,dst=/b,bind-recursive=readonly",
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(json(text), expected, "{text}");
        }
    }

    #[test]
    fn volumes_are_binds_or_anonymous() {
        let specs = ["/data", "./x:/x:ro", "name:/n", "..:/up", "/a:/b:z,rslave"];
        let (anonymous, binds) = volumes(specs.into_iter(), Path::new("/home/me")).unwrap();
        assert_eq!(anonymous.keys().collect::<Vec<_>>(), ["/data"]);
        assert_eq!(binds, ["/home/me/x:/x:ro", "name:/n", "/home:/up", "/a:/b:z,rslave"]);
        for (bad, why) in [
            ("", "invalid empty volume spec"),
            ("a::b", "invalid spec: a::b: empty section between colons"),
            ("/a:/b:ro:x", "invalid spec: /a:/b:ro:x: too many colons"),
        ] {
            assert_eq!(volumes([bad].into_iter(), Path::new("/")).unwrap_err(), why);
        }
    }
}
