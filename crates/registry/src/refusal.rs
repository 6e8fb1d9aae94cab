//! What a registry's refusal means: its JSON error list (distribution specification, "Error Codes") as an error
//! with a kind and a next step.

use fluyt_model::{Error, Kind};
use serde::Deserialize;
use ureq::http::StatusCode;

use crate::http::{Answer, host_of};
use crate::remote::retry_after;

#[derive(Deserialize)]
struct Document {
    errors: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Parts of error documents that are shown at most.
const LONGEST_TEXT: usize = 300;

/// The error for an answer that is no success; `what` was wanted.
pub(crate) fn of(answer: Answer, what: &str) -> Error {
    let status = answer.status;
    let host = host_of(&answer.url).to_owned();
    let wait = retry_after(&answer);
    let (code, said) = said(&answer.error_text());
    let said = if said.is_empty() { status.to_string() } else { said };
    let message = format!("registry {host}: {what}: {said}");
    match (status, code.as_str()) {
        (StatusCode::TOO_MANY_REQUESTS, _) | (_, "TOOMANYREQUESTS") => {
            let hint = match wait {
                Some(wait) => {
                    format!("try again in {} s, log in for a higher limit, or use a mirror", wait.as_secs())
                }
                None => "try again later, log in for a higher limit, or use a mirror".to_owned(),
            };
            Error::new(Kind::RateLimited, message).with_hint(hint)
        }
        (StatusCode::UNAUTHORIZED, _) | (_, "UNAUTHORIZED") => Error::new(Kind::Unauthorized, message)
            .with_hint(format!("run `fluyt login {host}` and try again")),
        (StatusCode::FORBIDDEN, _) | (_, "DENIED") => Error::new(Kind::PermissionDenied, message)
            .with_hint("log in as a user who may do this, or ask the repository's owner for access"),
        (StatusCode::NOT_FOUND, _) => Error::not_found(message),
        (status, _) if status.is_server_error() => Error::new(Kind::Unavailable, message)
            .with_hint("the registry has a problem of its own; try again later or use a mirror"),
        (StatusCode::REQUEST_TIMEOUT, _) => Error::new(Kind::Timeout, message),
        (_, "UNSUPPORTED") => Error::unsupported(message),
        _ => Error::new(Kind::Invalid, message),
    }
}

/// The first code, and all items as `code: message`.
fn said(text: &str) -> (String, String) {
    let Ok(document) = serde_json::from_str::<Document>(text) else {
        // Proxies answer with pages; a short plain line is worth showing.
        let plain = text.trim();
        let show = plain.len() <= LONGEST_TEXT && !plain.starts_with('<') && !plain.contains('\n');
        return (String::new(), if show { clean(plain) } else { String::new() });
    };
    let code = document.errors.first().map(|e| e.code.clone()).unwrap_or_default();
    let items = document.errors.iter().take(3).map(|e| {
        let words = e.code.to_lowercase().replace('_', " ");
        match (words.is_empty(), e.message.is_empty()) {
            (false, false) => format!("{words}: {}", e.message),
            (true, _) => e.message.clone(),
            (_, true) => words,
        }
    });
    (code, clean(&items.collect::<Vec<_>>().join("; ")))
}

/// No control characters from strangers on a terminal.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_put_into_words() {
        let json =
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#;
        assert_eq!(said(json), ("MANIFEST_UNKNOWN".into(), "manifest unknown: manifest unknown".into()));
        assert_eq!(said("slow down\n"), (String::new(), "slow down".into()));
        assert_eq!(said("<html>…"), (String::new(), String::new()));
        assert_eq!(said("\u{1b}[31mred").1, "[31mred");
    }
}
