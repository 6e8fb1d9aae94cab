//! A real registry on the loopback address: Debian's docker-registry, in a directory of its own.

use std::process::{Child, Command, Stdio};

use crate::{Scratch, wait};

/// A running registry; it ends with this value.
pub struct Registry {
    child: Child,
    address: String,
    _scratch: Scratch,
}

impl Registry {
    /// Starts one in the calling thread's network namespace; none (said as a skip) where it is not installed.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// The same with more configuration (YAML, whole top-level keys).
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn start_with(more: &str) -> Option<Self> {
        let scratch = Scratch::new("registry");
        let address = format!("127.0.0.1:{}", wait::free_port());
        let storage = scratch.join("data");
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    \
             enabled: true\nhttp:\n  addr: {address}\n{more}",
            storage.display()
        );
        let file = scratch.write("config.yml", config);
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            crate::skip("docker-registry is not installed");
            return None;
        };
        let registry = Self { child, address, _scratch: scratch };
        wait::until("the registry to answer", 20, || wait::http_get(&registry.address, "/v2/"));
        Some(registry)
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
