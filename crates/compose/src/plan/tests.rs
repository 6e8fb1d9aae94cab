//! Plans of small projects, and the promise that a project that was brought up needs nothing more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::{Action, Container, Down, Images, Network, Observed, Plan, Recreate, Up, Volume, down, text, up};
use crate::load::{Environment, Options, Source, load};
use crate::lower::{container_name, network_of, resource_name};
use crate::project::Project;
use crate::view::View;

struct One(String);

impl Source for One {
    fn read(&self, _: &Path) -> std::io::Result<String> {
        Ok(self.0.clone())
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new("/shop/compose.yaml")
    }

    fn is_directory(&self, _: &Path) -> bool {
        false
    }
}

fn project(yaml: &str) -> Project {
    let mut options = Options::new("/shop", Environment::new());
    options.files = vec![PathBuf::from("/shop/compose.yaml")];
    load(&options, &One(yaml.to_owned())).unwrap_or_else(|e| panic!("{}\n{yaml}", e.chain()))
}

/// What is there after a plan has been carried out.
fn simulate(project: &Project, before: &Observed, plan: &Plan, salt: &str) -> Observed {
    let mut now = before.clone();
    for (n, step) in plan.steps.iter().enumerate() {
        assert!(step.after.iter().all(|a| *a < n), "step {n} waits for a later one");
        match &step.action {
            Action::CreateNetwork(key) => {
                let name = resource_name(project, "networks", key);
                assert!(now.network(&name).is_none(), "network {name} is there");
                let hash = project.hash_of_network(key).unwrap_or_default();
                let id = format!("{salt}{n}");
                now.networks.push(Network { id, name, key: key.clone(), hash, ..Network::default() });
            }
            Action::RemoveNetwork(name) => {
                assert!(!now.containers.iter().any(|c| c.networks.contains_key(name)), "{name} is in use");
                now.networks.retain(|x| x.name != *name);
            }
            Action::CreateVolume(key) => {
                let hash = project.hash_of_volume(key).unwrap_or_default();
                now.volumes.push(Volume {
                    name: resource_name(project, "volumes", key),
                    key: key.clone(),
                    hash,
                });
            }
            Action::RemoveVolume(name) => now.volumes.retain(|v| v.name != *name),
            Action::CreateContainer { service, number, replaces, aside } => {
                let name = container_name(project, service, *number);
                let replaced = replaces.as_deref().unwrap_or_default();
                let name = if *aside { format!("{replaced:0>12}_{name}") } else { name };
                assert!(!now.containers.iter().any(|c| c.name == name), "{name} is there");
                let node = project.service(service).expect("a service of the project");
                let networks = network_of(project, node)
                    .into_iter()
                    .map(|(_, net)| {
                        (net.clone(), now.network(&net).expect("its network is there").id.clone())
                    })
                    .collect();
                now.containers.push(Container {
                    id: format!("{salt}{n}"),
                    name,
                    service: service.clone(),
                    number: *number,
                    state: "created".to_owned(),
                    hash: project.hash(service).unwrap_or_default(),
                    image: now.images.get(service).cloned().unwrap_or_default(),
                    networks,
                    depends_on: node.entries("depends_on").iter().map(|(on, _)| (*on).to_owned()).collect(),
                    ..Container::default()
                });
            }
            Action::PreStart { .. } => {}
            Action::RenameContainer { service, number } => {
                let name = container_name(project, service, *number);
                assert!(!now.containers.iter().any(|c| c.name == name), "{name} is there");
                newest(&mut now, service, *number).name = name;
            }
            Action::StartContainer { service, number } => {
                let wanted = container_name(project, service, *number);
                let container = newest(&mut now, service, *number);
                assert_eq!(container.name, wanted, "what is started has its name");
                container.state = "running".to_owned();
            }
            Action::StopContainer { id, .. } => {
                let container =
                    now.containers.iter_mut().find(|c| c.id == *id).expect("the container to stop");
                assert!(container.is_up());
                container.state = "exited".to_owned();
            }
            Action::RemoveContainer { id, .. } => {
                let at = now.containers.iter().position(|c| c.id == *id).expect("the container to remove");
                assert!(!now.containers[at].is_up(), "{} runs", now.containers[at].name);
                now.containers.remove(at);
            }
            Action::Disconnect { network, id, .. } => {
                let container = now.containers.iter_mut().find(|c| c.id == *id).expect("a container");
                assert!(container.networks.remove(network).is_some(), "it is in the network");
            }
            Action::Connect { network, id, .. } => {
                let name = resource_name(project, "networks", network);
                let place = now.network(&name).expect("its network is there").id.clone();
                let container = now.containers.iter_mut().find(|c| c.id == *id).expect("a container");
                container.networks.insert(name, place);
            }
            Action::Wait { .. } | Action::RemoveImage(_) => {}
        }
    }
    now
}

/// The container of a number that was made last, which is what the executor takes for it.
fn newest<'o>(now: &'o mut Observed, service: &str, number: u32) -> &'o mut Container {
    let mut own = now.containers.iter_mut().filter(|c| c.service == service && !c.one_off);
    own.rfind(|c| c.number == number).expect("a container of that number")
}

const SHOP: &str = "
services:
  web:
    image: web
    ports: [\"80:80\"]
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_started}
  db:
    image: db
    volumes: [\"data:/var/lib/db\"]
    healthcheck: {test: [CMD, \"true\"]}
  cache:
    image: cache
volumes:
  data:
";

fn planned(project: &Project, observed: &Observed, wanted: &Up) -> Plan {
    up(project, observed, wanted).unwrap_or_else(|e| panic!("{}", e.chain()))
}

#[test]
fn a_new_project_is_made_in_the_order_of_its_dependencies() {
    let project = project(SHOP);
    let plan = planned(&project, &Observed::default(), &Up::default());
    let expected = "\
create network shop_default   # there is no such network
create volume shop_data       # there is no such volume
create container shop-cache-1 # service cache has 0 of 1 containers
start container shop-cache-1  # service cache has 0 of 1 containers
create container shop-db-1    # service db has 0 of 1 containers
start container shop-db-1     # service db has 0 of 1 containers
wait until db is healthy      # web depends on it
create container shop-web-1   # service web has 0 of 1 containers
start container shop-web-1    # service web has 0 of 1 containers
";
    let squeezed = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(squeezed(&text(&project, &plan)), squeezed(expected));
    let now = simulate(&project, &Observed::default(), &plan, "a");
    assert!(planned(&project, &now, &Up::default()).is_empty(), "an unchanged project plans nothing");
}

fn shop_is_up() -> (Project, Observed) {
    let project = project(SHOP);
    let plan = planned(&project, &Observed::default(), &Up::default());
    let now = simulate(&project, &Observed::default(), &plan, "a");
    (project, now)
}

#[test]
fn a_changed_service_alone_is_made_anew() {
    let (_, now) = shop_is_up();
    let changed = project(&SHOP.replace("image: cache", "image: cache\n    environment: {SIZE: 2}"));
    let plan = planned(&changed, &now, &Up::default());
    let lines: Vec<String> = plan.steps.iter().map(|s| super::action_text(&changed, &s.action)).collect();
    assert_eq!(
        lines,
        [
            "create container shop-cache-1 beside the old one",
            "stop container shop-cache-1",
            "remove container shop-cache-1",
            "name the new container shop-cache-1",
            "start container shop-cache-1",
        ]
    );
    assert_eq!(plan.steps[0].cause, "the configuration of cache has changed");
    let after = simulate(&changed, &now, &plan, "b");
    assert!(planned(&changed, &after, &Up::default()).is_empty());
}

#[test]
fn another_image_makes_a_container_anew() {
    let (project, mut now) = shop_is_up();
    now.containers.iter_mut().filter(|c| c.service == "db").for_each(|c| c.image = "sha256:old".to_owned());
    now.images.insert("db".to_owned(), "sha256:new".to_owned());
    let plan = planned(&project, &now, &Up::default());
    assert_eq!(plan.steps[0].cause, "db is another image now");
}

#[test]
fn services_are_scaled_up_and_down() {
    let (project, now) = shop_is_up();
    let scale = |n: u32| Up { scale: [("cache".to_owned(), n)].into(), ..Up::default() };
    let plan = planned(&project, &now, &scale(3));
    let three = simulate(&project, &now, &plan, "b");
    assert_eq!(three.of("cache").iter().map(|c| c.number).collect::<Vec<_>>(), [1, 2, 3]);
    let plan = planned(&project, &three, &scale(1));
    assert_eq!(text(&project, &plan).lines().count(), 4);
    let one = simulate(&project, &three, &plan, "c");
    assert_eq!(one.of("cache").iter().map(|c| c.number).collect::<Vec<_>>(), [1]);
    let none = simulate(&project, &one, &planned(&project, &one, &scale(0)), "d");
    assert!(none.of("cache").is_empty());
}

#[test]
fn a_changed_network_is_made_anew_with_everybody_in_it() {
    let (_, now) = shop_is_up();
    let changed = project(&format!("{SHOP}networks:\n  default: {{internal: true}}\n"));
    let plan = planned(&changed, &now, &Up::default());
    let after = simulate(&changed, &now, &plan, "b");
    assert!(after.containers.iter().all(Container::is_up));
    assert!(planned(&changed, &after, &Up::default()).is_empty());
    assert!(text(&changed, &plan).contains("remove network shop_default"));
}

#[test]
fn a_network_is_made_anew_and_nobody_is_lost() {
    let (_, mut now) = shop_is_up();
    let home = now.networks[0].clone();
    let guest = |id: &str, service: &str, one_off: bool| Container {
        id: id.to_owned(),
        name: format!("shop-{id}"),
        service: service.to_owned(),
        number: 1,
        one_off,
        state: "running".to_owned(),
        networks: [(home.name.clone(), home.id.clone())].into(),
        ..Container::default()
    };
    now.containers.push(guest("d1", "db", true));
    now.containers.push(guest("d2", "debugger", false));
    let changed = project(
        &format!("{SHOP}networks:\n  default: {{internal: true}}\n")
            .replace("services:", "services:\n  debugger:\n    image: d\n    profiles: [debug]"),
    );
    let plan = planned(&changed, &now, &Up::default());
    let after = simulate(&changed, &now, &plan, "b");
    for id in ["d1", "d2"] {
        let container = after.containers.iter().find(|c| c.id == id).expect("it is still there");
        assert_eq!(container.networks.get(&home.name), Some(&after.networks[0].id));
        assert!(container.is_up());
    }
    // Somebody else's container is in it: nothing is touched.
    now.networks[0].members = vec![("far".to_owned(), "stranger".to_owned())];
    let error = up(&changed, &now, &Up::default()).expect_err("a stranger is in it");
    assert!(error.to_string().contains("stranger"), "{error}");
}

#[test]
fn what_one_may_do_without_another_needs() {
    let yaml = "services:\n  db: {image: d, healthcheck: {test: [CMD, x]}}\n  \
        a: {image: a, depends_on: {db: {condition: service_healthy, required: false}}}\n  \
        b: {image: b, depends_on: {db: {condition: service_healthy}}}\n";
    let project = project(yaml);
    let plan = planned(&project, &Observed::default(), &Up::default());
    let needed_by = |service: &str| {
        let start =
            |s: &&super::Step| matches!(&s.action, Action::StartContainer { service: x, .. } if x == service);
        let step = plan.steps.iter().find(start).expect("it is started");
        let mut waits = step.after.iter().map(|n| &plan.steps[*n].action);
        waits.find_map(|a| if let Action::Wait { required, .. } = a { Some(*required) } else { None })
    };
    assert_eq!((needed_by("a"), needed_by("b")), (Some(false), Some(true)));
}

#[test]
fn down_touches_no_data_that_is_external_or_not_in_the_files() {
    let (_, mut now) = shop_is_up();
    now.volumes.push(Volume { name: "shop_old".to_owned(), key: "old".to_owned(), hash: String::new() });
    let all = Down { volumes: true, ..Down::default() };
    let kept = project(&SHOP.replace("\n  data:\n", "\n  data: {external: true, name: shop_data}\n"));
    let after = simulate(&kept, &now, &down(Some(&kept), &now, &all), "z");
    assert_eq!(after.volumes.len(), 2);
    let named = project(SHOP);
    let after = simulate(&named, &now, &down(Some(&named), &now, &all), "z");
    assert_eq!(after.volumes.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["shop_old"]);
    // Without files what is there says what the project has.
    let after = simulate(&named, &now, &down(None, &now, &all), "z");
    assert!(after.volumes.is_empty());
}

#[test]
fn orphans_go_when_asked_for() {
    let (_, now) = shop_is_up();
    let smaller = project("services:\n  cache:\n    image: cache\n");
    assert!(planned(&smaller, &now, &Up::default()).is_empty());
    let plan = planned(&smaller, &now, &Up { remove_orphans: true, ..Up::default() });
    let after = simulate(&smaller, &now, &plan, "b");
    assert_eq!(after.containers.len(), 1);
}

#[test]
fn stopped_containers_start_and_others_restart_with_what_they_need() {
    let (project_, mut now) = shop_is_up();
    now.containers.iter_mut().filter(|c| c.service == "web").for_each(|c| c.state = "exited".to_owned());
    let plan = planned(&project_, &now, &Up::default());
    assert_eq!(
        plan.steps.iter().map(|s| s.cause.as_str()).collect::<Vec<_>>(),
        ["web depends on it", "it is exited"]
    );
    let with_restart =
        SHOP.replace("db: {condition: service_healthy}", "db: {condition: service_healthy, restart: true}");
    let first = project(&with_restart);
    let plan = planned(&first, &Observed::default(), &Up::default());
    let now = simulate(&first, &Observed::default(), &plan, "a");
    let changed = project(&with_restart.replace("image: db", "image: db\n    user: root"));
    let plan = planned(&changed, &now, &Up::default());
    assert!(
        text(&changed, &plan).contains("it restarts with db, which is made anew"),
        "{}",
        text(&changed, &plan)
    );
    let after = simulate(&changed, &now, &plan, "b");
    assert!(planned(&changed, &after, &Up::default()).is_empty());
}

#[test]
fn down_stops_dependents_first_and_leaves_what_others_made() {
    let (project, mut now) = shop_is_up();
    now.networks.push(Network { id: "x".to_owned(), name: "bridge".to_owned(), ..Network::default() });
    let plan = down(Some(&project), &now, &Down::default());
    let lines: Vec<String> = plan.steps.iter().map(|s| super::action_text(&project, &s.action)).collect();
    assert_eq!(lines[0], "stop container shop-web-1");
    assert_eq!(lines.last().map(String::as_str), Some("remove network shop_default"));
    assert!(!lines.iter().any(|l| l.contains("volume")));
    let after = simulate(&project, &now, &plan, "z");
    assert!(after.containers.is_empty() && after.networks.len() == 1 && after.volumes.len() == 1);
    let all = Down { volumes: true, images: Images::All, ..Down::default() };
    assert!(text(&project, &down(Some(&project), &after, &all)).contains("remove volume shop_data"));
}

#[test]
fn external_things_must_be_there() {
    let yaml =
        "services:\n  a:\n    image: a\n    networks: [n]\nnetworks:\n  n: {external: true, name: far}\n";
    let error =
        up(&project(yaml), &Observed::default(), &Up::default()).expect_err("there is no such network");
    assert!(error.to_string().contains("network far is external"), "{error}");
}

#[test]
fn containers_are_made_anew_always_or_never_when_asked() {
    let (project_, now) = shop_is_up();
    let always = Up { recreate: Recreate::Always, ..Up::default() };
    let plan = planned(&project_, &now, &always);
    assert_eq!(plan.steps.iter().filter(|s| matches!(s.action, Action::CreateContainer { .. })).count(), 3);
    let changed = project(&SHOP.replace("image: cache", "image: other"));
    let never = Up { recreate: Recreate::Never, ..Up::default() };
    assert!(planned(&changed, &now, &never).is_empty());
}

/// A project of up to five services that depend on earlier ones.
fn any_project() -> impl Strategy<Value = String> {
    let service = (0..3u8, 0..4u32, 0..3u8, any::<bool>(), 0..32u8);
    proptest::collection::vec(service, 1..5).prop_map(|services| {
        let mut yaml = String::from("services:\n");
        for (n, (image, scale, network, restart, needs)) in services.iter().enumerate() {
            yaml.push_str(&format!("  s{n}:\n    image: i{image}\n    scale: {scale}\n"));
            match network {
                0 => {}
                1 => yaml.push_str("    networks: [front]\n"),
                _ => yaml.push_str("    networks: [front, back]\n"),
            }
            let on: Vec<usize> = (0..n).filter(|m| needs & (1 << m) != 0).collect();
            if !on.is_empty() {
                yaml.push_str("    depends_on:\n");
            }
            for m in on {
                yaml.push_str(&format!("      s{m}: {{condition: service_healthy, restart: {restart}}}\n"));
            }
        }
        yaml.push_str("networks:\n  front:\n  back: {internal: true}\n");
        yaml
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Planning again after a plan has been carried out gives an empty plan, wherever one started from.
    #[test]
    fn plans_converge(first in any_project(), second in any_project(), stopped in 0..4usize, done in 0..60usize) {
        let first = project(&first);
        let second = project(&second);
        let everything = Up { remove_orphans: true, ..Up::default() };
        let mut there = simulate(&first, &Observed::default(), &planned(&first, &Observed::default(), &everything), "a");
        if let Some(container) = there.containers.get_mut(stopped) {
            container.state = "exited".to_owned();
        }
        // A run may be interrupted after any step.
        let mut begun = planned(&second, &there, &everything);
        begun.steps.truncate(done);
        let there = simulate(&second, &there, &begun, "c");
        let now = simulate(&second, &there, &planned(&second, &there, &everything), "b");
        for container in &now.containers {
            prop_assert_eq!(&container.name, &container_name(&second, &container.service, container.number));
        }
        prop_assert!(planned(&second, &now, &everything).is_empty());
        let (made, started) = planned(&second, &there, &everything).in_two();
        let only_made = simulate(&second, &there, &made, "b");
        let in_two = simulate(&second, &only_made, &started, "c");
        prop_assert!(planned(&second, &in_two, &everything).is_empty());
        let count = |service: &str| now.of(service).len();
        let wanted: BTreeMap<String, usize> = second.services().into_iter().map(|s| {
            (s.to_owned(), usize::try_from(second.service(s).and_then(|n| n.int("scale")).unwrap_or(1)).unwrap_or(0))
        }).collect();
        for (service, n) in wanted {
            prop_assert_eq!(count(&service), n);
        }
        let gone = simulate(&second, &now, &down(Some(&second), &now, &Down { volumes: true, ..Down::default() }), "d");
        prop_assert!(gone.containers.is_empty() && gone.networks.is_empty());
    }
}

#[test]
fn hooks_run_once_before_a_service_starts() {
    let project = project("services: {a: {image: x, scale: 2, pre_start: [{command: [init]}]}}");
    let first = up(&project, &Observed::default(), &Up::default()).unwrap();
    let lines = text(&project, &first);
    assert_eq!(lines.matches("run the pre_start hooks of a").count(), 1, "{lines}");
    let hook = first.steps.iter().position(|s| matches!(s.action, Action::PreStart { .. })).unwrap();
    let starts = first.steps.iter().filter(|s| matches!(s.action, Action::StartContainer { .. }));
    assert!(starts.clone().count() == 2 && starts.into_iter().all(|s| s.after.contains(&hook)), "{lines}");
    let there = simulate(&project, &Observed::default(), &first, "1");
    assert!(up(&project, &there, &Up::default()).unwrap().is_empty());
    let more = Up { scale: [("a".to_owned(), 3)].into(), ..Up::default() };
    let more = text(&project, &up(&project, &there, &more).unwrap());
    assert!(!more.contains("pre_start"), "one that runs has been prepared: {more}");
    let again = Up { recreate: Recreate::Always, ..Up::default() };
    let again = text(&project, &up(&project, &there, &again).unwrap());
    assert_eq!(again.matches("pre_start").count(), 1, "{again}");
}
