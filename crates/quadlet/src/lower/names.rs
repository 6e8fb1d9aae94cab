//! What units are called by one another: their services, what those make, and which containers a pod starts.

use std::collections::BTreeMap;

use fluyt_model::{Error, Result};

use crate::kind::{self, Kind};
use crate::unit::Unit;
use crate::words;

/// What others need to know of a unit.
#[derive(Debug)]
pub struct Name {
    /// Its service's file name.
    pub service: String,
    /// The name of what it makes, if it is known here.
    pub resource: Option<String>,
    /// Of a pod: the services of its containers.
    pub starts: Vec<String>,
}

/// By file name.
#[derive(Debug)]
pub struct Names(BTreeMap<String, Name>);

impl Names {
    pub fn of(units: &[Unit]) -> Self {
        let known = units.iter().filter_map(|unit| Some((unit, Kind::of(&unit.name)?)));
        let mut names: BTreeMap<_, _> = known
            .map(|(unit, kind)| {
                let service = format!("{}.service", kind.service(unit));
                (unit.name.clone(), Name { service, resource: kind.resource(unit), starts: Vec::new() })
            })
            .collect();
        for unit in units.iter().filter(|unit| Kind::of(&unit.name) == Some(Kind::Container)) {
            // Nobody can start a template without an instance.
            let template = kind::template(&unit.name).is_some_and(|(_, instance)| instance.is_empty());
            let with_pod = unit.boolean("Container", "StartWithPod").unwrap_or(true) && !template;
            if let Some(pod) = unit.text("Container", "Pod").filter(|_| with_pod)
                && let Some(service) = names.get(&unit.name).map(|name| name.service.clone())
                && let Some(pod) = names.get_mut(pod)
            {
                pod.starts.push(service);
            }
        }
        Self(names)
    }

    pub fn get(&self, unit: &str) -> Option<&Name> {
        self.0.get(unit)
    }

    /// Puts services in the place of units that these keys of `[Unit]` name.
    ///
    /// # Errors
    /// `NotFound`: a unit that is not there.
    pub fn translate(&self, service: &mut Unit, keys: &[&str]) -> Result<()> {
        for key in keys {
            let words: Vec<String> = service
                .all("Unit", key)
                .iter()
                .flat_map(|value| words::list(value).unwrap_or_default())
                .collect();
            if words.iter().all(|word| Kind::of(word).is_none()) {
                continue;
            }
            let service_of = |word: &String| match Kind::of(word) {
                None => Ok(word.clone()),
                Some(_) => self.get(word).map(|name| name.service.clone()).ok_or_else(|| {
                    let entry =
                        service.entries("Unit").find(|e| e.key == *key && e.value.contains(word.as_str()));
                    let place = entry.map(|e| format!(" ({}, line {})", e.file, e.line)).unwrap_or_default();
                    Error::not_found(format!("unable to translate dependency for {word}{place}"))
                }),
            };
            let translated = words.iter().map(service_of).collect::<Result<Vec<_>>>()?;
            service.unset("Unit", key);
            service.add("Unit", key, translated.join(" "));
        }
        Ok(())
    }
}
