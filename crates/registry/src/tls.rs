//! Which certificates are trusted and presented, host by host.

use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::settings::Settings;

/// The TLS configuration for `host` (`NAME[:PORT]`).
///
/// # Errors
/// I/O errors and malformed files under `certs.d`.
pub(crate) fn config(settings: &Settings, host: &str) -> Result<TlsConfig> {
    let own = own_files(settings, host)?;
    let mut roots = system_roots(settings);
    for path in own.iter().filter(|p| has_extension(p, "crt")) {
        let before = roots.len();
        roots.extend(certificates(&read(path)?));
        if roots.len() == before {
            return Err(Error::invalid(format!("{}: no certificate in it", path.display())));
        }
    }
    let rules = settings.rules.get(host);
    for path in rules.iter().flat_map(|r| &r.authorities) {
        roots.extend(certificates(&read(path)?));
    }
    let roots = if roots.is_empty() { RootCerts::WebPki } else { RootCerts::new_with_certs(&roots) };
    Ok(TlsConfig::builder()
        .root_certs(roots)
        .client_cert(match rules.and_then(|r| r.client.as_ref()) {
            Some((certificate, key)) => Some(presented(certificate, key)?),
            None => client_certificate(&own)?,
        })
        .disable_verification(settings.is_insecure(host))
        .build())
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|e| e == wanted)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).about(|| path.display().to_string())
}

/// The files for this host, sorted.
fn own_files(settings: &Settings, host: &str) -> Result<Vec<PathBuf>> {
    // A host comes from a reference and so has no slash; this holds even so.
    if host.contains('/') || host.starts_with('.') {
        return Ok(Vec::new());
    }
    let given = settings.certificates.iter().cloned();
    for dir in given.chain(settings.certificate_dirs.iter().map(|dir| dir.join(host))) {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry.about(|| dir.display().to_string())?.path());
        }
        files.sort();
        return Ok(files);
    }
    Ok(Vec::new())
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(c)) => Some(c),
            _ => None,
        })
        .collect()
}

fn system_roots(settings: &Settings) -> Vec<Certificate<'static>> {
    settings
        .system_authorities
        .iter()
        .find_map(|path| std::fs::read(path).ok())
        .map(|pem| certificates(&pem))
        .unwrap_or_default()
}

/// The first `NAME.cert` with its `NAME.key`.
fn client_certificate(files: &[PathBuf]) -> Result<Option<ClientCert>> {
    let Some(path) = files.iter().find(|p| has_extension(p, "cert")) else { return Ok(None) };
    let key_path = path.with_extension("key");
    if !files.contains(&key_path) {
        return Err(Error::invalid(format!("{}: its key {} is missing", path.display(), key_path.display())));
    }
    presented(path, &key_path).map(Some)
}

fn presented(certificate: &Path, key: &Path) -> Result<ClientCert> {
    let chain = certificates(&read(certificate)?);
    let key = PrivateKey::from_pem(&read(key)?)
        .map_err(|e| Error::invalid(format!("{}: not a private key", key.display())).with_source(e))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
