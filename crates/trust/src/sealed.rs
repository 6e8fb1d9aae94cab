//! Cosign's encrypted private key: a JSON document with a key made of the password by scrypt and the key's PKCS #8
//! form in a secretbox (the container of go-tuf's and securesystemslib's `encrypted` package).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crypto_secretbox::aead::AeadInPlace;
use crypto_secretbox::{KeyInit, Nonce, Tag, XSalsa20Poly1305};
use fluyt_model::{Error, Kind, Result};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// The cost that every version of cosign, podman and skopeo reads (2^15); newer ones read 2^16 as well.
const LOG_N: u8 = 15;
const BLOCK_SIZE: u32 = 8;
const PARALLEL: u32 = 1;
/// Costs above this are refused: a foreign file shall not eat all memory.
const MAX_LOG_N: u8 = 20;
const SALT: usize = 32;
const NONCE: usize = 24;
const TAG: usize = 16;

#[derive(Serialize, Deserialize)]
struct Document {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

fn derive(password: &[u8], salt: &[u8], log_n: u8, r: u32, p: u32) -> Result<[u8; 32]> {
    let mut key = [0; 32];
    let params = scrypt::Params::new(log_n, r, p, key.len())
        .map_err(|e| Error::corrupt(format!("the key file's scrypt parameters: {e}")))?;
    scrypt::scrypt(password, salt, &params, &mut key).map_err(|e| Error::internal(format!("scrypt: {e}")))?;
    Ok(key)
}

/// Encrypts `secret`.
///
/// # Errors
/// Only when the system has no random numbers.
pub(crate) fn seal(secret: &[u8], password: &[u8]) -> Result<Vec<u8>> {
    let random = SystemRandom::new();
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE]);
    for bytes in [&mut salt[..], &mut nonce[..]] {
        random.fill(bytes).map_err(|_| Error::internal("the system gives no random numbers"))?;
    }
    let key = derive(password, &salt, LOG_N, BLOCK_SIZE, PARALLEL)?;
    let mut body = secret.to_vec();
    let tag = XSalsa20Poly1305::new(&key.into())
        .encrypt_in_place_detached(Nonce::from_slice(&nonce), b"", &mut body)
        .map_err(|_| Error::internal("the key is too long to be encrypted"))?;
    let ciphertext: Vec<u8> = tag.iter().copied().chain(body).collect();
    let document = Document {
        kdf: Kdf {
            name: "scrypt".to_owned(),
            params: Params { n: 1 << LOG_N, r: BLOCK_SIZE, p: PARALLEL },
            salt: BASE64.encode(salt),
        },
        cipher: Cipher { name: "nacl/secretbox".to_owned(), nonce: BASE64.encode(nonce) },
        ciphertext: BASE64.encode(ciphertext),
    };
    serde_json::to_vec(&document).map_err(|e| Error::internal("writing the key file").with_source(e))
}

/// Decrypts what [`seal`] or cosign made.
///
/// # Errors
/// `Kind::Unauthorized` for a wrong password; `Kind::Corrupt` or `Kind::Unsupported` for another document.
pub(crate) fn open(document: &[u8], password: &[u8]) -> Result<Vec<u8>> {
    let broken = || Error::corrupt("the encrypted key cannot be read");
    let document: Document = serde_json::from_slice(document).map_err(|e| broken().with_source(e))?;
    if document.kdf.name != "scrypt" || document.cipher.name != "nacl/secretbox" {
        return Err(Error::unsupported(format!(
            "the key is encrypted with {} and {}, only scrypt and nacl/secretbox are known",
            document.kdf.name, document.cipher.name
        )));
    }
    let bytes = |text: &str| BASE64.decode(text).map_err(|_| broken());
    let (salt, nonce, ciphertext) =
        (bytes(&document.kdf.salt)?, bytes(&document.cipher.nonce)?, bytes(&document.ciphertext)?);
    let Params { n, r, p } = document.kdf.params;
    let log_n = u8::try_from(n.trailing_zeros()).unwrap_or(u8::MAX);
    if !n.is_power_of_two() || log_n > MAX_LOG_N || r > 16 || p > 16 {
        return Err(Error::unsupported(format!(
            "the key's scrypt parameters N={n} r={r} p={p} are out of bounds"
        )));
    }
    if nonce.len() != NONCE || ciphertext.len() < TAG {
        return Err(broken());
    }
    let key = derive(password, &salt, log_n, r, p)?;
    let (tag, body) = ciphertext.split_at(TAG);
    let mut body = body.to_vec();
    XSalsa20Poly1305::new(&key.into())
        .decrypt_in_place_detached(Nonce::from_slice(&nonce), b"", &mut body, Tag::from_slice(tag))
        .map_err(|_| {
            Error::new(Kind::Unauthorized, "the private key's password is wrong")
                .with_hint("set COSIGN_PASSWORD to the password that the key was made with")
        })?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_opens() {
        let sealed = seal(b"secret", b"pw").unwrap();
        assert_eq!(open(&sealed, b"pw").unwrap(), b"secret");
        assert_eq!(open(&sealed, b"pW").unwrap_err().kind(), Kind::Unauthorized);
        assert_eq!(open(b"{}", b"pw").unwrap_err().kind(), Kind::Corrupt);
        let huge = String::from_utf8(sealed).unwrap().replace("\"N\":32768", "\"N\":1073741824");
        assert_eq!(open(huge.as_bytes(), b"pw").unwrap_err().kind(), Kind::Unsupported);
    }
}
