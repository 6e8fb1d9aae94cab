//! What a Dockerfile offers, without building it: its targets, and the arguments, secrets and agents of one.

use std::collections::BTreeSet;

use super::{Options, global_env};
use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::instruction::ArgDef;
use crate::dockerfile::mount::{self, Mount, MountKind};
use crate::dockerfile::{Dockerfile, Env, Instruction, Lexer, Lines, quoted};

/// A stage that can be built.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name; empty when it has none.
    pub name: String,
    /// It is the one that is built when none is asked for.
    pub default: bool,
    /// What the comment before it says.
    pub description: String,
    /// Image or stage, not expanded.
    pub base: String,
    /// `--platform`, not expanded.
    pub platform: String,
    /// Where it begins.
    pub lines: Lines,
}

/// What a target can be given.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// The name of the target; empty when it has none.
    pub name: String,
    /// What the comment before it says.
    pub description: String,
    /// Arguments.
    pub args: Vec<OutlineArg>,
    /// Secrets.
    pub secrets: Vec<OutlineMount>,
    /// Agents.
    pub ssh: Vec<OutlineMount>,
}

/// An argument of a target.
#[derive(Clone, Debug)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What it is now.
    pub value: String,
    /// What the comment before it says.
    pub description: String,
    /// Where it is declared.
    pub lines: Lines,
}

/// A secret or an agent of a target.
#[derive(Clone, Debug)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// The build fails without it.
    pub required: bool,
    /// Where it is used.
    pub lines: Lines,
}

/// The stages that can be built: `--call=targets`.
#[must_use]
pub fn targets(file: &Dockerfile) -> Vec<Target> {
    let last = file.stages.len().saturating_sub(1);
    let all = file.stages.iter().enumerate().map(|(index, stage)| Target {
        name: stage.name.clone(),
        default: index == last,
        description: stage.description.clone(),
        base: stage.base.clone(),
        platform: stage.platform.clone(),
        lines: stage.lines,
    });
    all.collect()
}

/// What the target can be given: `--call=outline`.
///
/// # Errors
/// The target does not exist; an argument cannot be expanded.
pub fn outline(file: &Dockerfile, options: &Options) -> Result<Outline> {
    let lexer = Lexer::new(file.escape);
    let wanted = options.target.to_lowercase();
    let target = match wanted.as_str() {
        "" => file.stages.len() - 1,
        name => file.stages.iter().rposition(|stage| stage.name == name).ok_or_else(|| {
            Fault::new(format!("target stage {} could not be found", quoted(&options.target)))
        })?,
    };
    let global = global_env(file, options)?;
    let mut found = Outline {
        name: file.stages[target].name.clone(),
        description: file.stages[target].description.clone(),
        ..Outline::default()
    };
    let stages = reached(file, target, &global, &lexer)?;
    let used = used_global(file, &stages, &lexer, &global)?;
    for step in &file.meta_args {
        for arg in step.args.iter().filter(|arg| used.contains(&arg.name)) {
            found.arg(arg, global.get(&arg.name).unwrap_or_default(), step.lines);
        }
    }
    for index in stages {
        let mut env = Env::default();
        for step in &file.stages[index].steps {
            match &step.instruction {
                Instruction::Arg(defs) => {
                    for def in defs {
                        let given = options.build_args.get(&def.name).cloned();
                        let known = def.value.is_none() && given.is_none();
                        if let Some(value) = global.get(&def.name).filter(|_| known) {
                            env.set(&def.name, value);
                            continue;
                        }
                        let default = def.value.as_deref().map(|v| lexer.expand(v, &env)).transpose()?;
                        let value = given.or_else(|| default.map(|d| d.text)).unwrap_or_default();
                        env.set(&def.name, &value);
                        found.arg(def, &value, step.lines);
                    }
                }
                Instruction::Run(run) => {
                    for text in &run.mounts {
                        let mut expand = |value: &str| lexer.expand(value, &env).map(|e| e.text);
                        found.mount(&mount::parse(text, &mut expand)?, step.lines);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

impl Outline {
    fn arg(&mut self, def: &ArgDef, value: &str, lines: Lines) {
        self.args.retain(|arg| arg.name != def.name);
        let (name, value) = (def.name.clone(), value.to_owned());
        self.args.push(OutlineArg { name, value, description: def.description.clone(), lines });
        self.args.sort_by_key(|arg| arg.lines);
    }

    fn mount(&mut self, mount: &Mount, lines: Lines) {
        let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        let (list, name) = match mount.kind {
            MountKind::Ssh if mount.id.is_empty() => (&mut self.ssh, "default".to_owned()),
            MountKind::Ssh => (&mut self.ssh, mount.id.clone()),
            MountKind::Secret => {
                let id = [&mount.source, &mount.id].into_iter().find(|t| !t.is_empty()).cloned();
                (&mut self.secrets, id.unwrap_or_else(|| base(&mount.target)))
            }
            _ => return,
        };
        if !list.iter().any(|other| other.name == name) {
            list.push(OutlineMount { name, required: mount.required, lines });
        }
    }
}

/// The arguments before the first stage that the stages use, with those that their defaults are made of.
fn used_global(file: &Dockerfile, stages: &[usize], lexer: &Lexer, global: &Env) -> Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for stage in stages.iter().map(|index| &file.stages[*index]) {
        for text in [&stage.base, &stage.platform] {
            used.extend(lexer.expand(text, global).map_err(|e| e.at(stage.lines))?.matched);
        }
        for step in &stage.steps {
            if let Instruction::Arg(defs) = &step.instruction {
                used.extend(defs.iter().filter(|def| def.value.is_none()).map(|def| def.name.clone()));
            }
        }
    }
    for step in file.meta_args.iter().rev() {
        for arg in step.args.iter().rev().filter(|arg| used.contains(&arg.name)).collect::<Vec<_>>() {
            if let Some(text) = &arg.value {
                used.extend(lexer.expand(text, global).map_err(|e| e.at(step.lines))?.matched);
            }
        }
    }
    Ok(used)
}

/// The stages that `target` needs, in order.
fn reached(file: &Dockerfile, target: usize, global: &Env, lexer: &Lexer) -> Result<Vec<usize>> {
    let named = |name: &str, before: usize| -> Option<usize> {
        if let Ok(number) = name.parse::<usize>() {
            return (number < before).then_some(number);
        }
        let lower = name.to_lowercase();
        file.stages[..before].iter().rposition(|stage| !stage.name.is_empty() && stage.name == lower)
    };
    let mut needed = vec![false; file.stages.len()];
    needed[target] = true;
    for index in (0..=target).rev() {
        if !needed[index] {
            continue;
        }
        let stage = &file.stages[index];
        let mut names = vec![lexer.expand(&stage.base, global).map_err(|e| e.at(stage.lines))?.text];
        for step in &stage.steps {
            match &step.instruction {
                Instruction::Copy(copy) if !copy.from.is_empty() => names.push(copy.from.clone()),
                Instruction::Run(run) => {
                    for text in &run.mounts {
                        names.push(mount::from_of(text)?);
                    }
                }
                _ => {}
            }
        }
        for name in names {
            if let Some(other) = named(&name, index) {
                needed[other] = true;
            }
        }
    }
    Ok((0..file.stages.len()).filter(|index| needed[*index]).collect())
}
