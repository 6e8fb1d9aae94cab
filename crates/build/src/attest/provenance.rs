//! SLSA provenance of a build, versions 1 and 0.2, with the fields that BuildKit fills.
//!
//! `min` leaves out build arguments, labels, secrets' names and the build definition; `max` has them. The values of
//! secrets are in neither: they never come in here.

use std::collections::BTreeMap;

use fluyt_image::{Descriptor, Platform};
use fluyt_model::reference::Reference;
use serde_json::{Value, json};

use super::{Attestation, PROVENANCE_V1, PROVENANCE_V02, llb, purl, without_credentials};
use crate::graph::{Exec, Id, MountSource, Op};
use crate::plan::{Goal, Joined};

/// What version 1 calls the kind of build.
const BUILD_TYPE: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
/// What version 0.2 calls it.
const BUILD_TYPE_02: &str = "https://mobyproject.org/buildkit@v1";

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Everything, not only what is always known to be harmless.
    pub max: bool,
    /// Version 0.2 of the predicate.
    pub v02: bool,
    /// Who built it, as an address.
    pub builder: String,
    /// The builder says that another build gives the same.
    pub reproducible: bool,
    /// The name of its file beside exported files.
    pub file: String,
}

/// What is known about a build beside its plan.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The context as it was given, when it is an address.
    pub context: String,
    /// What that address gave: algorithm and digits.
    pub context_digest: Option<(String, String)>,
    /// The name of the Dockerfile.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Build arguments, labels and the target, under BuildKit's keys.
    pub arguments: BTreeMap<String, String>,
    /// A word of its own for this build.
    pub invocation: String,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339.
    pub finished: String,
    /// What this machine is.
    pub machine: Platform,
    /// Digests of what was fetched, by vertex: algorithm and digits.
    pub fetched: BTreeMap<Id, (String, String)>,
    /// Where the context's files come from: `source` and `revision` of its repository.
    pub vcs: BTreeMap<String, String>,
}

/// The provenance of a goal; `layers` are those of its image, if it became one.
#[must_use]
pub fn attestation(
    plan: &Joined,
    goal: &Goal,
    facts: &Facts,
    options: &Options,
    layers: &[Descriptor],
) -> Attestation {
    let predicate = predicate(plan, goal, facts, options, layers);
    let (predicate_type, predicate) =
        if options.v02 { (PROVENANCE_V02, version_02(&predicate)) } else { (PROVENANCE_V1, predicate) };
    Attestation { predicate_type, predicate, file: options.file.clone() }
}

fn predicate(plan: &Joined, goal: &Goal, facts: &Facts, options: &Options, layers: &[Descriptor]) -> Value {
    let seen = Seen::of(plan, goal, facts);
    let mut request = json!({"frontend": "dockerfile.v0"});
    let arguments: BTreeMap<&String, &String> = facts
        .arguments
        .iter()
        .filter(|(key, _)| options.max || !key.starts_with("build-arg:") && !key.starts_with("label:"))
        .collect();
    let complete = arguments.len() == facts.arguments.len();
    if !arguments.is_empty() {
        request["args"] = json!(arguments);
    }
    if options.max {
        for (key, list) in [("secrets", &seen.secrets), ("ssh", &seen.agents)] {
            if !list.is_empty() {
                request[key] = list
                    .iter()
                    .map(|(id, optional)| match optional {
                        true => json!({"id": id, "optional": true}),
                        false => json!({"id": id}),
                    })
                    .collect();
            }
        }
    }
    let mut locals: Vec<Value> = seen.locals.iter().map(|name| json!({"name": name})).collect();
    if facts.context.is_empty() {
        locals.push(json!({"name": "dockerfile"}));
    }
    if !locals.is_empty() {
        request["locals"] = json!(locals);
    }
    let mut source = json!({"path": facts.file});
    if !facts.context.is_empty() {
        source["uri"] = json!(without_credentials(&facts.context));
        if let Some((algorithm, digits)) = &facts.context_digest {
            source["digest"] = json!({algorithm: digits});
        }
    }
    let mut internal = json!({"builderPlatform": facts.machine.to_string()});
    let mut metadata = json!({});
    if !facts.vcs.is_empty() {
        metadata["vcs"] = json!(facts.vcs);
    }
    if options.max {
        let steps = llb::steps(&plan.graph, &goal.result);
        let digests = plan.graph.digests();
        let mapping: BTreeMap<&str, String> =
            steps.of.iter().map(|(id, step)| (digests[*id].as_str(), format!("step{step}"))).collect();
        metadata["source"] = source_map(plan, facts, &steps);
        if let crate::graph::Tree::Vertex(id) = goal.result
            && let Some(step) = steps.of.get(&id)
            && !layers.is_empty()
        {
            metadata["layers"] = json!({format!("step{step}:0"): [layers]});
        }
        internal["buildConfig"] = json!({"llbDefinition": steps.list, "digestMapping": mapping});
    }
    let whole = locals.is_empty();
    let mut run = json!({
        "invocationId": facts.invocation,
        "startedOn": facts.started,
        "finishedOn": facts.finished,
        "buildkit_metadata": metadata,
        "buildkit_completeness": {"request": complete, "resolvedDependencies": whole},
    });
    if whole && !seen.network {
        run["buildkit_hermetic"] = json!(true);
    }
    if options.reproducible {
        run["buildkit_reproducible"] = json!(true);
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"configSource": source, "request": request},
            "internalParameters": internal,
            "resolvedDependencies": seen.materials,
        },
        "runDetails": {"builder": {"id": options.builder}, "metadata": run},
    })
}

/// Where each step stands in the Dockerfile, and the Dockerfile.
fn source_map(plan: &Joined, facts: &Facts, steps: &llb::Steps) -> Value {
    let mut locations = serde_json::Map::new();
    for (id, step) in &steps.of {
        if let Some(lines) = plan.graph.vertices[*id].lines {
            let range = json!({"start": {"line": lines.first}, "end": {"line": lines.last}});
            locations.insert(format!("step{step}"), json!({"locations": [{"ranges": [range]}]}));
        }
    }
    let info =
        json!({"filename": facts.file, "language": "Dockerfile", "data": llb::base64(facts.text.as_bytes())});
    json!({"locations": locations, "infos": [info]})
}

/// What the operations of a goal show.
#[derive(Default)]
struct Seen {
    materials: Vec<Value>,
    /// Names, and whether the build goes on without them.
    secrets: BTreeMap<String, bool>,
    agents: BTreeMap<String, bool>,
    locals: Vec<String>,
    /// A command could reach the network.
    network: bool,
}

impl Seen {
    fn of(plan: &Joined, goal: &Goal, facts: &Facts) -> Self {
        let mut seen = Self::default();
        let needed = plan.graph.needed(&goal.result);
        if let crate::graph::Tree::Context(name) = &goal.result {
            seen.local(name, facts);
        }
        if let Some((algorithm, digits)) = facts.context_digest.as_ref().filter(|_| !facts.context.is_empty())
        {
            let uri = without_credentials(&facts.context);
            seen.material(&json!({"uri": uri, "digest": {algorithm: digits}}));
        }
        for (id, vertex) in plan.graph.vertices.iter().enumerate().filter(|(id, _)| needed[*id]) {
            for tree in vertex.op.inputs() {
                if let crate::graph::Tree::Context(name) = tree {
                    seen.local(name, facts);
                }
            }
            match &vertex.op {
                Op::Image(image) => {
                    let Ok(reference) = Reference::parse_untagged(&image.reference) else { continue };
                    let platform = Platform::parse(&image.platform).ok();
                    let uri = purl(&reference, platform.as_ref());
                    let digest = &image.manifest;
                    seen.material(&json!({"uri": uri, "digest": {digest.algorithm().name(): digest.hex()}}));
                }
                Op::Http(http) => seen.fetched(&http.url, facts.fetched.get(&id)),
                Op::Git(git) => {
                    let mut address = git.remote.clone();
                    if !git.reference.is_empty() {
                        address.push_str(&format!("#{}", git.reference));
                    }
                    seen.fetched(&address, facts.fetched.get(&id));
                }
                Op::Exec(exec) => seen.command(exec),
                Op::File(_) => {}
            }
        }
        seen
    }

    fn material(&mut self, material: &Value) {
        if !self.materials.contains(material) {
            self.materials.push(material.clone());
        }
    }

    fn fetched(&mut self, address: &str, digest: Option<&(String, String)>) {
        let mut material = json!({"uri": without_credentials(address)});
        if let Some((algorithm, digits)) = digest {
            material["digest"] = json!({algorithm: digits});
        }
        self.material(&material);
    }

    fn local(&mut self, name: &str, facts: &Facts) {
        let fetched = name == "context" && !facts.context.is_empty();
        if !fetched && !self.locals.iter().any(|known| known == name) {
            self.locals.push(name.to_owned());
        }
    }

    fn command(&mut self, exec: &Exec) {
        self.network |= exec.network != "none";
        for mount in &exec.mounts {
            let (list, secret) = match &mount.source {
                MountSource::Secret(secret) => (&mut self.secrets, secret),
                MountSource::Ssh(agent) => (&mut self.agents, agent),
                _ => continue,
            };
            // Demanded once is demanded.
            let optional = list.entry(secret.id.clone()).or_insert(true);
            *optional &= !secret.required;
        }
    }
}

/// The same in the fields of version 0.2.
fn version_02(one: &Value) -> Value {
    let (definition, run) = (&one["buildDefinition"], &one["runDetails"]["metadata"]);
    let (external, internal) = (&definition["externalParameters"], &definition["internalParameters"]);
    let mut source = external["configSource"].clone();
    if let Some(fields) = source.as_object_mut()
        && let Some(path) = fields.remove("path")
    {
        fields.insert("entryPoint".to_owned(), path);
    }
    let reproducible = run["buildkit_reproducible"].as_bool().unwrap_or(false);
    let mut metadata = json!({
        "buildInvocationID": run["invocationId"],
        "buildStartedOn": run["startedOn"],
        "buildFinishedOn": run["finishedOn"],
        "completeness": {
            "parameters": run["buildkit_completeness"]["request"],
            "environment": true,
            "materials": run["buildkit_completeness"]["resolvedDependencies"],
        },
        "reproducible": reproducible,
        "https://mobyproject.org/buildkit@v1#metadata": run["buildkit_metadata"],
    });
    if run["buildkit_hermetic"].as_bool() == Some(true) {
        metadata["https://mobyproject.org/buildkit@v1#hermetic"] = json!(true);
    }
    let mut two = json!({
        "builder": one["runDetails"]["builder"],
        "buildType": BUILD_TYPE_02,
        "materials": definition["resolvedDependencies"],
        "invocation": {
            "configSource": source,
            "parameters": external["request"],
            "environment": {"platform": internal["builderPlatform"]},
        },
        "metadata": metadata,
    });
    if !internal["buildConfig"].is_null() {
        two["buildConfig"] = internal["buildConfig"].clone();
    }
    two
}
