//! The engine itself.

use fluyt_engine::{ContainerView, DiskUse, Engine};
use fluyt_model::Result;

use super::Local;
use super::follow::Events;
use crate::api::*;
use crate::types::{
    ContainerSummary, DiskUsage, EventMessage, ImageSummary, SystemInfo, Version, Volume, VolumeUsage,
};
use crate::{machine, render, time, transfer};

impl System for Local {
    fn ping(&self) -> Result<Ping> {
        Ok(Ping {
            api_version: render::API_VERSION.to_owned(),
            os_type: "linux".to_owned(),
            builder_version: "2".to_owned(),
            experimental: false,
        })
    }

    fn version(&self) -> Result<Version> {
        Ok(render::version())
    }

    fn info(&self) -> Result<SystemInfo> {
        machine::info(&*self.engine()?)
    }

    fn auth(&self, credentials: &AuthConfig) -> Result<AuthAnswer> {
        let registry = transfer::client(true, None)?;
        let (server, given) = transfer::credentials(credentials)?;
        let token = registry.try_credentials(&server, &given)?;
        Ok(AuthAnswer { status: "Login Succeeded".to_owned(), identity_token: token.unwrap_or_default() })
    }

    fn events(&self, wanted: &EventsOf) -> Result<Box<dyn Follow<EventMessage>>> {
        Ok(Box::new(Events::open(self, wanted)?))
    }

    fn disk_usage(&self, of: DiskUseOf) -> Result<DiskUsage> {
        let engine = self.engine()?;
        let everything = !(of.containers || of.images || of.volumes || of.build_cache);
        let usage = engine.df()?;
        let mut document = DiskUsage::default();
        if everything || of.images {
            document.layers_size = bytes(usage.layers);
            document.images = images(&engine, &usage)?.into();
        }
        if everything || of.containers {
            document.containers = containers(&engine, &usage)?.into();
        }
        if everything || of.volumes {
            document.volumes = volumes(&engine, &usage)?.into();
        }
        if everything || of.build_cache {
            document.build_cache = usage.build_cache.iter().map(render::cache::entry).collect();
        }
        Ok(document)
    }
}

fn bytes(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn images(engine: &Engine, usage: &DiskUse) -> Result<Vec<ImageSummary>> {
    let mut images: Vec<ImageSummary> = engine.images().images()?.iter().map(render::image_summary).collect();
    for image in &mut images {
        if let Some(found) = usage.images.iter().find(|u| u.id == image.id) {
            image.size = bytes(found.size);
            image.shared_size = bytes(found.shared);
            image.containers = i64::from(found.containers);
        }
    }
    Ok(images)
}

fn containers(engine: &Engine, usage: &DiskUse) -> Result<Vec<ContainerSummary>> {
    let now = time::now();
    let summary = |view: &ContainerView| {
        let rw = usage.containers.iter().find(|c| c.0 == view.id).map_or(0, |c| c.1);
        render::summary(view, Some((rw, 0)), now)
    };
    Ok(engine.list()?.iter().map(summary).collect())
}

fn volumes(engine: &Engine, usage: &DiskUse) -> Result<Vec<Volume>> {
    let mut volumes: Vec<Volume> = engine.volumes()?.iter().map(render::volume).collect();
    for volume in &mut volumes {
        let found = usage.volumes.iter().find(|v| v.0 == volume.name);
        let (size, users) = found.map_or((0, 0), |v| (v.1, v.2));
        volume.usage_data = Some(VolumeUsage { ref_count: i64::from(users), size: bytes(size) });
    }
    Ok(volumes)
}
