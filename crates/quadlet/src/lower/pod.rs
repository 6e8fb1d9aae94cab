//! `.pod`: a service that makes a pod, starts it and stays with its infra container.

use fluyt_model::Result;

use super::Lowering;

impl Lowering<'_> {
    pub(super) fn pod(&mut self) -> Result<()> {
        let name = self.kind.resource(self.unit).unwrap_or_default();
        let starts = self.names.get(&self.unit.name).map(|known| known.starts.as_slice()).unwrap_or_default();
        for service in starts {
            self.service.add("Unit", "Wants", service.clone());
            self.service.add("Unit", "Before", service.clone());
        }
        self.default("SyslogIdentifier", "%N");
        let time = format!("--time={}", self.text("StopTimeout").unwrap_or("10"));
        let mut command = |words: &[&str]| {
            let mut command = self.command();
            command.push("pod".to_owned());
            command.extend(words.iter().map(|word| (*word).to_owned()));
            command
        };
        let start = command(&["start", &name]);
        let stop = command(&["stop", "--ignore", &time, &name]);
        let remove = command(&["rm", "--ignore", "--force", &name]);
        let mut create = command(&["create", "--infra-conmon-pidfile=%t/%N.pid", "--replace"]);
        self.keyed(&mut create)?;
        self.run("ExecStart", &start);
        self.run("ExecStop", &stop);
        self.run("ExecStopPost", &remove);
        self.run("ExecStartPre", &create);
        self.service.add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n");
        self.service.set("Service", "Type", "forking");
        self.service.set("Service", "PIDFile", "%t/%N.pid");
        self.default("Restart", "on-failure");
        Ok(())
    }
}
