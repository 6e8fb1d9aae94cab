//! Containerd's `hosts.toml` (docs/hosts.md of containerd): for one registry the server, the mirrors before it, and the
//! certificates and headers of each.

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use serde::Deserialize;

/// What one registry's file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// The registry itself, if the file says something about it.
    pub server: Option<Host>,
    /// What is asked before it, in the file's order.
    pub mirrors: Vec<Host>,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Host {
    /// `SCHEME://HOST[:PORT]`; empty: the registry as it is known without the file.
    pub base: String,
    /// The path before `/NAME/manifests/…`, such as `/v2`.
    pub api: String,
    /// Whether it may tell what a tag stands for, and not only give content by digest.
    pub resolve: bool,
    /// How it is spoken to.
    pub rules: Rules,
}

/// How a server is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// PEM files with authorities, beside the system's.
    pub authorities: Vec<PathBuf>,
    /// A PEM file with a certificate to present, and one with its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether certificates need not be valid.
    pub skip_verify: bool,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Document {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    own: Fields,
}

#[derive(Deserialize, Default)]
struct Fields {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<toml::Value>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: toml::Table,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

/// The file for `domain` (`HOST[:PORT]`) in the first directory that has one: `DIR/DOMAIN/hosts.toml`, for Docker's registry
/// also `DIR/registry-1.docker.io`, then `DIR/_default/hosts.toml`.
///
/// # Errors
/// I/O errors; `Kind::Invalid` for what is not understood.
pub(crate) fn find(dirs: &[PathBuf], domain: &str) -> Result<Option<Hosts>> {
    // A domain comes from a reference and so has no slash; this holds even so.
    if domain.contains('/') || domain.starts_with('.') {
        return Ok(None);
    }
    for name in [domain, "_default"] {
        for dir in dirs {
            let path = dir.join(name).join("hosts.toml");
            match std::fs::read_to_string(&path) {
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) => {}
                other => return parse(&other.about(|| path.display().to_string())?, &path, domain).map(Some),
            }
        }
    }
    Ok(None)
}

fn parse(text: &str, path: &Path, domain: &str) -> Result<Hosts> {
    let bad = |why: &str| Error::invalid(format!("{}: not a valid hosts.toml{why}", path.display()));
    let document: Document = toml::from_str(text).map_err(|e| bad("").with_source(e))?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut hosts = Hosts::default();
    for (url, fields) in document.host {
        let fields: Fields =
            fields.try_into().map_err(|e| bad(&format!(": [host.{url:?}]")).with_source(e))?;
        let can = |what: &str| fields.capabilities.as_ref().is_none_or(|c| c.iter().any(|c| c == what));
        if can("pull") {
            hosts.mirrors.push(Host {
                resolve: can("resolve"),
                ..host(&url, &fields, dir).map_err(|e| bad(&format!(": {e}")))?
            });
        }
    }
    let own = host(document.server.as_deref().unwrap_or_default(), &document.own, dir)
        .map_err(|e| bad(&format!(": {e}")))?;
    let known = own.base.is_empty() || own.base == format!("https://{domain}");
    if !known || own.rules != Rules::default() || own.api != "/v2" {
        hosts.server = Some(Host { resolve: true, ..own });
    }
    Ok(hosts)
}

fn host(url: &str, fields: &Fields, dir: &Path) -> Result<Host, String> {
    let (base, path) = split(url)?;
    let api = match (fields.override_path, path) {
        (true, path) => path.to_owned(),
        (false, path) if path == "/v2" || path.ends_with("/v2") => path.to_owned(),
        (false, path) => format!("{path}/v2"),
    };
    let at = |path: &PathBuf| dir.join(path);
    let authorities = match &fields.ca {
        None => Vec::new(),
        Some(OneOrMany::One(path)) => vec![at(path)],
        Some(OneOrMany::Many(paths)) => paths.iter().map(at).collect(),
    };
    let mut headers = Vec::new();
    for (name, value) in &fields.header {
        let values = match value {
            toml::Value::String(text) => vec![text.clone()],
            toml::Value::Array(many) => many.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            _ => return Err(format!("the header {name} is no text")),
        };
        headers.extend(values.into_iter().map(|v| (name.clone(), v)));
    }
    let rules = Rules {
        authorities,
        client: client(fields.client.as_ref(), dir)?,
        skip_verify: fields.skip_verify,
        headers,
    };
    Ok(Host { base, api, resolve: true, rules })
}

/// `"both.pem"`, `["both.pem"]`, `["cert", "key"]`, `[["cert", "key"], …]`; the first pair counts.
fn client(value: Option<&toml::Value>, dir: &Path) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let wrong = || "client is neither a file nor a pair of files".to_owned();
    let file = |v: &toml::Value| v.as_str().map(|s| dir.join(s)).ok_or_else(wrong);
    let Some(value) = value else { return Ok(None) };
    let Some(list) = value.as_array() else {
        let path = file(value)?;
        return Ok(Some((path.clone(), path)));
    };
    match list.as_slice() {
        [] => Ok(None),
        [first, ..] if first.is_array() => client(Some(first), dir),
        [only] => client(Some(only), dir),
        [cert, key, ..] => Ok(Some((file(cert)?, file(key)?))),
    }
}

/// `SCHEME://HOST` and the path, which is empty or begins with a slash.
fn split(url: &str) -> Result<(String, &str), String> {
    if url.is_empty() {
        return Ok((String::new(), ""));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.trim_end_matches('/');
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let scheme = match scheme {
        "" if crate::settings::is_loopback(host) => "http",
        "" => "https",
        "http" | "https" => scheme,
        other => return Err(format!("{other} is neither http nor https")),
    };
    if host.is_empty() {
        return Err(format!("{url:?} names no host"));
    }
    Ok((format!("{scheme}://{host}"), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Hosts> {
        parse(text, Path::new("/c/reg.io/hosts.toml"), "reg.io")
    }

    #[test]
    fn mirrors_keep_the_order_of_the_file() {
        let hosts = read(
            r#"
            server = "https://reg.io"
            [host."https://z.lan"]
              capabilities = ["pull", "resolve"]
              ca = "z.crt"
              [host."https://z.lan".header]
                x-key = ["a"]
            [host."http://a.lan:5000/v2/proxy"]
              capabilities = ["pull"]
              override_path = true
              client = [["c.crt", "c.key"]]
            [host."push.lan"]
              capabilities = ["push"]
            [host."m.lan/path"]
              skip_verify = true
              ca = ["/one", "two"]
            "#,
        )
        .unwrap();
        assert_eq!(hosts.server, None);
        let bases: Vec<(&str, &str)> =
            hosts.mirrors.iter().map(|h| (h.base.as_str(), h.api.as_str())).collect();
        assert_eq!(
            bases,
            [("https://z.lan", "/v2"), ("http://a.lan:5000", "/v2/proxy"), ("https://m.lan", "/path/v2")]
        );
        let [z, a, m] = &hosts.mirrors[..] else { panic!("three") };
        assert!(z.resolve && !a.resolve && m.resolve && m.rules.skip_verify);
        assert_eq!(z.rules.authorities, [PathBuf::from("/c/reg.io/z.crt")]);
        assert_eq!(z.rules.headers, [("x-key".to_owned(), "a".to_owned())]);
        assert_eq!(a.rules.client, Some(("/c/reg.io/c.crt".into(), "/c/reg.io/c.key".into())));
        assert_eq!(m.rules.authorities, [PathBuf::from("/one"), PathBuf::from("/c/reg.io/two")]);
    }

    #[test]
    fn the_server_itself_may_be_another_one() {
        let hosts = read("server = 'http://real.lan:5000'\nskip_verify = true").unwrap();
        let server = hosts.server.unwrap();
        assert_eq!((server.base.as_str(), server.rules.skip_verify), ("http://real.lan:5000", true));
        assert!(read("server = 'ftp://x'").is_err());
        assert!(read("server = ").is_err());
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(&[dir.path().to_owned()], "reg.io").unwrap(), None);
        std::fs::create_dir(dir.path().join("_default")).unwrap();
        std::fs::write(dir.path().join("_default/hosts.toml"), "[host.'m.lan']\n").unwrap();
        assert_eq!(find(&[dir.path().to_owned()], "reg.io").unwrap().unwrap().mirrors.len(), 1);
    }
}
