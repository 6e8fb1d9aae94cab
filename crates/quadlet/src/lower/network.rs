//! `.network` and `.image`: services that make something once.

use fluyt_model::{Error, Result};

use super::{Lowering, add_each};

impl Lowering<'_> {
    pub(super) fn network(&mut self) -> Result<()> {
        let name = self.kind.resource(self.unit).unwrap_or_default();
        if self.boolean("NetworkDeleteOnStop") == Some(true) {
            let mut remove = self.command();
            remove.extend(["network", "rm", &name].map(str::to_owned));
            self.run("ExecStopPost", &remove);
        }
        let mut command = self.command();
        command.extend(["network", "create", "--ignore"].map(str::to_owned));
        self.keyed(&mut command)?;
        command.push(name);
        self.run("ExecStart", &command);
        self.once(true);
        Ok(())
    }

    /// Subnets, each with the gateway and the range that stand at its place.
    pub(super) fn subnets(&self, command: &mut Vec<String>) -> Result<()> {
        let (subnets, gateways, ranges) =
            (self.values("Subnet"), self.values("Gateway"), self.values("IPRange"));
        if subnets.is_empty() && !(gateways.is_empty() && ranges.is_empty()) {
            let key = if gateways.is_empty() { "IPRange" } else { "Gateway" };
            return Err(self.wrong(key, "cannot set gateway or range without subnet"));
        }
        if gateways.len() > subnets.len() {
            return Err(self.wrong("Gateway", "cannot set more gateways than subnets"));
        }
        if ranges.len() > subnets.len() {
            return Err(self.wrong("IPRange", "cannot set more ranges than subnets"));
        }
        for (index, subnet) in subnets.iter().enumerate() {
            add_each(command, "--subnet", [*subnet]);
            add_each(command, "--gateway", gateways.get(index).copied());
            add_each(command, "--ip-range", ranges.get(index).copied());
        }
        Ok(())
    }

    pub(super) fn image(&mut self) -> Result<()> {
        let mut command = self.command();
        command.extend(["image", "pull"].map(str::to_owned));
        self.keyed(&mut command)?;
        self.run("ExecStart", &command);
        self.once(true);
        Ok(())
    }

    /// The image that is pulled.
    pub(super) fn pulled(&self, command: &mut Vec<String>) -> Result<()> {
        let image = self.text("Image").ok_or_else(|| Error::invalid("no Image key specified"))?;
        command.push(image.to_owned());
        Ok(())
    }
}
