//! Pods and what becomes of them.

use std::collections::BTreeMap;

use fluyt_model::sandbox::{
    MountSource, Namespace, OnFailure, Protocol, RestartCondition, Seccomp, UserNamespace,
};

use super::*;
use crate::stream::Stream;

fn images() -> BTreeMap<String, ImageFacts> {
    let web = ImageFacts {
        id: "sha256:web".to_owned(),
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["serve".to_owned()],
        env: vec!["PATH=/bin".to_owned(), "BASE=image".to_owned()],
        user: "app:www".to_owned(),
        working_dir: "/srv".to_owned(),
        volumes: vec!["/var/data".to_owned()],
        stop_signal: "SIGQUIT".to_owned(),
        labels: BTreeMap::from([("from".to_owned(), "image".to_owned())]),
    };
    BTreeMap::from([("web".to_owned(), web), ("plain".to_owned(), ImageFacts::default())])
}

fn lowered_with(text: &str, wishes: &Wishes) -> Lowering<Lowered> {
    let mut stream = Stream::default();
    stream.read(text, 0).map_err(|f| f.message).unwrap();
    let secrets = stream.secrets.iter().map(|s| (s.metadata.name.clone(), s.bytes())).collect();
    let machine = Machine { memory: 4 << 30, cpus: 4, hostname: "host1".to_owned() };
    let images = images();
    let profile = |path: &str| Ok(format!("{{\"profile\":\"{path}\"}}"));
    let facts = Facts {
        config_maps: &stream.config_maps,
        secrets: &secrets,
        images: &images,
        machine: &machine,
        uid: "4711",
        profile: &profile,
    };
    lower(stream.pods[0].subject(), wishes, &facts)
}

fn lowered(text: &str) -> Lowered {
    lowered_with(text, &Wishes::default()).unwrap()
}

fn pod(spec: &str) -> String {
    let body: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  labels: {{app: x}}\nspec:\n{body}")
}

#[test]
fn a_command_takes_the_place_of_entry_point_and_arguments() {
    let words = |fields: &str| {
        let lowered = lowered(&pod(&format!("containers:\n- name: c\n  image: web\n{fields}")));
        lowered.members[0].spec.process.args.join(" ")
    };
    assert_eq!(words(""), "/entry serve");
    assert_eq!(words("  args: [a, b]"), "/entry a b");
    assert_eq!(words("  command: [run]"), "run");
    assert_eq!(words("  command: [run]\n  args: [$(BASE), $$(BASE), $(NO)]"), "run image $(BASE) $(NO)");
}

#[test]
fn variables_come_from_everywhere_and_later_ones_win() {
    let text = pod("containers:
- name: c
  image: web
  envFrom:
  - configMapRef: {name: cm}
  - prefix: S_
    secretRef: {name: s}
  - configMapRef: {name: none, optional: true}
  env:
  - {name: BASE, value: own}
  - {name: BOTH, value: $(A)-$(BASE)-$(PATH)}
  - name: KEY
    valueFrom: {configMapKeyRef: {name: cm, key: A}}
  - name: NOTHING
    valueFrom: {secretKeyRef: {name: s, key: none, optional: true}}
  - name: NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: ID
    valueFrom: {fieldRef: {fieldPath: metadata.uid}}
  - name: LABEL
    valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}
  - name: MEMORY
    valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}
  - name: CPU
    valueFrom: {resourceFieldRef: {resource: requests.cpu}}
  resources:
    limits: {memory: 64Mi}
    requests: {cpu: 1500m}")
        + "---
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
data: {A: one, B: two}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {T: aGVsbG8=}
stringData: {U: world}
";
    assert_eq!(
        lowered(&text).members[0].spec.process.env,
        [
            "PATH=/bin",
            "BASE=own",
            "A=one",
            "B=two",
            "S_T=hello",
            "S_U=world",
            "BOTH=one-own-$(PATH)",
            "KEY=one",
            "NAME=p",
            "ID=4711",
            "LABEL=x",
            "MEMORY=64",
            "CPU=2"
        ]
    );
}

#[test]
fn volumes_are_what_their_sources_say() {
    let text = pod("securityContext: {fsGroup: 2000}
containers:
- name: c
  image: plain
  command: [x]
  volumeMounts:
  - {name: host, mountPath: /host, readOnly: true, mountPropagation: HostToContainer}
  - {name: host, mountPath: /sub, subPath: a/b}
  - {name: dir, mountPath: /dir}
  - {name: mem, mountPath: /mem}
  - {name: claim, mountPath: /claim}
  - {name: conf, mountPath: /conf}
  - {name: one, mountPath: /etc/one.conf, subPath: one.conf}
  - {name: gone, mountPath: /gone}
  - {name: img, mountPath: /img}
  - {name: tty, mountPath: /dev/tty9}
  - {name: about, mountPath: /about}
volumes:
- {name: host, hostPath: {path: /srv/x, type: DirectoryOrCreate}}
- {name: dir, emptyDir: {}}
- {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: claim, persistentVolumeClaim: {claimName: data, readOnly: true}}
- {name: conf, configMap: {name: cm, defaultMode: 0400}}
- {name: one, configMap: {name: cm, items: [{key: a, path: one.conf, mode: 0600}]}}
- {name: gone, secret: {secretName: none, optional: true}}
- {name: img, image: {reference: web}}
- {name: tty, hostPath: {path: /dev/tty0, type: CharDevice}}
- name: about
  downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}")
        + "---
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
data: {a: text}
binaryData: {b: AAE=}
";
    let lowered = lowered(&text);
    let member = &lowered.members[0].spec;
    let said: Vec<String> = member
        .mounts
        .iter()
        .map(|m| {
            let source = match &m.source {
                MountSource::Bind { path, .. } => path.display().to_string(),
                MountSource::Volume { name, subpath, no_copy, .. } => format!("{name}[{subpath}]{no_copy}"),
                MountSource::Image { image, .. } => format!("image {image}"),
                other => format!("{other:?}"),
            };
            format!("{} <- {source} {}{}", m.target, if m.read_only { "ro" } else { "rw" }, m.propagation)
        })
        .collect();
    let one =
        lowered.volumes.iter().find(|v| v.files.as_ref().is_some_and(|f| f[0].path == "one.conf")).unwrap();
    let conf = lowered.volumes.iter().find(|v| v.files.as_ref().is_some_and(|f| f.len() == 2)).unwrap();
    assert_ne!(one.name, conf.name);
    assert_eq!(
        said,
        [
            "/host <- /srv/x rorslave".to_owned(),
            "/sub <- /srv/x/a/b rw".to_owned(),
            "/dir <- p-dir[]true rw".to_owned(),
            "/mem <- p-mem[]true rw".to_owned(),
            "/claim <- data[]false ro".to_owned(),
            format!("/conf <- {}[]true ro", conf.name),
            format!("/etc/one.conf <- {}[one.conf]true ro", one.name),
            "/img <- image web ro".to_owned(),
            "/about <- p-about[]true ro".to_owned(),
        ]
    );
    assert_eq!(member.devices[0].container_path.to_str(), Some("/dev/tty9"));
    assert_eq!(member.process.groups, ["2000"]);
    let files = conf.files.as_ref().unwrap();
    assert_eq!((files[0].mode, files[1].bytes.as_slice()), (0o400, &[0, 1][..]));
    assert_eq!(one.files.as_ref().unwrap()[0].mode, 0o600);
    let mem = lowered.volumes.iter().find(|v| v.name == "p-mem").unwrap();
    assert_eq!(mem.options["o"], "mode=1777,size=1048576");
    let dir = lowered.volumes.iter().find(|v| v.name == "p-dir").unwrap();
    assert_eq!((dir.mode, dir.group, dir.of_pod), (Some(0o2777), Some(2000), true));
    assert_eq!(
        lowered.paths.iter().map(|p| p.kind).collect::<Vec<_>>(),
        [PathKind::DirectoryOrCreate, PathKind::CharDevice]
    );
    let mut stream = Stream::default();
    stream.read(&text, 0).map_err(|f| f.message).unwrap();
    let (own, kept) = pod_volumes("p", &stream.pods[0].spec);
    assert_eq!(own, ["p-dir", "p-mem", "p-about"]);
    assert_eq!(kept[0], "data");
    assert!(kept.contains(&one.name) && kept.contains(&conf.name));
}

#[test]
fn the_sandbox_has_names_ports_and_namespaces() {
    let text = pod("hostname: web-1
shareProcessNamespace: true
hostIPC: true
hostUsers: false
hostAliases: [{ip: 10.0.0.1, hostnames: [a, b]}]
dnsConfig:
  nameservers: [1.1.1.1]
  searches: [example.org]
  options: [{name: ndots, value: \"5\"}, {name: edns0}]
securityContext:
  sysctls: [{name: net.core.somaxconn, value: \"512\"}]
containers:
- name: a
  image: web
  ports:
  - {containerPort: 80, hostPort: 8080}
  - {containerPort: 53, hostPort: 5353, protocol: UDP, hostIP: 127.0.0.1}
  - {containerPort: 443}
  - {hostPort: 9000}
- name: b
  image: web");
    let lowered = lowered(&text);
    let sandbox = &lowered.sandbox;
    assert_eq!(sandbox.hostname, "web-1");
    assert!(lowered.share_pid);
    assert_eq!(sandbox.namespaces.ipc, Namespace::Host);
    assert_eq!(sandbox.namespaces.user, UserNamespace::Auto { size: 0 });
    assert_eq!(sandbox.extra_hosts.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(sandbox.dns.options, ["ndots:5", "edns0"]);
    assert_eq!(sandbox.sysctls["net.core.somaxconn"], "512");
    let ports: Vec<_> = sandbox.ports.iter().map(|p| (p.host_port, p.container_port, p.protocol)).collect();
    assert_eq!(ports, [(8080, 80, Protocol::Tcp), (5353, 53, Protocol::Udp), (9000, 9000, Protocol::Tcp)]);
    assert_eq!(lowered.aliases, ["a", "b"]);
    assert_eq!(lowered.members[1].name, "p-b");
    assert_eq!(lowered.restart.condition, RestartCondition::Always);

    let wishes = Wishes {
        publish_all: true,
        publish: vec![PortMapping { host_port: 1, container_port: 80, ..PortMapping::default() }],
        no_pod_prefix: true,
        ..Wishes::default()
    };
    let other = lowered_with(&text, &wishes).unwrap();
    let ports: Vec<_> = other.sandbox.ports.iter().map(|p| (p.host_port, p.container_port)).collect();
    assert_eq!(ports, [(1, 80), (5353, 53), (443, 443), (9000, 9000)]);
    assert_eq!(other.members[1].name, "b");
}

#[test]
fn the_machines_network_has_the_machines_name_and_no_ports() {
    let lowered = lowered(&pod(
        "hostNetwork: true\ncontainers:\n- {name: a, image: web, ports: [{containerPort: 80, hostPort: 80}]}",
    ));
    assert_eq!(lowered.sandbox.hostname, "host1");
    assert_eq!(lowered.sandbox.namespaces.network, Namespace::Host);
    assert!(lowered.sandbox.ports.is_empty());
}

#[test]
fn privileges_of_container_and_pod() {
    let lowered = lowered(&pod(
        "securityContext: {runAsUser: 1000, runAsGroup: 1001, supplementalGroups: [5, 6], runAsNonRoot: true}
terminationGracePeriodSeconds: 3
containers:
- name: a
  image: web
  securityContext:
    runAsUser: 7
    privileged: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    procMount: Unmasked
    capabilities: {add: [CAP_NET_ADMIN, sys_time], drop: [ALL]}
    seccompProfile: {type: Localhost, localhostProfile: p.json}
    appArmorProfile: {type: Unconfined}
    seLinuxOptions: {type: spc_t, level: s0}
- name: b
  image: web
  lifecycle: {stopSignal: SIGUSR1}",
    ));
    let a = &lowered.members[0].spec;
    assert_eq!(a.process.user, "7:1001");
    assert_eq!(a.process.groups, ["5", "6"]);
    assert!(a.security.no_new_privileges && a.security.read_only_root && !a.security.privileged);
    assert_eq!(a.security.cap_add, ["NET_ADMIN", "SYS_TIME"]);
    assert_eq!(a.security.cap_drop, ["ALL"]);
    assert_eq!(a.security.masked_paths, Some(Vec::new()));
    assert_eq!(a.security.seccomp, Seccomp::Profile("{\"profile\":\"p.json\"}".to_owned()));
    assert_eq!((a.security.apparmor.as_str(), a.security.selinux.len()), ("unconfined", 2));
    let targets: Vec<&str> = a.mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(targets, ["/run", "/tmp", "/var/tmp", "/var/data"]);
    let b = &lowered.members[1].spec;
    assert_eq!((b.process.user.as_str(), b.stop.signal.as_str()), ("1000:1001", "SIGUSR1"));
    assert_eq!((a.stop.signal.as_str(), a.stop.timeout), ("SIGQUIT", Some(3)));
}

#[test]
fn a_group_alone_is_of_the_images_user() {
    let lowered = lowered(&pod("securityContext: {runAsGroup: 9}\ncontainers:\n- {name: a, image: web}"));
    assert_eq!(lowered.members[0].spec.process.user, "app:9");
}

#[test]
fn resources_become_limits() {
    let text = pod(
        "containers:
- name: a
  image: web
  resources:
    limits: {cpu: 500m, memory: 128Mi, podman.io/device=/dev/fuse: 1, vendor.com/gpu=0: 1}
    requests: {cpu: \"2\", memory: 64M}",
    )
    .replace(
        "labels:",
        "annotations: {io.podman.annotations.pids-limit/a: \"50\", io.podman.annotations.ulimit: \"nofile=10:20\", io.podman.annotations.init/a: \"TRUE\"}\n  labels:",
    );
    let lowered = lowered(&text);
    let a = &lowered.members[0].spec;
    assert_eq!(a.resources.nano_cpus, Some(500_000_000));
    assert_eq!(a.resources.memory, Some(128 << 20));
    assert_eq!(a.resources.memory_reservation, Some(64_000_000));
    assert_eq!(a.resources.cpu_shares, Some(2048));
    assert_eq!(a.resources.pids_limit, Some(50));
    assert_eq!(a.process.rlimits, [("NOFILE".to_owned(), 10, 20)]);
    assert!(a.init);
    assert_eq!(a.devices[0].host_path.to_str(), Some("/dev/fuse"));
    assert_eq!(a.cdi_devices, ["vendor.com/gpu=0"]);
}

#[test]
fn probes_become_the_health_check() {
    let text = pod("containers:
- name: a
  image: web
  ports: [{name: http, containerPort: 80}]
  livenessProbe:
    httpGet: {path: /ok, port: http, httpHeaders: [{name: X-Y, value: it's}]}
    periodSeconds: 5
    failureThreshold: 2
  startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 30}
- name: b
  image: web
  readinessProbe: {exec: {command: [\"true\"]}, initialDelaySeconds: 4}");
    let lowered = lowered(&text);
    let a = lowered.members[0].spec.health.clone().unwrap();
    assert_eq!(a.args[..2], ["/bin/sh", "-c"]);
    assert_eq!(
        a.args[2],
        "if command -v curl >/dev/null 2>&1; then exec curl -fsS -m 1 -o /dev/null -H 'X-Y: it'\\''s' http://localhost:80/ok; else exec wget -q -T 1 -O /dev/null --header 'X-Y: it'\\''s' http://localhost:80/ok; fi"
    );
    let second = 1_000_000_000;
    assert_eq!((a.interval, a.timeout, a.retries), (5 * second, second, 2));
    assert_eq!((a.start_period, a.start_interval, a.on_failure), (30 * second, second, OnFailure::Stop));
    let b = lowered.members[1].spec.health.clone().unwrap();
    assert_eq!((b.args.join(" "), b.on_failure), ("true".to_owned(), OnFailure::Nothing));
    assert_eq!((b.start_period, b.interval, b.retries), (4 * second, 10 * second, 3));
    assert_eq!(lowered.warnings.len(), 1, "{:?}", lowered.warnings);
    assert_eq!(lowered.warnings[0].path, "spec.containers[0].startupProbe");
}

#[test]
fn init_containers_run_once_unless_an_annotation_says_otherwise() {
    let text = pod("restartPolicy: OnFailure
initContainers:
- {name: i, image: web}
- {name: side, image: web, restartPolicy: Always}
containers:
- {name: a, image: web}");
    let once = lowered(&text);
    assert_eq!(once.init.len(), 1);
    assert_eq!(once.init[0].init, Some(InitKind::Once));
    assert_eq!(once.init[0].spec.restart.condition, RestartCondition::No);
    let names: Vec<&str> = once.members.iter().map(|m| m.short.as_str()).collect();
    assert_eq!(names, ["side", "a"]);
    assert_eq!(once.members[1].spec.restart.condition, RestartCondition::OnFailure);
    let always = text
        .replace("labels:", "annotations: {io.podman.annotations.init.container.type: always}\n  labels:");
    assert_eq!(lowered(&always).init[0].init, Some(InitKind::Always));
}

#[test]
fn images_are_fetched_as_their_policies_say() {
    for (image, policy, pull) in [
        ("nginx", "", Pull::Newer),
        ("nginx:latest", "", Pull::Newer),
        ("reg:5000/nginx", "", Pull::Newer),
        ("nginx:1.29", "", Pull::Missing),
        ("nginx@sha256:0", "", Pull::Missing),
        ("nginx", "IfNotPresent", Pull::Missing),
        ("nginx", "always", Pull::Always),
        ("nginx", "Never", Pull::Never),
    ] {
        assert_eq!(pull_policy(image, policy).unwrap(), pull, "{image} {policy}");
    }
    assert!(pull_policy("nginx", "Sometimes").is_err());
}
