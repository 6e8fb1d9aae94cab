//! The certificate that is presented, and whose certificates are asked for.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::socket::Socket;
use super::stream::Stream;

/// A certificate chain and its key in PEM files, read again when they change (a renewal needs no restart), and the
/// authorities whose certificates clients must have.
#[derive(Debug)]
pub struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    clients: Option<PathBuf>,
    loaded: Mutex<(Times, Arc<ServerConfig>)>,
}

/// When the files were changed last.
type Times = [Option<SystemTime>; 2];

impl TlsFiles {
    /// Reads the files. With `clients`, a PEM file of authorities, only clients whose certificate one of them has
    /// signed are served.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid` for files that are no certificate or key, or do not belong together.
    pub fn load(certificate: &Path, key: &Path, clients: Option<&Path>) -> Result<Self> {
        let changed = times(certificate, clients);
        let config = read_config(certificate, key, clients)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            clients: clients.map(Path::to_owned),
            loaded: Mutex::new((changed, Arc::new(config))),
        })
    }

    /// Reads the files again if they have another time. Files that are not right at the moment (half of a renewal)
    /// leave what was loaded before.
    ///
    /// # Errors
    /// As [`TlsFiles::load`].
    pub(crate) fn refresh(&self) -> Result<()> {
        let clients = self.clients.as_deref();
        let changed = times(&self.certificate, clients);
        if changed == self.loaded.lock().unwrap_or_else(PoisonError::into_inner).0 {
            return Ok(());
        }
        let config = Arc::new(read_config(&self.certificate, &self.key, clients)?);
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = (changed, config);
        Ok(())
    }

    /// Begins a session on an accepted socket; the handshake happens with the first read.
    pub(crate) fn accept(&self, socket: Socket) -> Option<Stream> {
        let config = Arc::clone(&self.loaded.lock().unwrap_or_else(PoisonError::into_inner).1);
        let session = ServerConnection::new(config).ok()?;
        Some(Stream::Tls(Box::new(StreamOwned::new(session, socket))))
    }
}

fn times(certificate: &Path, clients: Option<&Path>) -> Times {
    let modified = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    [modified(certificate), clients.and_then(modified)]
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = std::fs::read(path).about(|| path.display().to_string())?;
    let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::invalid(format!("{}: not a PEM file", path.display())).with_source(e))?;
    if found.is_empty() {
        return Err(Error::invalid(format!("{}: no certificate in it", path.display())));
    }
    Ok(found)
}

fn read_config(certificate: &Path, key: &Path, clients: Option<&Path>) -> Result<ServerConfig> {
    let chain = certificates(certificate)?;
    let pem = std::fs::read(key).about(|| key.display().to_string())?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|e| Error::invalid(format!("{}: no private key in it", key.display())).with_source(e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal("the protocol versions of TLS").with_source(e))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let unusable =
                || format!("{}: no authority to check certificates of clients with", path.display());
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|e| Error::invalid(unusable()).with_source(e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| Error::invalid(unusable()).with_source(e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|e| {
        let text = format!("{} and {} do not fit together", certificate.display(), key.display());
        Error::invalid(text).with_source(e)
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
