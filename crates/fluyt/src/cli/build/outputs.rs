//! `--output`, `--tag`, `--push`, `--load` and `--annotation`: what a build is to result in.

use std::path::PathBuf;

use fluyt_build::solve::{Annotations, Form};
use fluyt_image::Platform;
use fluyt_image::layer::codec::Compression;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Result};

use crate::cli::flags::Parsed;

/// What a build results in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An image of the store, pushed or not.
    Image {
        /// Send it to its registry.
        push: bool,
        /// Send it under its digest, not under a tag.
        by_digest: bool,
        /// It stays in the store.
        store: bool,
    },
    /// Files in a directory.
    Local(PathBuf, Files),
    /// An archive of the files; `-`: standard output.
    Tar(String, Files),
    /// An archive as `docker save` makes it, or an OCI layout.
    Archive {
        /// `-`: standard output.
        dest: String,
        /// Only the OCI layout.
        oci: bool,
        /// One file; a directory otherwise.
        tar: bool,
    },
    /// Nothing but the cache.
    Cache,
}

/// How files are laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// A directory for each platform; by default when there are several.
    pub split: Option<bool>,
    /// What of a directory is not in the result goes.
    pub delete: bool,
    /// What the names of attestations begin with.
    pub prefix: String,
}

/// One `--output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// What.
    pub target: Target,
    /// Under which names.
    pub names: Vec<Reference>,
    /// How its documents are.
    pub form: Form,
}

/// All outputs; an image of the store when none is asked for.
///
/// # Errors
/// A value that is malformed, one that is not known.
pub fn read(flags: &Parsed) -> Result<Vec<Output>> {
    let tags: Vec<Reference> = flags.all("tag").map(tag).collect::<Result<_>>()?;
    let mut outputs = Vec::new();
    for text in flags.all("output") {
        outputs.push(output(text, &tags)?);
    }
    let image = |push| Output {
        target: Target::Image { push, by_digest: false, store: true },
        names: tags.clone(),
        form: Form::default(),
    };
    if flags.on("push") {
        match outputs.iter_mut().find(|o| matches!(o.target, Target::Image { .. })) {
            Some(Output { target: Target::Image { push, .. }, .. }) => *push = true,
            _ => outputs.push(image(true)),
        }
    }
    let stored = |o: &Output| matches!(o.target, Target::Image { store: true, .. });
    if flags.on("load") && !outputs.iter().any(stored) || outputs.is_empty() {
        outputs.push(image(false));
    }
    for text in flags.all("annotation") {
        for output in &mut outputs {
            annotate(&mut output.form.annotations, text)?;
        }
    }
    Ok(outputs)
}

fn tag(text: &str) -> Result<Reference> {
    Reference::parse_untagged(text)
        .map(Reference::or_latest)
        .map_err(|e| e.context(format!("invalid tag {text:?}")))
}

fn truth(key: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" | "t" | "T" | "True" | "TRUE" => Ok(true),
        "false" | "0" | "f" | "F" | "False" | "FALSE" => Ok(false),
        _ => Err(Error::invalid(format!("non-bool value specified for {key}: {value:?}"))
            .with_hint("true and false are known")),
    }
}

fn output(text: &str, tags: &[Reference]) -> Result<Output> {
    let pairs = super::wanted::pairs(text)?;
    if let [(key, path)] = &pairs[..]
        && key.is_empty()
    {
        let target = if path == "-" {
            Target::Tar("-".to_owned(), Files::default())
        } else {
            Target::Local(path.into(), Files::default())
        };
        return Ok(Output { target, names: tags.to_vec(), form: Form::default() });
    }
    let mut seen = Seen::default();
    for (key, value) in &pairs {
        seen.field(key, value).map_err(|e| e.context(format!("--output {text}")))?;
    }
    let need =
        || seen.dest.clone().ok_or_else(|| Error::invalid(format!("--output {text}: dest is required")));
    let image =
        |push: bool| Target::Image { push, by_digest: seen.by_digest, store: seen.store.unwrap_or(true) };
    let to = || seen.dest.clone().unwrap_or_else(|| "-".to_owned());
    let target = match seen.kind.as_str() {
        "" => return Err(Error::invalid(format!("--output {text}: type is required"))),
        "image" => image(seen.push),
        "registry" => image(true),
        "local" => Target::Local(need()?.into(), seen.files.clone()),
        "tar" => Target::Tar(to(), seen.files.clone()),
        "docker" if seen.dest.is_none() => image(false),
        "docker" => Target::Archive { dest: need()?, oci: false, tar: true },
        "oci" if !seen.tar => Target::Archive { dest: need()?, oci: true, tar: false },
        "oci" => Target::Archive { dest: to(), oci: true, tar: true },
        "cacheonly" => Target::Cache,
        other => return Err(Error::invalid(format!("exporter {other:?} could not be found"))),
    };
    if seen.files.delete && seen.kind != "local" {
        return Err(Error::invalid(format!("--output {text}: mode=delete is for directories (type=local)")));
    }
    if seen.form.packing.level.is_some() && seen.form.packing.compression == Compression::None {
        return Err(Error::invalid(format!(
            "--output {text}: what is not compressed has no compression-level"
        )));
    }
    let mut names = tags.to_vec();
    names.extend(seen.names.into_iter().filter(|name| !tags.contains(name)));
    Ok(Output { target, names, form: seen.form })
}

/// The fields of an `--output`.
struct Seen {
    kind: String,
    dest: Option<String>,
    names: Vec<Reference>,
    push: bool,
    by_digest: bool,
    store: Option<bool>,
    tar: bool,
    files: Files,
    form: Form,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            kind: String::new(),
            dest: None,
            names: Vec::new(),
            push: false,
            by_digest: false,
            store: None,
            tar: true,
            files: Files::default(),
            form: Form::default(),
        }
    }
}

impl Seen {
    fn field(&mut self, key: &str, value: &str) -> Result<()> {
        let packing = &mut self.form.packing;
        match key {
            "type" => value.clone_into(&mut self.kind),
            "dest" => self.dest = Some(value.to_owned()),
            "name" => {
                for name in value.split(',').filter(|name| !name.is_empty()) {
                    self.names.push(tag(name)?);
                }
            }
            "push" => self.push = truth(key, value)?,
            "push-by-digest" => self.by_digest = truth(key, value)?,
            "store" => self.store = Some(truth(key, value)?),
            "tar" => self.tar = truth(key, value)?,
            "oci-mediatypes" => self.form.oci = truth(key, value)?,
            "oci-artifact" => self.form.artifact = truth(key, value)?,
            "mode" => {
                self.files.delete = match value.trim().to_lowercase().as_str() {
                    "" | "copy" => false,
                    "delete" => true,
                    _ => return Err(Error::invalid(format!("invalid local exporter mode {value:?}"))),
                }
            }
            "platform-split" => self.files.split = Some(truth(key, value)?),
            "attestation-prefix" => value.clone_into(&mut self.files.prefix),
            "compression" => packing.compression = compression(value)?,
            "compression-level" => {
                let level = value.parse().map_err(|_| {
                    Error::invalid(format!("non-int value {value:?} specified for compression-level"))
                })?;
                packing.level = Some(level);
            }
            "force-compression" => packing.force = truth(key, value)?,
            // Times after SOURCE_DATE_EPOCH never get into a layer here, asked for or not.
            "rewrite-timestamp"
            | "unpack"
            | "name-canonical"
            | "prefer-nondist-layers"
            | "buildinfo"
            | "buildinfo-attrs" => drop(truth(key, value)?),
            "dangling-name-prefix" => {}
            other => match other.strip_prefix("annotation") {
                Some(rest) => self.annotation(rest, value)?,
                None => {
                    return Err(Error::invalid(format!("unknown option {other:?}"))
                        .with_hint("`fluyt build --help` and the README name the known ones"));
                }
            },
        }
        Ok(())
    }

    /// `annotation[-KIND][[PLATFORM]].KEY`, without its first word.
    fn annotation(&mut self, rest: &str, value: &str) -> Result<()> {
        let wrong = || Error::invalid(format!("invalid annotation {:?}", format!("annotation{rest}")));
        let (place, key) = match rest.split_once("].") {
            Some((place, key)) => (format!("{place}]"), key),
            None => {
                let (place, key) = rest.split_once('.').ok_or_else(wrong)?;
                (place.to_owned(), key)
            }
        };
        let place = place.strip_prefix('-').unwrap_or(&place);
        note(&mut self.form.annotations, place, key, value)
    }
}

fn compression(text: &str) -> Result<Compression> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "uncompressed" => Ok(Compression::None),
        "estargz" => {
            Err(Error::unsupported("compression=estargz").with_hint("gzip, zstd and uncompressed are known"))
        }
        other => Err(Error::invalid(format!("unsupported compression type {other:?}"))
            .with_hint("gzip, zstd and uncompressed are known")),
    }
}

/// `[KIND[[PLATFORM]][,…]:]KEY=VALUE`.
fn annotate(annotations: &mut Annotations, text: &str) -> Result<()> {
    let (left, value) = text
        .split_once('=')
        .ok_or_else(|| Error::invalid(format!("invalid annotation {text:?}, expected key=value")))?;
    let (places, key) = left.split_once(':').unwrap_or(("", left));
    for place in places.split(',') {
        note(annotations, place, key, value)?;
    }
    Ok(())
}

fn note(annotations: &mut Annotations, place: &str, key: &str, value: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::invalid("an annotation without a key"));
    }
    let (kind, platform) = match place.split_once('[') {
        Some((kind, rest)) => {
            let text = rest.strip_suffix(']').unwrap_or(rest);
            (kind, Some(Platform::parse(text)?))
        }
        None => (place, None),
    };
    let (key, value) = (key.to_owned(), value.to_owned());
    match (kind, platform) {
        ("index", None) => drop(annotations.index.insert(key, value)),
        ("index-descriptor", None) => drop(annotations.index_descriptor.insert(key, value)),
        ("" | "manifest", platform) => annotations.manifest.push((platform, key, value)),
        ("manifest-descriptor", platform) => annotations.manifest_descriptor.push((platform, key, value)),
        (other, _) => {
            return Err(Error::invalid(format!("unknown annotation type {other:?}")).with_hint(
                "index, index-descriptor, manifest and manifest-descriptor are; the latter two take [PLATFORM]",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_outputs() {
        let one = output(
            "type=image,name=a:1,push=true,compression=zstd,compression-level=7,oci-mediatypes=true",
            &[],
        )
        .unwrap();
        assert_eq!(one.target, Target::Image { push: true, by_digest: false, store: true });
        assert_eq!(one.names.len(), 1);
        let Target::Local(_, files) = output("type=local,dest=x,mode=Delete", &[]).unwrap().target else {
            panic!("another target")
        };
        assert!(files.delete);
        assert_eq!(one.form.packing.level, Some(7));
        let two = output("type=oci,tar=false,dest=x,annotation-index.a.b=1,annotation[linux/arm64].c=2", &[])
            .unwrap();
        assert_eq!(two.target, Target::Archive { dest: "x".to_owned(), oci: true, tar: false });
        assert_eq!(two.form.annotations.index["a.b"], "1");
        let arm = Platform::parse("linux/arm64").unwrap();
        assert_eq!(two.form.annotations.manifest, [(Some(arm), "c".to_owned(), "2".to_owned())]);
        for bad in [
            "type=oci,tar=false",
            "type=image,compression=estargz",
            "type=image,nonsense=1",
            "type=local,dest=x,mode=else",
            "type=tar,dest=x,mode=delete",
            "dest=x",
            "type=x",
        ] {
            assert!(output(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn places_of_annotations() {
        let mut all = Annotations::default();
        annotate(&mut all, "a=x:y").unwrap();
        annotate(&mut all, "index,manifest-descriptor[linux/amd64]:b=1=2").unwrap();
        assert_eq!(all.manifest, [(None, "a".to_owned(), "x:y".to_owned())]);
        assert_eq!((all.index["b"].as_str(), all.manifest_descriptor.len()), ("1=2", 1));
        assert!(annotate(&mut all, "a").is_err());
        assert!(annotate(&mut all, "else:a=b").is_err());
    }
}
