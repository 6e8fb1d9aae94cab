//! YAML files -> what is to be played: pods (those of Deployments, DaemonSets and Jobs too), and what they refer to.

use std::collections::BTreeMap;

use fluyt_yaml::fault::Fault;
use fluyt_yaml::{Node, Pos, Tags, read_with};

use crate::Outcome;
use crate::decode::decode;
use crate::lower::Problem;
use crate::objects::{Claim, ConfigMap, Job, Meta, Pod, PodSpec, Secret, Workload};

/// Everything that some files ask for.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// ConfigMaps by name.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets, as they come.
    pub secrets: Vec<Secret>,
    /// PersistentVolumeClaims, as they come.
    pub claims: Vec<Claim>,
    /// Pods, as they come.
    pub pods: Vec<PodOf>,
    /// Kinds that were passed over, each once.
    pub skipped: Vec<String>,
    /// What was written and is not known, or has no effect.
    pub warnings: Vec<Fault>,
}

/// A pod, and the object that asks for it.
#[derive(Clone, Debug)]
pub struct PodOf {
    /// `Pod`, `Deployment`, `DaemonSet`, `Job`.
    pub kind: String,
    /// The pod's name.
    pub name: String,
    /// Labels of the pod; for fields that refer to them, its annotations too.
    pub metadata: Meta,
    /// Its annotations and those of the object that asks for it.
    pub annotations: BTreeMap<String, String>,
    /// What it is.
    pub spec: PodSpec,
    /// The document, to find places in.
    document: Node,
}

impl PodOf {
    /// A problem at its place in the file.
    #[must_use]
    pub fn fault(&self, problem: Problem) -> Fault {
        let prefix = if self.kind == "Pod" { "" } else { "spec.template." };
        let path = match problem.path.as_str() {
            "" => String::new(),
            path => format!("{prefix}{path}"),
        };
        let message = match path.as_str() {
            "" => problem.message,
            path => format!("{path}: {}", problem.message),
        };
        let mut fault = Fault::new(locate(&self.document, &path), message).kind(problem.kind);
        fault.hint = problem.hint;
        fault
    }
}

/// The place of a field, or of the nearest thing around it.
fn locate(document: &Node, path: &str) -> Pos {
    let mut node = document;
    let mut pos = document.pos;
    for part in path.replace('[', ".[").split('.').filter(|p| !p.is_empty()) {
        let index = part.strip_prefix('[').and_then(|p| p.strip_suffix(']'));
        let next = match index {
            Some(index) => {
                let item = index.parse::<usize>().ok().and_then(|i| node.list()?.get(i));
                item.map(|item| (item, item.pos))
            }
            None => node.map().and_then(|map| map.entry(part)).map(|entry| (&entry.node, entry.pos)),
        };
        let Some((below, at)) = next else { break };
        (node, pos) = (below, at);
    }
    if matches!(node.value, fluyt_yaml::Value::Map(_) | fluyt_yaml::Value::List(_)) { pos } else { node.pos }
}

impl Stream {
    /// Reads all documents of a file into this.
    ///
    /// # Errors
    /// The file is not YAML, or an object is not what its kind says.
    pub fn read(&mut self, text: &str, file: u16) -> Outcome<()> {
        for document in read_with(text, file, Tags::None)? {
            self.object(document, 0)?;
        }
        Ok(())
    }

    fn object(&mut self, node: Node, depth: usize) -> Outcome<()> {
        if node.map().is_none() {
            return Err(Fault::new(node.pos, format!("expected an object, not {}", node.kind()))
                .hint("an object begins with apiVersion, kind and metadata"));
        }
        let Some(kind) = node.get("kind") else {
            return Err(Fault::new(node.pos, "the object has no kind")
                .hint("say what it is, for instance `kind: Pod`"));
        };
        let Some(kind) = kind.str() else {
            return Err(Fault::new(kind.pos, format!("kind: expected a text, not {}", kind.kind())));
        };
        let kind = kind.to_owned();
        match kind.as_str() {
            "List" | "PodList" | "ConfigMapList" | "SecretList" | "DeploymentList" if depth < 4 => {
                let items = match node.get("items") {
                    Some(items) => items.list().map(<[Node]>::to_vec).ok_or_else(|| {
                        Fault::new(items.pos, format!("items: expected a list, not {}", items.kind()))
                    })?,
                    None => Vec::new(),
                };
                items.into_iter().try_for_each(|item| self.object(item, depth + 1))
            }
            "Pod" => self.pod(node),
            "Deployment" | "DaemonSet" => self.workload(&kind, node),
            "Job" => self.job(node),
            "ConfigMap" => self.config_map(node),
            "Secret" => self.secret(&node),
            "PersistentVolumeClaim" => self.claim(&node),
            _ => {
                if !self.skipped.contains(&kind) {
                    self.skipped.push(kind);
                }
                Ok(())
            }
        }
    }

    fn read_as<T: for<'n> serde::Deserialize<'n>>(&mut self, node: &Node, version: &str) -> Outcome<T> {
        if let Some(given) = node.get("apiVersion")
            && given.str().is_none_or(|given| given != version)
        {
            let kind = node.get_str("kind").unwrap_or_default();
            self.warnings.push(
                Fault::new(given.pos, format!("apiVersion: a {kind} is of version {version}"))
                    .hint("it is read as one of that version"),
            );
        }
        decode(node, &mut self.warnings)
    }

    fn pod(&mut self, node: Node) -> Outcome<()> {
        let pod: Pod = self.read_as(&node, "v1")?;
        let name = name_of(&pod.metadata, "pod", &node)?;
        let annotations = pod.metadata.annotations.clone();
        self.add(PodOf {
            kind: "Pod".to_owned(),
            name,
            metadata: pod.metadata,
            annotations,
            spec: pod.spec,
            document: node,
        })
    }

    fn workload(&mut self, kind: &str, node: Node) -> Outcome<()> {
        let workload: Workload = self.read_as(&node, "apps/v1")?;
        let name = name_of(&workload.metadata, &lower_first(kind), &node)?;
        if let Some(replicas) = workload.spec.replicas {
            let pos = locate(&node, "spec.replicas");
            if replicas > 1 {
                self.warnings.push(
                    Fault::new(pos, format!("spec.replicas: one pod is made, not {replicas}"))
                        .hint("several pods of one kind need a cluster"),
                );
            } else if replicas < 0 {
                return Err(Fault::new(pos, format!("spec.replicas: {replicas} is not a number of pods")));
            }
        }
        let template = workload.spec.template;
        self.templated(kind, &name, workload.metadata.annotations, template.metadata, template.spec, node)
    }

    fn job(&mut self, node: Node) -> Outcome<()> {
        let job: Job = self.read_as(&node, "batch/v1")?;
        let name = name_of(&job.metadata, "job", &node)?;
        let mut template = job.spec.template;
        match template.spec.restart_policy.as_str() {
            // The default of pods is refused by Kubernetes for jobs: what is meant is one that ends.
            "" => template.spec.restart_policy = "OnFailure".to_owned(),
            "Always" => {
                return Err(Fault::new(
                    locate(&node, "spec.template.spec.restartPolicy"),
                    "spec.template.spec.restartPolicy: a Job's pod is not restarted for ever",
                )
                .hint("use OnFailure or Never"));
            }
            _ => {}
        }
        self.templated("Job", &name, job.metadata.annotations, template.metadata, template.spec, node)
    }

    fn templated(
        &mut self,
        kind: &str,
        name: &str,
        outer: BTreeMap<String, String>,
        metadata: Meta,
        spec: PodSpec,
        document: Node,
    ) -> Outcome<()> {
        let mut annotations = outer;
        annotations.extend(metadata.annotations.clone());
        self.add(PodOf {
            kind: kind.to_owned(),
            name: format!("{name}-pod"),
            metadata,
            annotations,
            spec,
            document,
        })
    }

    fn add(&mut self, pod: PodOf) -> Outcome<()> {
        if self.pods.iter().any(|other| other.name == pod.name) {
            return Err(Fault::new(
                locate(&pod.document, "metadata.name"),
                format!("metadata.name: the pod {:?} is here twice", pod.name),
            )
            .hint("give one of them another name"));
        }
        self.pods.push(pod);
        Ok(())
    }

    fn config_map(&mut self, node: Node) -> Outcome<()> {
        let map: ConfigMap = self.read_as(&node, "v1")?;
        let name = name_of(&map.metadata, "ConfigMap", &node)?;
        if let Some(key) = map.data.keys().find(|key| map.binary_data.contains_key(*key)) {
            return Err(Fault::new(
                locate(&node, "binaryData"),
                format!("binaryData: the key {key:?} is in data, too"),
            )
            .hint("a key is in one of the two"));
        }
        self.config_maps.insert(name, map);
        Ok(())
    }

    fn secret(&mut self, node: &Node) -> Outcome<()> {
        let secret: Secret = self.read_as(node, "v1")?;
        name_of(&secret.metadata, "Secret", node)?;
        self.secrets.push(secret);
        Ok(())
    }

    fn claim(&mut self, node: &Node) -> Outcome<()> {
        let claim: Claim = self.read_as(node, "v1")?;
        name_of(&claim.metadata, "PersistentVolumeClaim", node)?;
        self.claims.push(claim);
        Ok(())
    }

    /// Whether nothing in it can be played; what is there instead.
    ///
    /// # Errors
    /// Nothing was asked for that is supported.
    pub fn check(&self) -> Result<(), Problem> {
        if !self.pods.is_empty() || !self.claims.is_empty() || !self.secrets.is_empty() {
            return Ok(());
        }
        if !self.config_maps.is_empty() {
            return Err(Problem::new("", "there are ConfigMaps only, and nothing that uses them")
                .hint("a ConfigMap is part of what a pod is played with: put both into one stream, or give it with --configmap"));
        }
        let known =
            "fluyt plays Pod, Deployment, DaemonSet, Job, ConfigMap, Secret and PersistentVolumeClaim";
        match self.skipped.as_slice() {
            [] => Err(Problem::new("", "there is no object in it").hint(known)),
            kinds => {
                Err(Problem::new("", format!("nothing of it can be played: {}", kinds.join(", ")))
                    .hint(known))
            }
        }
    }
}

fn lower_first(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn name_of(meta: &Meta, what: &str, node: &Node) -> Outcome<String> {
    let name = meta.name.trim();
    let at = || locate(node, "metadata.name");
    if name.is_empty() {
        return Err(Fault::new(at(), format!("metadata.name: the {what} does not have a name"))
            .hint("add `metadata:` with a `name:`"));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !name.chars().all(fine) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Fault::new(at(), format!("metadata.name: {name:?} is not a name"))
            .hint("a name has lower case letters, digits, - and ."));
    }
    Ok(name.to_owned())
}
