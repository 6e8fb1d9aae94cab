//! The labels by which Compose, ours and others', knows what belongs to a project.

/// The project.
pub const PROJECT: &str = "com.docker.compose.project";
/// The service of a container.
pub const SERVICE: &str = "com.docker.compose.service";
/// The hash of what a container, network or volume was made of.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// Which of a service's containers it is, from 1.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// The key of a volume in its project.
pub const VOLUME: &str = "com.docker.compose.volume";
/// The key of a network in its project.
pub const NETWORK: &str = "com.docker.compose.network";
/// The project's directory.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The project's files.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// `True` for a container of `run`.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
/// What distinguishes containers of `run`.
pub const SLUG: &str = "com.docker.compose.slug";
/// The id of the image of a container.
pub const IMAGE: &str = "com.docker.compose.image";
/// The services that a container's service depends on.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Which version of Compose made it.
pub const VERSION: &str = "com.docker.compose.version";
/// The container that it replaces.
pub const REPLACE: &str = "com.docker.compose.replace";
/// What a container of a hook is for.
pub const HOOK: &str = "com.docker.compose.hook";

/// The version that we say we are: whose labels and rules these are.
pub const OUR_VERSION: &str = "5.0.0";
