//! Containers' `policy.json` (containers-policy.json(5)): what has to be proven of an image before it may be used.
//!
//! A policy says for each transport (`docker` is a registry) and scope (a name or a part of one) a list of requirements, all
//! of which must be met. What is not known is refused, as there: a policy that is half understood protects nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::certificate::Pattern;
use crate::identity::Identity;
use crate::keys::PublicKey;
use crate::signature::Signature;
use crate::verify::{Authority, CertificateRule, Verifier};

/// Which images may be used.
#[derive(Clone, Debug)]
pub struct Policy {
    path: PathBuf,
    default: Vec<Requirement>,
    transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// One thing that has to be proven.
#[derive(Clone, Debug)]
pub enum Requirement {
    /// Nothing.
    AcceptAnything,
    /// What nobody can prove.
    Reject,
    /// A signature by cosign's layout.
    Sigstore(Box<SigstoreRequirement>),
    /// Something that this program cannot verify (`signedBy` is OpenPGP).
    Unsupported(String),
}

/// Whose signature is wanted, for which name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SigstoreRequirement {
    #[serde(rename = "type")]
    _type: String,
    key_path: Option<PathBuf>,
    key_paths: Vec<PathBuf>,
    key_data: Option<String>,
    key_datas: Vec<String>,
    fulcio: Option<Fulcio>,
    pki: Option<Pki>,
    rekor_public_key_path: Option<PathBuf>,
    rekor_public_key_paths: Vec<PathBuf>,
    rekor_public_key_data: Option<String>,
    rekor_public_key_datas: Vec<String>,
    signed_identity: Identity,
}

/// Certificates that Fulcio gave.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Fulcio {
    ca_path: Option<PathBuf>,
    ca_data: Option<String>,
    oidc_issuer: String,
    subject_email: String,
}

/// Certificates of one's own authority.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Pki {
    #[serde(rename = "caRootsPath")]
    roots_path: Option<PathBuf>,
    #[serde(rename = "caRootsData")]
    roots_data: Option<String>,
    #[serde(rename = "caIntermediatesPath")]
    intermediates_path: Option<PathBuf>,
    #[serde(rename = "caIntermediatesData")]
    intermediates_data: Option<String>,
    subject_email: Option<String>,
    subject_hostname: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Value>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<Value>>>,
}

/// What a policy says of a name before anything is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing has to be proven.
    Accept,
    /// The signatures decide.
    Signatures,
}

impl Policy {
    /// The policy that counts: `given`, which must be there, else the first of `usual` that is there. `None`: there is none, and
    /// everything may be used.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid` for a file that is not understood.
    pub fn load(given: Option<&Path>, usual: &[&Path]) -> Result<Option<Self>> {
        if let Some(path) = given {
            let text = std::fs::read_to_string(path).about(|| path.display().to_string())?;
            return Self::parse(&text, path).map(Some);
        }
        for path in usual {
            match std::fs::read_to_string(path) {
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) => {}
                other => return Self::parse(&other.about(|| path.display().to_string())?, path).map(Some),
            }
        }
        Ok(None)
    }

    /// Reads a policy; `path` is how errors call it.
    ///
    /// # Errors
    /// `Kind::Invalid`.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let broken = |why: &str| {
            Error::invalid(format!("{}: not a valid policy{why}", path.display())).with_hint(
                "containers-policy.json(5) describes the file; nothing is used while it is not understood",
            )
        };
        let document: Document = serde_json::from_str(text).map_err(|e| broken("").with_source(e))?;
        let list = |values: Vec<Value>, scope: &str| -> Result<Vec<Requirement>> {
            if values.is_empty() {
                return Err(broken(&format!(": {scope} has no requirements")));
            }
            values
                .into_iter()
                .map(|v| requirement(v).map_err(|e| broken(&format!(": {scope}")).with_source(e)))
                .collect()
        };
        let default = list(document.default, "default")?;
        let mut transports = BTreeMap::new();
        for (transport, scopes) in document.transports {
            let mut parsed = BTreeMap::new();
            for (scope, values) in scopes {
                let name = format!("transports.{transport}.{scope:?}");
                parsed.insert(scope, list(values, &name)?);
            }
            transports.insert(transport, parsed);
        }
        Ok(Self { path: path.to_owned(), default, transports })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has to be proven of a name of a registry: the most specific scope counts.
    #[must_use]
    pub fn requirements(&self, reference: &Reference) -> &[Requirement] {
        let Some(scopes) = self.transports.get("docker") else { return &self.default };
        candidates(reference).iter().find_map(|scope| scopes.get(scope)).unwrap_or(&self.default)
    }

    /// What has to be proven of images in archives (`docker-archive`, `oci-archive`, `oci`), which have no scopes here.
    #[must_use]
    pub fn requirements_of_archives(&self, transport: &str) -> &[Requirement] {
        self.transports.get(transport).and_then(|scopes| scopes.get("")).unwrap_or(&self.default)
    }

    /// What can be said of these requirements without any signature. `what` is what would be used.
    ///
    /// # Errors
    /// `Kind::PermissionDenied` when the policy rejects it, or wants what this program cannot verify.
    pub fn decide(&self, requirements: &[Requirement], what: &str) -> Result<Decision> {
        let mut decision = Decision::Accept;
        for requirement in requirements {
            match requirement {
                Requirement::AcceptAnything => {}
                Requirement::Reject => return Err(self.refused(what, "it rejects this name")),
                Requirement::Unsupported(kind) => {
                    let why = format!("it wants proof of the kind {kind:?}, which cannot be verified here");
                    return Err(self.refused(what, &why));
                }
                Requirement::Sigstore(_) => decision = Decision::Signatures,
            }
        }
        Ok(decision)
    }

    /// Decides about the image `reference`, known by `digests` (its manifest, and the index it was chosen from), with the
    /// signatures that were found for those.
    ///
    /// # Errors
    /// `Kind::PermissionDenied` when a requirement is not met; `Kind::Invalid` when the policy names what cannot be read.
    pub fn judge(
        &self,
        reference: &Reference,
        digests: &[&str],
        signatures: &[Signature],
        now: i64,
    ) -> Result<()> {
        let what = reference.familiar();
        let requirements = self.requirements(reference);
        self.decide(requirements, &what)?;
        for requirement in requirements {
            let Requirement::Sigstore(wanted) = requirement else { continue };
            let verifier = wanted.verifier().map_err(|e| e.context(self.path.display().to_string()))?;
            let mut reasons: Vec<String> = Vec::new();
            let mut met = false;
            for signature in signatures {
                match accepts(&verifier, &wanted.signed_identity, reference, digests, signature, now) {
                    Ok(()) => met = true,
                    Err(e) => reasons.push(e.chain()),
                }
            }
            if !met {
                reasons.sort();
                reasons.dedup();
                let why = if reasons.is_empty() {
                    "it wants a signature, and there is none".to_owned()
                } else {
                    format!("it wants another signature than there is: {}", reasons.join("; "))
                };
                return Err(self.refused(&what, &why));
            }
        }
        Ok(())
    }

    fn refused(&self, what: &str, why: &str) -> Error {
        Error::new(
            Kind::PermissionDenied,
            format!("the policy {} does not let {what} be used: {why}", self.path.display()),
        )
        .with_hint("use an image that meets it, or have the policy changed by whoever is responsible for it")
    }
}

fn requirement(value: Value) -> Result<Requirement, serde_json::Error> {
    use serde::de::Error as _;
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let alone = || {
        if value.as_object().is_some_and(|o| o.len() == 1) {
            Ok(())
        } else {
            Err(serde_json::Error::custom(format!("{kind} has no further fields")))
        }
    };
    match kind.as_str() {
        "insecureAcceptAnything" => alone().map(|()| Requirement::AcceptAnything),
        "reject" => alone().map(|()| Requirement::Reject),
        "sigstoreSigned" => {
            let wanted: SigstoreRequirement = serde_json::from_value(value)?;
            wanted.check().map_err(serde_json::Error::custom)?;
            Ok(Requirement::Sigstore(Box::new(wanted)))
        }
        "signedBy" | "signedBaseLayer" => Ok(Requirement::Unsupported(kind)),
        _ => Err(serde_json::Error::custom(format!("unknown requirement {kind:?}"))),
    }
}

/// The scopes that a name falls under, the most specific first: the name itself, its repository, namespaces, host,
/// wildcards for the host's domains, everything.
fn candidates(reference: &Reference) -> Vec<String> {
    let mut scopes = vec![reference.to_string()];
    if let Some(digest) = reference.digest() {
        scopes.push(format!("{}@{digest}", reference.name()));
    }
    let name = reference.name();
    let mut rest = name.as_str();
    scopes.push(rest.to_owned());
    while let Some((parent, _)) = rest.rsplit_once('/') {
        scopes.push(parent.to_owned());
        rest = parent;
    }
    // Wildcards know no ports.
    rest = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    while let Some((_, parent)) = rest.split_once('.') {
        scopes.push(format!("*.{parent}"));
        rest = parent;
    }
    scopes.push(String::new());
    scopes
}

fn accepts(
    verifier: &Verifier,
    identity: &Identity,
    reference: &Reference,
    digests: &[&str],
    signature: &Signature,
    now: i64,
) -> Result<()> {
    let payload = verifier.verify(signature, now)?.payload;
    let refused = |why: String| Error::new(Kind::Unauthorized, why);
    if !digests.contains(&payload.digest.as_str()) {
        return Err(refused(format!("the signature is for the digest {}", payload.digest)));
    }
    if !identity.allows(reference, &payload.reference)? {
        return Err(refused(format!("the signature is for the name {}", payload.reference)));
    }
    Ok(())
}

fn decoded(data: &str, field: &str) -> Result<String> {
    let bytes = BASE64.decode(data).map_err(|_| Error::invalid(format!("{field} is not base64")))?;
    String::from_utf8(bytes).map_err(|_| Error::invalid(format!("{field} is not a PEM text")))
}

fn from_file(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).about(|| path.display().to_string())
}

/// The text of a file or of a field with base64, whichever is given.
fn text(path: Option<&PathBuf>, data: Option<&String>, field: &str) -> Result<Option<(String, String)>> {
    match (path, data) {
        (Some(path), _) => Ok(Some((from_file(path)?, path.display().to_string()))),
        (None, Some(data)) => Ok(Some((decoded(data, field)?, field.to_owned()))),
        (None, None) => Ok(None),
    }
}

fn keys<'a>(
    paths: impl Iterator<Item = &'a PathBuf>,
    datas: impl Iterator<Item = &'a String>,
    field: &str,
) -> Result<Vec<PublicKey>> {
    let mut found = Vec::new();
    for path in paths {
        found.push(PublicKey::from_pem(&from_file(path)?, &path.display().to_string())?);
    }
    for data in datas {
        found.push(PublicKey::from_pem(&decoded(data, field)?, field)?);
    }
    Ok(found)
}

impl SigstoreRequirement {
    /// Whether its fields go together.
    fn check(&self) -> Result<(), String> {
        let sources = [
            self.key_path.is_some(),
            !self.key_paths.is_empty(),
            self.key_data.is_some(),
            !self.key_datas.is_empty(),
            self.fulcio.is_some(),
            self.pki.is_some(),
        ];
        if sources.iter().filter(|given| **given).count() != 1 {
            return Err(
                "sigstoreSigned needs exactly one of keyPath, keyPaths, keyData, keyDatas, fulcio and pki"
                    .into(),
            );
        }
        if let Some(fulcio) = &self.fulcio {
            if fulcio.ca_path.is_some() == fulcio.ca_data.is_some() {
                return Err("fulcio needs exactly one of caPath and caData".into());
            }
            if fulcio.oidc_issuer.is_empty() || fulcio.subject_email.is_empty() {
                return Err("fulcio needs oidcIssuer and subjectEmail".into());
            }
            if !self.has_log() {
                return Err("fulcio needs rekorPublicKeyPath or rekorPublicKeyData: only the log tells when was signed".into());
            }
        }
        if let Some(pki) = &self.pki {
            if pki.roots_path.is_some() == pki.roots_data.is_some() {
                return Err("pki needs exactly one of caRootsPath and caRootsData".into());
            }
            if pki.subject_email.is_none() && pki.subject_hostname.is_none() {
                return Err("pki needs subjectEmail or subjectHostname".into());
            }
        }
        Ok(())
    }

    fn has_log(&self) -> bool {
        self.rekor_public_key_path.is_some()
            || self.rekor_public_key_data.is_some()
            || !self.rekor_public_key_paths.is_empty()
            || !self.rekor_public_key_datas.is_empty()
    }

    /// Reads the keys and certificates that it names.
    ///
    /// # Errors
    /// I/O errors; `Kind::Invalid`.
    fn verifier(&self) -> Result<Verifier> {
        let logs = keys(
            self.rekor_public_key_path.iter().chain(&self.rekor_public_key_paths),
            self.rekor_public_key_data.iter().chain(&self.rekor_public_key_datas),
            "rekorPublicKeyData",
        )?;
        let mut rule = CertificateRule::default();
        if let Some(fulcio) = &self.fulcio {
            if let Some((pem, name)) = text(fulcio.ca_path.as_ref(), fulcio.ca_data.as_ref(), "caData")? {
                rule.add_roots(&pem, &name)?;
            }
            rule.identities = vec![Pattern::Exactly(fulcio.subject_email.clone())];
            rule.issuer = Some(Pattern::Exactly(fulcio.oidc_issuer.clone()));
        } else if let Some(pki) = &self.pki {
            if let Some((pem, name)) = text(pki.roots_path.as_ref(), pki.roots_data.as_ref(), "caRootsData")?
            {
                rule.add_roots(&pem, &name)?;
            }
            let between = (pki.intermediates_path.as_ref(), pki.intermediates_data.as_ref());
            if let Some((pem, _)) = text(between.0, between.1, "caIntermediatesData")? {
                rule.add_intermediates(&pem);
            }
            let names = pki.subject_email.iter().chain(&pki.subject_hostname);
            rule.identities = names.cloned().map(Pattern::Exactly).collect();
        } else {
            let keys = keys(
                self.key_path.iter().chain(&self.key_paths),
                self.key_data.iter().chain(&self.key_datas),
                "keyData",
            )?;
            return Ok(Verifier { authority: Authority::Keys(keys), logs });
        }
        Ok(Verifier { authority: Authority::Certificates(rule), logs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::PrivateKey;
    use crate::payload::Payload;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn parse(text: &str) -> Result<Policy> {
        Policy::parse(text, Path::new("/p.json"))
    }

    fn name(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    fn signed(key: &PrivateKey, reference: &str, digest: &str) -> Signature {
        let payload =
            Payload { reference: reference.into(), digest: digest.into(), annotations: BTreeMap::new() };
        Signature::make(key, &payload).unwrap()
    }

    #[test]
    fn certificates_must_have_every_name_that_a_policy_asks_for() {
        let root = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        let names = |fields: &str| {
            let text = format!(r#"{{"caRootsData":"{}"{fields}}}"#, BASE64.encode(root));
            let rule: SigstoreRequirement = serde_json::from_str(&format!(r#"{{"pki":{text}}}"#)).unwrap();
            let Authority::Certificates(rule) = rule.verifier().unwrap().authority else { panic!("keys") };
            rule.identities.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (mail, host) = (r#","subjectEmail":"a@b""#, r#","subjectHostname":"h""#);
        assert_eq!(names(mail), ["a@b"]);
        assert_eq!(names(host), ["h"]);
        assert_eq!(names(&format!("{mail}{host}")), ["a@b", "h"]);
    }

    #[test]
    fn the_most_specific_scope_counts() {
        let policy = parse(
            r#"{"default":[{"type":"reject"}],"transports":{"docker":{
                "docker.io/library":[{"type":"insecureAcceptAnything"}],
                "docker.io/library/busybox:bad":[{"type":"reject"}],
                "*.example.org":[{"type":"insecureAcceptAnything"}],
                "r.example.org:5000/gpg":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]},
              "docker-archive":{"":[{"type":"insecureAcceptAnything"}]}}}"#,
        )
        .unwrap();
        let ok = |reference: &str| {
            let reference = name(reference);
            policy.decide(policy.requirements(&reference), "x").is_ok()
        };
        assert!(ok("busybox") && ok("busybox:good") && ok("r.example.org:5000/a"));
        assert!(!ok("busybox:bad") && !ok("quay.io/a") && !ok("example.org/a"));
        let gpg = name("r.example.org:5000/gpg/x");
        let e = policy.decide(policy.requirements(&gpg), "x").unwrap_err();
        assert!(e.kind() == Kind::PermissionDenied && e.to_string().contains("signedBy"), "{e}");
        assert!(policy.decide(policy.requirements_of_archives("docker-archive"), "x").is_ok());
        assert!(policy.decide(policy.requirements_of_archives("oci-archive"), "x").is_err());
    }

    #[test]
    fn policies_that_are_not_understood_are_refused() {
        for text in [
            "",
            "{}",
            r#"{"default":[]}"#,
            r#"{"default":[{"type":"trustMe"}]}"#,
            r#"{"default":[{"type":"reject","x":1}]}"#,
            r#"{"default":[{"type":"reject"}],"extra":1}"#,
            r#"{"default":[{"type":"sigstoreSigned"}]}"#,
            r#"{"default":[{"type":"sigstoreSigned","keyPath":"/a","keyData":"b"}]}"#,
            r#"{"default":[{"type":"sigstoreSigned","keyPath":"/a","strange":1}]}"#,
            r#"{"default":[{"type":"sigstoreSigned","fulcio":{"caPath":"/c","oidcIssuer":"i","subjectEmail":"e"}}]}"#,
        ] {
            let e = parse(text).expect_err(text);
            assert!(e.kind() == Kind::Invalid && e.to_string().contains("/p.json"), "{text}: {e}");
        }
    }

    #[test]
    fn signatures_decide() {
        let (key, other) = (PrivateKey::generate().unwrap(), PrivateKey::generate().unwrap());
        let data = BASE64.encode(key.public().to_pem());
        let policy = parse(&format!(
            r#"{{"default":[{{"type":"sigstoreSigned","keyData":"{data}","signedIdentity":{{"type":"matchRepository"}}}}]}}"#
        ))
        .unwrap();
        let used = name("reg.io/app:1");
        let judge = |signatures: &[Signature]| policy.judge(&used, &[DIGEST], signatures, 0);
        let good = signed(&key, "reg.io/app", DIGEST);
        judge(&[signed(&other, "reg.io/app", DIGEST), good.clone()]).unwrap();
        let refusals = [
            (vec![], "there is none"),
            (vec![signed(&other, "reg.io/app", DIGEST)], "of another key"),
            (vec![signed(&key, "reg.io/other", DIGEST)], "for the name reg.io/other"),
            (vec![signed(&key, "reg.io/app", "sha256:00")], "for the digest sha256:00"),
            (
                vec![Signature { payload: good.payload.replace("app", "apq"), ..good.clone() }],
                "of another key",
            ),
        ];
        for (signatures, expected) in refusals {
            let e = judge(&signatures).unwrap_err();
            assert!(
                e.kind() == Kind::PermissionDenied && e.to_string().contains(expected),
                "{expected}: {e}"
            );
        }
        let wants_log = parse(&format!(
            r#"{{"default":[{{"type":"sigstoreSigned","keyData":"{data}","rekorPublicKeyData":"{data}"}}]}}"#
        ))
        .unwrap();
        let e = wants_log.judge(&used, &[DIGEST], &[good], 0).unwrap_err();
        assert!(e.to_string().contains("no transparency log"), "{e}");
    }

    #[test]
    fn a_policy_is_found_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        assert!(Policy::load(None, &[&one, &two]).unwrap().is_none());
        assert!(Policy::load(Some(&one), &[]).is_err());
        std::fs::write(&two, r#"{"default":[{"type":"reject"}]}"#).unwrap();
        assert_eq!(Policy::load(None, &[&one, &two]).unwrap().unwrap().path(), two);
    }
}
