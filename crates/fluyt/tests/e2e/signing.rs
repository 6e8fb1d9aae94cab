//! Signing, verifying, and policies that want signatures: with a real registry, and certificates that openssl makes.

use std::path::Path;
use std::process::{Command, Stdio};

use fluyt_testkit::Host;
use fluyt_testkit::host::{Outcome, finish};
use fluyt_testkit::registry::Registry;

use crate::{host, ours_only};

/// Runs a command line in a directory, with a password for keys.
fn run_in(host: &Host, dir: &Path, line: &str, variables: &[(&str, &str)]) -> Outcome {
    let mut command = host.command(line.split_whitespace());
    command.current_dir(dir).env("COSIGN_PASSWORD", "pw").envs(variables.iter().copied());
    finish(&mut command, b"", 120)
}

#[track_caller]
fn ok(host: &Host, line: &str) -> String {
    run_in(host, host.scratch().path(), line, &[]).success()
}

#[track_caller]
fn fails(host: &Host, code: i32, needle: &str, line: &str) {
    let outcome = run_in(host, host.scratch().path(), line, &[]);
    assert_eq!(outcome.code, code, "{line}: {outcome:?}");
    assert!(format!("{outcome:?}").contains(needle), "{line}: no {needle:?} in {outcome:?}");
}

#[test]
fn images_are_signed_and_verified_by_key() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let name = format!("{}/team/app:1", registry.address());
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    for prefix in ["good", "other"] {
        ok(&host, &format!("image generate-key-pair --output-key-prefix {prefix}"));
    }
    fails(&host, 1, "good.key is there already", "image generate-key-pair --output-key-prefix good");
    fails(&host, 1, "no signatures found", &format!("image verify --key good.pub {name}"));
    ok(&host, &format!("image sign --key good.key -a build=7 {name}"));
    let said = ok(&host, &format!("image verify --key good.pub -a build=7 {name}"));
    assert!(
        said.contains("\"docker-manifest-digest\":\"sha256:") && said.contains("\"build\":\"7\""),
        "{said}"
    );
    fails(&host, 1, "of another key", &format!("image verify --key other.pub {name}"));
    fails(&host, 1, "lacks the annotations", &format!("image verify --key good.pub -a build=8 {name}"));
    let wrong = run_in(
        &host,
        host.scratch().path(),
        &format!("image sign --key good.key {name}"),
        &[("COSIGN_PASSWORD", "no")],
    );
    assert!(wrong.code == 1 && format!("{wrong:?}").contains("password is wrong"), "{wrong:?}");
    // As referrers, and in another repository.
    ok(&host, &format!("image sign --key other.key --registry-referrers-mode oci-1-1 {name}"));
    ok(&host, &format!("image verify --key other.pub {name}"));
    let elsewhere = format!("{}/signatures", registry.address());
    let variables = [("COSIGN_REPOSITORY", elsewhere.as_str())];
    let scratch = host.scratch().path();
    let _ = run_in(&host, scratch, &format!("image sign --key good.key {name}"), &variables).success();
    let _ = run_in(&host, scratch, &format!("image verify --key good.pub {name}"), &variables).success();
    let none = run_in(&host, scratch, &format!("image verify --key other.pub {name}"), &variables);
    assert_eq!(none.code, 1, "{none:?}");
}

/// A policy file that wants a signature of `key` for one registry and accepts `default` else.
fn policy(host: &Host, file: &str, default: &str, address: &str, key: &str) -> String {
    let key = host.scratch().join(key);
    let text = format!(
        r#"{{"default":[{{"type":"{default}"}}],"transports":{{"docker":{{"{address}":[{{"type":"sigstoreSigned","keyPath":"{}"}}]}}}}}}"#,
        key.display()
    );
    host.scratch().write(file, text).display().to_string()
}

#[test]
fn a_policy_decides_what_is_pulled_run_and_built() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let address = registry.address();
    let name = format!("{address}/team/app:1");
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    ok(&host, "image generate-key-pair --output-key-prefix good");
    let strict = policy(&host, "strict.json", "insecureAcceptAnything", address, "good.pub");
    // What was built or loaded here is nobody else's, whatever it is called.
    host.ok(&format!("run --rm --signature-policy {strict} {name} true"));
    host.ok(&format!("rmi {name}"));
    host.ok("rmi -f box");
    host.fails(1, "there is none", &format!("pull --signature-policy {strict} {name}"));
    host.fails(125, "there is none", &format!("run --rm --signature-policy {strict} {name} true"));
    assert_eq!(host.ok("images -q"), "");
    // Pulled without a policy, it may not be used when there is one.
    host.ok(&format!("pull {name}"));
    host.fails(
        125,
        "pulled when no signature was wanted",
        &format!("run --rm --signature-policy {strict} {name} true"),
    );
    let context = host.scratch().join("context");
    std::fs::create_dir(&context).expect("a directory");
    std::fs::write(context.join("Dockerfile"), format!("FROM {name}\nLABEL a=b\n")).expect("written");
    let build = format!("build -q {}", context.display());
    let variables = [("FLUYT_SIGNATURE_POLICY", strict.as_str())];
    let refused = run_in(&host, host.scratch().path(), &build, &variables);
    assert!(refused.code != 0 && format!("{refused:?}").contains("strict.json"), "{refused:?}");
    ok(&host, &format!("image sign --key good.key {name}"));
    host.ok(&format!("pull --signature-policy {strict} {name}"));
    host.ok(&format!("run --rm --signature-policy {strict} {name} true"));
    let _ = run_in(&host, host.scratch().path(), &build, &variables).success();
    // Another key than what it was let in by: the signatures are kept and asked again.
    ok(&host, "image generate-key-pair --output-key-prefix other");
    let changed = policy(&host, "changed.json", "reject", address, "other.pub");
    host.fails(125, "of another key", &format!("run --rm --signature-policy {changed} {name} true"));
    host.fails(1, "of another key", &format!("{build} --signature-policy {changed}"));
    host.fails(1, "rejects this name", &format!("pull --signature-policy {changed} 127.0.0.1:1/x"));
    // A mounted image is a used one, and a cache is what a build is made of.
    let tagged = format!("build -q -t built {}", context.display());
    let _ = run_in(&host, host.scratch().path(), &tagged, &variables).success();
    let mounted = format!("--mount type=image,source={name},target=/x");
    host.ok(&format!("run --rm --signature-policy {strict} {mounted} built true"));
    host.fails(125, "of another key", &format!("run --rm --signature-policy {changed} {mounted} built true"));
    std::fs::write(context.join("Dockerfile"), "FROM built\nLABEL c=d\n").expect("written");
    for (cache, why) in [("127.0.0.1:1/x", "rejects this name"), (name.as_str(), "of another key")] {
        let line = format!("build --progress plain --cache-from {cache} {}", context.display());
        let built = run_in(&host, host.scratch().path(), &line, &[("FLUYT_SIGNATURE_POLICY", &changed)]);
        assert!(built.code == 0 && built.stderr.contains(why), "{built:?}");
    }
    let broken = host.scratch().write("broken.json", "{}").display().to_string();
    host.fails(1, "not a valid policy", &format!("pull --signature-policy {broken} {name}"));
}

fn openssl(dir: &Path, line: &str) {
    let status = Command::new("openssl")
        .args(line.split_whitespace())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok_and(|s| s.success()), "openssl {line}");
}

#[test]
fn signers_are_known_by_their_certificates() {
    let host = host!();
    ours_only!(host);
    let Some(registry) = Registry::start() else { return };
    let name = format!("{}/team/app:1", registry.address());
    host.ok(&format!("tag box {name}"));
    host.ok(&format!("push {name}"));
    let dir = host.scratch().path();
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    // The extension is Fulcio's: the provider that knew the signer.
    let extensions = "subjectAltName=email:ann@example.org,URI:https://ci.example.org/job/1\n\
        extendedKeyUsage=codeSigning\n1.3.6.1.4.1.57264.1.8=ASN1:UTF8String:https://login.example.org\n";
    std::fs::write(dir.join("leaf.ext"), extensions).expect("written");
    std::fs::write(dir.join("ca.ext"), "basicConstraints=critical,CA:TRUE\n").expect("written");
    for root in ["root", "stranger"] {
        openssl(dir, &format!("req -x509 {new} -keyout {root}.key -out {root}.crt -subj /CN={root} -days 2"));
    }
    openssl(dir, &format!("req {new} -keyout mid.key -out mid.csr -subj /CN=mid"));
    openssl(
        dir,
        "x509 -req -in mid.csr -CA root.crt -CAkey root.key -CAcreateserial -days 2 -extfile ca.ext -out mid.crt",
    );
    openssl(dir, &format!("req {new} -keyout leaf.key -out leaf.csr -subj /CN=ann"));
    openssl(
        dir,
        "x509 -req -in leaf.csr -CA mid.crt -CAkey mid.key -CAcreateserial -days 2 -extfile leaf.ext -out leaf.crt",
    );
    fails(
        &host,
        1,
        "not one of this key",
        &format!("image sign --key leaf.key --certificate mid.crt {name}"),
    );
    ok(
        &host,
        &format!("image sign --key leaf.key --certificate leaf.crt --certificate-chain mid.crt {name}"),
    );
    let who = "--certificate-identity ann@example.org --certificate-oidc-issuer https://login.example.org";
    let said = ok(&host, &format!("image verify --ca-roots root.crt {who} {name}"));
    assert!(said.contains("\"Subject\":\"ann@example.org\""), "{said}");
    let by_expression = "--certificate-identity-regexp ^https://ci\\. --certificate-oidc-issuer-regexp login";
    ok(&host, &format!("image verify --ca-roots root.crt {by_expression} {name}"));
    let cases = [
        (format!("--ca-roots stranger.crt {who}"), "not vouched for"),
        (
            "--ca-roots root.crt --certificate-identity bob@example.org".to_owned(),
            "the signer is ann@example.org",
        ),
        (
            "--ca-roots root.crt --certificate-identity ann@example.org".to_owned(),
            "no provider was asked for",
        ),
        (format!("--ca-roots root.crt {who}x"), "is known to https://login.example.org"),
        ("--ca-roots root.crt".to_owned(), "--certificate-identity"),
        (who.to_owned(), "--ca-roots"),
        (format!("--ca-roots root.crt --rekor-key leaf.crt {who}"), "no transparency log"),
    ];
    for (flags, needle) in cases {
        fails(&host, 1, needle, &format!("image verify {flags} {name}"));
    }
}
