//! Intel resource director technology: a directory in resctrl, where the host has it mounted.

use std::path::Path;

use fluyt_model::error::{Error, IoContext, Result};

use crate::spec::{IntelRdt, Spec};

const ROOT: &str = "/sys/fs/resctrl";
const RDTGROUP_SUPER_MAGIC: i64 = 0x0765_5821;

/// Puts a process into its class of service, making the class if it has a schema.
pub(crate) fn apply(rdt: &IntelRdt, id: &str, pid: i32) -> Result<()> {
    if !rustix::fs::statfs(ROOT).is_ok_and(|s| s.f_type == RDTGROUP_SUPER_MAGIC) {
        return Err(Error::unsupported("linux.intelRdt is set, but resctrl is not mounted on this host"));
    }
    let class = if rdt.clos_id.is_empty() { id } else { &rdt.clos_id };
    crate::validate::id(class)?;
    let dir = Path::new(ROOT).join(class);
    if let Err(e) = std::fs::create_dir(&dir)
        && e.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(Error::io(dir.display().to_string(), e));
    }
    for schema in
        [&rdt.l3_cache_schema, &rdt.mem_bw_schema].into_iter().chain(&rdt.schemata).filter(|s| !s.is_empty())
    {
        std::fs::write(dir.join("schemata"), format!("{schema}\n"))
            .about(|| format!("intelRdt schema {schema:?}"))?;
    }
    std::fs::write(dir.join("tasks"), pid.to_string()).about(|| dir.display().to_string())?;
    if rdt.enable_monitoring {
        let group = dir.join("mon_groups").join(id);
        if let Err(e) = std::fs::create_dir(&group)
            && e.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(Error::io(group.display().to_string(), e));
        }
        std::fs::write(group.join("tasks"), pid.to_string()).about(|| group.display().to_string())?;
    }
    Ok(())
}

/// Removes the monitoring group and the resctrl class that were made for this container alone, if one was. For whoever deletes the container.
pub fn remove(spec: &Spec, id: &str) {
    let Some(rdt) = &spec.linux().intel_rdt else { return };
    let class = Path::new(ROOT).join(if rdt.clos_id.is_empty() { id } else { &rdt.clos_id });
    if rdt.enable_monitoring {
        let _ = std::fs::remove_dir(class.join("mon_groups").join(id));
    }
    if rdt.clos_id.is_empty() {
        let _ = std::fs::remove_dir(class);
    }
}
