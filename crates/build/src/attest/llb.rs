//! The graph in the words of BuildKit's low-level build definition, which provenance shows: one step for each
//! operation, its inputs as `stepN:0`. Contexts, which are no vertices here, are steps there.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::graph::{
    Action, CopyAction, Exec, ExecMount, FileOp, Graph, Id, MountSource, Op, SecretMount, Tree,
};

/// Steps, and which vertex is which.
#[derive(Debug, Default)]
pub struct Steps {
    /// `id`, `op` and `inputs` of each.
    pub list: Vec<Value>,
    /// The number of the step of each vertex.
    pub of: BTreeMap<Id, usize>,
    contexts: BTreeMap<String, usize>,
}

/// The steps that make `result`.
#[must_use]
pub fn steps(graph: &Graph, result: &Tree) -> Steps {
    let mut steps = Steps::default();
    let needed = graph.needed(result);
    for (id, vertex) in graph.vertices.iter().enumerate().filter(|(id, _)| needed[*id]) {
        steps.add(id, &vertex.op);
    }
    steps
}

/// Inputs of a step, each once.
#[derive(Default)]
struct Inputs(Vec<usize>);

impl Inputs {
    fn index(&mut self, step: Option<usize>) -> i64 {
        let Some(step) = step else { return -1 };
        let at = self.0.iter().position(|known| *known == step).unwrap_or_else(|| {
            self.0.push(step);
            self.0.len() - 1
        });
        i64::try_from(at).unwrap_or(-1)
    }
}

impl Steps {
    /// The step of a tree; a context becomes one.
    fn tree(&mut self, tree: &Tree) -> Option<usize> {
        match tree {
            Tree::Scratch => None,
            Tree::Vertex(id) => self.of.get(id).copied(),
            Tree::Context(name) => Some(match self.contexts.get(name) {
                Some(step) => *step,
                None => {
                    let op = json!({"Op": {"source": {"identifier": format!("local://{name}")}}});
                    let step = self.push(&op, &Inputs::default());
                    self.contexts.insert(name.clone(), step);
                    step
                }
            }),
        }
    }

    fn push(&mut self, op: &Value, inputs: &Inputs) -> usize {
        let number = self.list.len();
        let mut step = json!({"id": format!("step{number}"), "op": op});
        if !inputs.0.is_empty() {
            let names: Vec<String> = inputs.0.iter().map(|n| format!("step{n}:0")).collect();
            step["inputs"] = json!(names);
        }
        self.list.push(step);
        number
    }

    fn add(&mut self, id: Id, op: &Op) {
        let mut inputs = Inputs::default();
        let op = match op {
            Op::Image(image) => {
                let identifier = format!("docker-image://{}@{}", image.reference, image.manifest);
                json!({"Op": {"source": {"identifier": identifier}}, "platform": platform(&image.platform)})
            }
            Op::Http(http) => {
                let mut attributes = BTreeMap::from([("http.filename", http.name.as_str())]);
                if !http.checksum.is_empty() {
                    attributes.insert("http.checksum", &http.checksum);
                }
                let identifier = super::without_credentials(&http.url);
                json!({"Op": {"source": {"identifier": identifier, "attrs": attributes}}})
            }
            Op::Git(git) => {
                let bare = super::without_credentials(&git.remote);
                let bare = bare.split_once("://").map_or(bare.as_str(), |(_, rest)| rest);
                let mut identifier = format!("git://{bare}");
                if !git.reference.is_empty() || !git.subdir.is_empty() {
                    identifier.push_str(&format!("#{}", git.reference));
                }
                if !git.subdir.is_empty() {
                    identifier.push_str(&format!(":{}", git.subdir));
                }
                json!({"Op": {"source": {"identifier": identifier}}})
            }
            Op::File(file) => self.file(file, &mut inputs),
            Op::Exec(exec) => self.exec(exec, &mut inputs),
        };
        let number = self.push(&op, &inputs);
        self.of.insert(id, number);
    }

    fn file(&mut self, file: &FileOp, inputs: &mut Inputs) -> Value {
        let base = self.tree(&file.base);
        let mut at = inputs.index(base);
        let mut actions = Vec::new();
        let last = file.actions.len().saturating_sub(1);
        for (number, action) in file.actions.iter().enumerate() {
            let (secondary, body) = match action {
                Action::Copy(copy) => {
                    let source = self.tree(&copy.source);
                    (inputs.index(source), json!({"copy": copied(copy)}))
                }
                Action::Write(write) => {
                    let path = if write.target.ends_with('/') {
                        format!("{}{}", write.target, write.name)
                    } else {
                        write.target.clone()
                    };
                    (-1, json!({"mkfile": {"path": path, "data": base64(write.content.as_bytes())}}))
                }
                Action::Mkdir { path, .. } => {
                    (-1, json!({"mkdir": {"path": path, "mode": 0o755, "makeParents": true}}))
                }
            };
            let output = if number == last { 0 } else { -1 };
            actions.push(json!({"input": at, "secondaryInput": secondary, "output": output, "Action": body}));
            // The next action continues where this one ended.
            at = i64::try_from(inputs.0.len() + number).unwrap_or(-1);
        }
        json!({"Op": {"file": {"actions": actions}}})
    }

    fn exec(&mut self, exec: &Exec, inputs: &mut Inputs) -> Value {
        let base = exec.base.as_ref().and_then(|tree| self.tree(tree));
        let mut mounts = vec![json!({"input": inputs.index(base), "dest": "/", "output": 0})];
        for mount in &exec.mounts {
            mounts.push(self.mount(mount, inputs));
        }
        let mut meta = json!({"args": exec.args, "env": exec.env, "cwd": exec.cwd});
        if !exec.user.is_empty() {
            meta["user"] = json!(exec.user);
        }
        if !exec.hosts.is_empty() {
            let hosts = exec.hosts.iter().map(|(name, address)| json!({"Host": name, "IP": address}));
            meta["extraHosts"] = hosts.collect();
        }
        let mut body = json!({"meta": meta, "mounts": mounts});
        match exec.network.as_str() {
            "host" => body["network"] = json!(1),
            "none" => body["network"] = json!(2),
            _ => {}
        }
        if exec.insecure {
            body["security"] = json!(1);
        }
        let mut op = json!({"Op": {"exec": body}});
        if !exec.platform.is_empty() {
            op["platform"] = platform(&exec.platform);
        }
        op
    }

    fn mount(&mut self, mount: &ExecMount, inputs: &mut Inputs) -> Value {
        let mut value = json!({"input": -1, "dest": mount.target, "output": -1});
        if mount.read_only {
            value["readonly"] = json!(true);
        }
        match &mount.source {
            MountSource::Bind { tree, path } => {
                let source = self.tree(tree);
                value["input"] = json!(inputs.index(source));
                if path != "/" {
                    value["selector"] = json!(path);
                }
            }
            MountSource::Cache { id, sharing, tree, .. } => {
                let source = self.tree(tree);
                value["input"] = json!(inputs.index(source));
                value["mountType"] = json!(3);
                value["cacheOpt"] = json!({"ID": id, "sharing": *sharing as u8});
            }
            MountSource::Tmpfs(size) => {
                value["mountType"] = json!(4);
                value["TmpfsOpt"] = json!({"size": size});
            }
            MountSource::Secret(secret) => {
                value["mountType"] = json!(1);
                value["secretOpt"] = secret_option(secret);
            }
            MountSource::Ssh(agent) => {
                value["mountType"] = json!(2);
                value["SSHOpt"] = secret_option(agent);
            }
            MountSource::Script { .. } => {}
        }
        value
    }
}

/// What a mount says of a secret: never more than its name.
fn secret_option(secret: &SecretMount) -> Value {
    let (mode, uid, gid) = secret.owner;
    let mut option = json!({"ID": secret.id, "mode": mode});
    if uid != 0 || gid != 0 {
        (option["uid"], option["gid"]) = (json!(uid), json!(gid));
    }
    if !secret.required {
        option["optional"] = json!(true);
    }
    option
}

fn copied(copy: &CopyAction) -> Value {
    let mut value = json!({"src": copy.path, "dest": copy.target, "followSymlink": true, "dirCopyContents": true,
        "createDestPath": true, "allowWildcard": copy.wildcards});
    if copy.unpack {
        value["attemptUnpackDockerCompatibility"] = json!(true);
    }
    if !copy.owner.is_empty() {
        value["owner"] = json!(copy.owner);
    }
    if !copy.mode.is_empty() {
        value["modeStr"] = json!(copy.mode);
    }
    if !copy.exclude.is_empty() {
        value["exclude_patterns"] = json!(copy.exclude);
    }
    if let Some(parents) = &copy.parents {
        value["include_patterns"] = json!([parents]);
    }
    value
}

/// `os/architecture[/variant]` as an object.
fn platform(text: &str) -> Value {
    let mut parts = text.split('/');
    let mut value = json!({"OS": parts.next().unwrap_or(""), "Architecture": parts.next().unwrap_or("")});
    if let Some(variant) = parts.next() {
        value["Variant"] = json!(variant);
    }
    value
}

/// Bytes as JSON holds them.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
