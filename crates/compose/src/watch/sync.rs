//! Files of this machine are put into containers, as an archive that is uploaded: it works wherever the engine is.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use fluyt_docker_api::api::{Docker, PutArchive, Received, StartExec};
use fluyt_docker_api::types::ExecOptions;
use fluyt_model::error::IoContext;
use fluyt_model::{Error, Kind, Result};

use super::Mapping;
use crate::document::Node;
use crate::execute::exec_code;
use crate::lower;
use crate::plan::Container;
use crate::view::View;

/// Containers that are supplied at once.
const AT_ONCE: usize = 16;

/// A file that goes into the archive.
struct Item<'m> {
    mapping: &'m Mapping,
    meta: Metadata,
}

/// Brings containers up to date with files: those that are there are copied, those that are not are removed.
///
/// # Errors
/// All that went wrong, of all containers.
pub fn sync(docker: &dyn Docker, containers: &[&Container], mappings: &BTreeSet<Mapping>) -> Result<()> {
    let (mut items, mut gone) = (Vec::new(), Vec::new());
    for mapping in mappings {
        match mapping.host.symlink_metadata() {
            Ok(meta) => items.push(Item { mapping, meta }),
            Err(e)
                if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                gone.push(mapping.container.as_str());
            }
            Err(e) => return Err(Error::io(mapping.host.display().to_string(), e)),
        }
    }
    let gone = topmost(gone);
    let mut errors: Vec<Error> = Vec::new();
    for some in containers.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let (items, gone) = (&items, &gone);
            let threads: Vec<_> = some
                .iter()
                .map(|container| scope.spawn(move || one(docker, container, items, gone)))
                .collect();
            for (thread, container) in threads.into_iter().zip(some) {
                let outcome = thread.join().unwrap_or_else(|_| Err(Error::internal("a thread of sync died")));
                errors.extend(outcome.err().map(|e| e.context(format!("container {}", container.name))));
            }
        });
    }
    let mut errors = errors.into_iter();
    match errors.next() {
        None => Ok(()),
        Some(first) => {
            let more: Vec<String> = errors.map(|e| e.chain()).collect();
            Err(if more.is_empty() {
                first
            } else {
                first.context(format!("{} more failed: {}", more.len(), more.join("; ")))
            })
        }
    }
}

/// Paths that are below none of the others.
fn topmost(mut paths: Vec<&str>) -> Vec<&str> {
    paths.sort_unstable();
    let mut out: Vec<&str> = Vec::new();
    for path in paths {
        if !out.last().is_some_and(|last| Path::new(path).starts_with(last)) {
            out.push(path);
        }
    }
    out
}

fn one(docker: &dyn Docker, container: &Container, items: &[Item<'_>], gone: &[&str]) -> Result<()> {
    if !gone.is_empty() && container.is_up() {
        remove(docker, &container.id, gone)?;
    }
    if items.is_empty() {
        return Ok(());
    }
    let owner = owner(docker, &container.id)?;
    // A directory that is a link in the container cannot be laid over it: what is in it can.
    match put(docker, &container.id, items, owner, true) {
        Err(first) if items.iter().any(|i| i.meta.is_dir()) => {
            put(docker, &container.id, items, owner, false).map_err(|_| first)
        }
        other => other,
    }
}

fn remove(docker: &dyn Docker, id: &str, paths: &[&str]) -> Result<()> {
    let mut words = vec!["rm".to_owned(), "-rf".to_owned(), "--".to_owned()];
    words.extend(paths.iter().map(|p| (*p).to_owned()));
    let options = ExecOptions {
        user: "0".to_owned(),
        attach_stdout: true,
        attach_stderr: true,
        cmd: words.into(),
        ..ExecOptions::default()
    };
    let mut said = Vec::new();
    let code = run(docker, id, &options, &mut |bytes| said.extend_from_slice(bytes))
        .map_err(|e| e.context(format!("removing {}", paths.join(", "))))?;
    match code {
        0 => Ok(()),
        code => {
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            Err(Error::internal(format!("removing {}: rm ended with {code}: {said}", paths.join(", "))))
        }
    }
}

/// Runs a command in a container; its exit code.
fn run(docker: &dyn Docker, id: &str, options: &ExecOptions, output: &mut dyn FnMut(&[u8])) -> Result<i64> {
    let exec = docker.exec_create(id, options)?;
    if let Some(mut session) = docker.exec_start(&exec, StartExec::default())? {
        loop {
            match session.read()? {
                Received::Data(_, bytes) => output(&bytes),
                Received::Exited(_) => {}
                Received::Closed => break,
            }
        }
    }
    exec_code(docker, &exec)
}

/// Runs the command of `sync+exec` in a container.
///
/// # Errors
/// It cannot be run, or ends with something else than 0.
pub fn exec(docker: &dyn Docker, id: &str, hook: &Node, output: &mut dyn FnMut(&[u8])) -> Result<()> {
    let options = ExecOptions {
        user: hook.text("user"),
        privileged: hook.flag("privileged"),
        attach_stdout: true,
        attach_stderr: true,
        env: lower::environment(hook).into(),
        working_dir: hook.text("working_dir"),
        cmd: hook.texts("command").into(),
        ..ExecOptions::default()
    };
    match run(docker, id, &options, output)? {
        0 => Ok(()),
        code => Err(Error::internal(format!("{} ended with {code}", hook.texts("command").join(" ")))),
    }
}

/// Whose files a container's are: those of the user that it runs as.
fn owner(docker: &dyn Docker, id: &str) -> Result<(u64, u64)> {
    let user = docker.container_inspect(id, false)?.config.user;
    let (name, group) = user.split_once(':').unwrap_or((&user, ""));
    if name.is_empty() {
        return Ok((0, 0));
    }
    let (uid, own) = match name.parse() {
        Ok(uid) => (uid, None),
        Err(_) => {
            let passwd = text_of(docker, id, "/etc/passwd")?;
            let fields = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f[0] == name);
            let number = |at: usize| fields.as_ref().and_then(|f| f.get(at)?.parse().ok());
            let uid = number(2).ok_or_else(|| Error::not_found(format!("user {name} of the container")))?;
            (uid, number(3))
        }
    };
    let gid = match group.parse() {
        Ok(gid) => Some(gid),
        Err(_) if group.is_empty() => own,
        Err(_) => {
            let groups = text_of(docker, id, "/etc/group")?;
            let line = groups.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f[0] == group);
            line.and_then(|f| f.get(2)?.parse().ok())
        }
    };
    Ok((uid, gid.unwrap_or(0)))
}

/// A text of a container; empty if it has no such file.
fn text_of(docker: &dyn Docker, id: &str, path: &str) -> Result<String> {
    let output = match docker.container_get_archive(id, path) {
        Ok((_, output)) => output,
        Err(e) if e.kind() == Kind::NotFound => return Ok(String::new()),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    output(&mut bytes)?;
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut text = String::new();
    if let Some(entry) = archive.entries().about(|| path.to_owned())?.next() {
        entry.and_then(|mut e| e.read_to_string(&mut text)).about(|| path.to_owned())?;
    }
    Ok(text)
}

/// Uploads an archive while it is made.
fn put(
    docker: &dyn Docker,
    id: &str,
    items: &[Item<'_>],
    owner: (u64, u64),
    directories: bool,
) -> Result<()> {
    let (mut reader, writer) = std::io::pipe().about(|| "a pipe")?;
    std::thread::scope(|scope| {
        let made = scope.spawn(move || write(writer, items, owner, directories));
        let how = PutArchive { path: "/".to_owned(), copy_uid_gid: true, ..PutArchive::default() };
        let sent = docker.container_put_archive(id, &how, &mut reader);
        drop(reader);
        let made =
            made.join().unwrap_or_else(|_| Err(Error::internal("the thread that makes the archive died")));
        // Why it was not taken tells more than that nobody read on.
        sent.and(made)
    })
}

fn write(to: impl Write, items: &[Item<'_>], owner: (u64, u64), directories: bool) -> Result<()> {
    let mut builder = tar::Builder::new(std::io::BufWriter::with_capacity(64 * 1024, to));
    for item in items.iter().filter(|i| directories || !i.meta.is_dir()) {
        append(&mut builder, item, owner).about(|| item.mapping.host.display().to_string())?;
    }
    let mut inner = builder.into_inner().about(|| "the archive")?;
    inner.flush().about(|| "the archive")
}

fn append(builder: &mut tar::Builder<impl Write>, item: &Item<'_>, owner: (u64, u64)) -> std::io::Result<()> {
    let name = item.mapping.container.trim_start_matches('/');
    let meta = &item.meta;
    let mut header = tar::Header::new_gnu();
    header.set_mode(meta.permissions().mode() & 0o7777);
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_size(0);
    if meta.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        return builder.append_data(&mut header, format!("{name}/"), std::io::empty());
    }
    if meta.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        let target = match std::fs::read_link(&item.mapping.host) {
            Ok(target) => target,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        return builder.append_link(&mut header, name, target);
    }
    if !meta.is_file() {
        return Ok(());
    }
    let file = match File::open(&item.mapping.host) {
        Ok(file) => file,
        // Its end is a change of its own.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let size = file.metadata()?.len();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    // A file that shrinks meanwhile must not spoil the archive; that it did is a change of its own, too.
    let content = file.take(size).chain(std::io::repeat(0)).take(size);
    builder.append_data(&mut header, name, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_something_that_goes_goes_with_it() {
        assert_eq!(topmost(vec!["/a/b/c", "/a/b", "/a/bc", "/x"]), ["/a/b", "/a/bc", "/x"]);
    }
}
