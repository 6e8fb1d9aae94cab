//! Under which names the members of a pod are found: in the file of hosts that they share, and on networks.

use std::path::Path;

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_monitor::state::Subject;

use super::PodRecord;
use crate::Engine;
use crate::network::DEFAULT_NETWORK;

/// The hosts file without the members.
const BASE: &str = "hosts.base";

/// Keeps the hosts file of a sandbox that was just written, so that lines of members can be added.
pub(super) fn keep_base(dir: &Path) -> Result<()> {
    let hosts = dir.join("hosts");
    match std::fs::copy(&hosts, dir.join(BASE)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop).about(|| hosts.display().to_string()),
    }
}

impl Engine {
    /// Tells all members of a pod, and others on its networks, who its members are.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn introduce_members(&self, pod: &PodRecord) -> Result<()> {
        let dir = self.paths.pod(&pod.id);
        let Ok(mut text) = std::fs::read_to_string(dir.join(BASE)) else { return Ok(()) };
        let members = self.records().members(&pod.id)?;
        for member in
            members.iter().filter(|m| m.spec.namespaces.network == fluyt_model::sandbox::Namespace::Pod)
        {
            text.push_str(&format!("127.0.0.1\t{}\n", member.name));
        }
        let hosts = dir.join("hosts");
        if std::fs::read_to_string(&hosts).is_ok_and(|old| old == text) {
            return Ok(());
        }
        // In place: members have this very inode mounted.
        std::fs::write(&hosts, text).about(|| hosts.display().to_string())?;
        self.tell_networks(pod)
    }

    /// Writes the names of the pod's networks anew.
    pub(super) fn tell_networks(&self, pod: &PodRecord) -> Result<()> {
        if !pod.owns_network() {
            return Ok(());
        }
        for attachment in pod.spec.sandbox.networks.iter().filter(|a| a.network != DEFAULT_NETWORK) {
            if let Ok(network) = self.records().read(|tx| self.records().network(tx, &attachment.network)) {
                self.publish_names(&network)?;
            }
        }
        Ok(())
    }

    /// Tells of something that happened to a pod.
    pub(super) fn emit_pod(&self, action: &str, pod: &PodRecord) {
        let mut attributes = pod.spec.sandbox.labels.clone();
        attributes.insert("name".to_owned(), pod.name.clone());
        let subject = Subject { kind: "pod".to_owned(), id: pod.id.clone(), attributes };
        // An event that cannot be written is lost; what it tells of has happened all the same.
        let _ = fluyt_monitor::state::emit(&self.paths.events(), &[(action, &subject)]);
    }
}
