//! `RUN`: the command, its here-documents and its mounts.

use fluyt_image::Platform;

use super::args;
use super::stage::{Counter, Planner, State, absolute, history, upper_keyword, with_shell};
use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::instruction::{Device, Run};
use crate::dockerfile::mount::{self, Mount, MountKind};
use crate::dockerfile::{Step, lines, quoted};
use crate::graph::{Exec, ExecMount, MountSource, Op, SecretMount, Tree, Vertex};

/// Where scripts of here-documents appear.
const PIPES: &str = "/dev/pipes/";

impl Planner<'_> {
    pub(super) fn run_step(
        &mut self,
        state: &mut State,
        step: &Step,
        run: &Run,
        mark: &str,
        counter: &mut Counter,
        index: usize,
    ) -> Result<Vertex> {
        let mut mounts = Vec::new();
        let mut env = state.env.clone();
        let (words, summary) = command_words(run, &mut mounts)?;
        let args = if run.command.shell { with_shell(&state.config, &words) } else { words };
        if args.is_empty() {
            return Err(Fault::new("arguments are required"));
        }
        for text in &run.mounts {
            let mut expand = |value: &str| self.expand(state, step.lines, value);
            let mount = mount::parse(text, &mut expand)?;
            if let (MountKind::Secret, Some(name)) = (mount.kind, &mount.env) {
                env.set(if name.is_empty() { &mount.id } else { name }, "****");
            }
            let agents =
                mounts.iter().filter(|m: &&ExecMount| matches!(m.source, MountSource::Ssh(_))).count();
            mounts.push(self.exec_mount(state, mount, index, agents)?);
        }
        let shown = format!("{}{summary}", self.shown_command(&step.source, &env));
        let name = self.step_name(state, counter, &format!("{mark}{}", upper_keyword(&shown)));
        history(state, format!("RUN {} # buildkit", history_words(state, &args)), false, self.epoch);
        let network = if run.network.is_empty() { self.options.network.clone() } else { run.network.clone() };
        let cwd = match state.config.config.working_dir.as_str() {
            "" => "/".to_owned(),
            dir => dir.to_owned(),
        };
        let (required, optional): (Vec<_>, Vec<_>) = run.devices.iter().partition(|device| device.required);
        let names = |devices: Vec<&Device>| devices.into_iter().map(|device| device.name.clone()).collect();
        let exec = Exec {
            base: Some(state.tree.clone()),
            args,
            env: state.env.lines(),
            proxy_env: args::proxies(self.options),
            cwd,
            user: state.config.config.user.clone(),
            mounts,
            network,
            insecure: run.security == "insecure",
            hosts: self.options.hosts.clone(),
            shm_size: self.options.shm_size,
            ulimits: self.options.ulimits.clone(),
            hostname: self.options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME").cloned().unwrap_or_default(),
            devices: names(required),
            optional_devices: names(optional),
            epoch: self.epoch,
            platform: foreign(&state.platform, &self.options.build_platform),
        };
        Ok(Vertex { op: Op::Exec(Box::new(exec)), name, lines: Some(step.lines), no_cache: false })
    }

    fn exec_mount(&mut self, state: &State, mount: Mount, index: usize, agents: usize) -> Result<ExecMount> {
        let target = match mount.target.as_str() {
            "" => match mount.kind {
                MountKind::Secret | MountKind::Ssh => default_target(&mount, agents),
                _ => absolute(&state.config.config.working_dir, ""),
            },
            target => absolute(&state.config.config.working_dir, target),
        };
        let env_only = mount.kind == MountKind::Secret && mount.env.is_some() && mount.target.is_empty();
        if target == "/" && !env_only {
            return Err(Fault::new(format!("invalid mount target {}", quoted(&target))));
        }
        let owner = |mode: u32| (mount.mode.unwrap_or(mode), mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let source = match mount.kind {
            MountKind::Tmpfs => MountSource::Tmpfs(mount.size),
            MountKind::Bind => MountSource::Bind {
                tree: self.mounted(&mount, state, index, &target)?,
                path: absolute("", &mount.source),
            },
            MountKind::Cache => MountSource::Cache {
                id: if mount.id.is_empty() { crate::ignore::clean(&target) } else { mount.id.clone() },
                sharing: mount.sharing,
                tree: match mount.from.as_str() {
                    "" => Tree::Scratch,
                    _ => self.mounted(&mount, state, index, &target)?,
                },
                path: absolute("", &mount.source),
                owner: owner(0o755),
            },
            MountKind::Secret => MountSource::Secret(SecretMount {
                id: secret_id(&mount),
                required: mount.required,
                env: mount.env.as_ref().map(
                    |name| {
                        if name.is_empty() { secret_id(&mount) } else { name.clone() }
                    },
                ),
                file: !env_only,
                owner: owner(0o400),
            }),
            MountKind::Ssh => MountSource::Ssh(SecretMount {
                id: if mount.id.is_empty() { "default".to_owned() } else { mount.id.clone() },
                required: mount.required,
                env: Some("SSH_AUTH_SOCK".to_owned()),
                file: true,
                owner: owner(0o600),
            }),
        };
        Ok(ExecMount { target, read_only: mount.read_only, source })
    }

    fn mounted(&mut self, mount: &Mount, state: &State, index: usize, target: &str) -> Result<Tree> {
        if let Some(other) = self.stage_named(&mount.from)
            && other >= index
            && !self.options.contexts.contains_key(&mount.from)
        {
            return Err(Fault::new(format!(
                "cannot mount from stage {} to {}, stage needs to be defined before current command",
                quoted(&mount.from),
                quoted(target)
            )));
        }
        self.source(&mount.from, &state.platform, index)
    }
}

/// The platform of a command, when this machine's own programs are for another one.
fn foreign(platform: &Platform, own: &Platform) -> String {
    let native = platform.os == own.os && platform.architecture == own.architecture
        || (own.architecture.as_str(), platform.architecture.as_str()) == ("amd64", "386");
    if native { String::new() } else { platform.to_string() }
}

fn secret_id(mount: &Mount) -> String {
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    match (mount.id.as_str(), mount.source.as_str()) {
        ("", "") => base(&mount.target),
        ("", source) => source.to_owned(),
        (id, _) => id.to_owned(),
    }
}

/// `agents` is how many agents the command has already.
fn default_target(mount: &Mount, agents: usize) -> String {
    match mount.kind {
        MountKind::Secret => {
            let id = secret_id(mount);
            format!("/run/secrets/{}", id.rsplit('/').next().unwrap_or(&id))
        }
        _ => format!("/run/buildkit/ssh_agent.{agents}"),
    }
}

/// The words of the command, with what a here-document says in place of its mark; and what the step's name gets.
fn command_words(run: &Run, mounts: &mut Vec<ExecMount>) -> Result<(Vec<String>, String)> {
    let command = &run.command;
    let Some(first) = command.heredocs.first() else { return Ok((command.words.clone(), String::new())) };
    let [line] = &command.words[..] else {
        return Err(Fault::new("parsing produced an invalid run command"));
    };
    if lines::heredoc_of(line)?.is_none() {
        // The shell knows here-documents itself.
        let mut text = line.clone();
        for heredoc in &command.heredocs {
            text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
        }
        return Ok((vec![text], String::new()));
    }
    let text = first.text();
    let mut shown = first.content.trim().lines();
    let summary = shown.next().unwrap_or("");
    let summary = format!(" ({summary}{})", if shown.next().is_some() { "..." } else { "" });
    if text.starts_with("#!") {
        mounts.push(ExecMount {
            target: PIPES.trim_end_matches('/').to_owned(),
            read_only: true,
            source: MountSource::Script { name: first.name.clone(), content: text },
        });
        return Ok((vec![format!("{PIPES}{}", first.name)], summary));
    }
    Ok((vec![text], summary))
}

/// The command as the history has it: with the arguments that it saw.
fn history_words(state: &State, args: &[String]) -> String {
    let mut seen: Vec<(&str, String)> = Vec::new();
    for (name, value) in &state.args {
        let value = state.env.get(name).map(str::to_owned).or_else(|| value.clone()).unwrap_or_default();
        let line = format!("{name}={value}");
        match seen.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = line,
            None => seen.push((name, line)),
        }
    }
    let mut words = Vec::new();
    if !seen.is_empty() {
        words.push(format!("|{}", seen.len()));
        words.extend(seen.into_iter().map(|(_, line)| line));
    }
    words.extend(args.iter().cloned());
    words.join(" ")
}
