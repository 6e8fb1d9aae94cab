//! The engine itself.

use fluyt_model::Result;
use serde::Deserialize;

use super::client::Request;
use super::follow::Documents;
use super::{Remote, timestamp};
use crate::api::*;
use crate::types::{DiskUsage, EventMessage, SystemInfo, Version};

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct AuthDocument {
    status: String,
    identity_token: String,
}

impl System for Remote {
    fn ping(&self) -> Result<Ping> {
        let head = self.client.ping()?;
        let text = |name: &str| head.header(name).unwrap_or_default().to_owned();
        Ok(Ping {
            api_version: text("api-version"),
            os_type: text("ostype"),
            builder_version: text("builder-version"),
            experimental: text("docker-experimental") == "true",
        })
    }

    fn version(&self) -> Result<Version> {
        self.client.call(Request::new("GET", "/version"))?.json()
    }

    fn info(&self) -> Result<SystemInfo> {
        self.client.call(Request::new("GET", "/info"))?.json()
    }

    fn auth(&self, credentials: &AuthConfig) -> Result<AuthAnswer> {
        let answer = self.client.call(Request::new("POST", "/auth").json(credentials)?)?;
        if answer.status() == 204 {
            answer.done()?;
            return Ok(AuthAnswer::default());
        }
        let found: AuthDocument = answer.json()?;
        Ok(AuthAnswer { status: found.status, identity_token: found.identity_token })
    }

    fn events(&self, wanted: &EventsOf) -> Result<Box<dyn Follow<EventMessage>>> {
        let (since, until) = (wanted.since.map(timestamp), wanted.until.map(timestamp));
        let request = Request::new("GET", "/events")
            .maybe("since", since.as_deref())
            .maybe("until", until.as_deref())
            .filters(&wanted.filters);
        Ok(Box::new(Documents::new(self.client.call(request)?)))
    }

    fn disk_usage(&self, of: DiskUseOf) -> Result<DiskUsage> {
        let mut request = Request::new("GET", "/system/df");
        for (wanted, name) in [
            (of.containers, "container"),
            (of.images, "image"),
            (of.volumes, "volume"),
            (of.build_cache, "build-cache"),
        ] {
            if wanted {
                request = request.query("type", name);
            }
        }
        self.client.call(request)?.json()
    }
}
