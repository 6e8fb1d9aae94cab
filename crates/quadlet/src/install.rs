//! What `[Install]` asks for: generators link their services themselves, as `systemctl enable` would.

use crate::kind;
use crate::unit::Unit;
use crate::words;

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where, relative to the directory of the services.
    pub at: String,
    /// What it says.
    pub target: String,
}

/// The links to `service`. A template is linked as its default instance, or not at all.
pub fn links(service: &Unit) -> Vec<Link> {
    let listed = |key: &str| -> Vec<String> {
        service.all("Install", key).iter().flat_map(|value| words::list(value).unwrap_or_default()).collect()
    };
    let mut places: Vec<String> = listed("Alias").iter().filter_map(|alias| clean(alias)).collect();
    let linked = match kind::template(&service.name) {
        Some((template, "")) => service
            .text("Install", "DefaultInstance")
            .map(|instance| format!("{template}@{instance}.service")),
        _ => Some(service.name.clone()),
    };
    if let Some(name) = linked {
        for (key, directory) in [("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")] {
            let units = listed(key).into_iter().filter(|unit| !unit.contains('/'));
            places.extend(units.map(|unit| format!("{unit}.{directory}/{name}")));
        }
    }
    let target = |at: &str| format!("{}{}", "../".repeat(at.matches('/').count()), service.name);
    places.into_iter().map(|at| Link { target: target(&at), at }).collect()
}

/// A relative path without detours; `None` for one that leads nowhere or out of the directory.
fn clean(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Vec<String> {
        let mut unit = Unit::parse("x.container", &format!("[Install]\n{text}")).unwrap();
        unit.name = name.to_owned();
        links(&unit).into_iter().map(|link| format!("{} -> {}", link.at, link.target)).collect()
    }

    #[test]
    fn services_are_linked_where_their_units_say() {
        let text = "Alias=a.service \"b.service\"\nAlias=./in/./a/c.service ../out.service\nWantedBy=multi-user.target x/y\n\
                    RequiredBy=r.service\nUpheldBy=u.service\n";
        assert_eq!(
            of("web.service", text),
            [
                "a.service -> web.service",
                "b.service -> web.service",
                "in/a/c.service -> ../../web.service",
                "multi-user.target.wants/web.service -> ../web.service",
                "r.service.requires/web.service -> ../web.service",
                "u.service.upholds/web.service -> ../web.service",
            ]
        );
    }

    #[test]
    fn templates_are_linked_as_their_default_instance() {
        assert!(of("t@.service", "WantedBy=a.target").is_empty());
        let links = of("t@.service", "WantedBy=a.target\nDefaultInstance=7");
        assert_eq!(links, ["a.target.wants/t@7.service -> ../t@.service"]);
        assert_eq!(of("t@x.service", "WantedBy=a.target"), ["a.target.wants/t@x.service -> ../t@x.service"]);
    }
}
