//! Pods that run, as YAML, and played again.

use std::collections::BTreeMap;

use super::*;
use crate::lower::{Facts, Lowered, Machine, Wishes, lower};
use crate::stream::Stream;

fn image() -> ImageFacts {
    ImageFacts {
        id: "sha256:1".to_owned(),
        entrypoint: vec!["/entry".to_owned()],
        cmd: vec!["serve".to_owned()],
        env: vec!["A=image".to_owned()],
        working_dir: "/srv".to_owned(),
        ..ImageFacts::default()
    }
}

fn played(text: &str) -> Lowered {
    let mut stream = Stream::default();
    stream.read(text, 0).map_err(|f| f.message).unwrap();
    let images = BTreeMap::from([("web".to_owned(), image())]);
    let (config_maps, secrets) = (BTreeMap::new(), BTreeMap::new());
    let machine = Machine::default();
    let facts = Facts {
        config_maps: &config_maps,
        secrets: &secrets,
        images: &images,
        machine: &machine,
        uid: "",
        profile: &|_| Ok(String::new()),
    };
    lower(stream.pods[0].subject(), &Wishes::default(), &facts).unwrap()
}

fn generated(lowered: &Lowered, service: bool) -> Pod {
    let image = image();
    let sandboxes: Vec<SandboxSpec> = (lowered.members.iter())
        .map(|member| SandboxSpec {
            containers: vec![member.spec.clone()],
            labels: member.labels.clone(),
            auto_remove: member.auto_remove,
            ..SandboxSpec::default()
        })
        .collect();
    let parts: Vec<Part<'_>> = (lowered.members.iter().zip(&sandboxes))
        .map(|(member, sandbox)| Part {
            name: &member.name,
            sandbox,
            entrypoint: &member.entrypoint,
            cmd: &member.cmd,
            image: &image,
        })
        .collect();
    let whole = Whole {
        name: &lowered.name,
        sandbox: &lowered.sandbox,
        share_pid: lowered.share_pid,
        infra_name: &lowered.infra_name,
        restart: lowered.restart.condition,
        parts: &parts,
        now: "2026-11-22T00:00:00Z",
        service,
    };
    pod(whole, &|_| "Directory").unwrap().pod
}

const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: p
  labels: {app: x, tier: front}
  annotations: {a.b/c: d, io.podman.annotations.pids-limit/one: \"9\"}
spec:
  hostname: h
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 7
  shareProcessNamespace: true
  hostAliases: [{ip: 10.0.0.1, hostnames: [x, y]}]
  dnsConfig: {nameservers: [1.1.1.1], options: [{name: ndots, value: \"2\"}]}
  securityContext: {supplementalGroups: [5], sysctls: [{name: net.core.somaxconn, value: \"9\"}]}
  containers:
  - name: one
    image: web
    args: [a, $$(B)]
    env: [{name: B, value: \"$$(A) 1\"}]
    ports: [{containerPort: 80, hostPort: 8080}, {containerPort: 53, hostPort: 53, protocol: UDP, hostIP: 127.0.0.1}]
    resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 250m}}
    securityContext: {runAsUser: 1, runAsGroup: 2, capabilities: {add: [NET_ADMIN], drop: [ALL]}, readOnlyRootFilesystem: true}
    livenessProbe: {exec: {command: [check]}, periodSeconds: 3}
    volumeMounts:
    - {name: dir, mountPath: /dir}
    - {name: mem, mountPath: /mem}
    - {name: host, mountPath: /host, readOnly: true}
    - {name: data, mountPath: /data, subPath: in}
  - name: two
    image: web
    command: [run]
    workingDir: /
    tty: true
    stdin: true
    volumeMounts: [{name: dir, mountPath: /dir}, {name: host, mountPath: /other}]
  volumes:
  - {name: dir, emptyDir: {}}
  - {name: mem, emptyDir: {medium: Memory}}
  - {name: host, hostPath: {path: /srv/My_dir}}
  - {name: data, persistentVolumeClaim: {claimName: store}}
";

#[test]
fn a_pod_that_was_played_is_the_same_when_it_is_played_again() {
    let first = played(POD);
    let text = yaml(&generated(&first, false));
    let mut second = played(&text);
    // The path is looked at by whoever has one; the text asks for what was found.
    second.paths.clone_from(&first.paths);
    assert_eq!(second, first, "{text}");
    assert_eq!(yaml(&generated(&second, false)), text);
}

#[test]
fn a_pod_is_written_as_kubernetes_tools_write_it() {
    let text = yaml(&generated(
        &played(
            "kind: Pod\nmetadata: {name: a_b}\nspec:\n  containers:\n  - {name: c, image: web, args: [\"1\"], ports: [{hostPort: 80}]}\n",
        ),
        false,
    ));
    assert_eq!(
        text,
        "apiVersion: v1
kind: Pod
metadata:
  creationTimestamp: \"2026-11-22T00:00:00Z\"
  labels:
    app: ab
  name: ab
spec:
  containers:
  - args:
    - \"1\"
    image: web
    name: c
    ports:
    - containerPort: 80
      hostPort: 80
  restartPolicy: Always
"
    );
}

#[test]
fn deployments_jobs_and_services_have_the_pod_in_them() {
    let pod = generated(
        &played(
            "kind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - {name: c, image: web, ports: [{containerPort: 80, hostPort: 8080}]}\n",
        ),
        true,
    );
    let deployment = wrap(&pod, Kind::Deployment(3)).unwrap();
    assert!(deployment.starts_with("apiVersion: apps/v1\nkind: Deployment\n"), "{deployment}");
    assert!(
        deployment.contains(
            "  name: p-deployment\nspec:\n  replicas: 3\n  selector:\n    matchLabels:\n      app: p\n"
        ),
        "{deployment}"
    );
    assert!(!deployment.contains("hostPort"), "{deployment}");
    assert!(wrap(&pod, Kind::Job).is_err());
    let mut ports = 30_000;
    let service = service(&pod, &mut || {
        ports += 1;
        ports
    });
    assert!(
        service.ends_with("spec:\n  ports:\n  - name: \"80\"\n    nodePort: 30001\n    port: 80\n    targetPort: 80\n  selector:\n    app: p\n  type: NodePort\n"),
        "{service}"
    );
    let options = BTreeMap::from([("type".to_owned(), "tmpfs".to_owned())]);
    let claim = claim("My_Vol", "local", &options, &BTreeMap::new(), "now");
    assert!(
        claim.contains(
            "  annotations:\n    volume.podman.io/driver: local\n    volume.podman.io/type: tmpfs\n"
        ),
        "{claim}"
    );
    assert!(claim.contains("  name: my-vol\n") && claim.contains("      storage: 1Gi\n"), "{claim}");
}
