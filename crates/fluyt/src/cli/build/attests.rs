//! `--attest`, `--provenance` and `--sbom`: what is to be said about a build.

use fluyt_build::attest::provenance::Options;
use fluyt_model::{Error, Result};

use crate::cli::flags::Parsed;

/// What is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attests {
    /// Where it comes from.
    pub provenance: Option<Provenance>,
    /// What is in it.
    pub sbom: bool,
}

/// See [`Attests::provenance`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// What is said.
    pub options: Options,
    /// Only in images, not beside files.
    pub inline_only: bool,
}

impl Attests {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.provenance.is_none() && !self.sbom
    }

    /// Reads the flags.
    ///
    /// # Errors
    /// A value that is malformed, a kind twice.
    pub fn read(flags: &Parsed) -> Result<Self> {
        let mut lines: Vec<Vec<(String, String)>> = Vec::new();
        for text in flags.all("attest") {
            lines.push(super::wanted::pairs(text)?);
        }
        for kind in ["provenance", "sbom"] {
            if let Some(value) = flags.given(kind) {
                lines.push(shorthand(kind, value)?);
            }
        }
        let mut found = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for pairs in lines {
            let get = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
            let kind = match (get("type"), pairs.first()) {
                (Some(kind), _) => kind.to_owned(),
                (None, Some((key, kind))) if key.is_empty() => kind.clone(),
                _ => {
                    return Err(Error::invalid("attestation type not specified")
                        .with_hint("type=provenance or type=sbom"));
                }
            };
            if seen.contains(&kind) {
                return Err(Error::invalid(format!("duplicate attestation field {kind}")));
            }
            let off = get("disabled").is_some_and(|value| matches!(value, "" | "true" | "1"));
            match kind.as_str() {
                "provenance" if !off => found.provenance = Some(provenance(&pairs)?),
                "sbom" if !off => found.sbom = sbom(&pairs)?,
                "provenance" | "sbom" => {}
                other => return Err(Error::invalid(format!("unknown attestation type {other:?}"))),
            }
            seen.push(kind);
        }
        Ok(found)
    }
}

/// `true`, `false` or fields.
fn shorthand(kind: &str, value: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = vec![("type".to_owned(), kind.to_owned())];
    match value {
        "" | "true" | "1" => {}
        "false" | "0" => pairs.push(("disabled".to_owned(), "true".to_owned())),
        fields => pairs.extend(super::wanted::pairs(fields)?),
    }
    Ok(pairs)
}

fn provenance(pairs: &[(String, String)]) -> Result<Provenance> {
    let mut found = Provenance {
        options: Options {
            max: true,
            v02: false,
            builder: String::new(),
            reproducible: false,
            file: "provenance.json".to_owned(),
        },
        inline_only: false,
    };
    for (key, value) in pairs {
        let truth = || matches!(value.as_str(), "" | "true" | "1");
        match key.as_str() {
            "" | "type" | "disabled" => {}
            "filename" if value.is_empty() || value.contains('/') => {
                return Err(Error::invalid(format!("invalid filename {value:?} of provenance")));
            }
            "filename" => found.options.file.clone_from(value),
            "mode" => {
                found.options.max = match value.as_str() {
                    "max" | "full" => true,
                    "min" => false,
                    other => {
                        return Err(Error::invalid(format!("invalid mode {other:?} of provenance"))
                            .with_hint("min and max are known"));
                    }
                };
            }
            "version" => {
                found.options.v02 = match value.as_str() {
                    "v1" => false,
                    "v0.2" => true,
                    other => {
                        return Err(Error::invalid(format!("invalid provenance SLSA version: {other}"))
                            .with_hint("v1 and v0.2 are known"));
                    }
                };
            }
            "builder-id" => found.options.builder.clone_from(value),
            "reproducible" => found.options.reproducible = truth(),
            "inline-only" => found.inline_only = truth(),
            other => return Err(Error::invalid(format!("unknown parameter {other:?} of provenance"))),
        }
    }
    Ok(found)
}

fn sbom(pairs: &[(String, String)]) -> Result<bool> {
    for (key, value) in pairs {
        match key.as_str() {
            "" | "type" | "disabled" => {}
            "generator" => {
                return Err(Error::unsupported(format!("--sbom generator={value}"))
                    .with_hint("leave it out: fluyt looks for packages itself, without another image"));
            }
            other => return Err(Error::invalid(format!("unknown parameter {other:?} of an SBOM"))),
        }
    }
    Ok(true)
}
