//! `build` at a daemon: the context as a tar archive to its classic builder, and what it tells shown as it comes.
//!
//! Options that the classic builder does not have are refused by name.

use std::collections::BTreeMap;
use std::io::{Read, Write, stdin};
use std::path::{Component, Path, PathBuf};

use fluyt_build::ignore::{Ignore, Matched};
use fluyt_docker_api::api::{AuthConfig, BuildImage, Docker, Progress, Quiet};
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use super::podman;
use crate::cli::archive::pipe_in;
use crate::cli::cmd::{auth_for, remote_display};
use crate::cli::create::devices;
use crate::cli::fail::Outcome;
use crate::cli::flags::Parsed;
use crate::cli::print_line;

/// What the classic builder has no word for.
const UNKNOWN: [&str; 14] = [
    "allow",
    "annotation",
    "attest",
    "build-context",
    "cache-to",
    "check",
    "metadata-file",
    "no-cache-filter",
    "output",
    "print-graph",
    "provenance",
    "push",
    "sbom",
    "secret",
];

/// A Dockerfile that is not part of the context goes under this name, which is left out again there.
const FOREIGN: &str = ".dockerfile.fluyt";

/// Runs `fluyt build` at a daemon.
pub fn build(docker: &dyn Docker, flags: &Parsed) -> Outcome {
    let mut unknown = UNKNOWN.iter().copied().chain(["ssh"]).filter(|name| flags.changed(name));
    if let Some(name) = unknown.next() {
        return Err(refused(&format!("--{name}")).into());
    }
    if flags.text("call") != "build" {
        return Err(refused("--call").into());
    }
    let mut wanted = wanted(flags)?;
    let quiet = flags.on("quiet");
    let display = remote_display();
    let progress: &dyn Progress = if quiet { &Quiet } else { &display };
    let id = send(docker, flags, &mut wanted, progress)?;
    if let Some(path) = flags.given("iidfile") {
        std::fs::write(path, &id).about(|| path.to_owned())?;
    }
    if quiet {
        print_line(&id)?;
    }
    Ok(0)
}

fn refused(what: &str) -> Error {
    Error::unsupported(format!("{what} cannot be given to the classic builder of a daemon"))
        .with_hint("build on this machine (without --host), or on the daemon's with its own command line")
}

fn wanted(flags: &Parsed) -> Result<BuildImage> {
    let platforms = podman::platforms(flags)?;
    if platforms.len() > 1 || platforms.iter().any(|p| p.contains(',')) {
        return Err(refused("more than one --platform"));
    }
    let mut build_args = BTreeMap::new();
    for text in flags.all("build-arg") {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, std::env::var(text).ok()),
        };
        build_args.insert(name.to_owned(), value);
    }
    let labels = flags.all("label").map(|text| text.split_once('=').unwrap_or((text, "")));
    let ulimits = flags.all("ulimit").map(devices::ulimit).collect::<Result<Vec<_>, String>>();
    let shm_size = fluyt_model::quantity::parse_bytes(flags.text("shm-size"))
        .map_err(|e| Error::invalid(format!("--shm-size: {e}")))?;
    let own = auth_for("docker.io/library/any")?;
    let auth: BTreeMap<String, AuthConfig> =
        own.into_iter().map(|auth| (auth.server_address.clone(), auth)).collect();
    Ok(BuildImage {
        tags: flags.list("tag"),
        extra_hosts: flags.list("add-host"),
        quiet: flags.on("quiet"),
        no_cache: flags.on("no-cache"),
        cache_from: flags.list("cache-from"),
        pull: podman::pulls(flags),
        remove: flags.on("rm"),
        force_remove: flags.on("force-rm"),
        build_args,
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        cgroup_parent: flags.text("cgroup-parent").to_owned(),
        shm_size,
        ulimits: ulimits.map_err(Error::invalid)?,
        network_mode: flags.text("network").to_owned(),
        platform: platforms.into_iter().next().unwrap_or_default(),
        target: flags.text("target").to_owned(),
        auth,
        ..BuildImage::default()
    })
}

/// Finds the context and sends it.
fn send(
    docker: &dyn Docker,
    flags: &Parsed,
    wanted: &mut BuildImage,
    progress: &dyn Progress,
) -> Result<String> {
    let (path, file) = (podman::context(flags).unwrap_or_default(), flags.given("file"));
    let path = path.as_str();
    if path == "-" {
        if file == Some("-") {
            return Err(Error::invalid(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        wanted.dockerfile = file.unwrap_or_default().to_owned();
        return from_stdin(docker, wanted, progress);
    }
    let git = fluyt_build::gitref::parse(path).map_err(|f| f.error)?;
    let elsewhere = path.starts_with("http://")
        || path.starts_with("https://")
        || git.is_some_and(|git| !(git.like_a_path && Path::new(path).exists()));
    if elsewhere {
        wanted.remote = path.to_owned();
        wanted.dockerfile = file.unwrap_or_default().to_owned();
        return docker.build(wanted, &mut std::io::empty(), progress);
    }
    let context = Directory::open(path, file)?;
    wanted.dockerfile.clone_from(&context.dockerfile);
    let wanted = &*wanted;
    let mut id = String::new();
    pipe_in(
        |out| context.pack(out),
        |input| {
            id = docker.build(wanted, input, progress)?;
            Ok(())
        },
    )?;
    Ok(id)
}

/// Standard input is an archive, or a Dockerfile alone.
fn from_stdin(docker: &dyn Docker, wanted: &BuildImage, progress: &dyn Progress) -> Result<String> {
    let mut head = Vec::new();
    let mut input = stdin();
    (&mut input).take(512).read_to_end(&mut head).about(|| "standard input")?;
    let packed: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let is_archive = head.get(257..262) == Some(b"ustar") || packed.iter().any(|m| head.starts_with(m));
    if is_archive {
        return docker.build(wanted, &mut std::io::Cursor::new(head).chain(input), progress);
    }
    let mut text = head;
    input.read_to_end(&mut text).about(|| "standard input")?;
    if text.trim_ascii().is_empty() {
        return Err(Error::invalid("the Dockerfile (Dockerfile) cannot be empty"));
    }
    let mut builder = tar::Builder::new(Vec::new());
    let archive = add_file(&mut builder, "Dockerfile", &text).and_then(|()| builder.into_inner());
    let archive = archive.about(|| "standard input")?;
    docker.build(wanted, &mut archive.as_slice(), progress)
}

fn add_file<W: Write>(builder: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(bytes.len() as u64);
    builder.append_data(&mut header, name, bytes)
}

/// A context on this machine.
struct Directory {
    root: PathBuf,
    /// The Dockerfile's name in the archive.
    dockerfile: String,
    /// Its text, when it is not part of the context.
    foreign: Option<Vec<u8>>,
    ignore: Ignore,
    ignored: Vec<u8>,
}

impl Directory {
    fn open(path: &str, file: Option<&str>) -> Result<Self> {
        let not_found = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Error::new(Kind::NotFound, format!("unable to prepare context: path {path:?} not found"))
            }
            _ => Error::io(path.to_owned(), e),
        };
        let root = std::fs::canonicalize(path).map_err(not_found)?;
        if !root.is_dir() {
            return Err(Error::invalid(format!(
                "unable to prepare context: path {path:?} is not a directory"
            )));
        }
        let (dockerfile, foreign) = match file {
            Some("-") => {
                let mut text = Vec::new();
                stdin().read_to_end(&mut text).about(|| "standard input")?;
                (FOREIGN.to_owned(), Some(text))
            }
            given => {
                let place = given.map_or_else(|| root.join("Dockerfile"), PathBuf::from);
                let real = std::fs::canonicalize(&place).map_err(|_| {
                    Error::not_found(format!(
                        "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}: no such file or directory",
                        place.display()
                    ))
                })?;
                match real.strip_prefix(&root).ok().and_then(Path::to_str) {
                    Some(inside) => (inside.to_owned(), None),
                    None => {
                        (FOREIGN.to_owned(), Some(std::fs::read(&real).about(|| real.display().to_string())?))
                    }
                }
            }
        };
        let ignored = match std::fs::read(root.join(".dockerignore")) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.about(|| ".dockerignore".to_owned())?,
        };
        let ignore = Ignore::parse(&String::from_utf8_lossy(&ignored))
            .map_err(|f| f.error.context(".dockerignore"))?;
        Ok(Self { root, dockerfile, foreign, ignore, ignored })
    }

    /// Whether the daemon needs it although it is to be left out: it leaves it out itself.
    fn needed(&self, path: &str) -> bool {
        path == self.dockerfile || path == ".dockerignore"
    }

    fn pack(&self, out: &mut dyn Write) -> Result<()> {
        let mut builder = tar::Builder::new(out);
        builder.follow_symlinks(false);
        self.add(&mut builder, "", None)?;
        if let Some(text) = &self.foreign {
            let mut ignored = self.ignored.clone();
            ignored.extend_from_slice(format!("\n{FOREIGN}\n").as_bytes());
            if self.ignored.is_empty() {
                ignored.extend_from_slice(b".dockerignore\n");
            }
            add_file(&mut builder, FOREIGN, text)
                .and_then(|()| add_file(&mut builder, ".dockerignore", &ignored))
                .about(|| "the context".to_owned())?;
        }
        builder.into_inner().and_then(Write::flush).about(|| "the context".to_owned())
    }

    fn add(
        &self,
        builder: &mut tar::Builder<&mut dyn Write>,
        below: &str,
        parent: Option<&Matched>,
    ) -> Result<()> {
        let dir = self.root.join(below);
        let about = |path: &Path| path.display().to_string();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).about(|| about(&dir))? {
            names.push(entry.about(|| about(&dir))?.file_name());
        }
        names.sort();
        for name in names {
            let place = dir.join(&name);
            let path = place.strip_prefix(&self.root).unwrap_or(&place);
            let shown = || about(&place);
            let Some(text) = path.to_str() else {
                return Err(Error::invalid(format!("{}: the name is not UTF-8", about(&place))));
            };
            let meta = place.symlink_metadata().about(shown)?;
            let (left_out, matched) = self.ignore.matches(text, parent);
            if left_out && !self.needed(text) {
                let inner = Path::new(&self.dockerfile).starts_with(path) || self.ignore.takes_back();
                if meta.is_dir() && inner {
                    self.add(builder, text, Some(&matched))?;
                }
                continue;
            }
            if self.foreign.is_some() && text == ".dockerignore" {
                continue;
            }
            if !(meta.is_dir() || meta.is_file() || meta.is_symlink()) {
                continue;
            }
            append(builder, &place, path, &meta).about(shown)?;
            if meta.is_dir() {
                self.add(builder, text, Some(&matched))?;
            }
        }
        Ok(())
    }
}

/// One entry. It belongs to root there, whoever has it here.
fn append(
    builder: &mut tar::Builder<&mut dyn Write>,
    place: &Path,
    path: &Path,
    meta: &std::fs::Metadata,
) -> std::io::Result<()> {
    debug_assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
    let mut header = tar::Header::new_gnu();
    header.set_metadata(meta);
    header.set_uid(0);
    header.set_gid(0);
    if meta.is_symlink() {
        header.set_size(0);
        return builder.append_link(&mut header, path, std::fs::read_link(place)?);
    }
    if meta.is_dir() {
        header.set_size(0);
        return builder.append_data(&mut header, path, std::io::empty());
    }
    let file = std::fs::File::open(place)?;
    builder.append_data(&mut header, path, exactly(file, meta.len()))
}

/// So many bytes, as the archive says of a file before they are read: what it has grown by meanwhile is cut, what it has
/// shrunk by is zeros.
fn exactly(file: impl Read, length: u64) -> impl Read {
    file.take(length).chain(std::io::repeat(0)).take(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path, file: Option<&str>) -> Vec<String> {
        let context = Directory::open(&dir.display().to_string(), file).unwrap();
        let mut bytes = Vec::new();
        context.pack(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[test]
    fn a_context_has_what_is_not_left_out_and_its_dockerfile() {
        let dir = fluyt_testkit::Scratch::new("context");
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("c/Dockerfile", "FROM scratch");
        write("c/.dockerignore", "secret\nDockerfile\nlogs\n!logs/keep\n");
        write("c/secret/key", "x");
        write("c/logs/keep", "x");
        write("c/logs/drop", "x");
        write("c/src/main", "x");
        write("elsewhere", "FROM scratch");
        let context = dir.join("c");
        assert_eq!(names(&context, None), [".dockerignore", "Dockerfile", "logs/keep", "src", "src/main"]);
        let other = dir.join("elsewhere").display().to_string();
        let found = names(&context, Some(&other));
        assert_eq!(found, ["logs/keep", "src", "src/main", FOREIGN, ".dockerignore"]);
        assert!(Directory::open("/nowhere/at/all", None).is_err());
    }

    #[test]
    fn a_file_has_the_length_that_the_archive_says() {
        for (bytes, length, read) in [("abc", 3, "abc"), ("abc", 2, "ab"), ("abc", 5, "abc\0\0"), ("", 0, "")]
        {
            assert_eq!(std::io::read_to_string(exactly(bytes.as_bytes(), length)).unwrap(), read);
        }
    }
}
