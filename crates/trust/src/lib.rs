//! Who signed an image: keys, signatures in cosign's layout, certificates, log entries, and the policy that decides
//! whether an image may be used.
//!
//! No network and no clock: signatures come as [`Signature`]s, the time as an argument. Only [`Policy::load`] and what a policy
//! names are read from files, and only making keys takes random numbers. Where signatures are kept in a registry is
//! the registry crate's part.
//!
//! # Map
//! - [`PrivateKey`] signs, [`PublicKey`] verifies; `sealed` is cosign's encrypted key file.
//! - [`Payload`] is what is signed (simple signing). [`Signature`] is a signed payload with what proves its signer.
//! - [`Verifier`]: whose signatures count: keys, or certificates of an authority (`certificate`), perhaps with an
//!   entry of a transparency log (`log`).
//! - [`Policy`]: containers' `policy.json`. `identity`: which names a signature is good for.
//!
//! # What it stands on
//! `ring` and `webpki`, which the TLS of the program brings along anyway; scrypt and secretbox for the key file. The
//! `sigstore` crate would bring an asynchronous runtime, an OpenID client and some two hundred crates more.
//!
//! # Deliberately absent
//! Signing without a key (an OpenID login at Fulcio), writing to a log, OpenPGP (`signedBy`), timestamp authorities,
//! certificates' transparency (SCT). Log entries are verified by the key of the log, without asking it.
#![forbid(unsafe_code)]

mod certificate;
mod der;
mod identity;
mod keys;
mod log;
mod payload;
mod pem;
mod policy;
mod sealed;
mod signature;
mod verify;

pub use certificate::Pattern;
pub use identity::Identity;
pub use keys::{PrivateKey, PublicKey};
pub use payload::Payload;
pub use policy::{Decision, Policy, Requirement, SigstoreRequirement};
pub use signature::Signature;
pub use verify::{Authority, CertificateRule, Verified, Verifier};
