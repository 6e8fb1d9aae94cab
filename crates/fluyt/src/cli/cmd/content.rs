//! A container's files: `diff`, `export`, `commit` and `cp`.

use std::io::IsTerminal;
use std::path::Path;

use fluyt_docker_api::api::{CommitContainer, Docker, Output, PathStat, PutArchive};
use fluyt_model::quantity::human_size;
use fluyt_model::{Error, Kind, Result};

use super::Cli;
use crate::cli::archive;
use crate::cli::fail::Outcome;
use crate::cli::flags::{Arity, Command, NONE, Parsed, list, switch, text};
use crate::cli::format::{self, Row, rows};
use crate::cli::output::to_output;
use crate::cli::{print_line, print_text};

/// `fluyt diff`.
pub const DIFF: Command = Command {
    name: "diff",
    arguments: "CONTAINER",
    about: "Inspect changes to files or directories on a container's filesystem",
    flags: &[&[text(NONE, "format", super::list::FORMAT)]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// Runs `fluyt diff`.
pub fn diff(cli: &Cli, flags: &Parsed) -> Outcome {
    let changes = cli.docker()?.container_changes(&flags.args[0])?;
    let text = match flags.given("format") {
        None => changes.iter().map(|change| format!("{} {}\n", change.kind, change.path)).collect(),
        Some(format) => {
            let template = format::choose(&rows::CHANGES, format, false);
            let rows = changes
                .iter()
                .map(|c| Row::default().with("Type", c.kind.to_string()).with("Path", c.path.clone()));
            format::render(&rows::CHANGES, template, rows)?
        }
    };
    print_text(&text)?;
    Ok(0)
}

/// `fluyt export`.
pub const EXPORT: Command = Command {
    name: "export",
    arguments: "CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    flags: &[&[text('o', "output", "Write to a file, instead of STDOUT")]],
    arity: Arity::Exactly(1),
    interspersed: true,
};

/// Runs `fluyt export`.
pub fn export(cli: &Cli, flags: &Parsed) -> Outcome {
    let docker = cli.docker()?;
    to_output(flags.given("output"), |out| docker.container_export(&flags.args[0])?(out))?;
    Ok(0)
}

/// `fluyt commit`.
pub const COMMIT: Command = Command {
    name: "commit",
    arguments: "CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    flags: &[&[
        text('a', "author", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")"),
        list('c', "change", "Apply Dockerfile instruction to the created image"),
        text('m', "message", "Commit message"),
        switch('p', "pause", "Pause container during commit").default("true"),
        switch(NONE, "no-pause", "Do not pause container during commit"),
    ]],
    arity: Arity::Between(1, 2),
    interspersed: true,
};

/// Runs `fluyt commit`.
pub fn commit(cli: &Cli, flags: &Parsed) -> Outcome {
    let (repository, tag) = match flags.args.get(1) {
        Some(name) => apart(name),
        None => ("", ""),
    };
    let wanted = CommitContainer {
        container: flags.args[0].clone(),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        comment: flags.text("message").to_owned(),
        author: flags.text("author").to_owned(),
        changes: flags.list("change"),
        pause: flags.on("pause") && !flags.on("no-pause"),
        config: None,
    };
    print_line(&cli.docker()?.image_commit(&wanted)?)?;
    Ok(0)
}

/// Takes `repository[:tag]` apart.
pub fn apart(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

/// `fluyt cp`.
pub const CP: Command = Command {
    name: "cp",
    arguments: "CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
    about: "Copy files/folders between a container and the local filesystem",
    flags: &[&[
        switch('a', "archive", "Archive mode (copy all uid/gid information)"),
        switch('L', "follow-link", "Always follow symbol link in SRC_PATH"),
        switch('q', "quiet", "Suppress progress output during copy"),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
};

/// Runs `fluyt cp`.
pub fn cp(cli: &Cli, flags: &Parsed) -> Outcome {
    let (source, target) = (flags.args[0].as_str(), flags.args[1].as_str());
    let docker = cli.docker()?;
    let copied = match (side(source), side(target)) {
        (Some(_), Some(_)) => {
            return Err(Error::unsupported("copying between containers is not supported").into());
        }
        (None, None) => {
            return Err(Error::invalid("must specify at least one container source").into());
        }
        (Some((container, path)), None) => copy_out(docker, container, path, target, flags)?,
        (None, Some((container, path))) => copy_in(docker, source, container, path, flags)?,
    };
    if let Some(text) = copied.filter(|_| !flags.on("quiet") && std::io::stderr().is_terminal()) {
        eprintln!("{text}");
    }
    Ok(0)
}

/// `container:path`; what begins with `.` or `/` is local whatever follows.
fn side(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['.', '/']) || text == "-" {
        return None;
    }
    text.split_once(':')
}

/// The archive of a path. The link that a path may be is followed here: Docker's API has no word for it.
fn archive_of(
    docker: &dyn Docker,
    container: &str,
    path: &str,
    follow: bool,
) -> Result<(PathStat, Output, String)> {
    let mut path = path.to_owned();
    if follow {
        // As many links as the kernel follows.
        for _ in 0..40 {
            let link = docker.container_stat(container, &path)?.link_target;
            if link.is_empty() {
                break;
            }
            path = if link.starts_with('/') {
                link
            } else {
                let parent = path.trim_end_matches('/').rsplit_once('/').map_or("", |(parent, _)| parent);
                format!("{parent}/{link}")
            };
        }
    }
    let (stat, output) = docker.container_get_archive(container, &path)?;
    Ok((stat, output, path))
}

fn copy_out(
    docker: &dyn Docker,
    container: &str,
    path: &str,
    target: &str,
    flags: &Parsed,
) -> Result<Option<String>> {
    let follow = flags.on("follow-link");
    if target == "-" {
        to_output(None, |out| archive_of(docker, container, path, follow)?.1(out))?;
        return Ok(None);
    }
    let (stat, output, _) = archive_of(docker, container, path, follow)?;
    let contents = path.ends_with("/.");
    let place = archive::local_target(Path::new(target), archive::last_name(path), stat.is_dir, contents)?;
    let mut count = archive::Counter::default();
    let keep_owner = flags.on("archive");
    archive::pipe_out(output, |input| archive::unpack(input, &place, keep_owner, &mut count))?;
    Ok(Some(format!("Successfully copied {} to {target}", human_size(count.bytes as f64))))
}

fn copy_in(
    docker: &dyn Docker,
    source: &str,
    container: &str,
    path: &str,
    flags: &Parsed,
) -> Result<Option<String>> {
    let into = |directory: &str| PutArchive {
        path: directory.to_owned(),
        no_overwrite_dir_non_dir: true,
        copy_uid_gid: flags.on("archive"),
    };
    if source == "-" {
        let mut input = std::io::stdin();
        docker.container_put_archive(container, &into(path), &mut input)?;
        return Ok(None);
    }
    let local = Path::new(source);
    let meta = if flags.on("follow-link") { local.metadata() } else { local.symlink_metadata() };
    let meta = meta.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::not_found(format!("lstat {source}: no such file or directory"))
        }
        _ => Error::io(source, e),
    })?;
    let there = match archived_dir(docker, container, path) {
        Ok(there) => there,
        Err(e) if e.kind() == Kind::NotFound => None,
        Err(e) => return Err(e),
    };
    let plan = archive::Inward::plan(source, path, meta.is_dir(), there)?;
    let mut count = archive::Counter::default();
    let follow = flags.on("follow-link");
    archive::pipe_in(
        |out| archive::pack(local, &plan, follow, out, &mut count),
        |input| docker.container_put_archive(container, &into(&plan.directory), input),
    )?;
    Ok(Some(format!("Successfully copied {} to {container}:{path}", human_size(count.bytes as f64))))
}

/// Whether there is a directory at a path, or at the end of the link that it is.
fn archived_dir(docker: &dyn Docker, container: &str, path: &str) -> Result<Option<bool>> {
    let stat = docker.container_stat(container, path)?;
    if stat.link_target.is_empty() {
        return Ok(Some(stat.is_dir));
    }
    let link = if stat.link_target.starts_with('/') {
        stat.link_target
    } else {
        let parent = path.trim_end_matches('/').rsplit_once('/').map_or("", |(parent, _)| parent);
        format!("{parent}/{}", stat.link_target)
    };
    Ok(Some(docker.container_stat(container, &link)?.is_dir))
}
