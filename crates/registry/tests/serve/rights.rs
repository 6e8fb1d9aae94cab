//! Who may do what: passwords, tokens, rules.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::Served;

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn users(dir: &std::path::Path) -> PathBuf {
    let path = dir.join("users");
    let line = |user: &str, password: &str| format!("{user}:{}\n", bcrypt::hash(password, 4).expect("works"));
    std::fs::write(&path, line("ann", "a") + &line("bob", "b")).expect("works");
    path
}

fn ruled(token: bool) -> Served {
    let dir = tempfile::tempdir().expect("works");
    let htpasswd = users(dir.path());
    let mut config = json!({"rights": [
        {"users": ["anonymous"], "repositories": ["public/*"], "actions": ["pull"]},
        {"users": ["*"], "repositories": ["{user}/*"], "actions": ["*"]},
        {"users": ["ann"], "repositories": ["public/*"], "actions": ["push", "pull"]},
    ]});
    if token {
        config["token"] = json!({"lifetime": 120});
    }
    let path = dir.path().join("registry.json");
    std::fs::write(&path, config.to_string()).expect("works");
    Served::on(dir, |options| {
        options.htpasswd = Some(htpasswd);
        options.config = Some(path);
    })
}

#[test]
fn users_of_a_password_file_may_everything() {
    let dir = tempfile::tempdir().unwrap();
    let htpasswd = users(dir.path());
    let registry = Served::on(dir, |options| options.htpasswd = Some(htpasswd));
    let ask = |header: &str| registry.send("POST", "/v2/a/blobs/uploads/", &[("Authorization", header)], b"");
    let anonymous = registry.ask("GET", "/v2/");
    assert!(anonymous.refuses(401, "UNAUTHORIZED").header("www-authenticate").starts_with("Basic realm="));
    registry.ask("POST", "/v2/a/blobs/uploads/").is(401);
    ask(&basic("ann", "a")).is(202);
    for wrong in [basic("ann", "b"), basic("eve", "a"), basic("", ""), "Basic !".into(), "Bearer x".into()] {
        ask(&wrong).is(401);
    }
}

#[test]
fn rules_say_who_may_do_what_where() {
    let registry = ruled(false);
    let (ann, bob) = (basic("ann", "a"), basic("bob", "b"));
    let push = |repository: &str, who: &str| {
        let path = format!("/v2/{repository}/blobs/uploads/");
        if who.is_empty() {
            registry.ask("POST", &path)
        } else {
            registry.send("POST", &path, &[("Authorization", who)], b"")
        }
    };
    push("public/x", &ann).is(202);
    push("public/x", &bob).refuses(403, "DENIED");
    push("public/x", "").is(401);
    push("bob/x", &bob).is(202);
    push("bob/x", &ann).is(403);
    registry.ask("GET", "/v2/public/x/tags/list").is(200);
    registry.ask("GET", "/v2/bob/x/tags/list").is(401);
    let delete =
        |who: &str| registry.send("DELETE", "/v2/public/x/manifests/t", &[("Authorization", who)], b"");
    delete(&ann).is(403);
    let digest = fluyt_image::Digest::of(b"secret");
    let path = format!("/v2/bob/x/blobs/uploads/?digest={digest}");
    registry.send("POST", &path, &[("Authorization", &bob)], b"secret").is(201);
    let steal = format!("/v2/ann/x/blobs/uploads/?mount={digest}");
    registry.send("POST", &steal, &[("Authorization", &ann)], b"").is(202);
    let steal = format!("{steal}&from=bob/x");
    registry.send("POST", &steal, &[("Authorization", &ann)], b"").is(202);
}

#[test]
fn tokens_grant_what_the_rules_allow() {
    let registry = ruled(true);
    let challenge = registry.ask("POST", "/v2/public/x/blobs/uploads/");
    let challenge = challenge.is(401).header("www-authenticate").to_owned();
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"fluyt-registry\"", registry.address);
    assert_eq!(challenge, format!("{realm},scope=\"repository:public/x:pull,push\""));
    let token = |who: Option<(&str, &str)>, scope: &str| {
        let path = format!("/token?service=fluyt-registry&scope={scope}");
        let answer = match who {
            Some((user, password)) => {
                registry.send("GET", &path, &[("Authorization", &basic(user, password))], b"")
            }
            None => registry.ask("GET", &path),
        };
        answer.is(200).json()["token"].as_str().unwrap().to_owned()
    };
    let ask = |method: &str, path: &str, token: &str| {
        registry.send(method, path, &[("Authorization", &format!("Bearer {token}"))], b"")
    };
    let ann = token(Some(("ann", "a")), "repository:public/x:pull,push");
    ask("POST", "/v2/public/x/blobs/uploads/", &ann).is(202);
    ask("GET", "/v2/", &ann).is(200);
    let other = ask("POST", "/v2/ann/x/blobs/uploads/", &ann);
    assert!(other.is(401).header("www-authenticate").ends_with("error=\"insufficient_scope\""), "{other:?}");
    let bob = token(Some(("bob", "b")), "repository:public/x:pull,push");
    ask("POST", "/v2/public/x/blobs/uploads/", &bob).is(401);
    ask("GET", "/v2/public/x/tags/list", &bob).is(200);
    let nobody = token(None, "repository:public/x:pull");
    ask("GET", "/v2/public/x/tags/list", &nobody).is(200);
    ask("GET", "/v2/", "nonsense").is(401);
    let wrong = [("Authorization", &basic("ann", "b") as &str)];
    registry.send("GET", "/token", &wrong, b"").refuses(401, "UNAUTHORIZED");
}

#[test]
fn oauth_s_form_gets_tokens_too() {
    let registry = ruled(true);
    let form = |text: &str| {
        let kind = [("Content-Type", "application/x-www-form-urlencoded")];
        registry.send("POST", "/token", &kind, text.as_bytes())
    };
    let answer = form(
        "grant_type=password&username=bob&password=b&service=s&client_id=c&access_type=offline&scope=repository%3Abob%2Fx%3Apush",
    );
    let refresh = answer.is(200).json()["refresh_token"].as_str().unwrap().to_owned();
    let answer =
        form(&format!("grant_type=refresh_token&refresh_token={refresh}&scope=repository:bob/x:pull,push"));
    let token = format!("Bearer {}", answer.is(200).json()["access_token"].as_str().unwrap());
    registry.send("POST", "/v2/bob/x/blobs/uploads/", &[("Authorization", &token)], b"").is(202);
    form("grant_type=password&username=bob&password=x").is(401);
    form("grant_type=refresh_token&refresh_token=x").is(401);
    form("grant_type=magic").is(400);
}

#[test]
fn a_configuration_without_users_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("registry.json");
    std::fs::write(&path, r#"{"token": {}}"#).unwrap();
    let options = fluyt_registry::server::ServeOptions {
        root: dir.path().join("root"),
        address: "127.0.0.1:0".into(),
        config: Some(path),
        ..Default::default()
    };
    let e = fluyt_registry::server::bind(options).unwrap_err();
    assert!(e.to_string().contains("no password file"), "{e}");
}
