//! One file from a web server: what a build's `ADD` of an address asks for. No credentials, no registry.

use std::fs::File;
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};
use percent_encoding::percent_decode_str;

use crate::http::{Ask, Http};
use crate::settings::Settings;

/// What is asked for, and what is known of it from before.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileAsk<'a> {
    /// http or https; redirects are followed.
    pub url: &'a str,
    /// The `ETag` of what is here; empty: none.
    pub etag: &'a str,
    /// The `Last-Modified` of what is here; empty: none.
    pub modified: &'a str,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileAnswer {
    /// What is here is still what is there.
    Unchanged,
    /// It was written into the file.
    Fetched {
        /// The name that the server gives it: a single name, never a path.
        name: Option<String>,
        /// The time of its last change as the server states it, in seconds since the epoch.
        time: Option<i64>,
        /// `ETag`, for the next time.
        etag: String,
        /// `Last-Modified`, for the next time.
        modified: String,
    },
}

/// Writes what is at an address into the new file `path`, unless it is still what was there before.
///
/// # Errors
/// `Kind::NotFound` for a 404 or 410, `Kind::Unavailable` for every other answer but success; I/O errors.
pub fn fetch_file(settings: &Settings, ask: FileAsk<'_>, path: &Path) -> Result<FileAnswer> {
    let url = ask.url;
    let host = url.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or("");
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if host.is_empty() {
        return Err(Error::invalid(format!("{}: not an address of a web server", shown(url))));
    }
    // A redirect may lead to https.
    let http = Http::new(settings, host, true)?;
    let shown = shown(url);
    let mut request = Ask::get(url.split('#').next().unwrap_or(url), &shown);
    let conditional = !ask.etag.is_empty() || !ask.modified.is_empty();
    // A server that knows an ETag does not look at the date (RFC 9110, 13.2.2).
    for (header, value) in [("if-none-match", ask.etag), ("if-modified-since", ask.modified)] {
        if !value.is_empty() {
            request = request.header(header, value);
        }
    }
    let answer = http.send(&mut request, None)?;
    let status = answer.status;
    if status.as_u16() == 304 && conditional {
        return Ok(FileAnswer::Unchanged);
    }
    if !status.is_success() {
        let kind = if matches!(status.as_u16(), 404 | 410) { Kind::NotFound } else { Kind::Unavailable };
        return Err(Error::new(kind, format!("{shown}: invalid response status {}", status.as_u16())));
    }
    let text = |name: &str| answer.header(name).unwrap_or_default().to_owned();
    let (etag, modified) = (text("etag"), text("last-modified"));
    let (name, time) = (disposed_name(&text("content-disposition")), http_date(&modified));
    let mut file = File::create_new(path).about(|| path.display().to_string())?;
    std::io::copy(&mut answer.reader(), &mut file).about(|| format!("fetching {shown}"))?;
    Ok(FileAnswer::Fetched { name, time, etag, modified })
}

/// An address as messages have it: without a password, and without a query, which may be signed.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (machine, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let machine = machine.rsplit_once('@').map_or(machine, |(_, machine)| machine);
    format!("{scheme}://{machine}{path}")
}

/// The file name in a `Content-Disposition` (RFC 6266), if there is a usable one.
fn disposed_name(header: &str) -> Option<String> {
    let parameters = header.split(';').skip(1).filter_map(|p| p.split_once('='));
    let found: Vec<(String, &str)> =
        parameters.map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim())).collect();
    let get = |name: &str| found.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let extended = get("filename*")
        .and_then(|value| value.splitn(3, '\'').nth(2))
        .map(|v| percent_decode_str(v).decode_utf8_lossy().into_owned());
    let name = extended.or_else(|| get("filename").map(|value| value.trim_matches('"').to_owned()))?;
    plain_name(&name)
}

/// The last part of a path, if it can be the name of a file.
fn plain_name(path: &str) -> Option<String> {
    let name = path.trim_end_matches('/').rsplit(['/', '\\']).next().unwrap_or_default();
    let usable = !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    usable.then(|| name.to_owned())
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`, in seconds since the epoch.
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let day: u32 = day.parse().ok()?;
    let nanos = fluyt_model::time::parse(&format!("{year}-{month:02}-{day:02}T{time}Z"))?;
    Some(nanos.div_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_servers_are_understood() {
        assert_eq!(http_date("Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:01 GMT"), Some(1));
        assert_eq!(http_date("yesterday"), None);
    }

    #[test]
    fn names_of_servers_are_names_only() {
        for (header, expected) in [
            ("attachment; filename=a.txt", Some("a.txt")),
            ("attachment; FileName=\"a b.txt\"", Some("a b.txt")),
            ("attachment; filename=x; filename*=UTF-8''%e2%82%ac.txt", Some("\u{20ac}.txt")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename*=UTF-8''..%2F..%2Fx", Some("x")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=a%00", Some("a%00")),
            ("inline", None),
            ("", None),
        ] {
            assert_eq!(disposed_name(header).as_deref(), expected, "{header}");
        }
        assert_eq!(disposed_name("attachment; filename*=UTF-8''%4").as_deref(), Some("%4"));
        assert_eq!(disposed_name("attachment; filename*=UTF-8''%\u{20ac}").as_deref(), Some("%\u{20ac}"));
    }

    #[test]
    fn messages_have_no_passwords() {
        for (url, expected) in [
            ("https://u:p@h:1/x?sig=s#f", "https://h:1/x"),
            ("http://h/a@b", "http://h/a@b"),
            ("https://token@h", "https://h"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
