//! What `fluyt engine` answers with.

use std::sync::Arc;

use fluyt_docker_api::local::Local;
use fluyt_docker_api::server::Api;
use fluyt_http::Handler;
use fluyt_model::Result;

use super::Cli;
use crate::buildkit::WithBuildKit;

/// What answers requests for the data root.
///
/// # Errors
/// The data root cannot be opened.
pub fn handler(cli: &Cli) -> Result<Arc<dyn Handler>> {
    let local = Local::for_clients(cli.root())?;
    let tidied = local.clone();
    let api = Api::new(Arc::new(local), move || tidied.tidy(), |e| eprintln!("engine: {}", e.chain()));
    Ok(Arc::new(WithBuildKit::new(cli.root(), Arc::new(api))))
}
