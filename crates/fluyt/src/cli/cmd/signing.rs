//! `image sign`, `image verify`, `image generate-key-pair`: cosign's verbs with cosign's flags.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;

use fluyt_docker_api::transfer;
use fluyt_image::{Digest, Document};
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use fluyt_registry::{Registry, SignatureMode};
use fluyt_trust::{
    Authority, CertificateRule, Pattern, Payload, PrivateKey, PublicKey, Signature, Verified, Verifier,
};
use serde_json::{Value, json};

use super::Cli;
use super::registry::TLS_VERIFY;
use super::trust::now;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, Flag, NONE, Parsed, many, one, switch, text, values};
use crate::cli::{print_line, terminal};

const ANNOTATIONS: Flag = many('a', "annotations", "key=value", values::label, "Extra key=value pairs");

/// `fluyt image sign`.
pub const SIGN: Command = Command {
    name: "sign",
    arguments: "IMAGE [IMAGE...]",
    about: "Sign images in a registry, in cosign's layout",
    flags: &[&[
        ANNOTATIONS,
        text(NONE, "certificate", "Certificate of the key, to be attached (PEM file)"),
        text(NONE, "certificate-chain", "Authorities above the certificate, to be attached (PEM file)"),
        text(NONE, "key", "Private key: a file as cosign makes it, or PKCS #8"),
        text(NONE, "output-payload", "Write the signed document to a file"),
        text(NONE, "output-signature", "Write the signature to a file"),
        switch('r', "recursive", "Sign every image of an index too"),
        one(
            NONE,
            "registry-referrers-mode",
            "mode",
            mode_flag,
            "Where signatures are put: legacy (a tag) or oci-1-1 (referrers)",
        )
        .default("legacy"),
        text(NONE, "sign-container-identity", "Sign this name instead of the one given"),
        TLS_VERIFY,
        switch(NONE, "upload", "Put the signature into the registry").default("true"),
        switch('y', "yes", "Accepted for compatibility; nothing is asked"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// `fluyt image verify`.
pub const VERIFY: Command = Command {
    name: "verify",
    arguments: "IMAGE [IMAGE...]",
    about: "Verify the signatures of images in a registry",
    flags: &[&[
        ANNOTATIONS,
        text(NONE, "ca-intermediates", "Certificates between authority and signer (PEM file)"),
        text(NONE, "ca-roots", "Certificates of the trusted authorities (PEM file)"),
        text(
            NONE,
            "certificate-chain",
            "Certificates up to the trusted authority, which is the last (PEM file)",
        ),
        text(NONE, "certificate-identity", "Whom the certificate must name"),
        text(NONE, "certificate-identity-regexp", "An expression for whom the certificate must name"),
        text(NONE, "certificate-oidc-issuer", "The OpenID provider that must have known the signer"),
        text(NONE, "certificate-oidc-issuer-regexp", "An expression for that provider"),
        switch(NONE, "check-claims", "Whether the signature must be about this image").default("true"),
        switch(NONE, "insecure-ignore-tlog", "Do not ask for an entry of a transparency log"),
        text(NONE, "key", "Public key (PEM file)"),
        one('o', "output", "format", output_flag, "Output format: json or text").default("json"),
        text(
            NONE,
            "rekor-key",
            "Public key of a transparency log that must have taken the signature (PEM file)",
        ),
        TLS_VERIFY,
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
};

/// `fluyt image generate-key-pair`.
pub const GENERATE: Command = Command {
    name: "generate-key-pair",
    arguments: "",
    about: "Make a key pair for signing images",
    flags: &[&[
        text(NONE, "output-key-prefix", "Names of the files, without .key and .pub").default("cosign"),
        switch('y', "yes", "Overwrite files that are there"),
    ]],
    arity: Arity::None,
    interspersed: true,
};

fn mode_flag(text: &str) -> Result<(), String> {
    match text {
        "legacy" | "oci-1-1" => Ok(()),
        _ => Err("must be legacy or oci-1-1".to_owned()),
    }
}

fn output_flag(text: &str) -> Result<(), String> {
    if matches!(text, "json" | "text") { Ok(()) } else { Err("must be json or text".to_owned()) }
}

fn file(path: &str) -> Result<String> {
    std::fs::read_to_string(path).about(|| path.to_owned())
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The password of a private key: `COSIGN_PASSWORD`, the terminal, or a line of standard input.
fn password(twice: bool) -> Result<Vec<u8>> {
    if let Ok(password) = std::env::var("COSIGN_PASSWORD") {
        return Ok(password.into_bytes());
    }
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).about(|| "standard input")?;
        return Ok(line.trim_end_matches(['\r', '\n']).as_bytes().to_vec());
    }
    let first = terminal::read_secret("Enter password for private key: ")?;
    if twice && first != terminal::read_secret("Enter password for private key again: ")? {
        return Err(Error::invalid("passwords do not match"));
    }
    Ok(first.into_bytes())
}

fn annotations(flags: &Parsed) -> BTreeMap<String, String> {
    let pair = |text: &str| text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    flags.all("annotations").filter_map(pair).collect()
}

/// The repository that signatures are kept in: the image's, or what `COSIGN_REPOSITORY` says.
fn repository(image: &Reference) -> Result<Reference> {
    match variable("COSIGN_REPOSITORY") {
        Some(text) => Reference::parse_untagged(&text).map_err(|e| e.context("COSIGN_REPOSITORY")),
        None => Reference::parse_untagged(&image.name()),
    }
}

/// Runs `fluyt image generate-key-pair`.
pub fn generate(_: &Cli, flags: &Parsed) -> Outcome {
    let prefix = flags.text("output-key-prefix");
    let (private, public) = (format!("{prefix}.key"), format!("{prefix}.pub"));
    if !flags.on("yes") {
        for path in [&private, &public] {
            if std::fs::symlink_metadata(path).is_ok() {
                return Err(Error::conflict(format!("{path} is there already"))
                    .with_hint("choose another --output-key-prefix, or overwrite it with --yes")
                    .into());
            }
        }
    }
    let key = PrivateKey::generate()?;
    let sealed = key.to_sealed_pem(&password(true)?)?;
    write(&private, &sealed, 0o600)?;
    write(&public, &key.public().to_pem(), 0o644)?;
    eprintln!("Private key written to {private}\nPublic key written to {public}");
    Ok(0)
}

fn write(path: &str, text: &str, mode: u32) -> Result<()> {
    let temporary = format!("{path}.{}.tmp", std::process::id());
    let _ = std::fs::remove_file(&temporary);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = options.open(&temporary).about(|| path.to_owned())?;
    let done = file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&temporary, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    done.about(|| path.to_owned())
}

/// Runs `fluyt image sign`.
pub fn sign(_: &Cli, flags: &Parsed) -> Outcome {
    let Some(path) = flags.given("key") else {
        return Err(Error::invalid("image sign needs --key")
            .with_hint("`fluyt image generate-key-pair` makes one; signing without a key is not supported")
            .into());
    };
    let key = PrivateKey::from_pem(&file(path)?, path, || password(false))?;
    let certificate = flags.given("certificate").map(file).transpose()?;
    if let Some(text) = &certificate
        && PublicKey::from_pem(text, "--certificate")? != key.public()
    {
        return Err(Error::invalid("the certificate is not one of this key").into());
    }
    let chain = flags.given("certificate-chain").map(file).transpose()?;
    let mode = if flags.text("registry-referrers-mode") == "oci-1-1" {
        SignatureMode::Referrers
    } else {
        SignatureMode::Tag
    };
    let registry = transfer::client(flags.on("tls-verify"), None)?;
    let extra: BTreeMap<String, Value> =
        annotations(flags).into_iter().map(|(k, v)| (k, Value::from(v))).collect();
    for name in &flags.args {
        let reference = Reference::parse(name)?;
        let identity = match flags.given("sign-container-identity") {
            Some(given) => given.to_owned(),
            // With its tag, so that a policy may ask for exactly this name; a digest is in the document anyway.
            None => match reference.tag() {
                Some(tag) => format!("{}:{tag}", reference.name()),
                None => reference.name(),
            },
        };
        let target = repository(&reference)?;
        for subject in subjects(&registry, &reference, flags.on("recursive"))? {
            let payload = Payload {
                reference: identity.clone(),
                digest: subject.digest.to_string(),
                annotations: extra.clone(),
            };
            let mut signature = Signature::make(&key, &payload)?;
            signature.certificate.clone_from(&certificate);
            signature.chain.clone_from(&chain);
            if let Some(path) = flags.given("output-signature") {
                write(path, &format!("{}\n", signature.signature), 0o644)?;
            }
            if let Some(path) = flags.given("output-payload") {
                write(path, &signature.payload, 0o644)?;
            }
            if flags.on("upload") {
                registry.attach_signature(&target, &subject, &signature, mode)?;
                eprintln!("Pushing signature to: {}", target.name());
            }
        }
    }
    Ok(0)
}

/// What is signed: what a name stands for, and with `recursive` the images in it.
fn subjects(
    registry: &Registry,
    reference: &Reference,
    recursive: bool,
) -> Result<Vec<fluyt_image::Descriptor>> {
    let document = registry.document(reference)?;
    let mut all = vec![document.descriptor.clone()];
    if recursive && let Document::Index(index) = document.parse()? {
        for child in index.manifests {
            let children = subjects(registry, &reference.with_digest(child.digest.as_str())?, true)?;
            all.extend(children.into_iter().filter(|c| !all.contains(c)).collect::<Vec<_>>());
        }
    }
    Ok(all)
}

/// Runs `fluyt image verify`.
pub fn verify(_: &Cli, flags: &Parsed) -> Outcome {
    let verifier = verifier(flags)?;
    let wanted = annotations(flags);
    let registry = transfer::client(flags.on("tls-verify"), None)?;
    for name in &flags.args {
        let reference = Reference::parse(name)?;
        let digest = match reference.digest() {
            Some(digest) => Digest::parse(digest)?,
            None => registry.document(&reference)?.descriptor.digest,
        };
        let found = registry.signatures(&repository(&reference)?, &digest)?;
        let verified = accepted(&verifier, flags, &digest, &wanted, &found)?;
        explain(flags, &reference, &verifier);
        show(flags, &verified)?;
    }
    Ok(0)
}

/// The signatures that count.
fn accepted(
    verifier: &Verifier,
    flags: &Parsed,
    digest: &Digest,
    wanted: &BTreeMap<String, String>,
    found: &[Signature],
) -> Result<Vec<Verified>> {
    let refused = |why: String| Error::new(Kind::Unauthorized, why);
    if found.is_empty() {
        return Err(refused(format!("no signatures found for {digest}")));
    }
    let (mut verified, mut reasons) = (Vec::new(), Vec::new());
    for signature in found {
        let judged = verifier.verify(signature, now()).and_then(|v| {
            if flags.on("check-claims") && v.payload.digest != digest.as_str() {
                return Err(refused(format!("the signature is for the digest {}", v.payload.digest)));
            }
            if !v.payload.has_annotations(wanted) {
                return Err(refused("the signature lacks the annotations".to_owned()));
            }
            if let (false, Some(issuer)) = (names_issuer(flags), &v.issuer) {
                let text = format!("the signer is known to {issuer}, and no provider was asked for");
                return Err(refused(text).with_hint("give --certificate-oidc-issuer"));
            }
            Ok(v)
        });
        match judged {
            Ok(v) => verified.push(v),
            Err(e) => reasons.push(e.chain()),
        }
    }
    if verified.is_empty() {
        reasons.sort();
        reasons.dedup();
        return Err(refused(format!("no matching signatures: {}", reasons.join("; "))));
    }
    Ok(verified)
}

fn names_issuer(flags: &Parsed) -> bool {
    flags.changed("certificate-oidc-issuer") || flags.changed("certificate-oidc-issuer-regexp")
}

fn pattern(flags: &Parsed, exactly: &str, regexp: &str) -> Result<Option<Pattern>> {
    match (flags.given(exactly), flags.given(regexp)) {
        (Some(_), Some(_)) => Err(Error::invalid(format!("--{exactly} and --{regexp} exclude one another"))),
        (Some(text), None) => Ok(Some(Pattern::Exactly(text.to_owned()))),
        (None, Some(text)) => Pattern::regexp(text).map(Some),
        (None, None) => Ok(None),
    }
}

fn verifier(flags: &Parsed) -> Result<Verifier> {
    let mut logs = Vec::new();
    let log = flags.given("rekor-key").map(str::to_owned).or_else(|| variable("SIGSTORE_REKOR_PUBLIC_KEY"));
    if let Some(path) = log.filter(|_| !flags.on("insecure-ignore-tlog")) {
        logs.push(PublicKey::from_pem(&file(&path)?, &path)?);
    }
    if let Some(path) = flags.given("key") {
        let authority = Authority::Keys(vec![PublicKey::from_pem(&file(path)?, path)?]);
        return Ok(Verifier { authority, logs });
    }
    let mut rule = CertificateRule {
        identities: pattern(flags, "certificate-identity", "certificate-identity-regexp")?
            .into_iter()
            .collect(),
        issuer: pattern(flags, "certificate-oidc-issuer", "certificate-oidc-issuer-regexp")?,
        ..CertificateRule::default()
    };
    if let Some(path) = flags.given("certificate-chain") {
        rule.add_chain(&file(path)?, path)?;
    }
    let roots = flags.given("ca-roots").map(str::to_owned).or_else(|| variable("SIGSTORE_ROOT_FILE"));
    if let Some(path) = roots {
        rule.add_roots(&file(&path)?, &path)?;
    }
    if let Some(path) = flags.given("ca-intermediates") {
        rule.add_intermediates(&file(path)?);
    }
    if rule.roots.is_empty() {
        return Err(Error::invalid("image verify needs --key, --ca-roots or --certificate-chain")
            .with_hint("no authority is built in: name the key or the authority that you trust"));
    }
    if rule.identities.is_empty() {
        return Err(Error::invalid("--certificate-identity or --certificate-identity-regexp is required")
            .with_hint("an authority vouches for many; say whose signature you want"));
    }
    Ok(Verifier { authority: Authority::Certificates(rule), logs })
}

/// Cosign's words about what was verified, on standard error.
fn explain(flags: &Parsed, reference: &Reference, verifier: &Verifier) {
    let mut text = format!(
        "\nVerification for {} --\nThe following checks were performed on each of these signatures:\n",
        reference.familiar()
    );
    if flags.on("check-claims") {
        text.push_str("  - The cosign claims were validated\n");
    }
    if flags.changed("annotations") {
        text.push_str("  - The specified annotations were verified.\n");
    }
    if !verifier.logs.is_empty() {
        text.push_str("  - Existence of the claims in the transparency log was verified offline\n");
    }
    text.push_str(match verifier.authority {
        Authority::Keys(_) => "  - The signatures were verified against the specified public key\n",
        Authority::Certificates(_) => {
            "  - The code-signing certificate was verified using trusted certificate authority certificates\n"
        }
    });
    eprintln!("{text}");
}

fn show(flags: &Parsed, verified: &[Verified]) -> Result<()> {
    if flags.text("output") == "text" {
        for one in verified {
            if let Some(subject) = &one.subject {
                print_line(&format!("Certificate subject: {subject}"))?;
            }
            if let Some(issuer) = &one.issuer {
                print_line(&format!("Certificate issuer URL: {issuer}"))?;
            }
            print_line(&String::from_utf8_lossy(&one.payload.to_bytes()))?;
        }
        return Ok(());
    }
    let mut documents = Vec::new();
    for one in verified {
        let mut document: Value = serde_json::from_slice(&one.payload.to_bytes())
            .map_err(|e| Error::internal("writing JSON").with_source(e))?;
        for (name, value) in [("Subject", &one.subject), ("Issuer", &one.issuer)] {
            if let Some(value) = value {
                if document["optional"].is_null() {
                    document["optional"] = json!({});
                }
                document["optional"][name] = json!(value);
            }
        }
        documents.push(document);
    }
    print_line(&Value::from(documents).to_string())
}
