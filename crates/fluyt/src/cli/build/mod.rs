//! `fluyt build`: from flags to a finished build. The composition of builder, engine, registry and terminal.

mod attests;
mod cache;
mod call;
mod context;
mod entitle;
mod facts;
mod files;
mod keys;
mod live;
mod named;
mod output;
mod outputs;
pub mod podman;
mod progress;
mod remote;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use fluyt_build::Cancel;
use fluyt_build::cache::Ledger;
use fluyt_build::dockerfile::fault::excerpt;
use fluyt_build::dockerfile::lint::{Lint, Warning};
use fluyt_build::dockerfile::{Fault, parse};
use fluyt_build::plan::{BaseImage, Inputs, Joined, plan_for};
use fluyt_build::solve::{Context, World, solve};
use fluyt_docker_api::build::{Fetcher, Runner, base, front_end};
use fluyt_engine::Engine;
use fluyt_image::{Lease, Platform};
use fluyt_model::{Error, Result};

use super::cmd::Cli;
use super::fail::{Failure, Outcome};
use super::flags::Parsed;
use context::Gathered;
use facts::About;
use output::Export;
use progress::{Form, Progress};
use wanted::{Call, Wanted};

/// Runs `fluyt build`.
pub fn build(cli: &Cli, flags: &Parsed) -> Outcome {
    podman::refuse(flags)?;
    podman::context(flags)?;
    if let Some(daemon) = cli.remote()? {
        return remote::build(daemon, flags);
    }
    let mut wanted = Wanted::read(flags)?;
    let engine = cli.engine()?;
    let gathered = context::gather(engine, &wanted)?;
    let _fetched = named::fetch(engine, &mut wanted)?;
    let done = run(cli, engine, &wanted, &gathered);
    if wanted.call == Call::Build
        && let Err(e) = engine.tidy_build_cache()
    {
        // The build is what it is.
        super::fail::print(&e.context("making room in the build cache"));
    }
    match done {
        Ok(()) => Ok(0),
        Err(Stopped::Fault(fault, output)) => Err(told(&gathered, fault, output)),
        Err(Stopped::Code(code)) => Err(Failure::Code(code)),
    }
}

/// Why a build ends early.
enum Stopped {
    /// It failed; the last output of the step that did.
    Fault(Fault, Option<String>),
    /// Everything is said.
    Code(i32),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault, None)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Fault(error.into(), None)
    }
}

/// Prints the last output and the place of a failure; the failure itself is printed by the edge.
fn told(gathered: &Gathered, fault: Fault, output: Option<String>) -> Failure {
    if let Some(output) = output {
        eprint!("{output}");
    }
    if let Some(lines) = fault.lines {
        eprint!("{}", excerpt(&gathered.name, &gathered.text, lines));
    }
    let hint = fault.error.hint().map(str::to_owned);
    let error =
        Error::new(fault.error.kind(), format!("failed to build: failed to solve: {}", fault.error.chain()));
    Failure::Error(match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    })
}

fn run(cli: &Cli, engine: &Engine, wanted: &Wanted, gathered: &Gathered) -> std::result::Result<(), Stopped> {
    let mut lint = Lint::default();
    if let Some(check) = wanted.options.build_args.get("BUILDKIT_DOCKERFILE_CHECK") {
        lint.configure(check)?;
    }
    let file = match parse(&gathered.text, &mut lint) {
        Err(fault) if wanted.call == Call::Check => {
            return call::check(engine, wanted, gathered, Err(fault), lint);
        }
        file => file?,
    };
    front_end(wanted.options.build_args.get("BUILDKIT_SYNTAX"), &file)?;
    match wanted.call {
        Call::Targets => return call::show_targets(wanted, gathered, &file),
        Call::Outline => return call::show_outline(wanted, gathered, &file),
        Call::Check => return call::check(engine, wanted, gathered, Ok(file), lint),
        Call::Build | Call::Graph => {}
    }
    let (began, since) = (Instant::now(), facts::now());
    let lease = engine.images().lease()?;
    let mut find = |name: &str, platform: &Platform| base_image(engine, &lease, wanted, name, platform);
    let inputs = Inputs { base: &mut find, ignore: &gathered.ignore };
    let planned = plan_for(&file, &wanted.options, &wanted.platforms, inputs, &mut lint)?;
    if wanted.call == Call::Graph {
        return show(&planned.graph.to_json(&planned.results()));
    }
    entitle::check(wanted, &planned)?;
    let about = About::new(since, wanted, gathered, &planned)?;
    let digests = planned.graph.digests();
    let names = planned.graph.vertices.iter().zip(&digests).map(|(v, d)| (v.name.clone(), d.to_string()));
    // Before there is a second thread, which would have to leave the signals alone too.
    let cancel = Arc::new(Cancel::default());
    cancelled_by_signals(&cancel)?;
    let needed = planned.graph.needed_by(&planned.results()).into_iter().filter(|needed| *needed).count();
    let progress = Progress::new(wanted.form, names.collect(), needed);
    let loading = format!("[internal] load build definition from {}", gathered.name);
    progress.begin(&loading);
    progress.internal(
        &loading,
        &[format!("transferring dockerfile: {}B done", gathered.text.len())],
        began.elapsed().as_secs_f64(),
    );
    let done = carry_out((cli, engine, &lease), (wanted, gathered), &planned, about, (&progress, &cancel));
    progress.finish();
    if let Err(Stopped::Fault(fault, _)) = done {
        let output = progress.failure();
        return Err(Stopped::Fault(fault, output));
    }
    warn(wanted, &lint.warnings());
    done
}

fn carry_out(
    (cli, engine, lease): (&Cli, &Engine, &Lease),
    (wanted, gathered): (&Wanted, &Gathered),
    planned: &Joined,
    mut about: About,
    (progress, cancel): (&Progress, &Cancel),
) -> std::result::Result<(), Stopped> {
    let store = engine.images();
    // What a killed build has left must not stand in this one's way.
    if let Err(e) = engine.reclaim_steps() {
        super::fail::print(&e.context("clearing away what a killed build has left"));
    }
    let mut contexts: BTreeMap<String, Context> = wanted.contexts.clone();
    if let Some(path) = &gathered.context {
        contexts
            .insert("context".to_owned(), Context { path: path.clone(), ignore: gathered.ignore.clone() });
    }
    let sources = if wanted.options.no_cache { &[] } else { &wanted.cache_from[..] };
    let imports = cache::import(engine, lease, sources, &wanted.options.platform, progress);
    let ledger = Ledger::default();
    let runner = Runner {
        root: cli.root().to_owned(),
        cgroup_parent: wanted.cgroup_parent.clone(),
        ..Runner::default()
    };
    let world = World {
        executor: &runner,
        fetch: &Fetcher,
        watch: progress,
        cancel,
        contexts: &contexts,
        secrets: &wanted.secrets,
        agents: &wanted.agents.sockets,
        imports: &imports,
        ledger: &ledger,
    };
    let solved = solve(store, lease, planned, &world);
    cache::complain(&imports, progress);
    let solved = solved?;
    about.finish(store, planned, &solved)?;
    let inline = wanted.cache_to.iter().any(|target| target.place == cache::Place::Inline);
    let mut carried = Vec::new();
    for layers in solved.goals.iter().filter(|_| inline) {
        carried.push(ledger.inline(store, lease, layers)?);
    }
    Export::new(engine, lease, wanted, (planned, &solved), &about, progress).carrying(carried).run()?;
    cache::export(engine, lease, &wanted.cache_to, &ledger, &imports, progress)?;
    Ok(())
}

/// The signals that end a build are read by a thread of their own.
fn cancelled_by_signals(cancel: &Arc<Cancel>) -> Result<()> {
    const ENDING: [i32; 3] = [1, 2, 15];
    let signals = fluyt_sys::signals::Signals::block(&ENDING)?;
    let cancel = Arc::clone(cancel);
    // It lives as long as the process: there is nothing that it could leave behind.
    std::thread::spawn(move || {
        let mut fds = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        loop {
            let _ = rustix::event::poll(&mut fds, None);
            if signals.next().is_ok_and(|signal| signal.is_some()) {
                if cancel.is_cancelled() {
                    // Asked twice: at once. The steps end by themselves when this process is gone.
                    std::process::exit(130);
                }
                cancel.cancel();
            }
        }
    });
    Ok(())
}

/// Finds a base image here, or fetches it.
fn base_image(
    engine: &Engine,
    lease: &Lease,
    wanted: &Wanted,
    name: &str,
    platform: &Platform,
) -> Result<BaseImage> {
    let pull = |name: &str, platform: &Platform| {
        let quiet = wanted.form == Form::Quiet;
        let platform = platform.to_string();
        super::cmd::pull_for_build(engine, name, Some(&platform), wanted.signature_policy.as_deref(), quiet)
    };
    base::find(engine, lease, name, platform, wanted.pull, wanted.signature_policy.as_deref(), &pull)
}

fn show(value: &serde_json::Value) -> std::result::Result<(), Stopped> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Error::internal("writing JSON").with_source(e))?;
    super::print_line(&text)?;
    Ok(())
}

fn warn(wanted: &Wanted, warnings: &[Warning]) {
    if warnings.is_empty() || !matches!(wanted.form, Form::Plain | Form::Tty) {
        return;
    }
    let many = if warnings.len() == 1 { "warning" } else { "warnings" };
    eprintln!("\n {} {many} found (use --check to expand):", warnings.len());
    for warning in warnings {
        eprintln!(" - {}: {} (line {})", warning.rule.name(), warning.message, warning.lines.first);
    }
}
