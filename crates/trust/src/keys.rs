//! Keys: ECDSA on P-256 and P-384, Ed25519, RSA; always over SHA-256, as cosign signs.

use fluyt_model::{Error, Kind, Result};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey};

use crate::der::{self, Reader};
use crate::pem;
use crate::sealed;

/// What an encrypted private key is called in its file. All versions of cosign and of podman know this one.
const SEALED_LABEL: &str = "ENCRYPTED COSIGN PRIVATE KEY";
/// What newer versions of cosign call it.
const SEALED_LABEL_NEW: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";

const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl Algorithm {
    fn verification(self) -> &'static dyn signature::VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &signature::ECDSA_P384_SHA256_ASN1,
            Self::Ed25519 => &signature::ED25519,
            Self::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
        }
    }

    /// The content of its `AlgorithmIdentifier`.
    fn identifier(self) -> Vec<u8> {
        let oid = |bytes| der::encode(der::OID, bytes);
        match self {
            Self::P256 => [oid(OID_EC), oid(OID_P256)].concat(),
            Self::P384 => [oid(OID_EC), oid(OID_P384)].concat(),
            Self::Ed25519 => oid(OID_ED25519),
            Self::Rsa => [oid(OID_RSA), vec![0x05, 0x00]].concat(),
        }
    }
}

/// A key that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// `SubjectPublicKeyInfo` (RFC 5280), DER.
    spki: Vec<u8>,
    /// The key itself, as `ring` takes it.
    key: Vec<u8>,
}

impl PublicKey {
    /// Reads a PEM file: `PUBLIC KEY`, or the key of a `CERTIFICATE`. `name` is how errors call it.
    ///
    /// # Errors
    /// `Kind::Invalid` when there is none; `Kind::Unsupported` for other algorithms.
    pub fn from_pem(text: &str, name: &str) -> Result<Self> {
        let blocks = pem::parse(text);
        let found = blocks.iter().find(|b| matches!(b.label.as_str(), "PUBLIC KEY" | "CERTIFICATE"));
        let Some(block) = found else {
            return Err(Error::invalid(format!("{name}: not a public key"))
                .with_hint("a PEM file with a PUBLIC KEY is wanted, such as cosign.pub"));
        };
        if block.label == "CERTIFICATE" {
            return crate::certificate::public_key(&block.bytes).map_err(|e| e.context(name.to_owned()));
        }
        Self::from_spki(&block.bytes).map_err(|e| e.context(name.to_owned()))
    }

    /// Reads a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// `Kind::Invalid`, `Kind::Unsupported`.
    pub fn from_spki(spki: &[u8]) -> Result<Self> {
        let (algorithm, key) = split_spki(spki)
            .ok_or_else(|| Error::invalid("the public key cannot be read or has trailing data"))?;
        let algorithm = algorithm.ok_or_else(|| {
            Error::unsupported(
                "a public key of an unknown kind; known are ECDSA (P-256, P-384), Ed25519, RSA",
            )
        })?;
        Ok(Self { algorithm, spki: spki.to_owned(), key: key.to_owned() })
    }

    fn of(algorithm: Algorithm, key: &[u8]) -> Self {
        let bits: Vec<u8> = std::iter::once(0).chain(key.iter().copied()).collect();
        let inner =
            [der::encode(der::SEQUENCE, &algorithm.identifier()), der::encode(der::BIT_STRING, &bits)];
        Self { algorithm, spki: der::encode(der::SEQUENCE, &inner.concat()), key: key.to_owned() }
    }

    /// The key as a PEM file.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.spki)
    }

    /// The `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Verifies a signature of `message`.
    ///
    /// # Errors
    /// `Kind::Unauthorized`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<()> {
        UnparsedPublicKey::new(self.algorithm.verification(), &self.key)
            .verify(message, signature)
            .map_err(|_| Error::new(Kind::Unauthorized, "the signature is not one of this key"))
    }
}

/// The algorithm, if it is known, and the key's bits.
fn split_spki(spki: &[u8]) -> Option<(Option<Algorithm>, &[u8])> {
    let mut outer = Reader(spki);
    let mut inside = Reader(outer.read(der::SEQUENCE)?.content);
    let identifier = inside.read(der::SEQUENCE)?.content;
    let bits = inside.read(der::BIT_STRING)?.content;
    let (unused, key) = bits.split_first()?;
    if *unused != 0 || !outer.0.is_empty() || !inside.0.is_empty() {
        return None;
    }
    let all = [Algorithm::P256, Algorithm::P384, Algorithm::Ed25519, Algorithm::Rsa];
    Some((all.into_iter().find(|a| a.identifier() == identifier), key))
}

/// A key that signs.
pub struct PrivateKey {
    pair: Pair,
    /// PKCS #8, DER.
    pkcs8: Vec<u8>,
}

enum Pair {
    Ecdsa(Algorithm, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// Secrets are never shown.
impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// A new key, ECDSA on P-256 as cosign makes them.
    ///
    /// # Errors
    /// Only when the system has no random numbers.
    pub fn generate() -> Result<Self> {
        let algorithm = &signature::ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
            .map_err(|_| Error::internal("the system gives no random numbers"))?;
        Self::from_pkcs8(pkcs8.as_ref())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self> {
        let random = SystemRandom::new();
        let ecdsa = [
            (Algorithm::P256, &signature::ECDSA_P256_SHA256_ASN1_SIGNING),
            (Algorithm::P384, &signature::ECDSA_P384_SHA384_ASN1_SIGNING),
        ];
        let mut pair = None;
        for (algorithm, signing) in ecdsa {
            pair = pair.or_else(|| {
                EcdsaKeyPair::from_pkcs8(signing, pkcs8, &random).ok().map(|p| Pair::Ecdsa(algorithm, p))
            });
        }
        let pair = pair
            .or_else(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok().map(Pair::Ed25519))
            .or_else(|| RsaKeyPair::from_pkcs8(pkcs8).ok().map(|p| Pair::Rsa(Box::new(p))));
        match pair {
            // What verifies such a signature hashes with SHA-256, which ring does not sign with on this curve.
            Some(Pair::Ecdsa(Algorithm::P384, _)) => {
                Err(Error::unsupported("keys on P-384 verify here but do not sign")
                    .with_hint("sign with a key on P-256, Ed25519 or RSA"))
            }
            Some(pair) => Ok(Self { pair, pkcs8: pkcs8.to_owned() }),
            None => Err(Error::unsupported(
                "a private key of an unknown kind; known are ECDSA on P-256, Ed25519 and RSA of 2048 to 4096 bits",
            )),
        }
    }

    /// Reads a PEM file: cosign's encrypted key, for which `password` is asked, or a plain `PRIVATE KEY` (PKCS #8).
    ///
    /// # Errors
    /// `Kind::Invalid`, `Kind::Unsupported`; `Kind::Unauthorized` for a wrong password; those of `password`.
    pub fn from_pem(text: &str, name: &str, password: impl FnOnce() -> Result<Vec<u8>>) -> Result<Self> {
        for block in pem::parse(text) {
            let pkcs8 = match block.label.as_str() {
                SEALED_LABEL | SEALED_LABEL_NEW => {
                    sealed::open(&block.bytes, &password()?).map_err(|e| e.context(name.to_owned()))?
                }
                "PRIVATE KEY" => block.bytes,
                "EC PRIVATE KEY" | "RSA PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => {
                    let text = format!("{name}: the form {:?} is not supported", block.label);
                    return Err(Error::unsupported(text)
                        .with_hint(format!("convert it: openssl pkcs8 -topk8 -nocrypt -in {name}")));
                }
                _ => continue,
            };
            return Self::from_pkcs8(&pkcs8).map_err(|e| e.context(name.to_owned()));
        }
        Err(Error::invalid(format!("{name}: not a private key"))
            .with_hint("a PEM file is wanted, such as cosign.key; `fluyt image generate-key-pair` makes one"))
    }

    /// The key as cosign's encrypted PEM file.
    ///
    /// # Errors
    /// Only when the system has no random numbers.
    pub fn to_sealed_pem(&self, password: &[u8]) -> Result<String> {
        Ok(pem::encode(SEALED_LABEL, &sealed::seal(&self.pkcs8, password)?))
    }

    /// The key that verifies its signatures.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        match &self.pair {
            Pair::Ecdsa(algorithm, pair) => PublicKey::of(*algorithm, pair.public_key().as_ref()),
            Pair::Ed25519(pair) => PublicKey::of(Algorithm::Ed25519, pair.public_key().as_ref()),
            Pair::Rsa(pair) => PublicKey::of(Algorithm::Rsa, pair.public().as_ref()),
        }
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// Only when the system has no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        let failed = |_| Error::internal("signing failed");
        match &self.pair {
            Pair::Ecdsa(_, pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_kept_and_used() {
        let key = PrivateKey::generate().unwrap();
        let signature = key.sign(b"message").unwrap();
        let file = key.to_sealed_pem(b"pw").unwrap();
        let again = PrivateKey::from_pem(&file, "k", || Ok(b"pw".to_vec())).unwrap();
        let public = PublicKey::from_pem(&again.public().to_pem(), "k.pub").unwrap();
        public.verify(b"message", &signature).unwrap();
        assert_eq!(public.verify(b"massage", &signature).unwrap_err().kind(), Kind::Unauthorized);
        let wrong = PrivateKey::from_pem(&file, "k", || Ok(b"no".to_vec())).unwrap_err();
        assert_eq!(wrong.kind(), Kind::Unauthorized);
    }

    #[test]
    fn what_is_no_key_is_named() {
        let text = PublicKey::from_pem("hello", "a.pub").unwrap_err().to_string();
        assert!(text.contains("a.pub"), "{text}");
        let ec = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
        let e = PrivateKey::from_pem(ec, "a.key", || Ok(Vec::new())).unwrap_err();
        assert_eq!(e.kind(), Kind::Unsupported);
        let mut spki = PrivateKey::generate().unwrap().public().spki().to_vec();
        spki.push(0);
        assert_eq!(PublicKey::from_spki(&spki).unwrap_err().kind(), Kind::Invalid);
    }
}
