//! Names on networks: what is written for the resolvers that monitors serve.

use std::net::IpAddr;

use fluyt_model::Result;
use fluyt_model::error::IoContext;
use fluyt_net::dns::NamesFile;

use crate::Engine;
use crate::records::NetworkRecord;

impl Engine {
    /// Writes the names of everybody who runs on `network`; resolvers notice the new file.
    ///
    /// Who has a lease but does not run is known as absent: his name must not be asked for upstream.
    pub(crate) fn publish_names(&self, network: &NetworkRecord) -> Result<()> {
        let path = self.paths.names(&network.id);
        let about = || path.display().to_string();
        let dir = path.parent().unwrap_or(&path);
        self.paths.make_run(dir)?;
        let _writing = fluyt_monitor::network::names_lock(&path)?;
        let leases = self.records().read(|tx| self.records().leases_of_network(tx, &network.id))?;
        let mut file = NamesFile {
            subnets: network.spec.subnets.iter().filter_map(|s| s.subnet.parse().ok()).collect(),
            ..NamesFile::default()
        };
        for (container, endpoint) in leases {
            let mut names = endpoint.dns_names.clone();
            if self.pod_is_up(&container) {
                names.extend(self.records().members(&container)?.into_iter().map(|member| member.name));
            } else if !self.is_running(&container) && !self.is_starting(&container) {
                file.absent.extend(names);
                continue;
            }
            let addresses =
                [endpoint.ipv4.map(|(a, _)| IpAddr::V4(a)), endpoint.ipv6.map(|(a, _)| IpAddr::V6(a))];
            file.endpoints.extend(addresses.into_iter().flatten().map(|a| (a, names.clone())));
        }
        let temporary = dir.join(format!("{}.{}", network.id, std::process::id()));
        std::fs::write(&temporary, file.text()).about(about)?;
        std::fs::rename(&temporary, &path).about(about)
    }
}
