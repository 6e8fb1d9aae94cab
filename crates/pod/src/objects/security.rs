//! Privileges of pods and containers.

objects! {
    /// Privileges of a pod's containers.
    PodSecurity {
        /// The user.
        run_as_user: Option<i64>,
        /// The group.
        run_as_group: Option<i64>,
        /// Refuse to run as root.
        run_as_non_root: Option<bool>,
        /// Further groups.
        supplemental_groups: Vec<i64>,
        /// The group of the files of volumes.
        fs_group: Option<i64>,
        /// SELinux labels.
        se_linux_options: Option<SeLinux>,
        /// Filter of system calls.
        seccomp_profile: Option<Profile>,
        /// AppArmor profile.
        app_armor_profile: Option<Profile>,
        /// Parameters of the kernel.
        sysctls: Vec<Sysctl>,
    }

    /// Privileges of a container.
    Security {
        /// All of them.
        privileged: Option<bool>,
        /// Programs may gain some.
        allow_privilege_escalation: Option<bool>,
        /// Capabilities.
        capabilities: Option<Capabilities>,
        /// The user.
        run_as_user: Option<i64>,
        /// The group.
        run_as_group: Option<i64>,
        /// Refuse to run as root.
        run_as_non_root: Option<bool>,
        /// The root file system is not writable.
        read_only_root_filesystem: Option<bool>,
        /// `Default`, `Unmasked`.
        proc_mount: String,
        /// SELinux labels.
        se_linux_options: Option<SeLinux>,
        /// Filter of system calls.
        seccomp_profile: Option<Profile>,
        /// AppArmor profile.
        app_armor_profile: Option<Profile>,
    }

    /// Capabilities.
    Capabilities {
        /// To have.
        add: Vec<String>,
        /// Not to have.
        drop: Vec<String>,
    }

    /// SELinux labels.
    SeLinux {
        /// User.
        user: String,
        /// Role.
        role: String,
        /// Type.
        #[serde(rename = "type")]
        kind: String,
        /// Level.
        level: String,
        /// Type of the files.
        #[serde(rename = "filetype")]
        file_type: String,
    }

    /// A profile of seccomp or AppArmor.
    Profile {
        /// `RuntimeDefault`, `Unconfined`, `Localhost`.
        #[serde(rename = "type")]
        kind: String,
        /// The profile, for `Localhost`.
        localhost_profile: String,
    }

    /// A parameter of the kernel.
    Sysctl {
        /// Its name, with dots.
        name: String,
        /// Its value.
        value: String,
    }
}
