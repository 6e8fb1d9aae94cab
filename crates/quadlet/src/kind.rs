//! The kinds of units and how they are named: file, section, service, and what the service makes.

use crate::keys::{self, Key};
use crate::unit::Unit;

/// What a unit makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `.container`.
    Container,
    /// `.volume`.
    Volume,
    /// `.network`.
    Network,
    /// `.image`.
    Image,
    /// `.build`.
    Build,
    /// `.pod`.
    Pod,
    /// `.kube`.
    Kube,
    /// `.artifact`, which fluyt does not have: known so that it can be refused and that others can name it.
    Artifact,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Container,
        Self::Volume,
        Self::Network,
        Self::Image,
        Self::Build,
        Self::Pod,
        Self::Kube,
        Self::Artifact,
    ];

    /// The kind of the unit in a file of this name.
    #[must_use]
    pub fn of(file: &str) -> Option<Self> {
        let (stem, extension) = file.rsplit_once('.')?;
        Self::ALL.into_iter().find(|kind| !stem.is_empty() && kind.extension() == extension)
    }

    /// The end of the file's name, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Image => "image",
            Self::Build => "build",
            Self::Pod => "pod",
            Self::Kube => "kube",
            Self::Artifact => "artifact",
        }
    }

    /// The unit's own section.
    #[must_use]
    pub fn section(self) -> &'static str {
        match self {
            Self::Container => "Container",
            Self::Volume => "Volume",
            Self::Network => "Network",
            Self::Image => "Image",
            Self::Build => "Build",
            Self::Pod => "Pod",
            Self::Kube => "Kube",
            Self::Artifact => "Artifact",
        }
    }

    /// The keys of that section.
    #[must_use]
    pub fn keys(self) -> &'static [Key] {
        match self {
            Self::Container => keys::CONTAINER,
            Self::Volume => keys::VOLUME,
            Self::Network => keys::NETWORK,
            Self::Image => keys::IMAGE,
            Self::Build => keys::BUILD,
            Self::Pod => keys::POD,
            Self::Kube => keys::KUBE,
            Self::Artifact => keys::ARTIFACT,
        }
    }

    /// What its service's name has behind the unit's.
    fn suffix(self) -> &'static str {
        match self {
            Self::Container | Self::Kube => "",
            Self::Volume => "-volume",
            Self::Network => "-network",
            Self::Image => "-image",
            Self::Build => "-build",
            Self::Pod => "-pod",
            Self::Artifact => "-artifact",
        }
    }

    /// The name of the unit's service, without `.service`.
    #[must_use]
    pub fn service(self, unit: &Unit) -> String {
        if let Some(name) = unit.text(self.section(), "ServiceName") {
            return name.to_owned();
        }
        let stem = stem(&unit.name);
        match stem.strip_suffix('@') {
            Some(template) => format!("{template}{}@", self.suffix()),
            None => format!("{stem}{}", self.suffix()),
        }
    }

    /// The name of what the service makes; `None` where only systemd can tell it. It may have specifiers that are the
    /// same in every unit.
    #[must_use]
    pub fn resource(self, unit: &Unit) -> Option<String> {
        let text = |key| unit.text(self.section(), key).map(str::to_owned);
        match self {
            Self::Container => {
                let name = container_name(unit).replace("%N", &self.service(unit));
                Some(name).filter(|name| !name.contains('%'))
            }
            Self::Volume => Some(text("VolumeName").unwrap_or_else(|| default_name(unit))),
            Self::Network => Some(text("NetworkName").unwrap_or_else(|| default_name(unit))),
            Self::Pod => Some(text("PodName").unwrap_or_else(|| default_name(unit))),
            Self::Image => text("ImageTag").or_else(|| text("Image")),
            Self::Build => unit.all("Build", "ImageTag").first().map(|tag| (*tag).to_owned()),
            Self::Artifact => text("Artifact"),
            Self::Kube => None,
        }
    }
}

/// A file's name without its extension.
#[must_use]
pub fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Template and instance of a unit's name; `None` if it is neither template nor instance.
#[must_use]
pub fn template(file: &str) -> Option<(&str, &str)> {
    stem(file).split_once('@')
}

/// The container's name, with specifiers.
#[must_use]
pub fn container_name(unit: &Unit) -> String {
    let default = if unit.name.contains('@') { "systemd-%p_%i" } else { "systemd-%N" };
    unit.text("Container", "ContainerName").unwrap_or(default).to_owned()
}

fn default_name(unit: &Unit) -> String {
    match template(&unit.name) {
        Some((name, _)) => format!("systemd-{name}-%i"),
        None => format!("systemd-{}", stem(&unit.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, text: &str) -> (String, Option<String>) {
        let unit = Unit::parse(path, text).unwrap();
        let kind = Kind::of(&unit.name).unwrap();
        (kind.service(&unit), kind.resource(&unit))
    }

    #[test]
    fn services_and_what_they_make_are_named_as_podman_names_them() {
        let name = |s: &str, r: &str| (s.to_owned(), Some(r.to_owned()));
        assert_eq!(names("web.container", ""), name("web", "systemd-web"));
        assert_eq!(names("web@.container", ""), ("web@".to_owned(), None));
        assert_eq!(names("w.container", "[Container]\nContainerName=a-%N"), name("w", "a-w"));
        assert_eq!(names("a.b.volume", ""), name("a.b-volume", "systemd-a.b"));
        assert_eq!(names("d@.volume", ""), name("d-volume@", "systemd-d-%i"));
        assert_eq!(names("n.network", "[Network]\nNetworkName=x\nServiceName=y"), name("y", "x"));
        assert_eq!(names("i.image", "[Image]\nImage=a\nImageTag=b"), name("i-image", "b"));
        assert_eq!(names("b.build", "[Build]\nImageTag=a\nImageTag=b"), name("b-build", "a"));
        assert_eq!(names("k.kube", ""), ("k".to_owned(), None));
        assert_eq!(Kind::of(".container"), None);
        assert_eq!(Kind::of("x.service"), None);
    }
}
