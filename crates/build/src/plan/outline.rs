//! What a Dockerfile offers, without building it: its targets, and the arguments, secrets and agents of one.

use serde_json::{Value, json};

use super::{Options, global_env};
use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::mount::{self, MountKind};
use crate::dockerfile::{Dockerfile, Env, Instruction, Lexer};

/// The stages that can be built: `--call=targets`.
#[must_use]
pub fn targets(file: &Dockerfile) -> Value {
    let last = file.stages.len().saturating_sub(1);
    let all = file.stages.iter().enumerate().map(|(index, stage)| {
        json!({
            "name": stage.name, "default": index == last, "description": stage.description,
            "base": stage.base, "platform": stage.platform, "line": stage.lines.first,
        })
    });
    json!({"targets": all.collect::<Vec<_>>()})
}

/// What the target can be given: `--call=outline`.
///
/// # Errors
/// The target does not exist; an argument cannot be expanded.
pub fn outline(file: &Dockerfile, options: &Options) -> Result<Value> {
    let lexer = Lexer::new(file.escape);
    let wanted = options.target.to_lowercase();
    let target = match wanted.as_str() {
        "" => file.stages.len() - 1,
        name => file.stages.iter().rposition(|stage| stage.name == name).ok_or_else(|| {
            Fault::new(format!(
                "target stage {} could not be found",
                super::super::dockerfile::quoted(&options.target)
            ))
        })?,
    };
    let global = global_env(file, options)?;
    let mut args: Vec<Value> = Vec::new();
    let mut secrets: Vec<Value> = Vec::new();
    let mut agents: Vec<Value> = Vec::new();
    for step in &file.meta_args {
        for arg in &step.args {
            let value = global.get(&arg.name).unwrap_or_default();
            args.push(json!({"name": arg.name, "value": value, "description": arg.description, "line": step.lines.first}));
        }
    }
    for index in reached(file, target, &global, &lexer)? {
        let mut env = Env::default();
        for step in &file.stages[index].steps {
            match &step.instruction {
                Instruction::Arg(defs) => {
                    for def in
                        defs.iter().filter(|def| def.value.is_some() || global.get(&def.name).is_none())
                    {
                        let default = def.value.as_deref().map(|v| lexer.expand(v, &env)).transpose()?;
                        let given = options.build_args.get(&def.name).cloned();
                        let value = given.or_else(|| default.map(|d| d.text)).unwrap_or_default();
                        env.set(&def.name, &value);
                        args.push(json!({"name": def.name, "value": value, "description": def.description, "line": step.lines.first}));
                    }
                }
                Instruction::Run(run) => {
                    for text in &run.mounts {
                        let mount = mount::parse(text, &mut |value| Ok(value.to_owned()))?;
                        let list = match mount.kind {
                            MountKind::Secret => &mut secrets,
                            MountKind::Ssh => &mut agents,
                            _ => continue,
                        };
                        let id =
                            [&mount.id, &mount.source, &mount.target].into_iter().find(|t| !t.is_empty());
                        let id = id.map_or("default", String::as_str);
                        list.push(json!({"name": id, "required": mount.required, "line": step.lines.first}));
                    }
                }
                _ => {}
            }
        }
    }
    let stage = &file.stages[target];
    Ok(json!({
        "name": stage.name, "description": stage.description, "args": args, "secrets": secrets, "ssh": agents,
    }))
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
