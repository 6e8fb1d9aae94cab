//! Builds.

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use fluyt_model::{Error, Result};
use serde::{Deserialize, Serialize};

use super::Remote;
use super::client::Request;
use super::follow::relay;
use crate::api::*;
use crate::types::List;

fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("a parameter of the build").with_source(e))
}

/// The parameters of a build in the classic form.
fn request_of<'a>(wanted: &BuildImage) -> Result<Request<'a>> {
    let mut request = Request::new("POST", "/build")
        .given("dockerfile", &wanted.dockerfile)
        .given("remote", &wanted.remote)
        .flag("q", wanted.quiet)
        .flag("nocache", wanted.no_cache)
        .flag("pull", wanted.pull)
        .switch("rm", wanted.remove)
        .flag("forcerm", wanted.force_remove)
        .number("memory", wanted.memory)
        .number("memswap", wanted.memory_swap)
        .number("cpushares", wanted.cpu_shares)
        .given("cpusetcpus", &wanted.cpuset_cpus)
        .given("cpusetmems", &wanted.cpuset_mems)
        .number("cpuperiod", wanted.cpu_period)
        .number("cpuquota", wanted.cpu_quota)
        .given("cgroupparent", &wanted.cgroup_parent)
        .number("shmsize", wanted.shm_size)
        .flag("squash", wanted.squash)
        .given("networkmode", &wanted.network_mode)
        .given("platform", &wanted.platform)
        .given("target", &wanted.target);
    for tag in &wanted.tags {
        request = request.query("t", tag);
    }
    for line in &wanted.extra_hosts {
        request = request.query("extrahosts", line);
    }
    for option in &wanted.security_opt {
        request = request.query("securityopt", option);
    }
    if !wanted.cache_from.is_empty() {
        request = request.query("cachefrom", &text(&wanted.cache_from)?);
    }
    if !wanted.build_args.is_empty() {
        request = request.query("buildargs", &text(&wanted.build_args)?);
    }
    if !wanted.labels.is_empty() {
        request = request.query("labels", &text(&wanted.labels)?);
    }
    if !wanted.ulimits.is_empty() {
        request = request.query("ulimits", &text(&wanted.ulimits)?);
    }
    let auth: &BTreeMap<String, AuthConfig> = &wanted.auth;
    Ok(request.header("X-Registry-Config", &URL_SAFE.encode(text(auth)?)))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct PruneDocument {
    caches_deleted: List<String>,
    space_reclaimed: u64,
}

impl Builds for Remote {
    fn build(
        &self,
        wanted: &BuildImage,
        mut context: &mut (dyn Read + Send),
        progress: &dyn Progress,
    ) -> Result<String> {
        let mut request = request_of(wanted)?;
        if wanted.remote.is_empty() {
            request = request.stream("application/x-tar", &mut context);
        }
        let (mut id, mut short) = (String::new(), String::new());
        relay(self.client.call(request)?, progress, |message| {
            if let Some(found) = message.aux.as_ref().and_then(|aux| aux.get("ID")).and_then(|v| v.as_str()) {
                id = found.to_owned();
            }
            let line = message.stream.trim();
            if let Some(found) = line.strip_prefix("Successfully built ") {
                short = found.to_owned();
            } else if wanted.quiet && line.starts_with("sha256:") {
                short = line.to_owned();
            }
        })?;
        Ok(if id.is_empty() { short } else { id })
    }

    fn build_prune(&self, wanted: &PruneBuilds) -> Result<CachePruned> {
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        let reserved = number(wanted.reserved_space);
        // The name of the first until 1.48, when it got brothers.
        let name = if self.speaks(48)? { "reserved-space" } else { "keep-storage" };
        let request = Request::new("POST", "/build/prune")
            .flag("all", wanted.all)
            .maybe(name, reserved.as_deref())
            .maybe("max-used-space", number(wanted.max_used_space).as_deref())
            .maybe("min-free-space", number(wanted.min_free_space).as_deref())
            .filters(&wanted.filters);
        let found: PruneDocument = self.client.call(request)?.json()?;
        Ok(CachePruned { deleted: found.caches_deleted.into_inner(), space: found.space_reclaimed })
    }
}
