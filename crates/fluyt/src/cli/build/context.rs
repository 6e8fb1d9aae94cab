//! Where the Dockerfile and the context come from: a directory, standard input, an archive, a repository.

use std::io::Read;
use std::path::{Path, PathBuf};

use fluyt_build::Fetch;
use fluyt_build::ignore::Ignore;
use fluyt_build::solve::tree;
use fluyt_docker_api::build::Fetcher;
use fluyt_docker_api::build::context::{Stream, from_repository, read_text, unpacked};
use fluyt_engine::Engine;
use fluyt_image::NewLayer;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use super::wanted::Wanted;

/// What was found.
pub struct Gathered {
    /// The text of the Dockerfile.
    pub text: String,
    /// What it is called in messages.
    pub name: String,
    /// The context, if there is one.
    pub context: Option<PathBuf>,
    /// What of it is left out.
    pub ignore: Ignore,
    /// The directory into which a context was unpacked; it goes with this.
    pub unpacked: Option<NewLayer>,
}

/// Finds Dockerfile and context.
pub fn gather(engine: &Engine, wanted: &Wanted) -> Result<Gathered> {
    if wanted.path == "-" {
        if wanted.file.as_deref() == Some("-") {
            return Err(Error::invalid(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        return from_stream(engine, wanted, &mut std::io::stdin().lock());
    }
    if let Some(git) = fluyt_build::gitref::parse(&wanted.path).map_err(|f| f.error)?
        && !(git.like_a_path && Path::new(&wanted.path).exists())
    {
        let keep = wanted.options.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        let keep = keep.is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        let unpacked = engine.images().new_layer()?;
        let agent = wanted.agents.get("default").map(PathBuf::as_path);
        let context = from_repository(&git, keep, agent, &unpacked)
            .map_err(|e| e.context("unable to prepare context"))?;
        return from_directory(context, wanted, Some(unpacked));
    }
    if wanted.path.starts_with("http://") || wanted.path.starts_with("https://") {
        let fetched = engine.images().new_layer()?;
        let file = fetched.dir().join("fetched");
        Fetcher.http(&wanted.path, &fluyt_build::Validators::default(), &file)?;
        let mut file = std::fs::File::open(&file).about(|| wanted.path.clone())?;
        return from_stream(engine, wanted, &mut file);
    }
    let path = Path::new(&wanted.path);
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => from_directory(path.to_owned(), wanted, None),
        Ok(_) => Err(Error::invalid(format!(
            "unable to prepare context: path \"{}\" is not a directory",
            wanted.path
        ))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
            Kind::NotFound,
            format!("unable to prepare context: path \"{}\" not found", wanted.path),
        )),
        Err(e) => Err(Error::io(wanted.path.clone(), e)),
    }
}

fn from_directory(context: PathBuf, wanted: &Wanted, unpacked: Option<NewLayer>) -> Result<Gathered> {
    let context = context.canonicalize().about(|| context.display().to_string())?;
    let fetched = unpacked.is_some().then_some(context.as_path());
    let (text, name, own) = match wanted.file.as_deref() {
        Some("-") => {
            (read_text(&mut std::io::stdin().lock(), "standard input")?, "Dockerfile".to_owned(), None)
        }
        given => {
            let path = match given {
                // In a context that was fetched, the name means a file in there.
                Some(file) if unpacked.is_some() => context.join(file),
                Some(file) => PathBuf::from(file),
                None => default_file(&context),
            };
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            let mut file = open(&path, fetched).map_err(|e| missing(&path, e))?;
            let mut own = path.clone().into_os_string();
            own.push(".dockerignore");
            (read_text(&mut file, &path.display().to_string())?, name, Some(PathBuf::from(own)))
        }
    };
    let candidates = own.into_iter().chain([context.join(".dockerignore")]);
    let mut ignore = Ignore::default();
    for path in candidates {
        match open(&path, fetched) {
            Ok(mut file) => {
                let text = read_text(&mut file, &path.display().to_string())?;
                ignore = Ignore::parse(&text).map_err(|f| f.error.context(format!("{}", path.display())))?;
                break;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(path.display().to_string(), e)),
        }
    }
    Ok(Gathered { text, name, context: Some(context), ignore, unpacked })
}

/// Opens a file for reading. What `fetched`, a context from elsewhere, has may be anything: in there links lead to nothing
/// outside, and only regular files are read.
fn open(path: &Path, fetched: Option<&Path>) -> std::io::Result<std::fs::File> {
    let Some(context) = fetched else { return std::fs::File::open(path) };
    let outside = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a file of the context");
    let path = path.strip_prefix(context).ok().and_then(Path::to_str).ok_or_else(outside)?;
    tree::open_dir(context).map_err(|_| outside())?.regular(path)
}

fn default_file(context: &Path) -> PathBuf {
    let usual = context.join("Dockerfile");
    let lower = context.join("dockerfile");
    let there = |path: &Path| path.symlink_metadata().is_ok();
    if !there(&usual) && there(&lower) { lower } else { usual }
}

fn missing(path: &Path, e: std::io::Error) -> Error {
    if e.kind() != std::io::ErrorKind::NotFound {
        return Error::io(path.display().to_string(), e);
    }
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    Error::new(
        Kind::NotFound,
        format!("failed to solve: failed to read dockerfile: open {name}: no such file or directory"),
    )
    .with_hint(format!("there is no {}; name another file with -f", path.display()))
}

/// A Dockerfile alone, or an archive with a context.
fn from_stream(engine: &Engine, wanted: &Wanted, input: &mut dyn Read) -> Result<Gathered> {
    let into = engine.images().new_layer()?;
    match unpacked(input, &into)? {
        Stream::Archive => from_directory(into.fs(), wanted, Some(into)),
        Stream::Text(text) => {
            if text.trim().is_empty() {
                return Err(Error::invalid("failed to solve: the Dockerfile cannot be empty"));
            }
            let ignore = Ignore::default();
            Ok(Gathered { text, name: "Dockerfile".to_owned(), context: None, ignore, unpacked: None })
        }
    }
}
