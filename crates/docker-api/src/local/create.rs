//! Making a container of a create request.

use fluyt_engine::{CreateRequest as Request, Engine};
use fluyt_image::oci::Platform;
use fluyt_model::{Error, Kind, Result};

use crate::api::CreateContainer;
use crate::types::{ContainerConfig, CreateRequest, CreateResponse, NetworkingConfig};
use crate::{lower, policy};

/// Makes it.
pub(super) fn create(engine: &Engine, wanted: CreateContainer) -> Result<CreateResponse> {
    let CreateContainer { name, platform, mut request, signature_policy } = wanted;
    let name = name.strip_prefix('/').unwrap_or(&name).to_owned();
    let image_name = request.config.image.clone();
    if image_name.is_empty() {
        return Err(Error::invalid("no image was given to make the container of")
            .with_hint("name one in the field Image"));
    }
    check(engine, &request)?;
    let image = local_image(engine, &image_name, &platform)?;
    policy::check(engine, signature_policy.as_deref(), &image_name, &image)?;
    let defaults = defaults(engine, &image)?;
    let mut warnings = Vec::new();
    if request.host_config.network_mode == "host" && !request.host_config.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    one_mac_address(&mut request.config, &mut request.networking_config, &request.host_config.network_mode);
    let spec = lower::container(&request, &defaults, image.id.as_str())?;
    policy::check_mounts(engine, signature_policy.as_deref(), &spec)?;
    request.config = lower::with_image(&request.config, &defaults);
    let document =
        serde_json::to_value(&request).map_err(|e| Error::internal("the create request").with_source(e))?;
    let asked = (!name.is_empty()).then_some(name);
    let id = engine.create(Request { name: asked.clone(), spec, document }).map_err(|e| {
        match asked.as_deref().filter(|_| e.kind() == Kind::Conflict) {
            Some(name) => name_conflict(engine, name).unwrap_or(e),
            None => e,
        }
    })?;
    Ok(CreateResponse { id, warnings: warnings.into() })
}

/// Refuses what could only fail later: variables without names, and links to nobody on the default network. (On others a
/// link may be made before the other is.)
fn check(engine: &Engine, request: &CreateRequest) -> Result<()> {
    if let Some(word) = request.config.env.iter().find(|word| word.is_empty() || word.starts_with('=')) {
        return Err(Error::invalid(format!("invalid environment variable: {word}"))
            .with_hint("give NAME=VALUE, or NAME to take it away"));
    }
    if !matches!(request.host_config.network_mode.as_str(), "" | "default" | "bridge") {
        return Ok(());
    }
    for link in request.host_config.links.iter() {
        let target = link.split(':').next().unwrap_or_default();
        let target = target.strip_prefix('/').unwrap_or(target);
        if let Err(e) = engine.container(target)
            && e.kind() == Kind::NotFound
        {
            return Err(Error::invalid(format!("could not get container for {target}")).with_source(e));
        }
    }
    Ok(())
}

/// The refusal of a name that another container has, as clients know it.
pub(super) fn name_conflict(engine: &Engine, name: &str) -> Option<Error> {
    let other = engine.container(name).ok().filter(|view| view.name == name)?;
    Some(
        Error::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            other.id
        ))
        .with_hint(format!("`fluyt rm {name}` removes it")),
    )
}

/// The old place of the MAC address, for the one network that a container is made with.
fn one_mac_address(config: &mut ContainerConfig, networking: &mut NetworkingConfig, mode: &str) {
    if config.mac_address.is_empty() {
        return;
    }
    let mode = if matches!(mode, "" | "default") { "bridge" } else { mode };
    if let Some(endpoint) = networking.endpoints_config.get_mut(mode)
        && endpoint.mac_address.is_empty()
    {
        endpoint.mac_address.clone_from(&config.mac_address);
    }
}

/// The image's own configuration, in the shape of a container's.
///
/// # Errors
/// It cannot be read.
pub fn defaults(engine: &Engine, image: &fluyt_image::Image) -> Result<ContainerConfig> {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        config: Option<ContainerConfig>,
    }
    let raw = engine.images().raw_config(&image.id)?;
    let parsed: Config = serde_json::from_str(&raw)
        .map_err(|e| Error::corrupt(format!("configuration of image {}", image.id)).with_source(e))?;
    Ok(parsed.config.unwrap_or_default())
}

/// The image that is here for a platform (empty: any), which need not be the one that the name stands for.
///
/// # Errors
/// `NotFound`.
pub fn local_image(engine: &Engine, name: &str, platform: &str) -> Result<fluyt_image::Image> {
    match platform {
        "" => engine.images().resolve(name),
        wanted => engine.images().resolve_for(name, &Platform::parse(wanted)?, &fluyt_image::Silent),
    }
}
