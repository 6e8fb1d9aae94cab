//! What this program is.

use crate::types::Version;
use crate::types::system::{ComponentVersion, PlatformName};

/// The newest version of the Docker API that is understood; requests without a version speak it.
pub const API_VERSION: &str = "1.55";

/// The oldest version of it that is understood.
pub const MIN_API_VERSION: &str = "1.24";

/// Docker's name of this machine's architecture.
#[must_use]
pub fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// `uname -r`.
#[must_use]
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// This program's version as Docker's document.
#[must_use]
pub fn version() -> Version {
    let version = env!("CARGO_PKG_VERSION");
    let details = [
        ("ApiVersion", API_VERSION.to_owned()),
        ("Arch", go_arch().to_owned()),
        ("KernelVersion", kernel()),
        ("MinAPIVersion", MIN_API_VERSION.to_owned()),
        ("Os", "linux".to_owned()),
    ];
    Version {
        platform: PlatformName { name: "fluyt".to_owned() },
        components: vec![ComponentVersion {
            name: "Engine".to_owned(),
            version: version.to_owned(),
            details: details.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        }],
        version: version.to_owned(),
        api_version: API_VERSION.to_owned(),
        min_api_version: MIN_API_VERSION.to_owned(),
        os: "linux".to_owned(),
        arch: go_arch().to_owned(),
        kernel_version: kernel(),
        ..Version::default()
    }
}
