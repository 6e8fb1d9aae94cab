//! Addresses of repositories as BuildKit reads them: `https://….git`, `git://…`, `ssh://…`, `user@host:path`, each with
//! `#REFERENCE:DIRECTORY` or a query: `?ref=`, `tag=`, `branch=`, `subdir=`, `checksum=` (or `commit=`),
//! `keep-git-dir`, `submodules`, `mtime=`, `fetch-by-commit`. Pure: nothing is asked.

use percent_encoding::percent_decode_str;

use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::quoted;

/// An address of a repository, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitRef {
    /// The address that `git` gets.
    pub remote: String,
    /// Branch, tag or commit; empty: the remote's `HEAD`.
    pub reference: String,
    /// Only this directory.
    pub subdir: String,
    /// The commit that it must be, or the beginning of its name; empty: any.
    pub checksum: String,
    /// `.git` stays.
    pub keep_git_dir: Option<bool>,
    /// Submodules are fetched.
    pub submodules: Option<bool>,
    /// Files have the time of the commit, not of the checkout.
    pub commit_times: bool,
    /// The commit in [`GitRef::checksum`] is fetched, whatever the reference leads to.
    pub by_commit: bool,
    /// It looks like a path (`github.com/…`): an address only where no path can be meant.
    pub like_a_path: bool,
}

/// The repository that a text names, if it is one.
///
/// # Errors
/// A query that contradicts itself or is not known.
pub fn parse(text: &str) -> Result<Option<GitRef>> {
    if text.starts_with("./") || text.starts_with("../") {
        return Ok(None);
    }
    let Some((address, query, fragment, like_a_path)) = split(text) else { return Ok(None) };
    let mut found = GitRef { remote: address, like_a_path, ..GitRef::default() };
    if let Some(fragment) = fragment {
        let fragment = decoded(fragment);
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        reference.clone_into(&mut found.reference);
        found.subdir = crate::ignore::clean(&format!("/{subdir}")).trim_start_matches('/').to_owned();
    }
    if let Some(query) = query {
        found.query(query)?;
    }
    if found.by_commit && !is_commit(&found.checksum) {
        return Err(Fault::new(format!(
            "fetch-by-commit requires a full commit SHA checksum, got {}",
            quoted(&found.checksum)
        )));
    }
    Ok(Some(found))
}

/// Whether it is the whole name of a commit.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

type Split<'a> = (String, Option<&'a str>, Option<&'a str>, bool);

/// The address, the query, the fragment, and whether it could be a path as well.
fn split(text: &str) -> Option<Split<'_>> {
    let (rest, fragment) = match text.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (text, None),
    };
    let (bare, query) = match rest.split_once('?') {
        Some((bare, query)) => (bare, Some(query)),
        None => (rest, None),
    };
    if bare.starts_with("github.com/") {
        return Some((format!("https://{bare}"), query, fragment, true));
    }
    if let Some((scheme, after)) = bare.split_once("://")
        && !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        let is_git = match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => true,
            "http" | "https" => after.split_once('/').is_some_and(|(_, path)| path.ends_with(".git")),
            _ => false,
        };
        return is_git.then(|| (bare.to_owned(), query, fragment, false));
    }
    let (user, after) = bare.split_once('@')?;
    let (host, _) = after.split_once(':')?;
    let made_of = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    // One that begins with a dash would be an option to the programs that get it.
    let well =
        made_of(user, b"-_") && made_of(host, b"-.") && !user.starts_with('-') && !host.starts_with('-');
    well.then(|| (bare.to_owned(), query, fragment, false))
}

/// A text with its `%41` replaced.
fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Into::into)
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => Err(Fault::new(format!("invalid {key} value: {}", quoted(other)))),
    }
}

impl GitRef {
    fn query(&mut self, query: &str) -> Result<()> {
        let (mut tag, mut branch) = (String::new(), String::new());
        let mut seen: Vec<String> = Vec::new();
        for field in query.split('&').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let (key, value) = (decoded(&key.replace('+', " ")), decoded(&value.replace('+', " ")));
            if seen.contains(&key) {
                return Err(Fault::new(format!("query {} has multiple values", quoted(&key))));
            }
            seen.push(key.clone());
            let switch = matches!(key.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !switch {
                return Err(Fault::new(format!("query {} has no value", quoted(&key))));
            }
            match key.as_str() {
                "ref" => agree("ref", &mut self.reference, &value)?,
                "subdir" => agree("subdir", &mut self.subdir, &value)?,
                "tag" => tag = value,
                "branch" => branch = value,
                "checksum" | "commit" => self.checksum = value,
                "keep-git-dir" => self.keep_git_dir = Some(boolean(&key, &value)?),
                "submodules" => self.submodules = Some(boolean(&key, &value)?),
                "fetch-by-commit" => self.by_commit = boolean(&key, &value)?,
                "mtime" => match value.as_str() {
                    "checkout" => self.commit_times = false,
                    "commit" => self.commit_times = true,
                    other => {
                        return Err(Fault::new(format!(
                            "invalid mtime value: {} (must be \"checkout\" or \"commit\")",
                            quoted(other)
                        )));
                    }
                },
                other => return Err(Fault::new(format!("unexpected query {}", quoted(other)))),
            }
        }
        if !tag.is_empty() && !branch.is_empty() {
            return Err(Fault::new("branch conflicts with tag"));
        }
        for (name, prefix) in [(tag, "refs/tags/"), (branch, "refs/heads/")] {
            if !name.is_empty() {
                let whole = if name.starts_with(prefix) { name } else { format!("{prefix}{name}") };
                agree("ref", &mut self.reference, &whole)?;
            }
        }
        Ok(())
    }
}

/// Sets what is said twice only if both say the same.
fn agree(what: &str, old: &mut String, new: &str) -> Result<()> {
    if !old.is_empty() && old != new {
        return Err(Fault::new(format!("{what} conflicts: {} vs {}", quoted(old), quoted(new))));
    }
    new.clone_into(old);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> GitRef {
        parse(text)
            .unwrap_or_else(|e| panic!("{text}: {e}"))
            .unwrap_or_else(|| panic!("{text}: no repository"))
    }

    #[test]
    fn repositories_and_what_is_none() {
        for (text, remote) in [
            ("https://host.example/a/b.git", "https://host.example/a/b.git"),
            ("http://host.example/b.git?ref=x#", "http://host.example/b.git"),
            ("git://host.example/b", "git://host.example/b"),
            ("ssh://me@host.example:22/b", "ssh://me@host.example:22/b"),
            ("me@host.example:b.git#v1", "me@host.example:b.git"),
            ("me_2@host:dir/b", "me_2@host:dir/b"),
            ("github.com/a/b#main", "https://github.com/a/b"),
        ] {
            assert_eq!(read(text).remote, remote, "{text}");
        }
        assert!(read("github.com/a/b").like_a_path && !read("git://h/b").like_a_path);
        for text in [
            "https://host.example/a/b",
            "https://host.example.git",
            "https://host.example/a?x=.git",
            "./a.git",
            "../me@host:b",
            "file:///a/b.git",
            "ftp://h/b.git",
            "plain",
            "a:b",
            "@host:b",
            "me@:b",
            "-oProxy@host:b",
            "me@-oProxy:b",
            "",
        ] {
            assert_eq!(parse(text).expect(text), None, "{text}");
        }
    }

    #[test]
    fn fragments_and_queries_say_the_same() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let base = "https://h.example/r.git";
        for (tail, reference, subdir) in [
            ("", "", ""),
            ("#", "", ""),
            ("#v1", "v1", ""),
            ("#:docs", "", "docs"),
            ("#v1:docs/../a//b/", "v1", "a/b"),
            ("#a%20b", "a b", ""),
            ("?ref=v1", "v1", ""),
            ("?ref=v1#v1", "v1", ""),
            ("?tag=v1", "refs/tags/v1", ""),
            ("?tag=refs/tags/v1#refs/tags/v1", "refs/tags/v1", ""),
            ("?branch=topic/one&subdir=docs", "refs/heads/topic/one", "docs"),
            ("?subdir=docs#:docs", "", "docs"),
        ] {
            let found = read(&format!("{base}{tail}"));
            assert_eq!((found.reference.as_str(), found.subdir.as_str()), (reference, subdir), "{tail}");
            assert_eq!(found.remote, base);
        }
        let found = read(&format!("{base}?checksum={commit}&keep-git-dir&submodules=false&mtime=commit"));
        assert_eq!(
            (found.checksum.as_str(), found.keep_git_dir, found.submodules, found.commit_times),
            (commit, Some(true), Some(false), true)
        );
        assert_eq!(read(&format!("{base}?commit=abc&keep-git-dir=0")).keep_git_dir, Some(false));
        assert!(read(&format!("{base}?commit={commit}&fetch-by-commit")).by_commit);
        assert_eq!(read("me@host:r.git?ref=x#:y").subdir, "y");
    }

    #[test]
    fn queries_that_contradict_themselves_are_refused() {
        for (tail, why) in [
            ("?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("?subdir=a#:b", "subdir conflicts: \"b\" vs \"a\""),
            ("?tag=a&branch=b", "branch conflicts with tag"),
            ("?tag=a#b", "ref conflicts: \"b\" vs \"refs/tags/a\""),
            ("?ref=", "query \"ref\" has no value"),
            ("?ref=a&ref=b", "query \"ref\" has multiple values"),
            ("?colour=red", "unexpected query \"colour\""),
            ("?keep-git-dir=maybe", "invalid keep-git-dir value: \"maybe\""),
            ("?submodules=2", "invalid submodules value: \"2\""),
            ("?mtime=now", "invalid mtime value: \"now\" (must be \"checkout\" or \"commit\")"),
            ("?commit=abc&fetch-by-commit=true", "fetch-by-commit requires a full commit SHA checksum"),
        ] {
            let error = parse(&format!("https://h.example/r.git{tail}")).expect_err(tail).to_string();
            assert!(error.contains(why), "{tail}: {error}");
        }
    }
}
