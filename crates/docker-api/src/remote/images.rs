//! Images and registries.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use fluyt_model::{Error, Result};
use serde::Deserialize;
use serde_json::json;

use super::Remote;
use super::client::{Request, segment};
use super::containers::output;
use super::follow::relay;
use crate::api::*;
use crate::types::{HistoryItem, ImageInspect, ImageSummary};

fn on<'a>(method: &'static str, name: &str, action: &str) -> Request<'a> {
    Request::new(method, format!("/images/{}{action}", segment(name)))
}

/// Credentials as a header has them. Daemons want the header even when there is nothing to say.
pub(super) fn auth_header(auth: Option<&AuthConfig>) -> Result<String> {
    let text = serde_json::to_vec(&auth.cloned().unwrap_or_default())
        .map_err(|e| Error::internal("credentials as JSON").with_source(e))?;
    Ok(URL_SAFE.encode(text))
}

/// `os[/arch[/variant]]` as the JSON that newer operations take.
fn platform_json(platform: &str) -> String {
    let mut parts = platform.splitn(3, '/');
    let mut next = || parts.next().unwrap_or_default();
    let mut document = json!({"os": next(), "architecture": next()});
    match next() {
        "" => {}
        variant => document["variant"] = json!(variant),
    }
    document.to_string()
}

impl Request<'_> {
    /// A platform as JSON, if one is given.
    fn platform(self, platform: &str) -> Self {
        if platform.is_empty() { self } else { self.query("platform", &platform_json(platform)) }
    }
}

/// Takes `name[:tag|@digest]` apart.
fn apart(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name, digest);
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, ""),
    }
}

#[derive(Deserialize)]
struct Committed {
    #[serde(rename = "Id", alias = "ID")]
    id: String,
}

impl Images for Remote {
    fn image_list(&self, wanted: &ListImages) -> Result<Vec<ImageSummary>> {
        let request = Request::new("GET", "/images/json")
            .flag("all", wanted.all)
            .flag("shared-size", wanted.shared_size)
            .flag("manifests", wanted.manifests)
            .filters(&wanted.filters);
        self.client.call(request)?.json()
    }

    fn image_inspect(&self, name: &str, platform: &str) -> Result<ImageInspect> {
        self.client.call(on("GET", name, "/json").platform(platform))?.json()
    }

    fn image_history(&self, name: &str, platform: &str) -> Result<Vec<HistoryItem>> {
        self.client.call(on("GET", name, "/history").platform(platform))?.json()
    }

    fn image_pull(&self, wanted: &PullImage, progress: &dyn Progress) -> Result<()> {
        if wanted.signature_policy.is_some() {
            return Err(Error::unsupported("--signature-policy cannot be given to a daemon")
                .with_hint("the daemon's own policy applies: put the file on its machine"));
        }
        let (name, tag) = apart(&wanted.reference);
        let tag = match tag {
            "" if !wanted.all_tags => "latest",
            tag => tag,
        };
        let request = Request::new("POST", "/images/create")
            .query("fromImage", name)
            .given("tag", tag)
            .given("platform", &wanted.platform)
            .header("X-Registry-Auth", &auth_header(wanted.auth.as_ref())?);
        relay(self.client.call(request)?, progress, |_| {})
    }

    fn image_push(&self, wanted: &PushImage, progress: &dyn Progress) -> Result<()> {
        let request = on("POST", &wanted.name, "/push")
            .given("tag", &wanted.tag)
            .platform(&wanted.platform)
            .header("X-Registry-Auth", &auth_header(wanted.auth.as_ref())?);
        relay(self.client.call(request)?, progress, |_| {})
    }

    fn image_import(
        &self,
        wanted: &ImportImage,
        mut archive: &mut (dyn Read + Send),
        progress: &dyn Progress,
    ) -> Result<String> {
        let mut request = Request::new("POST", "/images/create")
            .query("fromSrc", if wanted.url.is_empty() { "-" } else { &wanted.url })
            .given("repo", &wanted.repository)
            .given("tag", &wanted.tag)
            .given("message", &wanted.message)
            .given("platform", &wanted.platform);
        for change in &wanted.changes {
            request = request.query("changes", change);
        }
        if wanted.url.is_empty() {
            request = request.stream("application/x-tar", &mut archive);
        }
        let mut id = String::new();
        relay(self.client.call(request)?, progress, |message| {
            if message.status.starts_with("sha256:") {
                id.clone_from(&message.status);
            }
        })?;
        Ok(id)
    }

    fn image_tag(&self, name: &str, repository: &str, tag: &str) -> Result<()> {
        let request = on("POST", name, "/tag").query("repo", repository).given("tag", tag);
        self.client.call(request)?.done()
    }

    fn image_remove(&self, name: &str, how: &RemoveImage) -> Result<Vec<ImageDeleted>> {
        let mut request = on("DELETE", name, "").flag("force", how.force).flag("noprune", how.no_prune);
        for platform in &how.platforms {
            request = request.query("platforms", &platform_json(platform));
        }
        self.client.call(request)?.json()
    }

    fn image_search(&self, wanted: &SearchImages) -> Result<Vec<SearchResult>> {
        let limit = wanted.limit.map(|n| n.to_string());
        let request = Request::new("GET", "/images/search")
            .query("term", &wanted.term)
            .maybe("limit", limit.as_deref())
            .filters(&wanted.filters)
            .header("X-Registry-Auth", &auth_header(wanted.auth.as_ref())?);
        self.client.call(request)?.json()
    }

    fn image_prune(&self, filters: &Filters) -> Result<ImagesPruned> {
        self.client.call(Request::new("POST", "/images/prune").filters(filters))?.json()
    }

    fn image_commit(&self, wanted: &CommitContainer) -> Result<String> {
        let mut request = Request::new("POST", "/commit")
            .query("container", &wanted.container)
            .given("repo", &wanted.repository)
            .given("tag", &wanted.tag)
            .given("comment", &wanted.comment)
            .given("author", &wanted.author)
            .switch("pause", wanted.pause);
        for change in &wanted.changes {
            request = request.query("changes", change);
        }
        if let Some(config) = &wanted.config {
            request = request.json(config)?;
        }
        let made: Committed = self.client.call(request)?.json()?;
        Ok(made.id)
    }

    fn image_save(&self, names: &[String], platforms: &[String]) -> Result<Output> {
        let mut request = Request::new("GET", "/images/get");
        for name in names {
            request = request.query("names", name);
        }
        for platform in platforms {
            request = request.platform(platform);
        }
        Ok(output(self.client.call(request)?))
    }

    fn image_load(
        &self,
        mut archive: &mut (dyn Read + Send),
        platforms: &[String],
        quiet: bool,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut request = Request::new("POST", "/images/load").switch("quiet", quiet);
        for platform in platforms {
            request = request.platform(platform);
        }
        let request = request.stream("application/x-tar", &mut archive);
        relay(self.client.call(request)?, progress, |_| {})
    }
}

impl Distribution for Remote {
    fn distribution_inspect(&self, name: &str, auth: Option<&AuthConfig>) -> Result<DistributionInspect> {
        let request = Request::new("GET", format!("/distribution/{}/json", segment(name)))
            .header("X-Registry-Auth", &auth_header(auth)?);
        self.client.call(request)?.json()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_apart() {
        for (text, expected) in [
            ("a", ("a", "")),
            ("a:b", ("a", "b")),
            ("r:5000/a", ("r:5000/a", "")),
            ("r:5000/a:b", ("r:5000/a", "b")),
            ("a@sha256:00", ("a", "sha256:00")),
        ] {
            assert_eq!(apart(text), expected);
        }
        assert_eq!(platform_json("linux/arm/v7"), r#"{"architecture":"arm","os":"linux","variant":"v7"}"#);
    }
}
