//! Which tests run on the cgroup v2 machine too: those whose outcome depends on the kernel or on the cgroup version.
//!
//! That machine is emulated where the processor's virtualisation cannot be had, and an order of magnitude slower then. What
//! depends on the program alone (parsing, messages, other archives, tokens) would only be waited for a second time. Not taken there
//! either: what waits for time-outs (a registry that hangs), what copies much (200 MB, tokens that run out on a slow wire),
//! and servers from Debian packages, whose image takes longer to unpack by emulation than all of the tests, and for which
//! debootstrap has no network there.

/// Crates with such tests; only their test programs are taken to the machine.
pub const CRATES: [&str; 6] = ["sys", "runtime", "net", "monitor", "engine", "fluyt"];

/// Beginnings of `binary::test`, each with what it has to do with the kernel.
const CHOSEN: [(&str, &str); 23] = [
    ("sys::", "system calls"),
    ("runtime::", "cgroup places, seccomp programs, namespaces"),
    ("net::", "links, nftables, sockets"),
    ("monitor::", "processes, terminals, signals"),
    ("engine::", "the paths and specifications that the kernel is asked for"),
    ("fluyt::runtime::", "the OCI runtime: everything that it asks of the kernel, and under other engines"),
    (
        "fluyt::e2e::limits::",
        "memory, processor and process limits, out-of-memory kills, the cgroup namespace",
    ),
    ("fluyt::e2e::lifecycle::", "kill, pause, update, statistics, restarts"),
    ("fluyt::e2e::exec::", "processes born in a cgroup, terminals"),
    ("fluyt::e2e::run::", "basic containers, devices, the overlay of kernels before 6.5"),
    ("fluyt::e2e::logs::", "pipes and notification of growing files"),
    ("fluyt::e2e::networks::", "bridges, published ports, names"),
    ("fluyt::e2e::volumes::", "bind mounts and tmpfs"),
    ("fluyt::e2e::security::", "capabilities, seccomp, devices, read-only paths"),
    ("fluyt::e2e::errors::", "full disks, closed outputs, roots that cannot be used"),
    ("fluyt::e2e::images::", "layers with whiteouts on the overlay of an older kernel"),
    ("fluyt::e2e::registry::what", "a round trip by a real registry"),
    ("fluyt::e2e::loggers::syslog_loses", "queues of sockets"),
    ("fluyt::e2e::loggers::journald", "a service in a mount namespace of its own"),
    ("fluyt::e2e::files::", "copies to and from an overlay that is not mounted"),
    ("fluyt::e2e::crash::a_killed_monitor", "cgroups outlive their owner and are cleaned"),
    ("fluyt::e2e::crash::a_container_goes_on", "a container without its client"),
    ("fluyt::e2e::crash::commands_at_once", "cgroups and links made side by side"),
];

/// Whether the test `binary::test` is for the machine.
pub fn is_chosen(title: &str) -> bool {
    CHOSEN.iter().any(|(beginning, _)| title.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_for_the_machine_and_servers_are_not() {
        assert!(is_chosen("fluyt::e2e::limits::memory") && is_chosen("net::bridge::a_bridge"));
        assert!(!is_chosen("fluyt::e2e::servers::nginx") && !is_chosen("fluyt::flags::tests::one"));
        assert!(CHOSEN.iter().all(|(beginning, _)| CRATES.iter().any(|c| beginning.starts_with(c))));
    }
}
