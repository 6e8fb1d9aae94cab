//! Credentials that clients send in headers: base64 of JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;

use super::call::Call;
use crate::api::AuthConfig;

/// `X-Registry-Auth`. One that cannot be read counts as none, as with Docker's engine.
pub fn one(call: &Call<'_, '_>) -> Option<AuthConfig> {
    decoded(call.request.head.header("x-registry-auth")?)
}

/// `X-Registry-Config`, by registry.
pub fn all(call: &Call<'_, '_>) -> BTreeMap<String, AuthConfig> {
    call.request.head.header("x-registry-config").and_then(decoded).unwrap_or_default()
}

fn decoded<T: DeserializeOwned>(text: &str) -> Option<T> {
    let text = text.trim().trim_end_matches('=');
    let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_with_and_without_padding() {
        let text = r#"{"username":"a","password":"p?>","serveraddress":"x"}"#;
        for encoded in [
            base64::engine::general_purpose::URL_SAFE.encode(text),
            base64::engine::general_purpose::STANDARD.encode(text),
            URL_SAFE_NO_PAD.encode(text),
        ] {
            assert_eq!(decoded::<AuthConfig>(&encoded).unwrap().password, "p?>");
        }
        assert!(decoded::<AuthConfig>("!").is_none());
    }
}
