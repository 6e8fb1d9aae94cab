//! A real registry that takes signed tokens of a token service: login, pull, push, refusals, tokens that run out.

use fluyt_testkit::Host;
use fluyt_testkit::images::{self, Entry};
use fluyt_testkit::registry::Registry;
use fluyt_testkit::tokens::{Given, Rules, TokenService, slow_way_to};

use crate::{host, ours_only};

/// Alice owns `team/`, bob reads it, anybody reads `public/`.
fn rules() -> Rules {
    let user = |name: &str, may: &[&str]| (name.to_owned(), may.iter().map(|m| (*m).to_owned()).collect());
    Rules {
        users: [
            user("alice:wonder land", &["repository:team/*:pull,push", "repository:public/*:pull,push"]),
            user("bob:builder", &["repository:team/*:pull"]),
        ]
        .into(),
        anybody: vec!["repository:public/*:pull".to_owned()],
        valid: 300,
        said: 300,
        refresh: false,
    }
}

fn login(host: &Host, address: &str, name: &str, password: &str) -> fluyt_testkit::Outcome {
    host.run_with_input(&["login", "-u", name, "--password-stdin", address], password.as_bytes())
}

#[test]
fn a_token_registry_asks_who_one_is() {
    let host = host!();
    ours_only!(host);
    let Some(tokens) = TokenService::start(rules()) else { return };
    let Some(registry) = Registry::start_with(&tokens.configuration()) else { return };
    let address = registry.address();
    let (own, public) = (format!("{address}/team/box:1"), format!("{address}/public/box:1"));
    for name in [&own, &public] {
        host.ok(&format!("tag box {name}"));
    }

    // Nobody may write; the refusal says what to do.
    let outcome = host.fails(1, "denied", &format!("push {own}"));
    assert!(outcome.stderr.contains("login"), "{outcome:?}");

    // A wrong password is refused, by the token service, and nothing is kept.
    let outcome = login(&host, address, "alice", "wrong");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("incorrect username or password"), "{outcome:?}");
    assert!(!host.scratch().join("docker-config/config.json").exists());

    let outcome = login(&host, address, "alice", "wonder land");
    assert_eq!((outcome.code, outcome.stdout.contains("Login Succeeded")), (0, true), "{outcome:?}");
    let _ = tokens.given();
    for name in [&own, &public] {
        host.ok(&format!("push {name}"));
    }
    let given = tokens.given();
    assert!(given.iter().all(|g| g.account == "alice"), "{given:?}");
    assert!(
        given.iter().any(|g| g.scopes.contains(&"repository:team/box:pull,push".to_owned())),
        "{given:?}"
    );
    assert!(given.len() <= 4, "tokens are used again: {given:?}");

    // Without a login: what is public can be pulled, the rest not.
    host.ok(&format!("logout {address}"));
    host.ok(&format!("rmi {own} {public}"));
    host.ok(&format!("pull {public}"));
    let outcome = host.fails(1, "denied", &format!("pull {own}"));
    assert!(
        outcome.stderr.contains("login") && outcome.stderr.contains(&own[..own.len() - 2]),
        "{outcome:?}"
    );
    host.fails(125, "denied", &format!("run --rm {own} true"));

    // Bob may read and not write.
    assert_eq!(login(&host, address, "bob", "builder").code, 0);
    host.ok(&format!("pull {own}"));
    assert_eq!(host.ok(&format!("run --rm {own} echo by-token")), "by-token");
    let outcome = host.fails(1, "denied", &format!("push {own}"));
    assert!(outcome.took.as_secs() < 20, "a refusal is not repeated for long: {outcome:?}");
}

#[test]
fn a_login_may_get_a_refresh_token_instead_of_keeping_the_password() {
    let host = host!();
    ours_only!(host);
    let Some(tokens) = TokenService::start(Rules { refresh: true, ..rules() }) else { return };
    let Some(registry) = Registry::start_with(&tokens.configuration()) else { return };
    let address = registry.address();
    assert_eq!(login(&host, address, "alice", "wonder land").code, 0);
    let config = host.scratch().join("docker-config/config.json");
    let kept: serde_json::Value =
        serde_json::from_slice(&std::fs::read(config).expect("kept")).expect("a document");
    let entry = &kept["auths"][address];
    assert_eq!(entry["identitytoken"], "refresh-alice:wonder land", "{kept}");
    assert!(!entry["auth"].as_str().unwrap_or_default().contains("d29uZGVyIGxhbmQ"), "no password: {kept}");
    let _ = tokens.given();
    let name = format!("{address}/team/box:1");
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    host.ok(&format!("rmi {name}"));
    host.ok(&format!("pull {name}"));
    let given = tokens.given();
    assert!(!given.is_empty() && given.iter().all(|g| g.refreshed && g.account == "alice"), "{given:?}");
}

/// An image with five layers of about `size` bytes that no compression makes smaller, and a small one.
fn load_big(host: &Host, name: &str, size: usize, seed: u64) {
    let noise = |seed: u64| {
        let (mut state, mut bytes) = (seed, Vec::with_capacity(size));
        while bytes.len() < size {
            // Marsaglia's xorshift: the same bytes in each run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes
    };
    let layer = |file: &str, seed: u64| images::tar(&[Entry::File(file.to_owned(), 0o644, noise(seed))]);
    let mut layers = vec![images::tar(&images::busybox_entries())];
    layers.extend((1..6).map(|n| layer(&format!("layer-{n}"), seed * 10 + n)));
    let archive = images::docker_archive(name, &layers, &serde_json::json!({"Cmd": ["sh"]}));
    let outcome = host.run_with_input(&["load"], &archive);
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

#[test]
fn tokens_that_run_out_in_the_middle_are_renewed() {
    let host = host!();
    ours_only!(host);
    let Some(tokens) = TokenService::start(rules()) else { return };
    let Some(registry) = Registry::start_with(&tokens.configuration()) else { return };
    // Layers of 0.9 MB at 0.4 MB a second: each takes longer than a token lives, and not all travel at once.
    let address = slow_way_to(registry.address(), 400_000);
    assert_eq!(login(&host, &address, "alice", "wonder land").code, 0);

    // The service says so, or its clock is wrong and it does not.
    for said in [1, 300] {
        tokens.change(|r| (r.valid, r.said) = (1, said));
        let name = format!("{address}/team/big-{said}:1");
        load_big(&host, &name, 900_000, said);
        let id = host.field(&name, "{{.Id}}");
        let _ = tokens.given();
        let outcome = host.run(&format!("push {name}"));
        assert_eq!(outcome.code, 0, "said {said}: {outcome:?}");
        let given = tokens.given();
        assert!(given.len() > 1, "said {said}: {given:?}");
        host.ok(&format!("rmi {name}"));
        let _ = tokens.given();
        let outcome = host.run(&format!("pull {name}"));
        assert_eq!(outcome.code, 0, "said {said}: {outcome:?}");
        assert!(tokens.given().len() > 1, "said {said}");
        assert_eq!(host.field(&name, "{{.Id}}"), id);
        let size = host.ok_words(&["run", "--rm", &name, "sh", "-c", "cat /layer-? | wc -c"]);
        assert_eq!(size, "4500000");
    }
}

#[test]
fn tokens_that_are_never_taken_end_in_a_message() {
    let host = host!();
    ours_only!(host);
    let Some(tokens) = TokenService::start(Rules { valid: -100, ..rules() }) else { return };
    let Some(registry) = Registry::start_with(&tokens.configuration()) else { return };
    let address = registry.address();
    let outcome = host.fails(1, "", &format!("pull {address}/public/box:1"));
    assert!(outcome.took.as_secs() < 30 && outcome.stderr.contains(address), "{outcome:?}");
    let given: Vec<Given> = tokens.given();
    assert!(given.len() < 10, "asked {} times", given.len());
    let outcome = login(&host, address, "alice", "wonder land");
    assert_eq!(outcome.code, 1, "a token that does not open the registry is no login: {outcome:?}");
}
