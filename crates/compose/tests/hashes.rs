//! Hashes of services, networks and volumes, by which Compose knows what has changed: the same as the reference
//! implementation's. The expected ones were made with compose-go 2.14.0 and the functions of docker compose 5 (`ServiceHash`,
//! `NetworkHash`, `VolumeHash`), for a project named `truth` in `/shop`.

use std::fmt::Write;
use std::path::Path;

use fluyt_compose::load::{Environment, Options, Source, load};

struct Shop(&'static str);

impl Source for Shop {
    fn read(&self, _: &Path) -> std::io::Result<String> {
        Ok(self.0.to_owned())
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new("/shop/compose.yaml")
    }

    fn is_directory(&self, _: &Path) -> bool {
        false
    }
}

/// A line an object: `service web HASH`.
fn hashes(yaml: &'static str) -> String {
    let mut options = Options::new("/shop", Environment::from([("HOME".to_owned(), "/root".to_owned())]));
    options.name = Some("truth".to_owned());
    options.profiles = vec!["*".to_owned()];
    let project = load(&options, &Shop(yaml)).unwrap_or_else(|e| panic!("{}", e.chain()));
    let mut out = String::new();
    for service in project.services() {
        let _ = writeln!(out, "service {service} {}", project.hash(service).expect("a service"));
    }
    for network in project.names("networks") {
        let _ = writeln!(out, "network {network} {}", project.hash_of_network(network).expect("a network"));
    }
    for volume in project.names("volumes") {
        let _ = writeln!(out, "volume {volume} {}", project.hash_of_volume(volume).expect("a volume"));
    }
    out
}

#[test]
fn hashes_are_those_of_the_reference_implementation() {
    assert_eq!(hashes(include_str!("hashes/services.yaml")), include_str!("hashes/services.txt"));
}
