//! One container of a pod.

use std::collections::BTreeMap;

use fluyt_model::sandbox::{
    ContainerSpec, MountSource, MountSpec, OnFailure, ProcessSpec, RestartCondition, RestartPolicy, Stdin,
    StopSpec,
};

use super::expand::expand;
use super::resources::annotated;
use super::volumes::{Resolved, plain};
use super::{
    Facts, ImageFacts, InitKind, Lowering, Member, Problem, Subject, Wishes, env, probes, resources, security,
};
use crate::annotations;
use crate::objects::Container;

/// What a container is made of.
pub(super) struct Maker<'a> {
    pub(super) pod: Subject<'a>,
    pub(super) wishes: &'a Wishes,
    pub(super) facts: &'a Facts<'a>,
    pub(super) volumes: &'a Resolved,
    pub(super) container: &'a Container,
    pub(super) restart: RestartPolicy,
    pub(super) init: Option<InitKind>,
}

impl Maker<'_> {
    /// The container, and what of it has no effect.
    pub(super) fn make(&self) -> Lowering<(Member, Vec<Problem>)> {
        let container = self.container;
        let image = self.facts.images.get(&container.image).ok_or_else(|| {
            Problem::new("image", format!("no image {:?} is here", container.image)).missing()
        })?;
        if self.init.is_some() {
            self.check_init()?;
        }
        let variables = env::variables(self.pod, container, &image.env, self.facts)?;
        let expanded = |text: &str| expand(text, &|name| variables.get(name));
        let (entrypoint, cmd) = self.command(image, &expanded)?;
        let mut check = probes::check(container)?;
        let mut restart = if self.init.is_some() { RestartPolicy::default() } else { self.restart };
        if let Some(health) = check.health.as_mut().filter(|_| check.fatal) {
            // Stopped by its check, a container may well end with 0: that is a failure all the same.
            match restart.condition {
                RestartCondition::No => {}
                RestartCondition::OnFailure => restart.condition = RestartCondition::OnUnhealthy,
                _ => health.on_failure = OnFailure::Stop,
            }
        }
        check.warnings.extend(self.hooks());
        let (mut mounts, mut devices) = self.volumes.mounts(container, &expanded)?;
        let (more, cdi) = resources::devices(container);
        devices.extend(more);
        let security = security::security(self.pod, container, self.facts)?;
        self.further_mounts(image, security.read_only_root, &mut mounts)?;
        let auto_remove = self.flag(annotations::AUTO_REMOVE)?;
        let args = entrypoint.iter().chain(&cmd).cloned().collect();
        let spec = ContainerSpec {
            image: container.image.clone(),
            image_id: image.id.clone(),
            process: ProcessSpec {
                args,
                env: variables.lines(),
                cwd: self.working_dir(image)?,
                user: security::user(self.pod, container, image)?,
                groups: security::groups(self.pod.spec),
                tty: container.tty,
                stdin: match (container.stdin, container.stdin_once) {
                    (false, _) => Stdin::Null,
                    (true, false) => Stdin::Open,
                    (true, true) => Stdin::Once,
                },
                rlimits: resources::rlimits(self.pod.annotations)?,
                ..ProcessSpec::default()
            },
            mounts,
            devices,
            cdi_devices: cdi,
            resources: resources::limits(container, self.pod.annotations)?,
            security,
            restart,
            health: check.health,
            log: self.wishes.log.clone(),
            stop: self.stop(image)?,
            init: self.flag(annotations::INIT)?,
            device_rules: Vec::new(),
        };
        let name = match self.wishes.no_pod_prefix {
            true => container.name.clone(),
            false => format!("{}-{}", self.pod.name, container.name),
        };
        let member = Member {
            name,
            short: container.name.clone(),
            entrypoint,
            cmd,
            spec,
            labels: self.labels(image),
            annotations: self.pod.annotations.clone(),
            auto_remove,
            init: self.init,
        };
        Ok((member, check.warnings))
    }

    /// The program and its arguments: the image's only as far as the container says nothing.
    fn command(
        &self,
        image: &ImageFacts,
        expanded: &dyn Fn(&str) -> String,
    ) -> Lowering<(Vec<String>, Vec<String>)> {
        let all = |words: &[String]| words.iter().map(|word| expanded(word)).collect::<Vec<_>>();
        let own = self.container;
        let entrypoint = if own.command.is_empty() { image.entrypoint.clone() } else { all(&own.command) };
        let cmd = match (own.args.is_empty(), own.command.is_empty()) {
            (false, _) => all(&own.args),
            (true, true) => image.cmd.clone(),
            (true, false) => Vec::new(),
        };
        if entrypoint.is_empty() && cmd.is_empty() {
            return Err(Problem::new("command", "there is nothing to run")
                .hint(format!("image {} names no program: give a command", own.image)));
        }
        Ok((entrypoint, cmd))
    }

    fn working_dir(&self, image: &ImageFacts) -> Lowering<String> {
        let own = self.container.working_dir.as_str();
        let chosen = if own.is_empty() { image.working_dir.as_str() } else { own };
        match chosen {
            "" => Ok("/".to_owned()),
            path if path.starts_with('/') => Ok(path.to_owned()),
            path => Err(Problem::new("workingDir", format!("{path:?} is not an absolute path"))),
        }
    }

    fn check_init(&self) -> Lowering<()> {
        let own = self.container;
        for (field, set) in [
            ("lifecycle", own.lifecycle.is_some()),
            ("livenessProbe", own.liveness_probe.is_some()),
            ("readinessProbe", own.readiness_probe.is_some()),
            ("startupProbe", own.startup_probe.is_some()),
        ] {
            if set {
                return Err(Problem::new(field, "an init container cannot have one")
                    .hint("init containers end before the others start; restartPolicy: Always makes it run beside them"));
            }
        }
        Ok(())
    }

    fn hooks(&self) -> Vec<Problem> {
        let Some(lifecycle) = &self.container.lifecycle else { return Vec::new() };
        let mut warnings = Vec::new();
        for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if hook.is_some() {
                warnings.push(Problem::new(format!("lifecycle.{field}"), "it has no effect here"));
            }
        }
        warnings
    }

    fn stop(&self, image: &ImageFacts) -> Lowering<StopSpec> {
        let own = self.container.lifecycle.as_ref().map(|l| l.stop_signal.clone()).unwrap_or_default();
        let timeout = self.pod.spec.termination_grace_period_seconds;
        if timeout.is_some_and(|seconds| seconds < 0) {
            return Err(Problem::new("spec.terminationGracePeriodSeconds", "it is less than nothing"));
        }
        Ok(StopSpec { signal: if own.is_empty() { image.stop_signal.clone() } else { own }, timeout })
    }

    fn flag(&self, name: &str) -> Lowering<bool> {
        match annotations::own(self.pod.annotations, name, &self.container.name) {
            None => Ok(false),
            Some(text) => match text.to_lowercase().as_str() {
                "true" | "1" | "t" => Ok(true),
                "false" | "0" | "f" => Ok(false),
                _ => Err(annotated(name, text)),
            },
        }
    }

    /// What Podman mounts beside a container's volumes: images by annotation, volumes of other containers, memory over what
    /// programs write to where the root is read-only, volumes of the image.
    fn further_mounts(
        &self,
        image: &ImageFacts,
        read_only: bool,
        mounts: &mut Vec<MountSpec>,
    ) -> Lowering<()> {
        let own = |name| annotations::own(self.pod.annotations, name, &self.container.name);
        for from in own(annotations::VOLUMES_FROM).unwrap_or_default().split(';').filter(|f| !f.is_empty()) {
            mounts.push(self.volumes_from(from)?);
        }
        let taken = |mounts: &[MountSpec], path: &str| {
            mounts.iter().any(|m| m.target.trim_end_matches('/') == path.trim_end_matches('/'))
        };
        for name in own(annotations::IMAGE_VOLUMES).unwrap_or_default().split(';').filter(|f| !f.is_empty()) {
            let Some(found) = self.facts.images.get(name) else {
                return Err(Problem::new(
                    "metadata.annotations",
                    format!("{}: no image {name:?} is here", annotations::IMAGE_VOLUMES),
                )
                .missing());
            };
            for path in &found.volumes {
                let source = MountSource::Image {
                    image: name.to_owned(),
                    subpath: path.trim_start_matches('/').to_owned(),
                };
                mounts.retain(|m| !taken(std::slice::from_ref(m), path));
                mounts.push(plain(path, source, true));
            }
        }
        if read_only {
            for path in
                ["/run", "/tmp", "/var/tmp"].iter().filter(|path| !taken(mounts, path)).collect::<Vec<_>>()
            {
                let options = vec!["mode=1777".to_owned()];
                mounts.push(plain(path, MountSource::Tmpfs { options }, false));
            }
        }
        for path in image.volumes.iter().filter(|path| !taken(mounts, path)).collect::<Vec<_>>() {
            let source = MountSource::Volume {
                name: String::new(),
                no_copy: false,
                subpath: String::new(),
                driver: String::new(),
                options: BTreeMap::new(),
                labels: BTreeMap::new(),
            };
            mounts.push(plain(path, source, false));
        }
        Ok(())
    }

    /// `CONTAINER[:OPTIONS]`: a container of the pod that stands before this one, or any other.
    fn volumes_from(&self, text: &str) -> Lowering<MountSpec> {
        let wrong =
            |why: &str| Problem::new("metadata.annotations", format!("{}: {why}", annotations::VOLUMES_FROM));
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        if name.is_empty() || name == self.container.name {
            return Err(wrong(&format!("{text:?} does not name another container")));
        }
        let read_only = match options {
            "" | "rw" | "z" | "Z" => false,
            "ro" => true,
            other => return Err(wrong(&format!("unknown option {other:?}"))),
        };
        let spec = self.pod.spec;
        let before = spec.init_containers.iter().chain(&spec.containers);
        let ours = before.take_while(|c| c.name != self.container.name).any(|c| c.name == name);
        let container = match (ours, self.wishes.no_pod_prefix) {
            (true, false) => format!("{}-{name}", self.pod.name),
            _ => name.to_owned(),
        };
        Ok(plain("", MountSource::VolumesFrom { container }, read_only))
    }

    fn labels(&self, image: &ImageFacts) -> BTreeMap<String, String> {
        let mut labels = image.labels.clone();
        for name in [annotations::AUTO_UPDATE, annotations::AUTO_UPDATE_AUTH] {
            if let Some(value) = annotations::of(self.pod.annotations, name, &self.container.name) {
                labels.insert(name.to_owned(), value.to_owned());
            }
        }
        labels.extend(self.pod.metadata.labels.clone());
        labels
    }
}
