//! Stages that need each other in a circle: there is no order in which they could be built.

use super::stage::Planner;
use crate::dockerfile::fault::{Fault, Result};
use crate::dockerfile::{Instruction, Lines, Stage, mount};

impl Planner<'_> {
    /// No stage may need itself, over however many others.
    pub(super) fn check_circles(&self) -> Result<()> {
        let needs: Vec<Vec<(usize, Lines)>> =
            self.file.stages.iter().map(|stage| self.copied_from(stage)).collect();
        let mut seen = vec![false; needs.len()];
        for start in 0..needs.len() {
            // The stages on the way, each with the number of its needs that were followed.
            let mut way: Vec<(usize, usize)> = Vec::new();
            if !std::mem::replace(&mut seen[start], true) {
                way.push((start, 0));
            }
            while let Some((stage, next)) = way.last_mut() {
                let Some((need, _)) = needs[*stage].get(*next).copied() else {
                    way.pop();
                    continue;
                };
                *next += 1;
                if way.iter().any(|(other, _)| *other == need) {
                    let message =
                        format!("circular dependency detected on stage: {}", self.stage_label(start));
                    // Where the circle is entered.
                    let first = needs[start].get(way[0].1 - 1).map(|(_, lines)| *lines);
                    return Err(Fault { lines: first, ..Fault::new(message) });
                }
                if !std::mem::replace(&mut seen[need], true) {
                    way.push((need, 0));
                }
            }
        }
        Ok(())
    }

    /// The stages that the instructions of one take files from, and where they say so.
    fn copied_from(&self, stage: &Stage) -> Vec<(usize, Lines)> {
        let named = |name: &str| self.stage_named(name).filter(|_| !self.options.contexts.contains_key(name));
        let mut found = Vec::new();
        for step in &stage.steps {
            match &step.instruction {
                Instruction::Copy(copy) => found.extend(named(&copy.from).map(|other| (other, step.lines))),
                Instruction::Run(run) => {
                    let names = run.mounts.iter().filter_map(|text| mount::from_of(text).ok());
                    found.extend(names.filter_map(|name| named(&name)).map(|other| (other, step.lines)));
                }
                _ => {}
            }
        }
        found
    }
}
