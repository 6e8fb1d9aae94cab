//! Mount options: what each word of `mounts[].options` means.

use fluyt_sys::mount as attr;

/// A parsed option list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the mount itself.
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// Attributes of the mount and everything below it.
    pub(crate) recursive_set: u64,
    pub(crate) recursive_clear: u64,
    pub(crate) propagation: u64,
    pub(crate) recursive_propagation: bool,
    /// `Some(recursive)` for a bind mount.
    pub(crate) bind: Option<bool>,
    /// `Some(recursive)` for a mapped mount.
    pub(crate) idmap: Option<bool>,
    pub(crate) remount: bool,
    pub(crate) copy_up: bool,
    /// What the file system itself gets, `key=value` or `key`.
    pub(crate) data: Vec<String>,
}

enum Word {
    Set(u64),
    Clear(u64),
    Atime(u64),
    RecursiveSet(u64),
    RecursiveClear(u64),
    RecursiveAtime(u64),
    Propagation(u64, bool),
    Bind(bool),
    Idmap(bool),
    Remount,
    CopyUp,
    Ignore,
}

fn word(option: &str) -> Option<Word> {
    use Word as W;
    Some(match option {
        "ro" => W::Set(attr::RDONLY),
        "rw" => W::Clear(attr::RDONLY),
        "nosuid" => W::Set(attr::NOSUID),
        "suid" => W::Clear(attr::NOSUID),
        "nodev" => W::Set(attr::NODEV),
        "dev" => W::Clear(attr::NODEV),
        "noexec" => W::Set(attr::NOEXEC),
        "exec" => W::Clear(attr::NOEXEC),
        "nosymfollow" => W::Set(attr::NOSYMFOLLOW),
        "symfollow" => W::Clear(attr::NOSYMFOLLOW),
        "nodiratime" => W::Set(attr::NODIRATIME),
        "diratime" => W::Clear(attr::NODIRATIME),
        "relatime" | "nostrictatime" | "atime" => W::Atime(attr::RELATIME),
        "noatime" => W::Atime(attr::NOATIME),
        "strictatime" | "norelatime" => W::Atime(attr::STRICTATIME),
        "rro" => W::RecursiveSet(attr::RDONLY),
        "rrw" => W::RecursiveClear(attr::RDONLY),
        "rnosuid" => W::RecursiveSet(attr::NOSUID),
        "rsuid" => W::RecursiveClear(attr::NOSUID),
        "rnodev" => W::RecursiveSet(attr::NODEV),
        "rdev" => W::RecursiveClear(attr::NODEV),
        "rnoexec" => W::RecursiveSet(attr::NOEXEC),
        "rexec" => W::RecursiveClear(attr::NOEXEC),
        "rnosymfollow" => W::RecursiveSet(attr::NOSYMFOLLOW),
        "rsymfollow" => W::RecursiveClear(attr::NOSYMFOLLOW),
        "rnodiratime" => W::RecursiveSet(attr::NODIRATIME),
        "rdiratime" => W::RecursiveClear(attr::NODIRATIME),
        "rrelatime" | "rnostrictatime" | "ratime" => W::RecursiveAtime(attr::RELATIME),
        "rnoatime" => W::RecursiveAtime(attr::NOATIME),
        "rstrictatime" | "rnorelatime" => W::RecursiveAtime(attr::STRICTATIME),
        "private" => W::Propagation(attr::PRIVATE, false),
        "rprivate" => W::Propagation(attr::PRIVATE, true),
        "shared" => W::Propagation(attr::SHARED, false),
        "rshared" => W::Propagation(attr::SHARED, true),
        "slave" => W::Propagation(attr::SLAVE, false),
        "rslave" => W::Propagation(attr::SLAVE, true),
        "unbindable" => W::Propagation(attr::UNBINDABLE, false),
        "runbindable" => W::Propagation(attr::UNBINDABLE, true),
        "bind" => W::Bind(false),
        "rbind" => W::Bind(true),
        "idmap" => W::Idmap(false),
        "ridmap" => W::Idmap(true),
        "remount" => W::Remount,
        "tmpcopyup" => W::CopyUp,
        "defaults" | "nofail" | "_netdev" | "silent" | "loud" | "iversion" | "noiversion" | "auto"
        | "noauto" | "user" | "nouser" | "nomand" | "async" | "nolazytime" => W::Ignore,
        _ => return None,
    })
}

impl Options {
    /// Reads an option list; a word that is not known belongs to the file system.
    pub(crate) fn parse<S: AsRef<str>>(words: &[S]) -> Self {
        let mut o = Self::default();
        for text in words {
            let text = text.as_ref();
            match word(text) {
                None if text.is_empty() => {}
                None => o.data.extend(text.split(',').filter(|s| !s.is_empty()).map(str::to_owned)),
                Some(Word::Set(a)) => (o.set, o.clear) = (o.set | a, o.clear & !a),
                Some(Word::Clear(a)) => (o.set, o.clear) = (o.set & !a, o.clear | a),
                Some(Word::Atime(a)) => {
                    o.set = o.set & !attr::ATIME_MASK | a;
                    o.clear |= attr::ATIME_MASK;
                }
                Some(Word::RecursiveSet(a)) => {
                    (o.recursive_set, o.recursive_clear) = (o.recursive_set | a, o.recursive_clear & !a);
                }
                Some(Word::RecursiveClear(a)) => {
                    (o.recursive_set, o.recursive_clear) = (o.recursive_set & !a, o.recursive_clear | a);
                }
                Some(Word::RecursiveAtime(a)) => {
                    o.recursive_set = o.recursive_set & !attr::ATIME_MASK | a;
                    o.recursive_clear |= attr::ATIME_MASK;
                }
                Some(Word::Propagation(p, r)) => (o.propagation, o.recursive_propagation) = (p, r),
                Some(Word::Bind(r)) => o.bind = Some(r || o.bind == Some(true)),
                Some(Word::Idmap(r)) => o.idmap = Some(r),
                Some(Word::Remount) => o.remount = true,
                Some(Word::CopyUp) => o.copy_up = true,
                Some(Word::Ignore) => {}
            }
        }
        o
    }
}

/// The propagation that a word like `rslave` names, and whether it is recursive.
pub(crate) fn propagation(name: &str) -> Option<(u64, bool)> {
    match word(name)? {
        Word::Propagation(p, r) => Some((p, r)),
        _ => None,
    }
}

/// Every option word that this runtime understands by itself, for `features`.
pub(crate) const KNOWN: &[&str] = &[
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_attributes_and_the_rest_goes_to_the_file_system() {
        let o = Options::parse(&[
            "nosuid",
            "ro",
            "rw",
            "noatime",
            "mode=755,size=1k",
            "rprivate",
            "rbind",
            "bind",
        ]);
        assert_eq!(o.set, attr::NOSUID | attr::NOATIME);
        assert_eq!(o.clear, attr::RDONLY | attr::ATIME_MASK);
        assert_eq!((o.propagation, o.recursive_propagation), (attr::PRIVATE, true));
        assert_eq!(o.bind, Some(true));
        assert_eq!(o.data, ["mode=755", "size=1k"]);
    }

    #[test]
    fn every_listed_word_is_known() {
        for name in KNOWN {
            let fs = ["dirsync", "lazytime", "mand", "sync"].contains(name);
            assert_eq!(word(name).is_none(), fs, "{name}");
        }
    }
}
