//! User namespaces: `UserNS=` and its kin, and the older `Remap…` keys.

use fluyt_model::Result;

use super::{Lowering, add_each};
use crate::kind::Kind;

impl Lowering<'_> {
    pub(super) fn user_namespace(&self, command: &mut Vec<String>) -> Result<()> {
        let before = command.len();
        add_each(command, "--userns", self.text("UserNS"));
        if self.kind != Kind::Kube {
            add_each(command, "--uidmap", self.words("UIDMap")?);
            add_each(command, "--gidmap", self.words("GIDMap")?);
            add_each(command, "--subuidname", self.text("SubUIDMap"));
            add_each(command, "--subgidname", self.text("SubGIDMap"));
        }
        if command.len() == before {
            return self.remapped(command);
        }
        let old = ["RemapUid", "RemapGid", "RemapUsers"];
        match old.into_iter().find(|key| self.unit.has(self.section(), key)) {
            Some(key) => {
                Err(self.wrong(key, "deprecated Remap keys are set along with explicit mapping keys"))
            }
            None => Ok(()),
        }
    }

    fn remapped(&self, command: &mut Vec<String>) -> Result<()> {
        let (uids, gids) = (self.words("RemapUid")?, self.words("RemapGid")?);
        match self.text("RemapUsers").unwrap_or_default() {
            "" if !uids.is_empty() => Err(self.wrong("RemapUid", "UidMap set without RemapUsers")),
            "" if !gids.is_empty() => Err(self.wrong("RemapGid", "GidMap set without RemapUsers")),
            "" => Ok(()),
            "manual" if self.kind == Kind::Kube => {
                Err(self.wrong("RemapUsers", "RemapUsers=manual is not supported"))
            }
            "manual" => {
                add_each(command, "--uidmap", uids);
                add_each(command, "--gidmap", gids);
                Ok(())
            }
            "auto" => {
                let mut options: Vec<String> = uids.iter().map(|map| format!("uidmapping={map}")).collect();
                options.extend(gids.iter().map(|map| format!("gidmapping={map}")));
                options.extend(self.text("RemapUidSize").map(|size| format!("size={size}")));
                add_each(command, "--userns", [with_options("auto", &options)]);
                Ok(())
            }
            "keep-id" => {
                let mut options = Vec::new();
                for (what, key, ids) in [("uid", "RemapUid", uids), ("gid", "RemapGid", gids)] {
                    if ids.len() > 1 {
                        let upper = what.to_ascii_uppercase();
                        let why =
                            format!("RemapUsers=keep-id supports only a single value for {upper} mapping");
                        return Err(self.wrong(key, why));
                    }
                    options.extend(ids.iter().map(|id| format!("{what}={id}")));
                }
                add_each(command, "--userns", [with_options("keep-id", &options)]);
                Ok(())
            }
            other => Err(self.wrong("RemapUsers", format!("unsupported RemapUsers option '{other}'"))),
        }
    }
}

fn with_options(mode: &str, options: &[String]) -> String {
    if options.is_empty() { mode.to_owned() } else { format!("{mode}:{}", options.join(",")) }
}
