//! `COPY` and `ADD`.

use fluyt_image::Platform;
use percent_encoding::percent_decode_str;

use super::stage::{Counter, Planner, State, absolute, from_text, history, upper_keyword};
use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::instruction::Copy;
use crate::dockerfile::lint::Rule;
use crate::dockerfile::{Lexer, Lines, Step, quoted};
use crate::gitref::GitRef;
use crate::graph::{Action, CopyAction, FileOp, GitOp, HttpOp, Op, Tree, Vertex, WriteAction};
use crate::ignore::clean;

impl Planner<'_> {
    pub(super) fn copy_step(
        &mut self,
        state: &mut State,
        step: &Step,
        copy: &Copy,
        mark: &str,
        counter: &mut Counter,
        index: usize,
    ) -> Result<Vertex> {
        let lines = step.lines;
        let copy = self.expanded(state, copy, lines)?;
        check(&copy)?;
        let source = self.source(&copy.from, &state.platform, index)?;
        let shown = self.shown(&step.source, &state.env);
        let name = self.step_name(state, counter, &format!("{mark}{}", upper_keyword(&shown)));
        let target = target_path(state, &copy.target);
        let mut actions = Vec::new();
        for path in &copy.sources {
            if self.remote(&copy, path, &target, lines, &name, &mut actions)? {
                continue;
            }
            if matches!(source, Tree::Context(_)) {
                self.warn_ignored(&copy, path, lines);
            }
            let (root, parents) = match (copy.parents, path.split_once("/./")) {
                (false, _) => (path.clone(), None),
                (true, Some((root, rest))) => (root.to_owned(), Some(rest.to_owned())),
                (true, None) => ("/".to_owned(), Some(path.clone())),
            };
            actions.push(Action::Copy(CopyAction {
                source: source.clone(),
                path: absolute("", &root),
                wildcards: true,
                target: target.clone(),
                owner: copy.chown.clone(),
                mode: copy.chmod.clone(),
                exclude: copy.exclude.clone(),
                parents: parents.map(|p| clean(&format!("/{p}")).trim_start_matches('/').to_owned()),
                unpack: copy.unpack.unwrap_or(copy.add),
            }));
        }
        for heredoc in &copy.inline {
            actions.push(Action::Write(WriteAction {
                name: heredoc.name.clone(),
                content: heredoc.content.clone(),
                target: target.clone(),
                owner: copy.chown.clone(),
                mode: copy.chmod.clone(),
            }));
        }
        history(state, history_text(&copy), false, self.epoch);
        let op = Op::File(FileOp { base: state.tree.clone(), actions, link: copy.link, epoch: self.epoch });
        Ok(Vertex { op, name, lines: Some(lines), no_cache: false })
    }

    /// All words with their variables replaced.
    fn expanded(&mut self, state: &State, copy: &Copy, lines: Lines) -> Result<Copy> {
        let mut copy = copy.clone();
        for text in [&mut copy.chown, &mut copy.chmod, &mut copy.checksum, &mut copy.target]
            .into_iter()
            .chain(&mut copy.sources)
            .chain(&mut copy.exclude)
        {
            *text = self.expand(state, lines, text)?;
        }
        let lexer = Lexer { no_quotes: true, ..Lexer::new('\\') };
        for heredoc in copy.inline.iter_mut().filter(|heredoc| heredoc.expand) {
            heredoc.content = self.expand_with(lexer, state, lines, &heredoc.content)?;
        }
        Ok(copy)
    }

    /// The tree that `--from` names, the context without it.
    pub(super) fn source(&mut self, from: &str, platform: &Platform, index: usize) -> Result<Tree> {
        if from.is_empty() {
            return Ok(Tree::Context("context".to_owned()));
        }
        if let Some(context) = self.options.contexts.get(from) {
            match context {
                super::NamedContext::Directory => return Ok(Tree::Context(from.to_owned())),
                super::NamedContext::Image(image) => {
                    let image = image.clone();
                    return self.image_tree(&image, platform);
                }
                super::NamedContext::Stage(stage) => {
                    let stage = stage.clone();
                    let other = self.stage_named(&stage).ok_or_else(|| {
                        Fault::new(format!("target stage {} could not be found", quoted(&stage)))
                    })?;
                    return Ok(self.stage(other)?.tree);
                }
            }
        }
        match self.stage_named(from) {
            Some(other) if other >= index => Err(Fault::new(format!(
                "cannot copy from stage {}, it needs to be defined before current stage {}",
                quoted(from),
                quoted(&self.stage_label(index))
            ))),
            Some(other) => Ok(self.stage(other)?.tree),
            None if from == "scratch" => Ok(Tree::Scratch),
            None => {
                let platform = self.options.platform.clone();
                self.image_tree(from, &platform)
            }
        }
    }

    fn image_tree(&mut self, name: &str, platform: &Platform) -> Result<Tree> {
        let id = self.image(name, platform)?;
        let vertex = &mut self.graph.vertices[id];
        if vertex.name.is_empty()
            && let Op::Image(image) = &vertex.op
        {
            vertex.name = from_text(image);
        }
        Ok(Tree::Vertex(id))
    }

    /// Adds a source that is an address; whether it is one.
    fn remote(
        &mut self,
        copy: &Copy,
        path: &str,
        target: &str,
        lines: Lines,
        name: &str,
        actions: &mut Vec<Action>,
    ) -> Result<bool> {
        let (op, file, unpack) = if let Some(git) = repository(path)? {
            if !copy.add {
                return Err(Fault::new("source can't be a git ref for COPY"));
            }
            (Op::Git(git_op(copy, git)?), "/".to_owned(), false)
        } else if path.starts_with("http://") || path.starts_with("https://") {
            if !copy.add {
                return Err(Fault::new("source can't be a URL for COPY"));
            }
            let file = url_name(path);
            let found = if file.is_empty() { "/*".to_owned() } else { format!("/{file}") };
            let op = HttpOp { url: path.to_owned(), name: file, checksum: copy.checksum.clone() };
            (Op::Http(op), found, copy.unpack.unwrap_or(false))
        } else {
            return Ok(false);
        };
        let vertex = Vertex { op, name: name.to_owned(), lines: Some(lines), no_cache: false };
        let id = self.graph.push(vertex);
        actions.push(Action::Copy(CopyAction {
            source: Tree::Vertex(id),
            // A file that its server names is whatever is there.
            wildcards: file == "/*",
            path: file,
            target: target.to_owned(),
            owner: copy.chown.clone(),
            mode: copy.chmod.clone(),
            exclude: copy.exclude.clone(),
            parents: None,
            unpack,
        }));
        Ok(true)
    }

    /// Says so when a source is left out for sure: where patterns take back, nobody can know it beforehand.
    fn warn_ignored(&mut self, copy: &Copy, path: &str, lines: Lines) {
        let ignore = self.inputs.ignore;
        let clean = clean(path);
        let whole = matches!(clean.as_str(), "." | "/");
        if ignore.is_empty()
            || ignore.takes_back()
            || whole && !ignore.leaves_out_everything()
            || !ignore.leaves_out(&clean)
        {
            return;
        }
        let keyword = if copy.add { "Add" } else { "Copy" };
        let message =
            format!("Attempting to {keyword} file {} that is excluded by .dockerignore", quoted(&clean));
        self.lint.tell(Rule::CopyIgnoredFile, lines, message);
    }
}

/// The name of what is at an address: the last part of its path; empty when that is none.
fn url_name(url: &str) -> String {
    let bare = url.split(['?', '#']).next().unwrap_or(url);
    let path = bare.splitn(4, '/').nth(3).unwrap_or_default();
    let decoded = percent_decode_str(path).decode_utf8().unwrap_or(path.into());
    let name = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(name, "." | ".." | "*") || name.len() > 255 || name.contains('\0') {
        return String::new();
    }
    name.to_owned()
}

/// What can be said of the flags alone.
fn check(copy: &Copy) -> Result<()> {
    if !copy.chmod.is_empty() {
        let octal = copy.chmod.bytes().all(|b| b.is_ascii_digit());
        let bad = || {
            Fault::new(format!(
                "invalid chmod parameter: '{}'. it should be octal string and between 0 and 07777",
                copy.chmod
            ))
        };
        if octal {
            u32::from_str_radix(&copy.chmod, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(bad)?;
        } else {
            crate::mode::Symbolic::parse(&copy.chmod).ok_or_else(bad)?;
        }
    }
    if !copy.checksum.is_empty() {
        let [source] = &copy.sources[..] else {
            return Err(Fault::new("checksum can't be specified for multiple sources"));
        };
        let http = source.starts_with("http://") || source.starts_with("https://");
        let git = repository(source)?.is_some();
        if !http && !git {
            return Err(Fault::new("checksum requires HTTP(S) or Git sources"));
        }
        if http && !git {
            fluyt_image::Digest::parse(&copy.checksum)?;
        }
    }
    crate::ignore::Ignore::new(copy.exclude.iter().map(String::as_str))?;
    Ok(())
}

/// The target as an absolute path that keeps what its end says: a slash or a dot for a directory.
fn target_path(state: &State, target: &str) -> String {
    let path = absolute(&state.config.config.working_dir, target);
    let directory = target.ends_with('/') || target == "." || target.ends_with("/.") || target.is_empty();
    if directory && !path.ends_with('/') { format!("{path}/") } else { path }
}

fn history_text(copy: &Copy) -> String {
    let mut text = if copy.add { "ADD" } else { "COPY" }.to_owned();
    if copy.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", &copy.chown), ("chmod", &copy.chmod)] {
        if !value.is_empty() {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for source in &copy.sources {
        text.push_str(&format!(" {source}"));
    }
    for heredoc in &copy.inline {
        text.push_str(&format!(" <<{}", heredoc.name));
    }
    format!("{text} {} # buildkit", copy.target)
}

/// The repository that a source names, if it is one and cannot be meant as a path.
fn repository(text: &str) -> Result<Option<GitRef>> {
    Ok(crate::gitref::parse(text)?.filter(|git| !git.like_a_path))
}

/// What the flags and the address say together.
fn git_op(copy: &Copy, git: GitRef) -> Result<GitOp> {
    if let (Some(flag), Some(query)) = (copy.keep_git_dir, git.keep_git_dir)
        && flag != query
    {
        return Err(Fault::new("inconsistent keep-git-dir configuration"));
    }
    let checksum = match (copy.checksum.as_str(), git.checksum.as_str()) {
        (flag, "") => flag,
        ("", query) => query,
        (flag, query) if flag == query => flag,
        (flag, query) => {
            return Err(Fault::new(format!("checksum mismatch {} != {}", quoted(flag), quoted(query))));
        }
    };
    Ok(GitOp {
        checksum: checksum.to_owned(),
        reference: if git.by_commit { git.checksum } else { git.reference },
        remote: git.remote,
        subdir: git.subdir,
        keep_git_dir: git.keep_git_dir.or(copy.keep_git_dir).unwrap_or(false),
        without_submodules: git.submodules == Some(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_addresses_are_named() {
        for (url, expected) in [
            ("http://a/b.txt", "b.txt"),
            ("http://a/b/c.tar.gz?x=/y#z", "c.tar.gz"),
            ("http://a/b%20c", "b c"),
            ("http://a/b/", "b"),
            ("http://a/", ""),
            ("http://a", ""),
            ("http://a?x=/b", ""),
            ("http://a/..", ""),
            ("http://a/%2e%2e", ""),
            ("http://a/x%2Fy", "y"),
            ("http://a/%", "%"),
            ("http://a/%ff", "%ff"),
        ] {
            assert_eq!(url_name(url), expected, "{url}");
        }
    }
}
