//! The floors of ARCHITECTURE.md against the dependencies of each crate.

use std::collections::BTreeMap;

/// A crate's floor; development crates stand beside the house.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Floor {
    /// May be used by higher floors only.
    Number(u32),
    /// Tests and tools: may use everything, shipped crates must not use it.
    Development,
}

/// The table of floors: lines of the form ``| 2 | `runtime`, `image` | … |``.
pub fn floors(architecture: &str) -> BTreeMap<String, Floor> {
    let mut table = BTreeMap::new();
    for line in architecture.lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(floor), Some(names)) = (cells.next(), cells.next()) else { continue };
        let floor = match (floor, floor.parse()) {
            ("dev", _) => Floor::Development,
            (_, Ok(number)) => Floor::Number(number),
            _ => continue,
        };
        for name in names.split(',') {
            let name = name.trim().trim_matches('`');
            if !name.is_empty() {
                table.insert(name.to_owned(), floor);
            }
        }
    }
    table
}

/// The workspace crates that a manifest's `[dependencies]` names, without the `fluyt-` prefix.
pub fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside =
                line == "[dependencies]" || line.starts_with("[target.") && line.ends_with(".dependencies]");
        } else if inside && let Some(rest) = line.strip_prefix("fluyt-") {
            found.push(rest.split(['.', ' ', '=']).next().unwrap_or(rest).to_owned());
        }
    }
    found
}

/// What is wrong with the dependencies of `name`, one sentence each.
pub fn check(name: &str, manifest: &str, floors: &BTreeMap<String, Floor>) -> Vec<String> {
    let Some(own) = floors.get(name) else {
        return vec![format!("crate {name} has no floor in ARCHITECTURE.md")];
    };
    let mut wrong = Vec::new();
    for dependency in dependencies(manifest) {
        match (own, floors.get(&dependency)) {
            (_, None) => {
                wrong.push(format!("{name} uses {dependency}, which has no floor in ARCHITECTURE.md"))
            }
            (Floor::Number(_), Some(Floor::Development)) => {
                wrong.push(format!("{name} is shipped and uses the development crate {dependency}"));
            }
            (Floor::Number(own), Some(Floor::Number(below))) if below >= own => {
                wrong.push(format!(
                    "{name} (floor {own}) uses {dependency} (floor {below}): only lower floors"
                ));
            }
            _ => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_uses_lower_floors_only() {
        let floors = floors("| 0 | `model` | x |\n| 2 | `image`, `net` | y |\n| dev | `testkit` | z |\n");
        let manifest = "[dependencies]\nfluyt-model.workspace = true\nfluyt-net = { path = \"x\" }\n\
                        fluyt-testkit.workspace = true\n[dev-dependencies]\nfluyt-testkit.workspace = true\n";
        let wrong = check("image", manifest, &floors);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("net") && wrong[1].contains("testkit"));
        assert_eq!(check("nobody", "", &floors).len(), 1);
    }
}
