//! A build as `POST /build` asks for it: a context that comes with the call, one platform, one image.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fluyt_build::cache::{Imports, Ledger};
use fluyt_build::dockerfile::lint::Lint;
use fluyt_build::dockerfile::{Fault, parse};
use fluyt_build::ignore::Ignore;
use fluyt_build::plan::{BaseImage, Inputs, Joined, Options, plan_for};
use fluyt_build::solve::{Context, Form, Work, World, solve, tree};
use fluyt_build::{Cancel, Fetch, Validators};
use fluyt_engine::Engine;
use fluyt_image::{Lease, NewLayer, Platform};
use fluyt_model::error::IoContext;
use fluyt_model::reference::Reference;
use fluyt_model::{Error, Kind, Result};

use super::context::{Stream, from_repository, read_text, unpacked};
use super::steps::{Steps, command};
use super::{Fetcher, Runner, base, front_end};
use crate::api::{AuthConfig, BuildImage, Progress, ProgressMessage};
use crate::local::tell::{Tell, Work as Told};
use crate::types::Resources;
use crate::{lower, transfer};

/// How often somebody who waits for a silent build is asked whether he is still there.
const LOOK: Duration = Duration::from_millis(200);

/// Where Dockerfile and context are.
pub struct Gathered {
    text: String,
    context: Option<PathBuf>,
    ignore: Ignore,
    /// Gone with this.
    _unpacked: NewLayer,
}

/// Builds what was gathered; the image's id.
///
/// With `own_logins` base images are fetched also with what this process's user has logged in with.
///
/// # Errors
/// A mistake in the request or in the Dockerfile; a step that fails; what registries say.
pub fn build(
    engine: &Engine,
    own_logins: bool,
    wanted: &BuildImage,
    gathered: &Gathered,
    sink: &dyn Progress,
) -> Result<String> {
    if wanted.squash {
        return Err(Error::unsupported("squash is only supported with experimental mode"));
    }
    let names = wanted.tags.iter().map(|tag| name(tag)).collect::<Result<Vec<_>>>()?;
    let mut options = options(wanted)?;
    // With `cachefrom` only those images' steps count; our cache has the steps of every image that is here.
    let known = |name: &String| engine.images().resolve(name).is_ok();
    options.no_cache |= !wanted.cache_from.is_empty() && !wanted.cache_from.iter().any(known);
    let done = run((engine, own_logins), wanted, gathered, (&options, &names), sink);
    // The build is what it is, whether or not there is room in the cache.
    let _ = engine.tidy_build_cache();
    done
}

fn name(text: &str) -> Result<Reference> {
    Reference::parse_untagged(text)
        .map(Reference::or_latest)
        .map_err(|e| e.context(format!("invalid tag {text:?}")))
}

/// The request in the planner's words.
fn options(wanted: &BuildImage) -> Result<Options> {
    let mut options = Options {
        build_args: wanted.build_args.iter().filter_map(|(k, v)| Some((k.clone(), v.clone()?))).collect(),
        target: wanted.target.clone(),
        labels: wanted.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        no_cache: wanted.no_cache,
        shm_size: u64::try_from(wanted.shm_size).unwrap_or(0),
        ..Options::default()
    };
    if !wanted.platform.is_empty() {
        options.platform = Platform::parse(&wanted.platform)?;
    }
    options.network = match wanted.network_mode.as_str() {
        "" | "default" | "bridge" => String::new(),
        mode if mode.starts_with("container:") => {
            return Err(Error::unsupported(format!("network mode {mode:?} not supported by a build"))
                .with_hint("a network's name, default, host and none are"));
        }
        mode => mode.to_owned(),
    };
    for text in &wanted.extra_hosts {
        let (name, address) = text
            .split_once(['=', ':'])
            .ok_or_else(|| Error::invalid(format!("bad format for add-host: {text:?}")))?;
        options.hosts.push((name.to_owned(), address.trim_matches(['[', ']']).to_owned()));
    }
    let number = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    options.ulimits.extend(wanted.ulimits.iter().map(|l| (l.name.clone(), number(l.soft), number(l.hard))));
    Ok(options)
}

/// The limits of steps.
fn runner(engine: &Engine, wanted: &BuildImage) -> Runner {
    let resources = lower::resources(&Resources {
        memory: wanted.memory,
        memory_swap: wanted.memory_swap,
        cpu_shares: wanted.cpu_shares,
        cpuset_cpus: wanted.cpuset_cpus.clone(),
        cpuset_mems: wanted.cpuset_mems.clone(),
        cpu_period: wanted.cpu_period,
        cpu_quota: wanted.cpu_quota,
        ..Resources::default()
    });
    Runner { root: engine.paths().root().to_owned(), cgroup_parent: wanted.cgroup_parent.clone(), resources }
}

/// Takes in the context.
///
/// # Errors
/// A damaged archive; no Dockerfile in it; what a server says.
pub fn gather(engine: &Engine, wanted: &BuildImage, input: &mut (dyn Read + Send)) -> Result<Gathered> {
    let into = engine.images().new_layer()?;
    if wanted.remote.is_empty() {
        return from_stream(wanted, input, into);
    }
    if let Some(git) =
        fluyt_build::gitref::parse(&wanted.remote).map_err(|f| f.error)?.filter(|git| !git.like_a_path)
    {
        let context = from_repository(&git, false, None, &into)?;
        return from_directory(&context, wanted, into);
    }
    if !wanted.remote.starts_with("http://") && !wanted.remote.starts_with("https://") {
        return Err(Error::invalid(format!("unable to prepare context: {:?} is no address", wanted.remote)));
    }
    let path = into.dir().join("fetched");
    Fetcher.http(&wanted.remote, &Validators::default(), &path)?;
    let mut file = std::fs::File::open(&path).about(|| wanted.remote.clone())?;
    from_stream(wanted, &mut file, into)
}

fn from_stream(wanted: &BuildImage, input: &mut dyn Read, into: NewLayer) -> Result<Gathered> {
    match unpacked(input, &into)? {
        Stream::Archive => from_directory(&into.fs(), wanted, into),
        Stream::Text(text) if text.trim().is_empty() => {
            Err(Error::invalid("the Dockerfile (Dockerfile) cannot be empty"))
        }
        Stream::Text(text) => {
            Ok(Gathered { text, context: None, ignore: Ignore::default(), _unpacked: into })
        }
    }
}

/// Finds the Dockerfile in a context. Nothing outside of it is read, wherever its links lead.
fn from_directory(context: &Path, wanted: &BuildImage, into: NewLayer) -> Result<Gathered> {
    let root = tree::open_dir(context)?;
    let open = |path: &str| root.regular(path).ok();
    let file = if wanted.dockerfile.is_empty() { "Dockerfile" } else { &wanted.dockerfile };
    if Path::new(file).components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Error::invalid(format!("forbidden path outside the build context: {file} ()")));
    }
    let found = open(file).or_else(|| if wanted.dockerfile.is_empty() { open("dockerfile") } else { None });
    let mut found = found.ok_or_else(|| {
        Error::new(Kind::Internal, format!("Cannot locate specified Dockerfile: {file}"))
            .with_hint("the parameter `dockerfile` is a path in the context")
    })?;
    let text = read_text(&mut found, file)?;
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("the Dockerfile ({file}) cannot be empty")));
    }
    let mut ignore = Ignore::default();
    for path in [format!("{file}.dockerignore"), ".dockerignore".to_owned()] {
        match root.regular(&path) {
            Ok(mut found) => {
                let text = read_text(&mut found, &path)?;
                ignore = Ignore::parse(&text).map_err(|f| f.error.context(path))?;
                break;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            // What it leaves out must not get in because it could not be read.
            Err(e) => return Err(Error::io(path, e)),
        }
    }
    Ok(Gathered { text, context: Some(context.to_owned()), ignore, _unpacked: into })
}

fn run(
    (engine, own_logins): (&Engine, bool),
    wanted: &BuildImage,
    gathered: &Gathered,
    (options, names): (&Options, &[Reference]),
    sink: &dyn Progress,
) -> Result<String> {
    let mut lint = Lint::default();
    let file = parse(&gathered.text, &mut lint).map_err(|fault| fault.error)?;
    front_end(options.build_args.get("BUILDKIT_SYNTAX"), &file)?;
    let lease = engine.images().lease()?;
    let mut find = |name: &str, platform: &Platform| {
        base_image((engine, own_logins), &lease, wanted, name, platform, sink)
    };
    let inputs = Inputs { base: &mut find, ignore: &gathered.ignore };
    let planned = plan_for(&file, options, &[], inputs, &mut lint).map_err(|fault| fault.error)?;
    let cancel = Cancel::default();
    let steps = Steps::new(&file, &options.target, &planned, sink, &cancel, wanted.quiet);
    let id = watched(sink, &cancel, || {
        carry_out((engine, &lease), wanted, gathered, (&planned, names), (&steps, &cancel))
    })?;
    let digest = id.strip_prefix("sha256:").unwrap_or(&id);
    steps.finish(digest);
    if wanted.quiet {
        let _ = sink.tell(ProgressMessage { stream: format!("{id}\n"), ..ProgressMessage::default() });
        return Ok(id);
    }
    let aux = Some(serde_json::json!({ "ID": id }));
    let _ = sink.tell(ProgressMessage { aux, ..ProgressMessage::default() });
    steps.say(&format!("Successfully built {}", fluyt_model::id::short(digest)));
    for name in names {
        steps.say(&format!("Successfully tagged {}", name.familiar()));
    }
    Ok(id)
}

/// Does something while somebody listens; `cancel` is set when he has gone.
fn watched<T>(sink: &dyn Progress, cancel: &Cancel, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                std::thread::park_timeout(LOOK);
                if sink.gone() {
                    cancel.cancel();
                }
            }
        });
        let done = work();
        over.store(true, Ordering::SeqCst);
        watcher.thread().unpark();
        done
    })
}

fn carry_out(
    (engine, lease): (&Engine, &Lease),
    wanted: &BuildImage,
    gathered: &Gathered,
    (planned, names): (&Joined, &[Reference]),
    (steps, cancel): (&Steps<'_>, &Cancel),
) -> Result<String> {
    let store = engine.images();
    // What a killed build has left must not stand in this one's way, and is no reason to fail.
    let _ = engine.reclaim_steps();
    let context = gathered.context.clone().map(|path| Context { path, ignore: gathered.ignore.clone() });
    let contexts: BTreeMap<String, Context> =
        context.into_iter().map(|context| ("context".to_owned(), context)).collect();
    let (imports, ledger, runner) = (Imports::default(), Ledger::default(), runner(engine, wanted));
    let world = World {
        executor: &runner,
        fetch: &Fetcher,
        watch: steps,
        cancel,
        contexts: &contexts,
        secrets: &BTreeMap::new(),
        agents: &BTreeMap::new(),
        imports: &imports,
        ledger: &ledger,
    };
    let solved = solve(store, lease, planned, &world).map_err(|fault| failure(fault, planned, steps))?;
    let work = Work { store, lease, plan: planned, goals: &solved.goals, names, carried: &[] };
    let exported = work.export(&Form::default(), None)?;
    let image = work.record(&exported)?;
    let id = image.id.to_string();
    for name in names {
        engine.emit_image("tag", &id, &name.familiar());
    }
    Ok(id)
}

/// A command that failed, in the classic builder's words.
fn failure(fault: Fault, planned: &Joined, steps: &Steps<'_>) -> Error {
    let text = fault.error.to_string();
    let code = text.rsplit_once("did not complete successfully: exit code: ").map(|(_, code)| code.trim());
    let command = steps.failed().and_then(|id| command(&planned.graph, id));
    match (code, command) {
        (Some(code), Some(command)) => {
            Error::new(Kind::Internal, format!("The command '{command}' returned a non-zero code: {code}"))
        }
        _ => fault.error,
    }
}

/// Finds a base image; one that is fetched is told of.
fn base_image(
    (engine, own_logins): (&Engine, bool),
    lease: &Lease,
    wanted: &BuildImage,
    name: &str,
    platform: &Platform,
    sink: &dyn Progress,
) -> Result<BaseImage> {
    let pull = |name: &str, platform: &Platform| {
        let reference = Reference::parse(name)?;
        let auth = auth_for(&wanted.auth, reference.domain());
        let registry = transfer::client_for(reference.domain(), auth, None, own_logins)?;
        let opening = ProgressMessage {
            status: format!("Pulling from {}", reference.path()),
            id: reference.tag().or(reference.digest()).unwrap_or_default().to_owned(),
            ..ProgressMessage::default()
        };
        let quiet = crate::api::Quiet;
        let sink: &dyn Progress = if wanted.quiet { &quiet } else { sink };
        let tell = Tell::new(sink, Told::Pull, vec![opening]);
        let (pulled, _) = transfer::pull(engine, &registry, &reference, Some(platform.clone()), &tell)?;
        tell.status(pulled.digest_line());
        tell.status(pulled.status_line());
        Ok(())
    };
    base::find(engine, lease, name, platform, wanted.pull, None, &pull)
}

/// What the client sent for a registry; Docker's own is known by an old address.
fn auth_for<'a>(all: &'a BTreeMap<String, AuthConfig>, domain: &str) -> Option<&'a AuthConfig> {
    let host = |key: &str| -> String {
        let rest = key.trim_start_matches("https://").trim_start_matches("http://");
        let host = rest.split('/').next().unwrap_or_default();
        if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host }.to_owned()
    };
    all.iter().find(|(key, _)| host(key) == domain).map(|(_, auth)| auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_by_domain() {
        let auth = |name: &str| AuthConfig { username: name.to_owned(), ..AuthConfig::default() };
        let all = [("https://index.docker.io/v1/", "hub"), ("localhost:5000", "local")]
            .into_iter()
            .map(|(key, name)| (key.to_owned(), auth(name)))
            .collect();
        assert_eq!(auth_for(&all, "docker.io").unwrap().username, "hub");
        assert_eq!(auth_for(&all, "localhost:5000").unwrap().username, "local");
        assert!(auth_for(&all, "quay.io").is_none());
    }

    #[test]
    fn a_request_becomes_options() {
        let wanted = BuildImage {
            extra_hosts: vec!["a:10.0.0.1".to_owned(), "b=::1".to_owned()],
            network_mode: "mine".to_owned(),
            ..BuildImage::default()
        };
        let options = options(&wanted).unwrap();
        assert_eq!(
            options.hosts,
            [("a".to_owned(), "10.0.0.1".to_owned()), ("b".to_owned(), "::1".to_owned())]
        );
        assert_eq!(options.network, "mine");
        let wanted = BuildImage { network_mode: "container:x".to_owned(), ..BuildImage::default() };
        assert!(super::options(&wanted).is_err());
    }
}
