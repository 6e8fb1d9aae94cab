//! The engine's views as Docker's documents.

pub mod cache;
mod container;
mod event;
mod image;
mod network;
mod stats;
mod version;

pub use container::{document, inspect, summary};
pub use event::event;
pub use image::{image, image_history, image_summary};
pub use network::{network, volume};
pub use stats::stats;
pub use version::{API_VERSION, MIN_API_VERSION, go_arch, kernel, version};

use crate::types::{EndpointSettings, List};
use fluyt_engine::EndpointView;

/// What a container got in a network, over what was asked for.
fn endpoint(asked: Option<&EndpointSettings>, got: &EndpointView) -> EndpointSettings {
    let mut settings = asked.cloned().unwrap_or_default();
    if !got.mac.is_empty() {
        settings.mac_address.clone_from(&got.mac);
    }
    settings.network_id.clone_from(&got.network_id);
    settings.endpoint_id.clone_from(&got.endpoint_id);
    if settings.aliases.is_vacant() {
        settings.aliases = List::null_if_empty(got.aliases.clone());
    }
    if let Some((address, prefix)) = got.ipv4 {
        settings.ip_address = address.to_string();
        settings.ip_prefix_len = prefix;
    }
    if let Some((address, prefix)) = got.ipv6 {
        settings.global_ipv6_address = address.to_string();
        settings.global_ipv6_prefix_len = prefix;
    }
    settings.gateway = got.gateway4.map(|a| a.to_string()).unwrap_or_default();
    settings.ipv6_gateway = got.gateway6.map(|a| a.to_string()).unwrap_or_default();
    settings.dns_names = List::null_if_empty(got.dns_names.clone());
    settings
}
