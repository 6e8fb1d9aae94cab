//! `.build`.

use fluyt_model::{Error, Result};

use super::{Lowering, starts_with_specifier};
use crate::kind::Kind;

impl Lowering<'_> {
    pub(super) fn build(&mut self) -> Result<()> {
        if self.kind.resource(self.unit).is_none() {
            return Err(Error::invalid("no ImageTag key specified"));
        }
        let mut command = self.command();
        command.push("build".to_owned());
        self.keyed(&mut command)?;
        let context = self.context_named()?;
        let file = self.text("File").unwrap_or_default();
        let directory = self.service.text("Service", "WorkingDirectory").map(str::to_owned);
        match (context, directory) {
            (Some(context), _) => command.push(context),
            (None, None) if file.is_empty() => {
                return Err(Error::invalid("neither SetWorkingDirectory, nor File key specified"));
            }
            (None, _) if starts_with_specifier(file) || file.starts_with('/') || is_url(file) => {}
            (None, Some(directory)) => command.push(directory),
            (None, None) => {
                let why = "relative path in File key requires SetWorkingDirectory key to be set";
                return Err(self.wrong("File", why));
            }
        }
        self.run("ExecStart", &command);
        self.once(false);
        Ok(())
    }

    /// `SetWorkingDirectory=` says where the service works; it stands at the end of the command line only.
    pub(super) fn context(&mut self, _command: &mut Vec<String>) -> Result<()> {
        self.working_directory()
    }

    /// What `SetWorkingDirectory=` names beside this unit's and its file's directory.
    fn context_named(&self) -> Result<Option<String>> {
        let named = self.text("SetWorkingDirectory").filter(|value| !is_keyword(value));
        // A working directory of the unit's own goes before a relative context.
        let own = self.unit.text("Service", "WorkingDirectory").is_some();
        Ok(named.filter(|value| !own || value.starts_with('/') || is_url(value)).map(str::to_owned))
    }

    /// The service's working directory, unless the unit says one.
    pub(super) fn working_directory(&mut self) -> Result<()> {
        const KEY: &str = "SetWorkingDirectory";
        let Some(value) = self.text(KEY) else { return Ok(()) };
        let only = |kind: Kind| {
            let why = format!("SetWorkingDirectory={value} is only supported in .{} files", kind.extension());
            if self.kind == kind { Ok(()) } else { Err(self.wrong(KEY, why)) }
        };
        let relative_to = match value.to_ascii_lowercase().as_str() {
            "yaml" => {
                only(Kind::Kube)?;
                match self.words("Yaml")?.as_slice() {
                    [one] => one.clone(),
                    [] => return Err(Error::invalid("no Yaml key specified")),
                    _ => {
                        let why =
                            "SetWorkingDirectory=yaml is only supported when a single Yaml key is provided";
                        return Err(self.wrong(KEY, why));
                    }
                }
            }
            "file" => {
                only(Kind::Build)?;
                self.text("File").ok_or_else(|| self.wrong(KEY, "no File key specified"))?.to_owned()
            }
            "unit" => self.unit.path.clone(),
            _ if self.kind != Kind::Build => {
                return Err(self.wrong(KEY, format!("unsupported value for WorkingDirectory: {value}")));
            }
            _ if value.starts_with('/') || is_url(value) => return Ok(()),
            _ => self.unit.path.clone(),
        };
        if self.unit.text("Service", "WorkingDirectory").is_none() {
            let path = self.absolute(&relative_to);
            let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
            let directory = if directory.is_empty() { "/" } else { directory };
            self.service.add("Service", "WorkingDirectory", directory);
        }
        Ok(())
    }
}

fn is_keyword(value: &str) -> bool {
    ["yaml", "file", "unit"].iter().any(|keyword| value.eq_ignore_ascii_case(keyword))
}

fn is_url(text: &str) -> bool {
    ["http://", "https://", "git://", "github.com/"].iter().any(|start| text.starts_with(start))
}
