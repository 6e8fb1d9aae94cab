//! The flags of `run` and `create`.

use crate::cli::flags::{Flag, NONE, int, list, many, one, switch, text, values};

use super::{devices, mounts, network, ports};

/// Flags that only `run` has.
pub const RUN: &[Flag] = &[
    switch('d', "detach", "Run container in background and print container ID"),
    switch(NONE, "sig-proxy", "Proxy received signals to the process").default("true"),
    text(NONE, "detach-keys", "Override the key sequence for detaching a container"),
];

/// What `run` and `create` share beside the container's own definition.
pub const CREATE: &[Flag] = &[
    text(NONE, "name", "Assign a name to the container"),
    text(NONE, "pull", "Pull image before running (\"always\", \"missing\", \"never\")").default("missing"),
    switch('q', "quiet", "Suppress the pull output"),
    super::super::cmd::trust::SIGNATURE_POLICY,
    text(NONE, "platform", "Set platform if server is multi-platform capable"),
    text(NONE, "cidfile", "Write the container ID to the file"),
    text(NONE, "pod", "Run container in an existing pod, or in a new one (new:NAME)"),
    text(NONE, "pod-id-file", "Read the ID of the pod from the file"),
    list(NONE, "requires", "Containers that have to run before this one is started"),
    switch(NONE, "disable-content-trust", "Skip image verification")
        .default("true")
        .deprecated("support for docker content trust was removed"),
    switch(NONE, "use-api-socket", "Bind mount the API socket and required auth").hidden(),
];

/// The container's process.
pub const PROCESS: &[Flag] = &[
    many('a', "attach", "list", values::stream, "Attach to STDIN, STDOUT or STDERR"),
    many('e', "env", "list", values::env, "Set environment variables"),
    list(NONE, "env-file", "Read in a file of environment variables"),
    text(NONE, "entrypoint", "Overwrite the default ENTRYPOINT of the image"),
    list(NONE, "group-add", "Add additional groups to join"),
    text('h', "hostname", "Container host name"),
    text(NONE, "domainname", "Container NIS domain name"),
    switch('i', "interactive", "Keep STDIN open even if not attached"),
    many('l', "label", "list", values::label, "Set meta data on a container"),
    list(NONE, "label-file", "Read in a line delimited file of labels"),
    text(NONE, "restart", "Restart policy to apply when a container exits").default("no"),
    switch(
        NONE,
        "rm",
        "Automatically remove the container and its associated anonymous volumes when it exits",
    ),
    text(NONE, "stop-signal", "Signal to stop the container"),
    int(NONE, "stop-timeout", "Timeout (in seconds) to stop a container"),
    many(NONE, "sysctl", "map", values::sysctl, "Sysctl options"),
    switch('t', "tty", "Allocate a pseudo-TTY"),
    many(NONE, "ulimit", "ulimit", devices::check_ulimit, "Ulimit options"),
    text('u', "user", "Username or UID (format: <name|uid>[:<group|gid>])"),
    text('w', "workdir", "Working directory inside the container"),
    switch(NONE, "init", "Run an init inside the container that forwards signals and reaps processes"),
    many(
        NONE,
        "annotation",
        "map",
        values::any,
        "Add an annotation to the container (passed through to the OCI runtime)",
    ),
    text(NONE, "runtime", "Runtime to use for this container"),
    text(NONE, "isolation", "Container isolation technology"),
];

/// What it may do.
pub const SECURITY: &[Flag] = &[
    list(NONE, "cap-add", "Add Linux capabilities"),
    list(NONE, "cap-drop", "Drop Linux capabilities"),
    switch(NONE, "privileged", "Give extended privileges to this container"),
    list(NONE, "security-opt", "Security Options"),
    switch(NONE, "read-only", "Mount the container's root filesystem as read only"),
    text(
        NONE,
        "cgroupns",
        "Cgroup namespace to use (host|private)\n'host':    Run the container in the host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the default (private)",
    ),
    text(NONE, "cgroup-parent", "Optional parent cgroup for the container"),
    text(NONE, "ipc", "IPC mode to use"),
    text(NONE, "pid", "PID namespace to use"),
    text(NONE, "userns", "User namespace to use (host|auto[:size=N]|private|container:<name|id>|ns:<path>)"),
    list(NONE, "uidmap", "Map user IDs of a private user namespace (CONTAINERID:HOSTID:COUNT)"),
    list(NONE, "gidmap", "Map group IDs of a private user namespace (CONTAINERID:HOSTID:COUNT)"),
    text(NONE, "uts", "UTS namespace to use"),
    list(NONE, "device", "Add a host device to the container"),
    many(
        NONE,
        "device-cgroup-rule",
        "list",
        values::device_rule,
        "Add a rule to the cgroup allowed devices list",
    ),
    many(
        NONE,
        "gpus",
        "gpu-request",
        devices::check_gpus,
        "GPU devices to add to the container ('all' to pass all GPUs)",
    ),
];

/// Its networks.
pub const NETWORK: &[Flag] = &[
    many(NONE, "add-host", "list", values::extra_host, "Add a custom host-to-IP mapping (host:ip)"),
    many(NONE, "dns", "list", values::dns_ip, "Set custom DNS servers"),
    list(NONE, "dns-option", "Set DNS options"),
    list(NONE, "dns-opt", "Set DNS options").alias_of("dns-option"),
    many(NONE, "dns-search", "list", values::dns_search, "Set custom DNS search domains"),
    many(NONE, "expose", "list", ports::check_expose, "Expose a port or a range of ports"),
    one(NONE, "ip", "string", values::ip, "IPv4 address (e.g., 172.30.100.104)"),
    one(NONE, "ip6", "string", values::ip, "IPv6 address (e.g., 2001:db8::33)"),
    many(NONE, "link", "list", values::link, "Add link to another container"),
    list(NONE, "link-local-ip", "Container IPv4/IPv6 link-local addresses"),
    text(NONE, "mac-address", "Container MAC address (e.g., 92:d0:c6:0a:29:33)"),
    list('p', "publish", "Publish a container's port(s) to the host"),
    switch('P', "publish-all", "Publish all exposed ports to random ports"),
    many(NONE, "network", "network", network::check, "Connect a container to a network"),
    many(NONE, "net", "network", network::check, "Connect a container to a network").alias_of("network"),
    list(NONE, "network-alias", "Add network-scoped alias for the container"),
    list(NONE, "net-alias", "Add network-scoped alias for the container").alias_of("network-alias"),
];

/// Its files and its log.
pub const STORAGE: &[Flag] = &[
    text(NONE, "log-driver", "Logging driver for the container"),
    list(NONE, "log-opt", "Log driver options"),
    many(NONE, "mount", "mount", mounts::check, "Attach a filesystem mount to the container"),
    one(NONE, "shm-size", "bytes", values::bytes, "Size of /dev/shm"),
    list(NONE, "storage-opt", "Storage driver options for the container"),
    list(NONE, "tmpfs", "Mount a tmpfs directory"),
    list('v', "volume", "Bind mount a volume"),
    text(NONE, "volume-driver", "Optional volume driver for the container"),
    list(NONE, "volumes-from", "Mount volumes from the specified container(s)"),
];

/// Its health.
pub const HEALTH: &[Flag] = &[
    text(NONE, "health-cmd", "Command to run to check health"),
    one(
        NONE,
        "health-interval",
        "duration",
        values::duration,
        "Time between running the check (ms|s|m|h) (default 0s)",
    ),
    int(NONE, "health-retries", "Consecutive failures needed to report unhealthy"),
    one(
        NONE,
        "health-start-interval",
        "duration",
        values::duration,
        "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    ),
    one(
        NONE,
        "health-start-period",
        "duration",
        values::duration,
        "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    ),
    one(
        NONE,
        "health-timeout",
        "duration",
        values::duration,
        "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
    ),
    switch(NONE, "no-healthcheck", "Disable any container-specified HEALTHCHECK"),
];

/// Limits that `update` can change too.
pub const LIMITS: &[Flag] = &[
    one(
        NONE,
        "blkio-weight",
        "uint16",
        values::uint16,
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    int(NONE, "cpu-period", "Limit CPU CFS (Completely Fair Scheduler) period"),
    int(NONE, "cpu-quota", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    int(NONE, "cpu-rt-period", "Limit CPU real-time period in microseconds"),
    int(NONE, "cpu-rt-runtime", "Limit CPU real-time runtime in microseconds"),
    int('c', "cpu-shares", "CPU shares (relative weight)"),
    one(NONE, "cpus", "decimal", values::cpus, "Number of CPUs"),
    text(NONE, "cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    text(NONE, "cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    one('m', "memory", "bytes", values::bytes, "Memory limit"),
    one(NONE, "memory-reservation", "bytes", values::bytes, "Memory soft limit"),
    one(
        NONE,
        "memory-swap",
        "bytes",
        values::swap_bytes,
        "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    ),
    int(NONE, "pids-limit", "Tune container pids limit (set -1 for unlimited)"),
    one(NONE, "kernel-memory", "bytes", values::bytes, "Kernel memory limit")
        .deprecated("and no longer supported by the kernel"),
];

/// Limits that are set once.
pub const FIXED_LIMITS: &[Flag] = &[
    many(
        NONE,
        "blkio-weight-device",
        "list",
        devices::check_weight,
        "Block IO weight (relative device weight)",
    ),
    many(
        NONE,
        "device-read-bps",
        "list",
        devices::check_bps,
        "Limit read rate (bytes per second) from a device",
    ),
    many(
        NONE,
        "device-read-iops",
        "list",
        devices::check_iops,
        "Limit read rate (IO per second) from a device",
    ),
    many(
        NONE,
        "device-write-bps",
        "list",
        devices::check_bps,
        "Limit write rate (bytes per second) to a device",
    ),
    many(
        NONE,
        "device-write-iops",
        "list",
        devices::check_iops,
        "Limit write rate (IO per second) to a device",
    ),
    int(NONE, "memory-swappiness", "Tune container memory swappiness (0 to 100)").default("-1"),
    switch(NONE, "oom-kill-disable", "Disable OOM Killer"),
    int(NONE, "oom-score-adj", "Tune host's OOM preferences (-1000 to 1000)"),
    int(NONE, "cpu-count", "CPU count (Windows only)").hidden(),
    int(NONE, "cpu-percent", "CPU percent (Windows only)").hidden(),
    one(
        NONE,
        "io-maxbandwidth",
        "bytes",
        values::bytes,
        "Maximum IO bandwidth limit for the system drive (Windows only)",
    )
    .hidden(),
    one(NONE, "io-maxiops", "uint", values::uint64, "Maximum IOps limit for the system drive (Windows only)")
        .hidden(),
];
