//! The `WWW-Authenticate` header (RFC 9110, section 11.6.1): which way of authentication a registry asks for.

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from `realm` for `service`; `scope` is what the refused request would have needed.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The best challenge of a header: Bearer before Basic.
    pub fn parse(header: &str) -> Option<Self> {
        let mut found = None;
        for (scheme, params) in schemes(header) {
            let param = |name: &str| {
                params.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = param("realm")
            {
                return Some(Self::Bearer { realm, service: param("service"), scope: param("scope") });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                found = Some(Self::Basic);
            }
        }
        found
    }
}

type Params = Vec<(String, String)>;

/// Splits `Scheme k=v, k="v", Scheme2 …`.
fn schemes(header: &str) -> Vec<(String, Params)> {
    let mut result: Vec<(String, Params)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '=', ',']).unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        rest = &rest[end..];
        if let Some(value) = rest.trim_start().strip_prefix('=') {
            let (text, tail) = value_of(value.trim_start());
            if let Some((_, params)) = result.last_mut() {
                params.push((word, text));
            }
            rest = tail;
        } else {
            result.push((word, Params::new()));
        }
        rest = rest.trim_start_matches([' ', ',']);
    }
    result
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push",error="invalid_token""#;
        assert_eq!(
            Challenge::parse(hub),
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".into(),
                service: Some("registry.docker.io".into()),
                scope: Some("repository:a/b:pull,push".into()),
            })
        );
        assert_eq!(Challenge::parse(r#"Basic realm="x, y""#), Some(Challenge::Basic));
        let both = r#"Basic realm="a\"b", bearer realm=http://x/t , service = s"#;
        assert_eq!(
            Challenge::parse(both),
            Some(Challenge::Bearer { realm: "http://x/t".into(), service: Some("s".into()), scope: None })
        );
        for none in ["", "Bearer", "Negotiate abc=", "\"", "=", "Bearer service=\"unclosed"] {
            assert_eq!(Challenge::parse(none), None, "{none}");
        }
    }
}
