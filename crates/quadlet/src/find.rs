//! Where units and their drop-ins are: the search path of podman-systemd.unit(5). What it knows of the machine comes from [`Files`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fluyt_model::error::IoContext;
use fluyt_model::{Error, Result};

use crate::kind;
use crate::{Kind, Unit};

/// Units that last until the next boot.
const RUN: &str = "/run/containers/systemd";
/// The administrator's units; where root's are installed.
pub const ETC: &str = "/etc/containers/systemd";
/// The distribution's units.
const SHARE: &str = "/usr/share/containers/systemd";
/// Directories below a search path are followed so deep.
const DEPTH: usize = 32;

/// The file system as far as it is looked at.
pub trait Files {
    /// The names in a directory.
    ///
    /// # Errors
    /// As reading it fails.
    fn names(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// A path without links.
    ///
    /// # Errors
    /// It does not exist or cannot be followed.
    fn real(&self, path: &Path) -> io::Result<PathBuf>;
    /// Whether a directory is there.
    fn is_directory(&self, path: &Path) -> bool;
    /// A file's text.
    ///
    /// # Errors
    /// As reading it fails.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// Whose units are looked for, and what their environment says.
#[derive(Clone, Debug, Default)]
pub struct Whose {
    /// A user's, not the system's: the user id.
    pub user: Option<u32>,
    /// `QUADLET_UNIT_DIRS`, which replaces the search path.
    pub directories: Option<String>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, or `.config` in the home directory.
    pub config: Option<PathBuf>,
}

impl Whose {
    /// Where these units are installed.
    #[must_use]
    pub fn install_directory(&self) -> Option<PathBuf> {
        match self.user {
            None => Some(PathBuf::from(ETC)),
            Some(_) => self.config.as_ref().map(|config| config.join("containers/systemd")),
        }
    }
}

/// The directories to look into, each with what is below it, first that which counts most. Also those that do not exist.
///
/// # Errors
/// A relative path in `QUADLET_UNIT_DIRS`.
pub fn directories(files: &dyn Files, whose: &Whose) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let all = |_: &Path| true;
    if let Some(list) = whose.directories.as_deref().filter(|list| !list.is_empty()) {
        for path in list.split(':').map(Path::new) {
            if !path.is_absolute() {
                return Err(Error::invalid(format!("QUADLET_UNIT_DIRS: {}: not absolute", path.display())));
            }
            walk(files, path, &all, DEPTH, &mut found);
        }
        return Ok(found);
    }
    let users: Vec<PathBuf> = [ETC, SHARE].map(|base| Path::new(base).join("users")).into();
    let real: Vec<PathBuf> =
        users.iter().map(|path| files.real(path).unwrap_or_else(|_| path.clone())).collect();
    let Some(uid) = whose.user else {
        let not_of_users = |path: &Path| !real.iter().any(|users| path.starts_with(users));
        for base in [RUN, ETC, SHARE] {
            walk(files, Path::new(base), &not_of_users, DEPTH, &mut found);
        }
        return Ok(found);
    };
    for base in [&whose.runtime, &whose.config].into_iter().flatten() {
        walk(files, &base.join("containers/systemd"), &all, DEPTH, &mut found);
    }
    let of_everybody = |path: &Path| {
        let below = real.iter().find_map(|users| path.strip_prefix(users).ok());
        let first = below.and_then(|below| below.iter().next());
        first.is_none_or(|name| !name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
    };
    for users in &users {
        walk(files, &users.join(uid.to_string()), &all, DEPTH, &mut found);
        walk(files, users, &of_everybody, DEPTH, &mut found);
    }
    Ok(found)
}

fn walk(
    files: &dyn Files,
    path: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    depth: usize,
    found: &mut Vec<PathBuf>,
) {
    let Ok(real) = files.real(path) else {
        // Told to whoever asks where units could be.
        if depth == DEPTH {
            found.push(path.to_owned());
        }
        return;
    };
    let drop_ins = real.extension().is_some_and(|extension| extension == "d");
    if drop_ins || depth == 0 || found.contains(&real) || !wanted(&real) || !files.is_directory(&real) {
        return;
    }
    found.push(real.clone());
    let mut names = files.names(&real).unwrap_or_default();
    names.sort_unstable();
    for name in names {
        walk(files, &real.join(name), wanted, depth - 1, found);
    }
}

/// The units of the directories with their drop-ins, and what could not be read. Of two with one name the first counts;
/// one that is empty, or a link to `/dev/null`, hides those behind it.
#[must_use]
pub fn units(files: &dyn Files, directories: &[PathBuf]) -> (Vec<Unit>, Vec<Error>) {
    let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
    for directory in directories {
        let mut names = match files.names(directory) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                wrong.push(Error::io(directory.display().to_string(), error));
                continue;
            }
        };
        names.sort_unstable();
        for name in names.into_iter().filter(|name| Kind::of(name).is_some()) {
            let path = directory.join(&name);
            if found.contains_key(&name) || files.is_directory(&path) {
                continue;
            }
            match load(files, &path) {
                Ok(unit) => drop(found.insert(name, unit)),
                Err(error) => wrong.push(error),
            }
        }
    }
    let mut units: Vec<Unit> = found.into_values().flatten().collect();
    for unit in &mut units {
        for path in drop_ins(files, directories, &unit.name) {
            match load(files, &path) {
                Ok(Some(more)) => unit.merge(more),
                Ok(None) => {}
                Err(error) => wrong.push(error),
            }
        }
    }
    (units, wrong)
}

/// Reads a unit; `None` if it is masked.
fn load(files: &dyn Files, path: &Path) -> Result<Option<Unit>> {
    let about = || format!("loading {}", path.display());
    if files.real(path).about(about)? == Path::new("/dev/null") {
        return Ok(None);
    }
    let text = files.read(path).about(about)?;
    if text.is_empty() {
        return Ok(None);
    }
    Unit::parse(&path.display().to_string(), &text).map(Some)
}

/// The drop-ins of a unit in the order in which they are added: by their names; of two with one name the one of the
/// narrower directory counts.
fn drop_ins(files: &dyn Files, directories: &[PathBuf], name: &str) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for place in drop_in_directories(name) {
        for directory in directories.iter().map(|directory| directory.join(&place)) {
            for name in files.names(&directory).unwrap_or_default() {
                if Path::new(&name).extension().is_some_and(|extension| extension == "conf") {
                    found.entry(name.clone()).or_insert_with(|| directory.join(name));
                }
            }
        }
    }
    found.into_values().collect()
}

/// The directories of a unit's drop-ins, the narrowest first.
fn drop_in_directories(name: &str) -> Vec<String> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let (base, instance) =
        kind::template(name).map_or((kind::stem(name), None), |(base, instance)| (base, Some(instance)));
    let mut places = vec![format!("{name}.d")];
    if instance.is_some_and(|instance| !instance.is_empty()) {
        places.push(format!("{base}@.{extension}.d"));
    }
    for (end, _) in base.rmatch_indices('-') {
        let prefix = &base[..=end];
        if instance.is_some() {
            places.push(format!("{prefix}@.{extension}.d"));
        }
        places.push(format!("{prefix}.{extension}.d"));
    }
    places.push(format!("{extension}.d"));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files by path; a text that begins with `-> ` is a link.
    struct Tree(BTreeMap<&'static str, &'static str>);

    impl Tree {
        fn follow(&self, path: &Path) -> Option<PathBuf> {
            let mut real = PathBuf::new();
            for part in path {
                real.push(part);
                if let Some(target) =
                    self.0.get(real.to_str()?).copied().and_then(|text| text.strip_prefix("-> "))
                {
                    real = self.follow(Path::new(target))?;
                }
            }
            Some(real)
        }
    }

    impl Files for Tree {
        fn names(&self, directory: &Path) -> io::Result<Vec<String>> {
            let directory = self.real(directory)?;
            let below = |path: &&'static str| -> Option<&'static str> {
                Path::new(*path).strip_prefix(&directory).ok()?.iter().next()?.to_str()
            };
            let mut names: Vec<String> =
                self.0.keys().filter_map(|path| below(path).map(str::to_owned)).collect();
            names.dedup();
            names.reverse();
            Ok(names)
        }

        fn real(&self, path: &Path) -> io::Result<PathBuf> {
            let real = self.follow(path).ok_or(io::ErrorKind::NotFound)?;
            let there = real == Path::new("/dev/null")
                || self.0.contains_key(real.to_str().unwrap_or_default())
                || self.is_directory(&real);
            if there { Ok(real) } else { Err(io::ErrorKind::NotFound.into()) }
        }

        fn is_directory(&self, path: &Path) -> bool {
            let Some(path) = self.follow(path) else { return false };
            self.0
                .keys()
                .any(|key| *key != path.to_str().unwrap_or_default() && Path::new(key).starts_with(&path))
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            let real = self.real(path)?;
            let text = self.0.get(real.to_str().unwrap_or_default()).ok_or(io::ErrorKind::NotFound)?;
            Ok((*text).to_owned())
        }
    }

    #[test]
    fn the_system_and_each_user_have_their_directories() {
        let files = Tree(BTreeMap::from([
            ("/etc/containers/systemd/app/a.container", "[Container]\n"),
            ("/etc/containers/systemd/app/a.container.d/x.conf", ""),
            ("/etc/containers/systemd/users/u.container", "[Container]\n"),
            ("/etc/containers/systemd/users/7/v.container", "[Container]\n"),
            ("/etc/containers/systemd/users/8/w.container", "[Container]\n"),
            ("/etc/containers/systemd/users/team/t.container", "[Container]\n"),
            ("/etc/containers/systemd/loop", "-> /etc/containers/systemd"),
            ("/home/u/.config/containers/systemd/h.container", "[Container]\n"),
        ]));
        let names = |whose: &Whose| -> Vec<String> {
            let directories = directories(&files, whose).unwrap();
            units(&files, &directories).0.into_iter().map(|unit| unit.name).collect()
        };
        assert_eq!(names(&Whose::default()), ["a.container"]);
        let user = Whose { user: Some(7), config: Some("/home/u/.config".into()), ..Whose::default() };
        assert_eq!(names(&user), ["h.container", "t.container", "u.container", "v.container"]);
        let named = Whose { directories: Some("/etc/containers/systemd/users/8".into()), ..user };
        assert_eq!(names(&named), ["w.container"]);
        let relative = Whose { directories: Some("a:b".into()), ..Whose::default() };
        assert!(directories(&files, &relative).is_err());
    }

    #[test]
    fn the_first_of_a_name_counts_and_may_hide_the_others() {
        let files = Tree(BTreeMap::from([
            ("/a/x.container", "[Container]\nImage=first\n"),
            ("/b/x.container", "[Container]\nImage=second\n"),
            ("/a/y.volume", "-> /dev/null"),
            ("/b/y.volume", "[Volume]\n"),
            ("/a/z.volume", ""),
            ("/b/z.volume", "[Volume]\n"),
            ("/b/bad.pod", "rubbish\n"),
            ("/b/other.txt", "rubbish\n"),
        ]));
        let (units, wrong) = units(&files, &["/a".into(), "/b".into(), "/none".into()]);
        assert_eq!(units.len(), 1);
        assert_eq!(units[0].last("Container", "Image"), Some("first"));
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].to_string().contains("/b/bad.pod, line 1"), "{wrong:?}");
    }

    #[test]
    fn drop_ins_are_added_by_name_and_the_narrower_counts() {
        assert_eq!(
            drop_in_directories("a-b-c@i.container"),
            [
                "a-b-c@i.container.d",
                "a-b-c@.container.d",
                "a-b-@.container.d",
                "a-b-.container.d",
                "a-@.container.d",
                "a-.container.d",
                "container.d"
            ]
        );
        let files = Tree(BTreeMap::from([
            ("/a/w-x.container", "[Container]\nLabel=unit\n"),
            ("/a/container.d/10.conf", "[Container]\nLabel=all\n"),
            ("/a/container.d/30.conf", "[Container]\nLabel=last\n"),
            ("/b/w-.container.d/10.conf", "[Container]\nLabel=prefix\n"),
            ("/b/w-x.container.d/20.conf", "[Container]\nLabel=own\n"),
            ("/b/w-x.container.d/20.txt", "rubbish"),
        ]));
        let (units, wrong) = units(&files, &["/a".into(), "/b".into()]);
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(units[0].all("Container", "Label"), ["unit", "prefix", "own", "last"]);
    }
}
