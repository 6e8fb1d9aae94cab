//! `.kube`: a service that plays a Kubernetes file.

use fluyt_model::{Error, Result};

use super::{Lowering, add_each, switch};

impl Lowering<'_> {
    pub(super) fn kube(&mut self) -> Result<()> {
        if self.words("Yaml")?.is_empty() {
            return Err(Error::invalid("no Yaml key specified"));
        }
        self.kill_mode()?;
        self.service.add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n");
        if !self.is_once()? {
            self.service.set("Service", "Type", "notify");
            self.service.set("Service", "NotifyAccess", "all");
        }
        self.default("SyslogIdentifier", "%N");
        let mut play = self.command();
        play.extend(["kube", "play", "--replace", "--service-container=true"].map(str::to_owned));
        self.keyed(&mut play)?;
        self.run("ExecStart", &play);
        // Also when the start failed, so that nothing stays behind.
        let mut down = self.command();
        down.extend(["kube", "down"].map(str::to_owned));
        down.extend(self.boolean("KubeDownForce").map(|force| switch("--force", force)));
        self.of_kube("Yaml", &mut down)?;
        self.run("ExecStopPost", &down);
        self.working_directory()
    }

    pub(super) fn of_kube(&mut self, key: &str, command: &mut Vec<String>) -> Result<()> {
        let words = self.words(key)?;
        match key {
            "AutoUpdate" => command.extend(words.iter().map(|word| match word.split_once('/') {
                Some((container, policy)) => {
                    format!("--annotation=io.containers.autoupdate/{container}={policy}")
                }
                None => format!("--annotation=io.containers.autoupdate={word}"),
            })),
            "ConfigMap" => add_each(command, "--configmap", words.iter().map(|word| self.absolute(word))),
            "Yaml" => command.extend(words.iter().map(|word| self.absolute(word))),
            _ => {}
        }
        Ok(())
    }
}
