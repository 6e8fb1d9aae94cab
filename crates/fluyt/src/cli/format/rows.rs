//! What each command shows: layouts, and rows made from Docker's documents.

use fluyt_docker_api::types::{
    ContainerSummary, HistoryItem, ImageSummary, NetworkInspect, PortSummary, Volume,
};
use fluyt_model::id;
use fluyt_model::quantity::{human_duration, human_size, human_size_with};
use fluyt_model::reference::Reference;

use super::tabs::ellipsis;
use super::{Layout, Row};
use crate::cli::time;

/// `ps`.
pub const CONTAINERS: Layout = Layout {
    type_name: "*formatter.ContainerContext",
    headers: &[
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Labels", "LABELS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Mounts", "MOUNTS"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
        ("Pod", "POD ID"),
        ("PodName", "PODNAME"),
        ("Ports", "PORTS"),
        ("RunningFor", "CREATED"),
        ("Size", "SIZE"),
        ("State", "STATE"),
        ("Status", "STATUS"),
    ],
    table: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    quiet: "{{.ID}}",
};

/// The table of `ps --size`.
pub const CONTAINERS_WITH_SIZE: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

/// A row of `ps`; `now` in nanoseconds since 1970.
pub fn container(c: &ContainerSummary, trunc: bool, now: i64) -> Row {
    let names: Vec<&str> = c.names.iter().map(|n| n.strip_prefix('/').unwrap_or(n)).collect();
    let own = names.iter().find(|n| !n.contains('/')).copied();
    let command = if trunc { ellipsis(&c.command, 20) } else { c.command.clone() };
    let mounts: Vec<String> = c
        .mounts
        .iter()
        .map(|m| if m.name.is_empty() { &m.source } else { &m.name })
        .map(|name| if trunc { ellipsis(name, 15) } else { name.clone() })
        .collect();
    let networks: Vec<&str> = c.network_settings.networks.keys().map(String::as_str).collect();
    Row::default()
        .with("ID", if trunc { id::short(&c.id) } else { &c.id })
        .with("Names", if trunc { own.unwrap_or_default().to_owned() } else { names.join(",") })
        .with("Image", image_name(c, trunc))
        .with("Command", fluyt_gotmpl::quote(&command))
        .with("CreatedAt", time::go_string(c.created * 1_000_000_000))
        .with("RunningFor", ago(c.created, now))
        .with("Ports", ports(&c.ports))
        .with("State", c.state.clone())
        .with("Status", c.status.clone())
        .with("Size", container_size(c))
        .with_labels(&c.labels)
        .with("Mounts", mounts.join(","))
        .with("LocalVolumes", c.mounts.iter().filter(|m| m.driver == "local").count().to_string())
        .with("Networks", networks.join(","))
        .with_value("Platform", fluyt_gotmpl::Value::Nil)
}

fn image_name(c: &ContainerSummary, trunc: bool) -> String {
    if c.image.is_empty() {
        return "<no image>".to_owned();
    }
    if trunc {
        let short = id::short(&c.image_id);
        if short == id::short(&c.image) {
            return short.to_owned();
        }
        if let Ok(name) = Reference::parse_untagged(&c.image)
            && name.digest().is_some()
        {
            return match name.tag() {
                Some(tag) => format!("{}:{tag}", name.familiar_name()),
                None => name.familiar_name(),
            };
        }
    }
    c.image.clone()
}

fn container_size(c: &ContainerSummary) -> String {
    let size = |n: i64| human_size_with(n as f64, 3);
    if c.size_root_fs > 0 {
        return format!("{} (virtual {})", size(c.size_rw), size(c.size_root_fs));
    }
    size(c.size_rw)
}

/// `3 hours ago`; `seconds` since 1970, `now` in nanoseconds.
fn ago(seconds: i64, now: i64) -> String {
    human_duration(now - seconds * 1_000_000_000) + " ago"
}

/// Ports as `ps` shows them: runs of equal mappings as ranges, translated ones last.
pub fn ports(all: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = all.iter().collect();
    sorted.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.kind).cmp(&(b.private_port, &b.ip, b.public_port, &b.kind))
    });
    let mut groups: Vec<(&str, &str, u16, u16)> = Vec::new();
    let mut closed = Vec::new();
    let mut translated = Vec::new();
    for port in sorted {
        let number = port.private_port;
        if !port.ip.is_empty() && port.public_port != number {
            translated.push(format!("{}:{}->{number}/{}", host(&port.ip), port.public_port, port.kind));
            continue;
        }
        match groups.iter_mut().find(|g| g.0 == port.ip && g.1 == port.kind) {
            None => groups.push((&port.ip, &port.kind, number, number)),
            Some(group) if u32::from(number) == u32::from(group.3) + 1 => group.3 = number,
            Some(group) => {
                closed.push(port_group(*group));
                (group.2, group.3) = (number, number);
            }
        }
    }
    closed.extend(groups.into_iter().map(port_group));
    closed.extend(translated);
    closed.join(", ")
}

fn port_group((ip, kind, first, last): (&str, &str, u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() { format!("{range}/{kind}") } else { format!("{}:{range}->{range}/{kind}", host(ip)) }
}

fn host(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

/// `images`.
pub const IMAGES: Layout = Layout {
    type_name: "*formatter.imageContext",
    headers: &[
        ("Containers", "CONTAINERS"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("SharedSize", "SHARED SIZE"),
        ("Size", "SIZE"),
        ("Tag", "TAG"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ],
    table: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}",
    quiet: "{{.ID}}",
};

/// The table of `images --digests`.
pub const IMAGES_WITH_DIGESTS: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}";

/// The rows of one image: one for each name, and for each digest if they are wanted.
pub fn image(image: &ImageSummary, digests: bool, trunc: bool, now: i64) -> Vec<Row> {
    let row = |repo: &str, tag: &str, digest: &str| image_row(image, (repo, tag, digest), trunc, now);
    let named = |text: &String| Reference::parse_untagged(text).ok();
    let by_digest: Vec<Reference> = image.repo_digests.iter().filter_map(named).collect();
    let mut rows = Vec::new();
    let mut repos: Vec<String> = Vec::new();
    for name in image.repo_tags.iter().filter_map(named) {
        let Some(tag) = name.tag() else { continue };
        let repo = name.familiar_name();
        let mut own: Vec<&str> =
            by_digest.iter().filter(|d| d.familiar_name() == repo).filter_map(Reference::digest).collect();
        if !digests {
            own.clear();
        }
        if own.is_empty() {
            own.push("<none>");
        }
        rows.extend(own.iter().map(|digest| row(&repo, tag, digest)));
        repos.push(repo);
    }
    let mut bare: Vec<String> = Vec::new();
    for name in by_digest.iter().filter(|d| !repos.contains(&d.familiar_name())) {
        let repo = name.familiar_name();
        if digests || !bare.contains(&repo) {
            rows.push(row(
                &repo,
                "<none>",
                if digests { name.digest().unwrap_or("<none>") } else { "<none>" },
            ));
            bare.push(repo);
        }
    }
    if rows.is_empty() {
        rows.push(row("<none>", "<none>", "<none>"));
    }
    rows
}

fn image_row(i: &ImageSummary, (repo, tag, digest): (&str, &str, &str), trunc: bool, now: i64) -> Row {
    let counted = |n: i64| if n == -1 { "N/A".to_owned() } else { human_size(n as f64) };
    let unique = if i.size == -1 || i.shared_size == -1 { -1 } else { i.size - i.shared_size };
    Row::default()
        .with("ID", if trunc { id::short(&i.id) } else { &i.id })
        .with("Repository", repo)
        .with("Tag", tag)
        .with("Digest", digest)
        .with("CreatedSince", if i.created == 0 { "N/A".to_owned() } else { ago(i.created, now) })
        .with("CreatedAt", time::go_string(i.created * 1_000_000_000))
        .with("Size", human_size_with(i.size as f64, 3))
        .with("VirtualSize", human_size(i.size as f64))
        .with("SharedSize", counted(i.shared_size))
        .with("UniqueSize", counted(unique))
        .with("Containers", if i.containers == -1 { "N/A".to_owned() } else { i.containers.to_string() })
}

/// `history`.
pub const HISTORY: Layout = Layout {
    type_name: "*image.historyContext",
    headers: &[
        ("Comment", "COMMENT"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("CreatedSince", "CREATED"),
        ("ID", "IMAGE"),
        ("Size", "SIZE"),
    ],
    table: "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    quiet: "{{.ID}}",
};

/// The table of `history --human=false`.
pub const HISTORY_PLAIN: &str = "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

/// A row of `history`.
pub fn history(item: &HistoryItem, trunc: bool, human: bool, now: i64) -> Row {
    const YEAR_2000: i64 = 946_684_800;
    let created_at = time::rfc3339_local(item.created * 1_000_000_000);
    let since = match (human, item.created) {
        (false, _) => created_at.clone(),
        (true, created) if created <= YEAR_2000 => "N/A".to_owned(),
        (true, created) => ago(created, now),
    };
    let created_by = item.created_by.replace('\t', " ");
    Row::default()
        .with("ID", if trunc { id::short(&item.id) } else { &item.id })
        .with("CreatedAt", created_at)
        .with("CreatedSince", since)
        .with("CreatedBy", if trunc { ellipsis(&created_by, 45) } else { created_by })
        .with("Size", if human { human_size_with(item.size as f64, 3) } else { item.size.to_string() })
        .with("Comment", item.comment.clone())
}

/// `network ls`.
pub const NETWORKS: Layout = Layout {
    type_name: "*network.networkContext",
    headers: &[
        ("CreatedAt", "CREATED AT"),
        ("Driver", "DRIVER"),
        ("ID", "NETWORK ID"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("Name", "NAME"),
        ("Scope", "SCOPE"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    quiet: "{{.ID}}",
};

/// A row of `network ls`; `created` in nanoseconds since 1970.
pub fn network(n: &NetworkInspect, created: i64, trunc: bool) -> Row {
    Row::default()
        .with("ID", if trunc { id::short(&n.id) } else { &n.id })
        .with("Name", n.name.clone())
        .with("Driver", n.driver.clone())
        .with("Scope", n.scope.clone())
        .with("IPv4", n.enable_ipv4.to_string())
        .with("IPv6", n.enable_ipv6.to_string())
        .with("Internal", n.internal.to_string())
        .with_labels(&n.labels)
        .with("CreatedAt", time::go_string(created))
}

/// `volume ls`.
pub const VOLUMES: Layout = Layout {
    type_name: "*formatter.volumeContext",
    headers: &[
        ("Availability", "AVAILABILITY"),
        ("Driver", "DRIVER"),
        ("Group", "GROUP"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ],
    table: "table {{.Driver}}\t{{.Name}}",
    quiet: "{{.Name}}",
};

/// The table of volumes in `system df --verbose`.
pub const VOLUMES_USAGE: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";

/// A row of `volume ls`.
pub fn volume(v: &Volume) -> Row {
    let (links, size) = match &v.usage_data {
        None => ("N/A".to_owned(), "N/A".to_owned()),
        Some(usage) => (usage.ref_count.to_string(), human_size(usage.size as f64)),
    };
    Row::default()
        .with("Name", v.name.clone())
        .with("Driver", v.driver.clone())
        .with("Scope", v.scope.clone())
        .with("Mountpoint", v.mountpoint.clone())
        .with_labels(&v.labels)
        .with("Links", links)
        .with("Size", size)
        .with("Group", "N/A")
        .with("Availability", "N/A")
        .with("Status", "N/A")
}

/// `stats`.
pub const STATS: Layout = Layout {
    type_name: "*container.statsContext",
    headers: &[
        ("BlockIO", "BLOCK I/O"),
        ("CPUPerc", "CPU %"),
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("MemPerc", "MEM %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("Name", "NAME"),
        ("NetIO", "NET I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    quiet: "{{.ID}}",
};

/// `diff --format`.
pub const CHANGES: Layout = Layout {
    type_name: "*container.diffContext",
    headers: &[("Path", "PATH"), ("Type", "CHANGE TYPE")],
    table: "table {{.Type}}\t{{.Path}}",
    quiet: "{{.Path}}",
};

/// `system df`.
pub const DISK_USAGE: Layout = Layout {
    type_name: "*formatter.diskUsageContext",
    headers: &[
        ("Active", "ACTIVE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Size", "SIZE"),
        ("TotalCount", "TOTAL"),
        ("Type", "TYPE"),
    ],
    table: "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    quiet: "{{.Type}}",
};

/// A row of `system df`: bytes used, bytes that can be given back, and whether to show the share.
pub fn disk_usage(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Row {
    let mut free = human_size(reclaimable as f64);
    if size > 0 {
        free = format!("{free} ({}%)", u128::from(reclaimable) * 100 / u128::from(size));
    }
    Row::default()
        .with("Type", kind)
        .with("TotalCount", total.to_string())
        .with("Active", active.to_string())
        .with("Size", human_size(size as f64))
        .with("Reclaimable", free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::format::render;

    fn port(ip: &str, private_port: u16, public_port: u16) -> PortSummary {
        PortSummary { ip: ip.to_owned(), private_port, public_port, kind: "tcp".to_owned() }
    }

    #[test]
    fn ports_group_as_dockers_do() {
        for (list, text) in [
            (vec![port("", 80, 0)], "80/tcp"),
            (vec![port("", 80, 0), port("", 81, 0), port("", 90, 0)], "80-81/tcp, 90/tcp"),
            (
                vec![port("0.0.0.0", 80, 8080), port("::", 80, 8080)],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (vec![port("0.0.0.0", 80, 80), port("0.0.0.0", 81, 81)], "0.0.0.0:80-81->80-81/tcp"),
        ] {
            assert_eq!(ports(&list), text);
        }
    }

    #[test]
    fn a_container_row() {
        let now = 1_700_000_000_000_000_000;
        let c = ContainerSummary {
            id: "0123456789abcdef".to_owned(),
            names: vec!["/web".to_owned(), "/db/web".to_owned()].into(),
            image: "nginx".to_owned(),
            image_id: "sha256:ffff".to_owned(),
            command: "nginx -g 'daemon off;' more".to_owned(),
            created: 1_700_000_000 - 7200,
            state: "running".to_owned(),
            status: "Up 2 hours".to_owned(),
            ..ContainerSummary::default()
        };
        let text = render(&CONTAINERS, CONTAINERS.table, [container(&c, true, now)]).unwrap();
        assert_eq!(
            text,
            "CONTAINER ID   IMAGE     COMMAND                  CREATED       STATUS       PORTS     NAMES\n0123456789ab   nginx     \"nginx -g 'daemon of…\"   2 hours ago   Up 2 hours             web\n"
        );
    }

    #[test]
    fn image_rows() {
        let image_of = |tags: &[&str], digests: &[&str]| ImageSummary {
            id: "sha256:0123456789abcdef".to_owned(),
            repo_tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            repo_digests: digests.iter().map(|t| (*t).to_owned()).collect(),
            size: 4_430_000,
            shared_size: -1,
            containers: -1,
            created: 1,
            ..ImageSummary::default()
        };
        let digest = format!("r.example/a@sha256:{}", "a".repeat(64));
        let show = |i: &ImageSummary, digests: bool| {
            render(
                &IMAGES,
                "{{.Repository}} {{.Tag}} {{.Digest}} {{.Size}} {{.UniqueSize}}",
                image(i, digests, true, 0),
            )
            .unwrap()
        };
        assert_eq!(show(&image_of(&[], &[]), false), "<none> <none> <none> 4.43MB N/A\n");
        assert_eq!(
            show(&image_of(&["a:1", "r.example/a:2"], &[&digest]), false),
            "a 1 <none> 4.43MB N/A\nr.example/a 2 <none> 4.43MB N/A\n"
        );
        assert_eq!(
            show(&image_of(&["r.example/a:2"], &[&digest]), true),
            format!("r.example/a 2 sha256:{} 4.43MB N/A\n", "a".repeat(64))
        );
        assert_eq!(show(&image_of(&[], &[&digest]), false), "r.example/a <none> <none> 4.43MB N/A\n");
    }
}
