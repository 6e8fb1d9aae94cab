//! Certificates of signers: whom they name, and whether an authority vouches for them.
//!
//! What an OpenID provider said of the signer stands in the extensions that Fulcio defines (1.3.6.1.4.1.57264.1).

use fluyt_model::{Error, Kind, Result};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::der::{self, Reader};
use crate::keys::PublicKey;
use crate::pem;

/// id-kp-codeSigning.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
const OID_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// Fulcio's issuer as bare text, and as a DER string.
const OID_ISSUER: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x01];
const OID_ISSUER_V2: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x08];
/// Fulcio's name of a user that is no address.
const OID_USER_NAME: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xbf, 0x30, 0x01, 0x07];

/// A text that must be met.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// This text.
    Exactly(String),
    /// Any text in which this expression is found (anchor it with `^` and `$`).
    Regexp(regex_lite::Regex),
}

impl Pattern {
    /// A regular expression.
    ///
    /// # Errors
    /// `Kind::Invalid`.
    pub fn regexp(text: &str) -> Result<Self> {
        regex_lite::Regex::new(text)
            .map(Self::Regexp)
            .map_err(|e| Error::invalid(format!("{text:?} is not a regular expression")).with_source(e))
    }

    /// Whether `text` meets it.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == text,
            Self::Regexp(expression) => expression.is_match(text),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(text) => f.write_str(text),
            Self::Regexp(expression) => write!(f, "/{expression}/"),
        }
    }
}

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub key: PublicKey,
    /// Its alternative names: addresses, URIs, hosts, users.
    pub names: Vec<String>,
    /// The OpenID provider that knew the signer.
    pub issuer: Option<String>,
}

/// The certificates of a PEM text, DER each.
pub(crate) fn from_pem(text: &str) -> Vec<Vec<u8>> {
    pem::parse(text).into_iter().filter(|b| b.label == "CERTIFICATE").map(|b| b.bytes).collect()
}

/// The key of a certificate.
pub(crate) fn public_key(certificate: &[u8]) -> Result<PublicKey> {
    subject(certificate).map(|s| s.key)
}

/// Reads what a certificate says of its subject. Verifies nothing.
pub(crate) fn subject(certificate: &[u8]) -> Result<Subject> {
    let broken = || Error::corrupt("the certificate cannot be read");
    let (spki, extensions) = parts(certificate).ok_or_else(broken)?;
    let mut found = Subject { key: PublicKey::from_spki(spki)?, names: Vec::new(), issuer: None };
    for (oid, value) in extensions {
        match oid {
            OID_ALT_NAME => found.names = alternative_names(value).ok_or_else(broken)?,
            // The newer form is the trustworthy one where there are both.
            OID_ISSUER_V2 => {
                let text = Reader(value).read(der::UTF8_STRING).ok_or_else(broken)?.content;
                found.issuer = Some(String::from_utf8(text.to_vec()).map_err(|_| broken())?);
            }
            OID_ISSUER if found.issuer.is_none() => {
                found.issuer = Some(String::from_utf8(value.to_vec()).map_err(|_| broken())?);
            }
            _ => {}
        }
    }
    Ok(found)
}

type Extensions<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The key and the extensions (identifier and value) of a certificate (RFC 5280, section 4.1).
fn parts(certificate: &[u8]) -> Option<(&[u8], Extensions<'_>)> {
    let mut outer = Reader(Reader(certificate).read(der::SEQUENCE)?.content);
    let mut body = Reader(outer.read(der::SEQUENCE)?.content);
    let _version = body.read(0xa0);
    let _serial = body.read(0x02)?;
    // Signature algorithm, issuer, validity, subject.
    for _ in 0..4 {
        body.read(der::SEQUENCE)?;
    }
    let spki = body.read(der::SEQUENCE)?.whole;
    let mut extensions = Vec::new();
    for optional in body {
        if optional.tag != 0xa3 {
            continue;
        }
        for extension in Reader(Reader(optional.content).read(der::SEQUENCE)?.content) {
            let mut fields = Reader(extension.content);
            let oid = fields.read(der::OID)?.content;
            let _critical = fields.read(der::BOOLEAN);
            extensions.push((oid, fields.read(der::OCTET_STRING)?.content));
        }
    }
    Some((spki, extensions))
}

/// `GeneralNames`: rfc822Name, dNSName, URI, and Fulcio's user name; others name nobody.
fn alternative_names(value: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for name in Reader(Reader(value).read(der::SEQUENCE)?.content) {
        let text = match name.tag {
            0x81 | 0x82 | 0x86 => name.content,
            0xa0 => {
                let mut fields = Reader(name.content);
                if fields.read(der::OID)?.content != OID_USER_NAME {
                    continue;
                }
                Reader(fields.read(0xa0)?.content).read(der::UTF8_STRING)?.content
            }
            _ => continue,
        };
        names.push(String::from_utf8(text.to_vec()).ok()?);
    }
    Some(names)
}

/// Whether one of `roots` vouches for a certificate that may sign code (or does not say what it is for), at a time (seconds since the epoch).
///
/// # Errors
/// `Kind::Unauthorized`.
pub(crate) fn verify_chain(leaf: &[u8], above: &[Vec<u8>], roots: &[Vec<u8>], at: i64) -> Result<()> {
    let refused = |e: webpki::Error| {
        Error::new(Kind::Unauthorized, format!("the signer's certificate is not vouched for: {e}"))
    };
    let roots: Vec<CertificateDer<'_>> = roots.iter().map(|r| CertificateDer::from(r.as_slice())).collect();
    let mut anchors = Vec::new();
    for root in &roots {
        anchors
            .push(anchor_from_trusted_cert(root).map_err(|e| {
                Error::invalid(format!("a certificate of the authority cannot be read: {e}"))
            })?);
    }
    let above: Vec<CertificateDer<'_>> = above.iter().map(|c| CertificateDer::from(c.as_slice())).collect();
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(refused)?;
    let seconds = u64::try_from(at).unwrap_or(0);
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let usage = KeyUsage::required_if_present(CODE_SIGNING);
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &above, time, usage, None, None)
        .map(|_| ())
        .map_err(refused)
}
