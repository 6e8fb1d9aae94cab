//! Where YAML comes from: files, standard input, addresses of web servers.

use std::io::Read;
use std::path::{Path, PathBuf};

use fluyt_docker_api::transfer;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};
use fluyt_pod::stream::Stream;
use fluyt_registry::{FileAsk, fetch_file};
use fluyt_yaml::Files;
use fluyt_yaml::fault::{Fault, to_error};

/// So much is read at most: no file of objects is that large.
const LARGEST: u64 = 64 << 20;

/// What was read, and the files to tell places in.
#[derive(Default)]
pub struct Sources {
    /// The objects.
    pub stream: Stream,
    /// The files.
    pub files: Files,
}

impl Sources {
    /// Reads all of `names`: files, `-`, addresses.
    ///
    /// # Errors
    /// One cannot be read, or is not what it should be.
    pub fn all(names: &[String]) -> Result<Self> {
        let mut read = Self::default();
        for name in names {
            let (shown, text) = text_of(name)?;
            let number = read.files.add(&shown, text.clone());
            read.stream.read(&text, number).map_err(|fault| read.error(&fault))?;
        }
        Ok(read)
    }

    /// Reads a file of ConfigMaps, and of nothing else.
    ///
    /// # Errors
    /// It cannot be read, has other objects, or a ConfigMap that is there already.
    pub fn config_maps(&mut self, name: &str) -> Result<()> {
        let (shown, text) = text_of(name)?;
        let number = self.files.add(&shown, text.clone());
        let mut own = Stream::default();
        own.read(&text, number).map_err(|fault| self.error(&fault))?;
        let other = own.pods.first().map(|p| p.kind.clone());
        let other = other.or_else(|| own.skipped.first().cloned());
        let other = other.or_else(|| own.secrets.first().map(|_| "Secret".to_owned()));
        let other = other.or_else(|| own.claims.first().map(|_| "PersistentVolumeClaim".to_owned()));
        if let Some(kind) = other {
            return Err(Error::invalid(format!(
                "{name}: invalid YAML kind: {kind:?}. [ConfigMap] is the only supported by --configmap"
            ))
            .with_hint("give other objects as arguments"));
        }
        for (key, map) in own.config_maps {
            if self.stream.config_maps.insert(key.clone(), map).is_some() {
                return Err(Error::invalid(format!(
                    "ambiguous configuration: the same config map {key} is present in YAML and in --configmap {name} file"
                )));
            }
        }
        self.stream.warnings.extend(own.warnings);
        Ok(())
    }

    /// A fault as an error that quotes its line.
    pub fn error(&self, fault: &Fault) -> Error {
        to_error(std::slice::from_ref(fault), &self.files)
    }

    /// Tells of everything that has no effect.
    pub fn warn(&mut self) {
        for fault in std::mem::take(&mut self.stream.warnings) {
            self.warn_of(&fault);
        }
        for kind in &self.stream.skipped {
            eprintln!("WARN: {kind} is not played: it needs a cluster");
        }
    }

    /// Tells of one thing that has no effect.
    pub fn warn_of(&self, fault: &Fault) {
        let text = fault.render(&self.files);
        let first = text.lines().next().unwrap_or_default();
        match &fault.hint {
            Some(hint) => eprintln!("WARN: {first} ({hint})"),
            None => eprintln!("WARN: {first}"),
        }
    }
}

fn text_of(name: &str) -> Result<(PathBuf, String)> {
    if name == "-" {
        return Ok((PathBuf::from("<stdin>"), limited(std::io::stdin().lock(), "standard input")?));
    }
    if name.starts_with("http://") || name.starts_with("https://") {
        return Ok((PathBuf::from(name), fetched(name)?));
    }
    let file = std::fs::File::open(name).about(|| name.to_owned())?;
    if file.metadata().is_ok_and(|m| m.is_dir()) {
        return Err(Error::invalid(format!("{name}: is a directory")).with_hint("name the files in it"));
    }
    Ok((Path::new(name).to_owned(), limited(file, name)?))
}

fn limited(source: impl Read, name: &str) -> Result<String> {
    let mut text = String::new();
    let read = source.take(LARGEST + 1).read_to_string(&mut text);
    match read {
        Ok(size) if size as u64 > LARGEST => Err(Error::invalid(format!("{name}: more than 64 MiB of YAML"))),
        Ok(_) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::invalid(format!("{name}: not UTF-8 text")))
        }
        Err(e) => Err(Error::io(name, e)),
    }
}

fn fetched(url: &str) -> Result<String> {
    let mut random = [0_u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).about(|| "random numbers")?;
    let path = std::env::temp_dir().join(format!("fluyt-kube-{:016x}", u64::from_ne_bytes(random)));
    let ask = FileAsk { url, ..FileAsk::default() };
    let text = fetch_file(&transfer::settings()?, ask, &path).and_then(|_| {
        let file = std::fs::File::open(&path).about(|| path.display().to_string())?;
        limited(file, url)
    });
    // It is there, half-written perhaps, whatever came of it.
    let _ = std::fs::remove_file(&path);
    text
}
