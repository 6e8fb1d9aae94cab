//! One file from a web server: what a build's `ADD` of an address asks for. No credentials, no registry.

use std::fs::File;
use std::path::Path;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use crate::http::{Ask, Http};
use crate::settings::Settings;

/// Writes what is at `url` (http or https, redirects followed) into the new file `path`; the time of its last change
/// as the server states it, in seconds since the epoch.
///
/// # Errors
/// `Kind::NotFound` for a 404 or 410, `Kind::Unavailable` for every other answer but success; I/O errors.
pub fn fetch_file(settings: &Settings, url: &str, path: &Path) -> Result<Option<i64>> {
    let host = url.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or("");
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if host.is_empty() {
        return Err(Error::invalid(format!("{url}: not an address of a web server")));
    }
    // A redirect may lead to https.
    let http = Http::new(settings, host, true)?;
    let bare = url.split('#').next().unwrap_or(url);
    let answer = http.send(&mut Ask::get(bare, url), None)?;
    let status = answer.status;
    if !status.is_success() {
        let kind = if matches!(status.as_u16(), 404 | 410) { Kind::NotFound } else { Kind::Unavailable };
        return Err(Error::new(kind, format!("{url}: invalid response status {}", status.as_u16())));
    }
    let changed = answer.header("last-modified").and_then(http_date);
    let mut file = File::create_new(path).about(|| path.display().to_string())?;
    std::io::copy(&mut answer.reader(), &mut file).about(|| format!("fetching {url}"))?;
    Ok(changed)
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
}
