//! `.volume`.

use fluyt_model::Result;

use super::{Lowering, add_each};
use crate::words;

impl Lowering<'_> {
    pub(super) fn volume(&mut self) -> Result<()> {
        let mut command = self.command();
        command.extend(["volume", "create", "--ignore"].map(str::to_owned));
        self.keyed(&mut command)?;
        command.push(self.kind.resource(self.unit).unwrap_or_default());
        self.run("ExecStart", &command);
        self.once(true);
        Ok(())
    }

    pub(super) fn of_volume(&mut self, key: &str, command: &mut Vec<String>) -> Result<()> {
        if self.text("Driver") == Some("image") {
            if key == "Options" {
                let image = self.text("Image").ok_or_else(|| {
                    self.wrong("Driver", "the key Image is mandatory when using the image driver")
                })?;
                let image = self.image_source(image, "Image")?;
                add_each(command, "--opt", [format!("image={image}")]);
            }
            return Ok(());
        }
        match key {
            "Copy" => {
                let option = self.boolean(key).map(|copy| if copy { "copy" } else { "nocopy" });
                add_each(command, "--opt", option);
            }
            "Type" => {
                let Some(kind) = self.text(key) else { return Ok(()) };
                let Some(device) = self.text("Device") else {
                    return Err(self.wrong(key, "key Type can't be used without Device"));
                };
                add_each(command, "--opt", [format!("type={kind}")]);
                if kind == "bind" {
                    self.service.add("Unit", "RequiresMountsFor", words::quoted_path(device));
                }
            }
            "Options" => {
                let mut options = Vec::new();
                for (key, name) in [("User", "uid"), ("Group", "gid")] {
                    options.extend(self.number(key)?.map(|id| format!("{name}={id}")));
                }
                options.extend(self.text(key).map(str::to_owned));
                if !options.is_empty() {
                    add_each(command, "--opt", [format!("o={}", options.join(","))]);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A user or group id. Of names only `root` is known: a generator runs before anybody can be asked for others.
    fn number(&self, key: &str) -> Result<Option<u32>> {
        match self.text(key) {
            None => Ok(None),
            Some("root") => Ok(Some(0)),
            Some(text) => match text.parse() {
                Ok(id) => Ok(Some(id)),
                Err(_) => Err(self.wrong(key, format!("{key}={text}: not a number"))),
            },
        }
    }
}
