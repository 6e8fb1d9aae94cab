//! `Volume=` and `Mount=`: where files come from, and what has to be there before.

use fluyt_model::Result;

use super::{Lowering, add_each};
use crate::kind::Kind;
use crate::words;

impl Lowering<'_> {
    pub(super) fn volumes(&mut self, command: &mut Vec<String>) -> Result<()> {
        for volume in self.values("Volume") {
            let value = match volume.split_once(':') {
                Some((source, rest)) if !source.is_empty() => {
                    format!("{}:{rest}", self.source(source, "Volume")?)
                }
                Some((_, rest)) => rest.to_owned(),
                None => volume.to_owned(),
            };
            add_each(command, "-v", [value]);
        }
        Ok(())
    }

    pub(super) fn mounts(&mut self, command: &mut Vec<String>) -> Result<()> {
        for mount in self.arguments("Mount") {
            let value = self.mount(&mount)?;
            add_each(command, "--mount", [value]);
        }
        Ok(())
    }

    /// A mount with its source found; the type comes first.
    fn mount(&mut self, text: &str) -> Result<String> {
        let mut fields = words::fields(text).map_err(|why| self.wrong("Mount", why))?;
        let kind = fields.iter().position(|field| field.starts_with("type="));
        let kind = kind.map_or_else(|| "type=volume".to_owned(), |at| fields.remove(at));
        let named = &kind["type=".len()..];
        if !matches!(named, "volume" | "bind" | "glob" | "image" | "artifact") {
            return Ok(text.to_owned());
        }
        let source = fields.iter().rposition(|field| {
            let key = field.split_once('=').map_or(field.as_str(), |(key, _)| key);
            matches!(key, "source" | "src")
        });
        match source.map(|at| (at, fields[at].split_once('=').map(|(_, value)| value.to_owned()))) {
            Some((_, None)) => return Err(self.wrong("Mount", "source parameter does not include a value")),
            Some((at, Some(value))) if !value.is_empty() => {
                let found = self.source(&value, "Mount")?;
                fields[at] = format!("source={found}");
            }
            _ if named == "volume" => {}
            _ => {
                let why = format!("source parameter is required for mount type {named}");
                return Err(self.wrong("Mount", why));
            }
        }
        fields.insert(0, kind);
        Ok(words::join_fields(&fields))
    }

    /// What a source is: a path of the machine, what another unit makes, or itself.
    fn source(&mut self, source: &str, key: &str) -> Result<String> {
        let source = if source.starts_with('.') { self.absolute(source) } else { source.to_owned() };
        if source.starts_with('/') {
            self.service.add("Unit", "RequiresMountsFor", words::quoted_path(&source));
            return Ok(source);
        }
        let made = match Kind::of(&source) {
            Some(Kind::Volume | Kind::Artifact) => true,
            Some(Kind::Image | Kind::Build) => key == "Mount",
            _ => false,
        };
        if !made {
            return Ok(source);
        }
        let other = self
            .names
            .get(&source)
            .ok_or_else(|| self.wrong(key, format!("requested Quadlet source {source} was not found")))?;
        let resource = other
            .resource
            .clone()
            .ok_or_else(|| self.wrong(key, format!("cannot get the resource name of {source}")))?;
        self.require(&other.service);
        Ok(resource)
    }
}
