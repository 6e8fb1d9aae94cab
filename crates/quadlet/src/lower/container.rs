//! `.container`.

use fluyt_model::{Error, Result};

use super::{Lowering, add_each};
use crate::kind::{self, Kind};
use crate::words;

impl Lowering<'_> {
    pub(super) fn container(&mut self) -> Result<()> {
        match (self.text("Image"), self.text("Rootfs")) {
            (None, None) => {
                let error = Error::invalid("no Image or Rootfs key specified");
                return Err(match self.unit.has_section("Container") {
                    true => error,
                    false => error.with_hint("the unit has no section [Container]"),
                });
            }
            (Some(_), Some(_)) => {
                return Err(
                    self.wrong("Rootfs", "the Image And Rootfs keys conflict can not be specified together")
                );
            }
            _ => {}
        }
        let name = kind::container_name(self.unit);
        // Who updates images finds the unit to restart by it.
        self.service.add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n");
        self.kill_mode()?;
        let mut remove = self.command();
        remove.extend(["rm", "-v", "-f", "-i"].map(str::to_owned));
        remove.push(name.clone());
        self.run("ExecStop", &remove);
        // Where the main process was killed only this runs; that it fails is no matter.
        remove[0].insert(0, '-');
        self.run("ExecStopPost", &remove);
        self.reload(&name)?;
        let mut command = self.command();
        command.extend(["run", "--name", &name, "--replace", "--rm"].map(str::to_owned));
        self.service.add("Service", "Delegate", "yes");
        self.keyed(&mut command)?;
        self.default("SyslogIdentifier", "%N");
        self.run("ExecStart", &command);
        Ok(())
    }

    pub(super) fn of_container(&mut self, key: &str, command: &mut Vec<String>) -> Result<()> {
        match key {
            "CgroupsMode" => match self.text(key) {
                Some(mode) => add_each(command, "--cgroups", [mode]),
                None => command.push("--cgroups=split".to_owned()),
            },
            "Notify" => self.notify(command)?,
            // Podman's containers have places to write to unless they are told to have none.
            "ReadOnlyTmpfs" => match (self.boolean(key), self.boolean("ReadOnly")) {
                (Some(on), _) => command.push(super::switch("--read-only-tmpfs", on)),
                (None, Some(true)) => command.push("--read-only-tmpfs".to_owned()),
                (None, _) => {}
            },
            "AddDevice" => self.devices(command)?,
            "VolatileTmp" if self.boolean(key) == Some(true) && self.boolean("ReadOnly") != Some(true) => {
                add_each(command, "--tmpfs", ["/tmp:rw,size=512M,mode=1777"]);
            }
            "User" => self.user(command)?,
            "AutoUpdate" => {
                add_each(
                    command,
                    "--label",
                    self.text(key).map(|policy| format!("io.containers.autoupdate={policy}")),
                );
            }
            "ExposeHostPort" => {
                for port in self.values(key) {
                    let port = port.trim_end();
                    if !is_port_range(port) {
                        return Err(self.wrong(key, format!("invalid port format '{port}'")));
                    }
                    add_each(command, "--expose", [port]);
                }
            }
            "EnvironmentFile" => {
                let files = self.arguments(key);
                add_each(command, "--env-file", files.iter().map(|file| self.absolute(file)));
            }
            "Mount" => self.mounts(command)?,
            "Pod" => self.join_pod(command)?,
            "Image" => match (self.text(key), self.text("Rootfs")) {
                (Some(image), _) => {
                    let image = self.image_source(image, key)?;
                    command.push(image);
                }
                (None, rootfs) => add_each(command, "--rootfs", rootfs),
            },
            "Exec" => {
                let value = self.unit.raw("Container", key).unwrap_or_default();
                match words::arguments(value) {
                    Ok(words) => command.extend(words),
                    Err(why) => self.warn(key, &why),
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A service that is not meant to end says when it is up; its container runs on behind the client.
    fn notify(&mut self, command: &mut Vec<String>) -> Result<()> {
        if self.is_once()? {
            return Ok(());
        }
        let healthy = self.text("Notify").is_some_and(|value| value.eq_ignore_ascii_case("healthy"));
        let who = match (healthy, self.boolean("Notify")) {
            (true, _) => "healthy",
            (false, Some(true)) => "container",
            (false, _) => "conmon",
        };
        command.extend([format!("--sdnotify={who}"), "-d".to_owned()]);
        self.service.set("Service", "Type", "notify");
        self.service.set("Service", "NotifyAccess", "all");
        Ok(())
    }

    fn devices(&self, command: &mut Vec<String>) -> Result<()> {
        for device in self.words("AddDevice")? {
            let (device, optional) = match device.strip_prefix('-') {
                Some(device) => (device, true),
                None => (device.as_str(), false),
            };
            let path = device.split(':').next().unwrap_or(device);
            if !optional || self.options.machine.exists(path) {
                add_each(command, "--device", [device]);
            }
        }
        Ok(())
    }

    fn user(&self, command: &mut Vec<String>) -> Result<()> {
        let user = match (self.text("User"), self.text("Group")) {
            (Some(user), Some(group)) => format!("{user}:{group}"),
            (Some(user), None) => user.to_owned(),
            (None, Some(_)) => return Err(self.wrong("Group", "invalid Group set without User")),
            (None, None) => return Ok(()),
        };
        add_each(command, "--user", [user]);
        Ok(())
    }

    fn join_pod(&mut self, command: &mut Vec<String>) -> Result<()> {
        let Some(pod) = self.text("Pod") else { return Ok(()) };
        if Kind::of(pod) != Some(Kind::Pod) {
            return Err(self.wrong("Pod", format!("pod {pod} is not Quadlet based")));
        }
        let other = self
            .names
            .get(pod)
            .ok_or_else(|| self.wrong("Pod", format!("quadlet pod unit {pod} does not exist")))?;
        add_each(command, "--pod", other.resource.clone());
        self.service.add("Unit", "BindsTo", other.service.clone());
        self.service.add("Unit", "After", other.service.clone());
        Ok(())
    }

    fn reload(&mut self, name: &str) -> Result<()> {
        let signal = self.text("ReloadSignal");
        let value = self.unit.raw("Container", "ReloadCmd").unwrap_or_default();
        let words = match words::arguments(value) {
            Ok(words) => words,
            Err(why) => {
                self.warn("ReloadCmd", &why);
                Vec::new()
            }
        };
        let mut command = self.command();
        match (signal, words.is_empty()) {
            (None, true) => return Ok(()),
            (Some(_), false) => {
                let why = "ReloadCmd and ReloadSignal are mutually exclusive but both are set";
                return Err(self.wrong("ReloadSignal", why));
            }
            (Some(signal), true) => {
                command.extend(["kill", "--signal", signal, name].map(str::to_owned));
            }
            (None, false) => {
                command.extend(["exec".to_owned(), name.to_owned()]);
                command.extend(words);
            }
        }
        self.run("ExecReload", &command);
        Ok(())
    }
}

/// `80`, `80-90`, `80/tcp`; a specifier may stand for it.
fn is_port_range(text: &str) -> bool {
    let ports = text.strip_suffix("/udp").or_else(|| text.strip_suffix("/tcp")).unwrap_or(text);
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.contains('%') || ports.split_once('-').map_or_else(|| number(ports), |(a, b)| number(a) && number(b))
}
