//! The client's side of TLS: whom it trusts, and what it presents.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Where systems keep the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// PEM texts of one endpoint, as given by files or by a context.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Material {
    /// Authorities that may have signed the server's certificate; `None`: the system's.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate.
    pub cert: Option<Vec<u8>>,
    /// The client's key.
    pub key: Option<Vec<u8>>,
    /// Whether the server's certificate is believed unread.
    pub skip_verify: bool,
}

/// Keys are never shown.
impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("skip_verify", &self.skip_verify).finish_non_exhaustive()
    }
}

impl Material {
    /// Reads the files that are named.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn read(
        ca: Option<&Path>,
        cert: Option<&Path>,
        key: Option<&Path>,
        skip_verify: bool,
    ) -> Result<Self> {
        let read = |path: Option<&Path>| {
            path.map(|path| std::fs::read(path).about(|| path.display().to_string())).transpose()
        };
        Ok(Self { ca: read(ca)?, cert: read(cert)?, key: read(key)?, skip_verify })
    }

    /// What a handshake needs.
    ///
    /// # Errors
    /// `Invalid` for texts that are no certificates or no key, or do not belong together.
    pub fn config(&self) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::internal("the protocol versions of TLS").with_source(e))?;
        let builder = if self.skip_verify {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        } else {
            let roots = Arc::new(self.roots()?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|e| Error::invalid("ca.pem: no authority in it can be used").with_source(e))?;
            builder.with_webpki_verifier(verifier)
        };
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert, "cert.pem")?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| {
                    Error::invalid("key.pem: no private key in it").with_source(e).with_hint(
                        "keys that are encrypted with a password cannot be used: decrypt them with openssl",
                    )
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|e| {
                    Error::invalid("cert.pem and key.pem do not belong together").with_source(e)
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(pem) => {
                for certificate in certificates(pem, "ca.pem")? {
                    roots.add(certificate).map_err(|e| {
                        Error::invalid("ca.pem: a certificate in it is not one").with_source(e)
                    })?;
                }
            }
            None => {
                let system = SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read(path).ok());
                let Some(pem) = system else {
                    return Err(Error::not_found("no certificates of authorities on this machine")
                        .with_hint("name the daemon's with --tlscacert, or as ca.pem in DOCKER_CERT_PATH"));
                };
                roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
            }
        }
        Ok(roots)
    }
}

fn certificates(pem: &[u8], name: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| Error::invalid(format!("{name}: not a PEM file")).with_source(e))?;
    if found.is_empty() {
        return Err(Error::invalid(format!("{name}: no certificate in it")));
    }
    Ok(found)
}

/// The three files in a directory, those that are there.
#[must_use]
pub fn files_in(dir: &Path) -> [PathBuf; 3] {
    ["ca.pem", "cert.pem", "key.pem"].map(|name| dir.join(name))
}

/// Believes every certificate: `--tls` without `--tlsverify`, as the user asked. Signatures are still checked, so that
/// the peer has at least the key of what it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
