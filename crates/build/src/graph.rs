//! The border between front end and solver: operations on file trees, each with a digest of all that defines it.
//!
//! ```text
//! Image ──┐
//! Context ┼─> File ──> Exec ──> File ──> result
//! Http ───┘
//! ```
//!
//! A vertex makes one tree. It refers to the trees that it needs by [`Tree`], and only to vertices before it, so the
//! graph is in topological order and has no loops by construction. Its digest covers the operation and the digests
//! of its inputs, not its place in the file, its name or its number.

use std::collections::BTreeMap;

use fluyt_image::Digest;
use serde::Serialize;

use crate::dockerfile::Lines;
use crate::dockerfile::mount::Sharing;

/// A vertex, by its place in [`Graph::vertices`].
pub type Id = usize;

/// A file tree that an operation reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tree {
    /// Nothing.
    Scratch,
    /// What a vertex made.
    Vertex(Id),
    /// A directory of the caller; the main one is `context`.
    Context(String),
}

/// An operation.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// An image's root file system.
    Image(ImageOp),
    /// A command.
    Exec(Box<Exec>),
    /// Changes of files.
    File(FileOp),
    /// One file from a web server.
    Http(HttpOp),
    /// A checkout of a repository.
    Git(GitOp),
}

/// See [`Op::Image`].
#[derive(Clone, Debug, Serialize)]
pub struct ImageOp {
    /// The full reference.
    pub reference: String,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// `os/architecture`.
    pub platform: String,
}

/// See [`Op::Http`].
#[derive(Clone, Debug, Serialize)]
pub struct HttpOp {
    /// The address.
    pub url: String,
    /// What the file is called; empty: as the server says.
    pub name: String,
    /// Its digest, when it is known before.
    pub checksum: String,
}

/// See [`Op::Git`].
#[derive(Clone, Debug, Serialize)]
pub struct GitOp {
    /// The address of the repository.
    pub remote: String,
    /// Branch, tag or commit; empty: the default branch.
    pub reference: String,
    /// Only this directory of it.
    pub subdir: String,
    /// `.git` stays.
    pub keep_git_dir: bool,
    /// The commit that it must be, or the beginning of its name.
    pub checksum: String,
    /// Submodules are left out.
    pub without_submodules: bool,
}

/// See [`Op::File`].
#[derive(Clone, Debug, Serialize)]
pub struct FileOp {
    /// What is changed.
    pub base: Tree,
    /// The changes, in order.
    pub actions: Vec<Action>,
    /// The changes do not depend on what is there: a layer of its own.
    pub link: bool,
    /// No time after this one, in seconds since the epoch.
    pub epoch: Option<i64>,
}

/// A change of files.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Copies.
    Copy(CopyAction),
    /// Writes a file whose content stands in the Dockerfile.
    Write(WriteAction),
    /// Makes a directory with its parents.
    Mkdir {
        /// An absolute path.
        path: String,
        /// `user[:group]` of new directories.
        owner: String,
    },
}

/// See [`Action::Copy`].
#[derive(Clone, Debug, Serialize)]
pub struct CopyAction {
    /// From where.
    pub source: Tree,
    /// What: an absolute path, with wildcards if [`CopyAction::wildcards`].
    pub path: String,
    /// It may have wildcards.
    pub wildcards: bool,
    /// Where to: an absolute path, a directory if it ends in a slash.
    pub target: String,
    /// `user[:group]`; empty: root.
    pub owner: String,
    /// An octal number or symbols; empty: as it is.
    pub mode: String,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// With [`CopyAction::path`] as the root, the pattern of what is copied with its parent directories.
    pub parents: Option<String>,
    /// A local archive is unpacked.
    pub unpack: bool,
}

/// See [`Action::Write`].
#[derive(Clone, Debug, Serialize)]
pub struct WriteAction {
    /// The file's name.
    pub name: String,
    /// Its content.
    pub content: String,
    /// Where to: an absolute path, a directory if it ends in a slash.
    pub target: String,
    /// `user[:group]`; empty: root.
    pub owner: String,
    /// An octal number or symbols; empty: 0644.
    pub mode: String,
}

/// See [`Op::Exec`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct Exec {
    /// The root file system.
    pub base: Option<Tree>,
    /// Executable and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The same, but they do not count for the cache.
    #[serde(skip)]
    pub proxy_env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// `user[:group]`; empty: root.
    pub user: String,
    /// Mounts.
    pub mounts: Vec<ExecMount>,
    /// `default`, `none` or `host`.
    pub network: String,
    /// Without confinement.
    pub insecure: bool,
    /// Additional lines of /etc/hosts: name and address.
    pub hosts: Vec<(String, String)>,
    /// Bytes of /dev/shm; 0: the default.
    pub shm_size: u64,
    /// Name, soft and hard limit.
    pub ulimits: Vec<(String, u64, u64)>,
    /// The host's name; empty: `buildkitsandbox`.
    pub hostname: String,
    /// CDI devices.
    pub devices: Vec<String>,
    /// CDI devices that the command does without where they are not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub optional_devices: Vec<String>,
    /// No time after this one, in seconds since the epoch.
    pub epoch: Option<i64>,
    /// What the root file system is made for, if that is not what the build runs on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
}

/// A mount of a command.
#[derive(Clone, Debug, Serialize)]
pub struct ExecMount {
    /// Where it appears.
    pub target: String,
    /// It cannot be written.
    pub read_only: bool,
    /// What it is.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountSource {
    /// Files of a tree. What is written to them is forgotten.
    Bind {
        /// Of which.
        tree: Tree,
        /// Where in it.
        path: String,
    },
    /// A directory that stays.
    Cache {
        /// Its id.
        id: String,
        /// How builds share it.
        #[serde(serialize_with = "sharing_name")]
        sharing: Sharing,
        /// What it is filled from when it is new.
        tree: Tree,
        /// Where in it.
        path: String,
        /// Mode, owner and group of a new one.
        owner: (u32, u32, u32),
    },
    /// Memory, of so many bytes; 0: no limit.
    Tmpfs(u64),
    /// A file of the caller.
    Secret(SecretMount),
    /// The caller's SSH agent.
    Ssh(SecretMount),
    /// A script that stands in the Dockerfile.
    Script {
        /// The file's name below the target.
        name: String,
        /// Its text.
        content: String,
    },
}

/// See [`MountSource::Secret`] and [`MountSource::Ssh`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct SecretMount {
    /// Its id.
    pub id: String,
    /// It must be there.
    pub required: bool,
    /// The variable that it is put into.
    pub env: Option<String>,
    /// It is mounted as a file.
    pub file: bool,
    /// Mode, owner and group of the file.
    pub owner: (u32, u32, u32),
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn sharing_name<S: serde::Serializer>(sharing: &Sharing, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match sharing {
        Sharing::Shared => "shared",
        Sharing::Private => "private",
        Sharing::Locked => "locked",
    })
}

/// One operation with what people and the solver need to know about it.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// What is done.
    pub op: Op,
    /// `[build 2/5] RUN make`.
    pub name: String,
    /// Where it stands in the Dockerfile.
    pub lines: Option<Lines>,
    /// The cache is not asked.
    pub no_cache: bool,
}

/// Operations in topological order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All of them; each refers to earlier ones only.
    pub vertices: Vec<Vertex>,
}

impl Op {
    /// The trees that it reads, in a fixed order.
    #[must_use]
    pub fn inputs(&self) -> Vec<&Tree> {
        match self {
            Self::Image(_) | Self::Http(_) | Self::Git(_) => Vec::new(),
            Self::File(file) => {
                let copies = file.actions.iter().filter_map(|action| match action {
                    Action::Copy(copy) => Some(&copy.source),
                    _ => None,
                });
                std::iter::once(&file.base).chain(copies).collect()
            }
            Self::Exec(exec) => {
                let mounted = exec.mounts.iter().filter_map(|mount| match &mount.source {
                    MountSource::Bind { tree, .. } | MountSource::Cache { tree, .. } => Some(tree),
                    _ => None,
                });
                exec.base.iter().chain(mounted).collect()
            }
        }
    }

    /// The vertices that it needs, each once.
    #[must_use]
    pub fn needs(&self) -> Vec<Id> {
        let mut ids: Vec<Id> = Vec::new();
        for tree in self.inputs() {
            if let Tree::Vertex(id) = tree
                && !ids.contains(id)
            {
                ids.push(*id);
            }
        }
        ids
    }

    /// The tree that it changes; the others are only read.
    #[must_use]
    pub fn base(&self) -> Option<&Tree> {
        match self {
            Self::File(file) => Some(&file.base),
            Self::Exec(exec) => exec.base.as_ref(),
            _ => None,
        }
    }

    /// The operation as JSON, each input numbered by where it first appears, so that equal operations are equal text
    /// whatever graph they stand in.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut seen: BTreeMap<Id, Id> = BTreeMap::new();
        let mut op = self.clone();
        op.renumber(&mut |id| {
            let next = seen.len();
            *seen.entry(id).or_insert(next)
        });
        serde_json::to_string(&op).unwrap_or_default()
    }

    fn renumber(&mut self, number: &mut dyn FnMut(Id) -> Id) {
        let mut change = |tree: &mut Tree| {
            if let Tree::Vertex(id) = tree {
                *id = number(*id);
            }
        };
        match self {
            Self::Image(_) | Self::Http(_) | Self::Git(_) => {}
            Self::File(file) => {
                change(&mut file.base);
                for action in &mut file.actions {
                    if let Action::Copy(copy) = action {
                        change(&mut copy.source);
                    }
                }
            }
            Self::Exec(exec) => {
                exec.base.iter_mut().for_each(&mut change);
                for mount in &mut exec.mounts {
                    if let MountSource::Bind { tree, .. } | MountSource::Cache { tree, .. } =
                        &mut mount.source
                    {
                        change(tree);
                    }
                }
            }
        }
    }
}

impl Graph {
    /// Adds a vertex.
    pub fn push(&mut self, vertex: Vertex) -> Id {
        self.vertices.push(vertex);
        self.vertices.len() - 1
    }

    /// The digest of each vertex: its operation and the digests of what it needs.
    #[must_use]
    pub fn digests(&self) -> Vec<Digest> {
        let mut digests: Vec<Digest> = Vec::with_capacity(self.vertices.len());
        for vertex in &self.vertices {
            let mut text = vertex.op.canonical();
            for id in vertex.op.needs() {
                text.push('\n');
                text.push_str(digests[id].as_str());
            }
            digests.push(Digest::of(text.as_bytes()));
        }
        digests
    }

    /// Takes over the vertices of another graph; those that do the same are one. What each became, in order.
    pub fn absorb(&mut self, other: Self) -> Vec<Id> {
        let theirs = other.digests();
        let mut known: BTreeMap<(Digest, bool), Id> = BTreeMap::new();
        for (id, digest) in self.digests().into_iter().enumerate() {
            known.entry((digest, self.vertices[id].no_cache)).or_insert(id);
        }
        let mut became: Vec<Id> = Vec::with_capacity(other.vertices.len());
        for (mut vertex, digest) in other.vertices.into_iter().zip(theirs) {
            let key = (digest, vertex.no_cache);
            let id = match known.get(&key) {
                Some(id) => *id,
                None => {
                    vertex.op.renumber(&mut |id| became[id]);
                    let id = self.push(vertex);
                    known.insert(key, id);
                    id
                }
            };
            became.push(id);
        }
        became
    }

    /// Which vertices `result` needs, itself among them.
    #[must_use]
    pub fn needed(&self, result: &Tree) -> Vec<bool> {
        self.needed_by(std::slice::from_ref(result))
    }

    /// Which vertices any of `results` needs.
    #[must_use]
    pub fn needed_by(&self, results: &[Tree]) -> Vec<bool> {
        let mut needed = vec![false; self.vertices.len()];
        for result in results {
            if let Tree::Vertex(id) = result {
                needed[*id] = true;
            }
        }
        for id in (0..self.vertices.len()).rev() {
            if needed[id] {
                for other in self.vertices[id].op.needs() {
                    needed[other] = true;
                }
            }
        }
        needed
    }

    /// The graph as JSON: what `--print-graph` shows.
    #[must_use]
    pub fn to_json(&self, results: &[Tree]) -> serde_json::Value {
        let digests = self.digests();
        let needed = self.needed_by(results);
        let vertices = self.vertices.iter().enumerate().filter(|(id, _)| needed[*id]).map(|(id, vertex)| {
            let inputs: Vec<&str> = vertex.op.needs().into_iter().map(|n| digests[n].as_str()).collect();
            serde_json::json!({
                "id": id,
                "digest": digests[id].as_str(),
                "name": vertex.name,
                "inputs": inputs,
                "op": vertex.op,
                "lines": vertex.lines.map(|l| [l.first, l.last]),
                "no_cache": vertex.no_cache,
            })
        });
        let name = |tree: &Tree| match tree {
            Tree::Vertex(id) => serde_json::Value::from(digests[*id].as_str()),
            _ => serde_json::Value::Null,
        };
        let mut graph = serde_json::json!({"vertices": vertices.collect::<Vec<_>>()});
        match results {
            [one] => graph["result"] = name(one),
            many => graph["results"] = many.iter().map(name).collect(),
        }
        graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mkdir(base: Tree, path: &str) -> Vertex {
        let action = Action::Mkdir { path: path.to_owned(), owner: String::new() };
        let op = Op::File(FileOp { base, actions: vec![action], link: false, epoch: None });
        Vertex { op, name: path.to_owned(), lines: None, no_cache: false }
    }

    #[test]
    fn digests_cover_inputs_but_not_numbers() {
        let mut one = Graph::default();
        let a = one.push(mkdir(Tree::Scratch, "/a"));
        let b = one.push(mkdir(Tree::Vertex(a), "/b"));
        let mut two = Graph::default();
        two.push(mkdir(Tree::Scratch, "/other"));
        let a2 = two.push(mkdir(Tree::Scratch, "/a"));
        let b2 = two.push(mkdir(Tree::Vertex(a2), "/b"));
        assert_eq!(one.digests()[b], two.digests()[b2]);
        assert_ne!(one.digests()[a], two.digests()[0]);
        assert_eq!(two.needed(&Tree::Vertex(b2)), [false, true, true]);
        // Of two graphs one is made: what is done in both is done once.
        let last = two.push(mkdir(Tree::Vertex(b2), "/c"));
        assert_eq!(one.absorb(two), [2, a, b, 3]);
        assert_eq!((one.vertices.len(), last), (4, 3));
        let Op::File(file) = &one.vertices[3].op else { panic!("no files") };
        assert_eq!(file.base, Tree::Vertex(b));
    }
}
