//! Whose signatures count, and whether one of them is.

use fluyt_model::{Error, Kind, Result};

use crate::certificate::{self, Pattern};
use crate::keys::PublicKey;
use crate::log::{self, About};
use crate::payload::Payload;
use crate::signature::Signature;

/// Whose signatures count.
#[derive(Clone, Debug)]
pub enum Authority {
    /// Those of any of these keys.
    Keys(Vec<PublicKey>),
    /// Those of whoever has a certificate that meets this.
    Certificates(CertificateRule),
}

/// Which certificates count. What is not given may be anything.
#[derive(Clone, Debug, Default)]
pub struct CertificateRule {
    /// Certificates of authorities, DER each.
    pub roots: Vec<Vec<u8>>,
    /// Certificates between authority and signer, beside those that come with the signature.
    pub intermediates: Vec<Vec<u8>>,
    /// Whom it must name, each of them: mail addresses, URIs, hosts.
    pub identities: Vec<Pattern>,
    /// The OpenID provider that knew the signer.
    pub issuer: Option<Pattern>,
}

impl CertificateRule {
    /// Adds the authorities of a PEM text: what signs itself is a root, others are between, unless there is no root.
    ///
    /// # Errors
    /// `Kind::Invalid` when there is no certificate in it.
    pub fn add_chain(&mut self, text: &str, name: &str) -> Result<()> {
        let mut chain = certificate::from_pem(text);
        let Some(last) = chain.pop() else {
            return Err(Error::invalid(format!("{name}: no certificate in it")));
        };
        // The last of a chain is the one to be trusted.
        self.roots.push(last);
        self.intermediates.extend(chain);
        Ok(())
    }

    /// Adds authorities that are all to be trusted.
    ///
    /// # Errors
    /// `Kind::Invalid` when there is no certificate in it.
    pub fn add_roots(&mut self, text: &str, name: &str) -> Result<()> {
        let roots = certificate::from_pem(text);
        if roots.is_empty() {
            return Err(Error::invalid(format!("{name}: no certificate in it")));
        }
        self.roots.extend(roots);
        Ok(())
    }

    /// Adds certificates that are not trusted by themselves.
    pub fn add_intermediates(&mut self, text: &str) {
        self.intermediates.extend(certificate::from_pem(text));
    }
}

/// What a signature is held against.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// Whose it must be.
    pub authority: Authority,
    /// Keys of transparency logs; if there are any, one of them must have taken the signature.
    pub logs: Vec<PublicKey>,
}

/// A verified signature.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// What was signed.
    pub payload: Payload,
    /// Whom the certificate names, if the signer has one.
    pub subject: Option<String>,
    /// The OpenID provider of the signer.
    pub issuer: Option<String>,
    /// When a log took it, in seconds since the epoch.
    pub logged: Option<i64>,
}

fn refused(why: impl Into<String>) -> Error {
    Error::new(Kind::Unauthorized, why)
}

impl Verifier {
    /// Verifies a signature at the time `now` (seconds since the epoch). What image it is about is for the caller to
    /// compare.
    ///
    /// # Errors
    /// `Kind::Unauthorized`: it is nobody's who counts; `Kind::Corrupt`: it cannot be read.
    pub fn verify(&self, signature: &Signature, now: i64) -> Result<Verified> {
        match &self.authority {
            Authority::Keys(keys) => self.by_key(keys, signature),
            Authority::Certificates(rule) => self.by_certificate(rule, signature, now),
        }
    }

    fn by_key(&self, keys: &[PublicKey], signature: &Signature) -> Result<Verified> {
        let (payload, bytes) = (signature.payload.as_bytes(), signature.bytes()?);
        let key = keys.iter().find(|key| key.verify(payload, &bytes).is_ok());
        let key = key.ok_or_else(|| refused("the signature is of another key"))?;
        let logged = self.logged(signature, &bytes, key.spki())?;
        Ok(Verified { payload: Payload::parse(payload)?, subject: None, issuer: None, logged })
    }

    fn by_certificate(&self, rule: &CertificateRule, signature: &Signature, now: i64) -> Result<Verified> {
        let text = signature.certificate.as_deref().unwrap_or_default();
        let leaf = certificate::from_pem(text).into_iter().next();
        let leaf = leaf.ok_or_else(|| refused("the signature comes without a certificate"))?;
        let (payload, bytes) = (signature.payload.as_bytes(), signature.bytes()?);
        let logged = self.logged(signature, &bytes, &leaf)?;
        // Certificates of this kind live for minutes; the log says that the signature was made within them.
        let at = logged.unwrap_or(now);
        let mut above = rule.intermediates.clone();
        above.extend(certificate::from_pem(signature.chain.as_deref().unwrap_or_default()));
        certificate::verify_chain(&leaf, &above, &rule.roots, at)?;
        let subject = certificate::subject(&leaf)?;
        subject
            .key
            .verify(payload, &bytes)
            .map_err(|_| refused("the signature is not of its certificate"))?;
        let mut name = None;
        for wanted in &rule.identities {
            let found = subject.names.iter().find(|name| wanted.fits(name));
            let are = subject.names.join(", ");
            let found = found.ok_or_else(|| refused(format!("the signer is {are}, not {wanted}")))?;
            name = name.or(Some(found));
        }
        let name = name.or(subject.names.first());
        if let Some(wanted) = &rule.issuer
            && !subject.issuer.as_deref().is_some_and(|issuer| wanted.fits(issuer))
        {
            let is = subject.issuer.as_deref().unwrap_or("nobody");
            return Err(refused(format!("the signer is known to {is}, not to {wanted}")));
        }
        Ok(Verified {
            payload: Payload::parse(payload)?,
            subject: name.cloned(),
            issuer: subject.issuer.clone(),
            logged,
        })
    }

    fn logged(&self, signature: &Signature, bytes: &[u8], signer: &[u8]) -> Result<Option<i64>> {
        if self.logs.is_empty() {
            return Ok(None);
        }
        let bundle = signature.bundle.as_deref();
        let bundle = bundle.ok_or_else(|| refused("no transparency log has taken the signature"))?;
        let about = About { payload: signature.payload.as_bytes(), signature: bytes, signer };
        log::verify(bundle, &self.logs, &about).map(Some)
    }
}
