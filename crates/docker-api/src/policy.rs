//! The policy about images: where it is, and what it says of images that are here already.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fluyt_engine::Engine;
use fluyt_image::{Image, Origin};
use fluyt_model::reference::Reference;
use fluyt_model::sandbox::{MountSource, SandboxSpec};
use fluyt_model::{Error, Result};
use fluyt_registry::Pulled;
use fluyt_trust::{Decision, Policy, Signature};

/// Instead of the flag, for all commands.
const VARIABLE: &str = "FLUYT_SIGNATURE_POLICY";

/// The policy: of the flag, of the variable, of this program, of Podman. `None`: everything may be used.
///
/// # Errors
/// A file that is not understood.
pub fn policy(given: Option<&str>) -> Result<Option<Arc<Policy>>> {
    let variable = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from);
    let given = given.filter(|g| !g.is_empty()).map(PathBuf::from).or(variable);
    let usual = [Path::new("/etc/fluyt/policy.json"), Path::new("/etc/containers/policy.json")];
    Ok(Policy::load(given.as_deref(), &usual)?.map(Arc::new))
}

/// Where a pulled image came from, to be remembered with it.
///
/// # Errors
/// Signatures that cannot be written.
pub fn origin(pulled: &Pulled) -> Result<Origin> {
    let signatures = serde_json::to_string(&pulled.signatures)
        .map_err(|e| Error::internal("writing signatures").with_source(e))?;
    Ok(Origin {
        reference: pulled.reference.clone(),
        target: pulled.target.digest.clone(),
        manifest: pulled.manifest.digest.clone(),
        signatures,
    })
}

/// [`check`] for the images that a container mounts.
///
/// # Errors
/// `Kind::PermissionDenied`; an image that is not here.
pub fn check_mounts(engine: &Engine, given: Option<&str>, spec: &SandboxSpec) -> Result<()> {
    for mount in spec.containers.iter().flat_map(|container| &container.mounts) {
        if let MountSource::Image { image, .. } = &mount.source {
            check(engine, given, image, &engine.images().resolve(image)?)?;
        }
    }
    Ok(())
}

/// Asks the policy about an image that is here, which is used as `name`. What was built here is nobody else's.
///
/// # Errors
/// `Kind::PermissionDenied`.
pub fn check(engine: &Engine, given: Option<&str>, name: &str, image: &Image) -> Result<()> {
    let Some(policy) = policy(given)? else { return Ok(()) };
    let mut origins = engine.images().origins(&image.id)?;
    if let Ok(used) = Reference::parse(name)
        && origins.iter().any(|o| o.reference == used)
    {
        origins.retain(|o| o.reference == used);
    }
    let mut refusal = None;
    for origin in &origins {
        match judge(&policy, origin) {
            Ok(()) => return Ok(()),
            Err(e) => refusal = Some(e),
        }
    }
    refusal.map_or(Ok(()), Err)
}

fn judge(policy: &Policy, origin: &Origin) -> Result<()> {
    let reference = &origin.reference;
    if policy.decide(policy.requirements(reference), &reference.familiar())? == Decision::Accept {
        return Ok(());
    }
    let signatures: Vec<Signature> = serde_json::from_str(&origin.signatures)
        .map_err(|e| Error::corrupt(format!("the signatures of {}", reference.familiar())).with_source(e))?;
    let digests = [origin.target.as_str(), origin.manifest.as_str()];
    policy.judge(reference, &digests, &signatures, now()).map_err(|e| {
        if signatures.is_empty() {
            e.with_hint(format!(
                "it was pulled when no signature was wanted; look for one with `fluyt pull {}`",
                reference.familiar()
            ))
        } else {
            e
        }
    })
}

/// Asks the policy about images that come in an archive; they come without signatures.
///
/// # Errors
/// `Kind::PermissionDenied`.
pub fn check_archive(transports: &[&str], what: &str) -> Result<()> {
    let Some(policy) = policy(None)? else { return Ok(()) };
    for transport in transports {
        let requirements = policy.requirements_of_archives(transport);
        if policy.decide(requirements, what)? == Decision::Signatures {
            let text = format!("the policy {} wants {what} to be signed", policy.path().display());
            return Err(Error::new(fluyt_model::Kind::PermissionDenied, text).with_hint(format!(
                "archives carry no signatures; pull it, or let the policy accept the transport {transport}"
            )));
        }
    }
    Ok(())
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
