//! An image's defaults under a user's configuration, by Docker's rules of precedence.

use crate::types::{ContainerConfig, HealthConfig};

/// `user` with everything that it leaves open taken from `image`.
#[must_use]
pub fn with_image(user: &ContainerConfig, image: &ContainerConfig) -> ContainerConfig {
    let mut merged = user.clone();
    if merged.user.is_empty() {
        merged.user.clone_from(&image.user);
    }
    for (port, empty) in &image.exposed_ports {
        merged.exposed_ports.entry(*port).or_insert(*empty);
    }
    let set: Vec<String> = user.env.iter().map(|e| key(e).to_owned()).collect();
    let inherited = image.env.iter().filter(|e| !set.iter().any(|k| k == key(e)));
    let env: Vec<String> = inherited.chain(user.env.iter()).cloned().collect();
    *merged.env = env;
    for (name, value) in image.labels.iter() {
        merged.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    // A new entry point makes the image's command meaningless.
    if user.entrypoint.is_empty() {
        if user.cmd.is_empty() {
            merged.cmd.clone_from(&image.cmd);
        }
        merged.entrypoint.clone_from(&image.entrypoint);
    }
    merged.healthcheck = match (&user.healthcheck, &image.healthcheck) {
        (Some(user), Some(image)) => Some(health(user, image)),
        (user, image) => user.as_ref().or(image.as_ref()).cloned(),
    };
    if merged.working_dir.is_empty() {
        merged.working_dir.clone_from(&image.working_dir);
    }
    for (path, empty) in image.volumes.iter() {
        merged.volumes.entry(path.clone()).or_insert(*empty);
    }
    if merged.stop_signal.is_empty() {
        merged.stop_signal.clone_from(&image.stop_signal);
    }
    if merged.shell.is_empty() {
        merged.shell.clone_from(&image.shell);
    }
    merged
}

fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

fn health(user: &HealthConfig, image: &HealthConfig) -> HealthConfig {
    let mut merged = user.clone();
    if merged.test.is_empty() {
        merged.test.clone_from(&image.test);
    }
    for (mine, theirs) in [
        (&mut merged.interval, image.interval),
        (&mut merged.timeout, image.timeout),
        (&mut merged.start_period, image.start_period),
        (&mut merged.start_interval, image.start_interval),
        (&mut merged.retries, image.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
    merged
}
