//! A connection's bytes, plain or through TLS, and the certificate that is presented.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// An accepted connection.
pub(crate) enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// Whether bytes written to the socket are what the peer reads.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Bounds how long a read may wait.
    pub fn set_patience(&self, time: Duration) {
        // Only a zero duration is refused.
        let _ = self.socket().set_read_timeout(Some(time));
    }

    /// Tells the peer that nothing more comes.
    pub fn close_write(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(std::net::Shutdown::Write);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Plain(socket) => socket.read(buffer),
                Self::Tls(stream) => stream.read(buffer),
            };
            match result {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A certificate chain and its key in PEM files, read again when they change (a renewal needs no restart).
#[derive(Debug)]
pub(crate) struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<(Option<SystemTime>, Arc<ServerConfig>)>,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid` for files that are no certificate or key, or do not belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let changed = modified(certificate);
        let config = read_config(certificate, key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            loaded: Mutex::new((changed, Arc::new(config))),
        })
    }

    /// Reads the files again if the certificate's has another time. Files that are not right at the moment (half
    /// of a renewal) leave what was loaded before.
    pub fn refresh(&self) -> Result<()> {
        let changed = modified(&self.certificate);
        if changed == self.loaded.lock().unwrap_or_else(PoisonError::into_inner).0 {
            return Ok(());
        }
        let config = Arc::new(read_config(&self.certificate, &self.key)?);
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = (changed, config);
        Ok(())
    }

    /// Begins a session on an accepted socket; the handshake happens with the first read.
    pub fn accept(&self, socket: TcpStream) -> Result<Stream> {
        let config = Arc::clone(&self.loaded.lock().unwrap_or_else(PoisonError::into_inner).1);
        let session = ServerConnection::new(config)
            .map_err(|e| Error::internal("beginning a TLS session").with_source(e))?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(session, socket))))
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|m| m.modified()).ok()
}

fn read_config(certificate: &Path, key: &Path) -> Result<ServerConfig> {
    let pem = std::fs::read(certificate).about(|| certificate.display().to_string())?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Error::invalid(format!("{}: not a PEM file", certificate.display())).with_source(e))?;
    if chain.is_empty() {
        return Err(Error::invalid(format!("{}: no certificate in it", certificate.display())));
    }
    let pem = std::fs::read(key).about(|| key.display().to_string())?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|e| Error::invalid(format!("{}: no private key in it", key.display())).with_source(e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal("the protocol versions of TLS").with_source(e))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| {
            let text = format!("{} and {} do not fit together", certificate.display(), key.display());
            Error::invalid(text).with_source(e)
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
