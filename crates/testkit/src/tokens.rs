//! A token service for a real registry (distribution specification, token authentication): signed tokens for known users.
//!
//! The signatures are openssl's; the registry checks them against the service's certificate.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::Scratch;

/// The registry goes on taking a token so long after its end: its allowance for clocks that differ.
const LEEWAY: i64 = 60;

/// What the service does.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `name:password` and what each may do: `repository:NAME:pull,push`; a name ends in `*` for all that begin so.
    pub users: BTreeMap<String, Vec<String>>,
    /// What anybody may do.
    pub anybody: Vec<String>,
    /// For how many seconds the registry really takes a token.
    pub valid: i64,
    /// For how many seconds the service says that it does.
    pub said: u64,
    /// Whether a login gets a refresh token.
    pub refresh: bool,
}

/// One token that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// For whom; empty: for nobody known.
    pub account: String,
    /// What was asked for.
    pub scopes: Vec<String>,
    /// Whether the request was a POST with a refresh token.
    pub refreshed: bool,
}

/// A running service; its threads end with the test's process.
pub struct TokenService {
    address: String,
    certificate: PathBuf,
    state: Arc<State>,
    _scratch: Scratch,
}

struct State {
    key: PathBuf,
    /// The certificate for the header of each token.
    chain: String,
    rules: Mutex<Rules>,
    given: Mutex<Vec<Given>>,
}

impl TokenService {
    /// Starts one in the calling thread's network namespace; none (said as a skip) without openssl.
    ///
    /// # Panics
    /// No port is free.
    #[must_use]
    pub fn start(rules: Rules) -> Option<Self> {
        let scratch = Scratch::new("tokens");
        let (key, certificate) = (scratch.join("key.pem"), scratch.join("certificate.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=tokens",
                "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stdin(Stdio::null())
            .output();
        if !made.is_ok_and(|o| o.status.success()) {
            crate::skip("openssl makes no certificate");
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let chain = der(&certificate);
        let state = Arc::new(State { key, chain, rules: Mutex::new(rules), given: Mutex::new(Vec::new()) });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.answer(stream));
            }
        });
        Some(Self { address, certificate, state, _scratch: scratch })
    }

    /// The part of a registry's configuration that sends clients here.
    #[must_use]
    pub fn configuration(&self) -> String {
        format!(
            "auth:\n  token:\n    realm: http://{}/token\n    service: test registry\n    issuer: tokens\n    \
             rootcertbundle: {}\n",
            self.address,
            self.certificate.display()
        )
    }

    /// Changes the rules.
    pub fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.state.rules.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The tokens given since the last call.
    #[must_use]
    pub fn given(&self) -> Vec<Given> {
        std::mem::take(&mut self.state.given.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A PEM certificate as base64 of its bytes.
fn der(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("openssl wrote it");
    text.lines().filter(|l| !l.starts_with("-----")).collect()
}

impl State {
    fn answer(&self, mut stream: TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
        let Some((head, body)) = read_request(&mut stream) else { return };
        let (status, document) = self.decide(&head, &body);
        let text = document.to_string();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
    }

    fn decide(&self, head: &str, body: &str) -> (&'static str, Value) {
        let refused =
            |why: &str| ("401 Unauthorized", json!({"errors": [{"code": "UNAUTHORIZED", "message": why}]}));
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let target = head.split(' ').nth(1).unwrap_or_default();
        let post = head.starts_with("POST ");
        let fields = fields(if post { body } else { target.split_once('?').map_or("", |(_, q)| q) });
        let field = |name: &str| fields.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        let password = if post {
            // The refresh token names its user, which is enough for a test.
            let token =
                field("refresh_token").unwrap_or_default().strip_prefix("refresh-").map(str::to_owned);
            if token.is_none() {
                return refused("bad refresh token");
            }
            token
        } else {
            basic(head)
        };
        if password.as_ref().is_some_and(|p| !rules.users.contains_key(p)) {
            return refused("who are you?");
        }
        let allowed = password.as_ref().and_then(|p| rules.users.get(p)).unwrap_or(&rules.anybody);
        let account = password.as_deref().and_then(|p| p.split(':').next()).unwrap_or_default().to_owned();
        // A GET repeats the field, a POST separates with blanks.
        let scopes: Vec<String> = fields
            .iter()
            .filter(|(k, _)| k == "scope")
            .flat_map(|(_, v)| v.split(' ').map(str::to_owned))
            .collect();
        let access: Vec<Value> = scopes.iter().filter_map(|s| grant(s, allowed)).collect();
        let token = self.sign(&account, &access, field("service").unwrap_or_default(), rules.valid);
        self.given.lock().unwrap_or_else(PoisonError::into_inner).push(Given {
            account,
            scopes,
            refreshed: post,
        });
        let mut answer = json!({"token": token, "access_token": token, "expires_in": rules.said});
        if rules.refresh && field("offline_token") == Some("true") {
            answer["refresh_token"] = json!(format!("refresh-{}", password.unwrap_or_default()));
        }
        ("200 OK", answer)
    }

    fn sign(&self, account: &str, access: &[Value], service: &str, valid: i64) -> String {
        let now = i64::try_from(UNIX_EPOCH.elapsed().expect("a clock").as_secs()).expect("small");
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.chain]});
        let claims = json!({
            "iss": "tokens", "sub": account, "aud": service, "jti": format!("{now}-{account}"), "iat": now - 120,
            "nbf": now - 120, "exp": now - LEEWAY + valid, "access": access,
        });
        let encode = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let mut child = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("openssl made the key");
        let mut input = child.stdin.take().expect("piped");
        input.write_all(signed.as_bytes()).expect("openssl reads");
        drop(input);
        let output = child.wait_with_output().expect("openssl ends");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(output.stdout))
    }
}

/// What of a wanted scope is allowed; none of it is left out of the token.
fn grant(wanted: &str, allowed: &[String]) -> Option<Value> {
    let (rest, actions) = wanted.rsplit_once(':')?;
    let (kind, name) = rest.split_once(':')?;
    let rule = allowed.iter().find_map(|rule| {
        let (pattern, may) = rule.rsplit_once(':')?;
        let matches = match pattern.strip_suffix('*') {
            Some(beginning) => rest.starts_with(beginning),
            None => rest == pattern,
        };
        matches.then_some(may)
    });
    let may: Vec<&str> = rule.unwrap_or_default().split(',').collect();
    let granted: Vec<&str> = actions.split(',').filter(|a| may.contains(a)).collect();
    (!granted.is_empty()).then(|| json!({"type": kind, "name": name, "actions": granted}))
}

/// `name:password` of the Basic header.
fn basic(head: &str) -> Option<String> {
    let line = head.lines().find(|l| l.to_ascii_lowercase().starts_with("authorization: basic "))?;
    let bytes = STANDARD.decode(line.rsplit(' ').next()?.trim()).ok()?;
    String::from_utf8(bytes).ok()
}

/// The fields of a form or a query.
fn fields(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| {
        let (mut out, mut bytes) = (Vec::new(), part.bytes());
        while let Some(b) = bytes.next() {
            match b {
                b'+' => out.push(b' '),
                b'%' => {
                    let digits: String = bytes.by_ref().take(2).map(char::from).collect();
                    out.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
                }
                other => out.push(other),
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    text.split('&').filter_map(|f| f.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// The head and the body of one request.
fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        let n = stream.read(&mut chunk).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..n]);
    }
}

/// A way to `server` (`ADDRESS:PORT`) that lets at most `rate` bytes a second through, each way; its address. Its threads
/// end with the test's process.
///
/// # Panics
/// No port is free.
#[must_use]
pub fn slow_way_to(server: &str, rate: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = server.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(upstream) = TcpStream::connect(&server) else { continue };
            for (from, to) in [(&client, &upstream), (&upstream, &client)] {
                if let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) {
                    std::thread::spawn(move || pass_slowly(from, to, rate));
                }
            }
        }
    });
    address
}

fn pass_slowly(mut from: TcpStream, mut to: TcpStream, rate: usize) {
    let mut chunk = vec![0; (rate / 50).max(1)];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..n]).is_err() {
            break;
        }
        std::thread::sleep(
            Duration::from_millis(20) * u32::try_from(n).unwrap_or(1)
                / u32::try_from(chunk.len()).unwrap_or(1),
        );
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
