//! Files that are wrong: what is said about them, and where.

use std::collections::BTreeMap;
use std::path::Path;

use fluyt_pod::lower::{Facts, ImageFacts, Machine, Wishes, images, lower};
use fluyt_pod::stream::Stream;
use fluyt_yaml::Files;

/// Reads and lowers everything; the first thing that is wrong as people see it, with its hint.
fn wrong(text: &str) -> Option<String> {
    let mut files = Files::default();
    let number = files.add(Path::new("pod.yaml"), text.to_owned());
    let mut stream = Stream::default();
    let fault = match stream.read(text, number) {
        Err(fault) => Some(fault),
        Ok(()) => match stream.check() {
            Err(problem) => return Some(said(&problem.message, problem.hint.as_deref())),
            Ok(()) => lowered(&stream),
        },
    }?;
    let text = fault.render(&files);
    Some(said(text.lines().next().unwrap_or_default(), fault.hint.as_deref()))
}

fn said(message: &str, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{message} ({hint})"),
        None => message.to_owned(),
    }
}

fn lowered(stream: &Stream) -> Option<fluyt_yaml::fault::Fault> {
    let secrets = stream.secrets.iter().map(|s| (s.metadata.name.clone(), s.bytes())).collect();
    let known = BTreeMap::from([
        ("web".to_owned(), ImageFacts { cmd: vec!["serve".to_owned()], ..ImageFacts::default() }),
        ("empty".to_owned(), ImageFacts::default()),
    ]);
    let machine = Machine { memory: 1 << 30, cpus: 1, hostname: "h".to_owned() };
    let profile = |path: &str| Err(fluyt_model::Error::not_found(format!("{path}: not there")));
    let facts = Facts {
        config_maps: &stream.config_maps,
        secrets: &secrets,
        images: &known,
        machine: &machine,
        uid: "",
        profile: &profile,
    };
    stream.pods.iter().find_map(|pod| {
        let problem =
            images(&pod.spec).err().or_else(|| lower(pod.subject(), &Wishes::default(), &facts).err());
        problem.map(|p| pod.fault(p))
    })
}

const HEAD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n";

/// A pod's `spec`, from line 5 on, indented by two.
fn spec(text: &str) -> String {
    let body: String = text.lines().map(|line| format!("  {line}\n")).collect();
    format!("{HEAD}spec:\n{body}")
}

/// The fields of one container, from line 9 on.
fn container(text: &str) -> String {
    let body: String = text.lines().map(|line| format!("  {line}\n")).collect();
    spec(&format!("containers:\n- name: c\n  image: web\n{body}"))
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_to_do() {
    let cases: Vec<(String, &str)> = vec![
        (
            "a: [".to_owned(),
            "pod.yaml:2:1: not valid YAML: while parsing a node, did not find expected node content (is a quote, a bracket or a brace not closed?)",
        ),
        (
            "- a\n".to_owned(),
            "pod.yaml:1:1: expected an object, not a list (an object begins with apiVersion, kind and metadata)",
        ),
        (
            "apiVersion: v1\n".to_owned(),
            "pod.yaml:1:1: the object has no kind (say what it is, for instance `kind: Pod`)",
        ),
        ("kind: [a]\n".to_owned(), "pod.yaml:1:7: kind: expected a text, not a list"),
        (
            "kind: Pod\nkind: Pod\n".to_owned(),
            "pod.yaml:2:1: the key \"kind\" is here twice: it was given in line 1 before (remove one of them, or join what they say)",
        ),
        (
            String::new(),
            "there is no object in it (fluyt plays Pod, Deployment, DaemonSet, Job, ConfigMap, Secret and PersistentVolumeClaim)",
        ),
        (
            "kind: Ingress\n".to_owned(),
            "nothing of it can be played: Ingress (fluyt plays Pod, Deployment, DaemonSet, Job, ConfigMap, Secret and PersistentVolumeClaim)",
        ),
        (
            "kind: ConfigMap\nmetadata: {name: x}\n".to_owned(),
            "there are ConfigMaps only, and nothing that uses them (a ConfigMap is part of what a pod is played with: put both into one stream, or give it with --configmap)",
        ),
        (
            "kind: Pod\n".to_owned(),
            "pod.yaml:1:1: metadata.name: the pod does not have a name (add `metadata:` with a `name:`)",
        ),
        (
            "kind: Pod\nmetadata:\n  name: a b\n".to_owned(),
            "pod.yaml:3:9: metadata.name: \"a b\" is not a name (a name has lower case letters, digits, - and .)",
        ),
        (
            "kind: Pod\nmetadata: x\n".to_owned(),
            "pod.yaml:2:11: metadata: expected a mapping, not the text \"x\"",
        ),
        (
            format!("{HEAD}---\n{HEAD}"),
            "pod.yaml:9:9: metadata.name: the pod \"p\" is here twice (give one of them another name)",
        ),
        (
            "kind: Job\nmetadata: {name: j}\nspec:\n  template:\n    spec:\n      restartPolicy: Always\n"
                .to_owned(),
            "pod.yaml:6:22: spec.template.spec.restartPolicy: a Job's pod is not restarted for ever (use OnFailure or Never)",
        ),
        (
            "kind: Deployment\nmetadata: {name: d}\nspec:\n  replicas: -1\n".to_owned(),
            "pod.yaml:4:13: spec.replicas: -1 is not a number of pods",
        ),
        (
            "kind: ConfigMap\nmetadata: {name: c}\ndata: {a: x}\nbinaryData: {a: AA==}\n".to_owned(),
            "pod.yaml:4:1: binaryData: the key \"a\" is in data, too (a key is in one of the two)",
        ),
        (
            "kind: Secret\nmetadata: {name: c}\ndata: {a: 'x y z!'}\n".to_owned(),
            "pod.yaml:3:11: data.a: the value is not base64 (`printf %s TEXT | base64` makes it; stringData takes text)",
        ),
        (
            "kind: ConfigMap\nmetadata: {name: c}\ndata: {a: 8080}\n".to_owned(),
            "pod.yaml:3:11: data.a: expected a text, not a number (8080) (quote it: \"8080\")",
        ),
        (
            spec("containers:\n- image: web"),
            "pod.yaml:7:5: spec.containers[0].name: the container does not have a name (the names of a pod's containers tell them apart)",
        ),
        (
            spec("containers:\n- name: c"),
            "pod.yaml:7:5: spec.containers[0]: container \"c\" is missing the required 'image' field (name its image, as in `image: docker.io/library/nginx:1.29`)",
        ),
        (
            spec("containers:\n  name: c"),
            "pod.yaml:7:5: spec.containers: expected a list, not a mapping (begin each item with `- `)",
        ),
        (
            spec("containers:\n- {name: c, image: web}\n- {name: c, image: web}"),
            "pod.yaml:8:12: spec.containers[1].name: the pod \"p\" has two containers of the name \"c\" (give one of them another name)",
        ),
        (
            spec("restartPolicy: Sometimes\ncontainers:\n- {name: c, image: web}"),
            "pod.yaml:6:18: spec.restartPolicy: \"Sometimes\" is not a restart policy (use Always, OnFailure or Never)",
        ),
        (
            spec("hostNetwork: yes\ncontainers: []"),
            "pod.yaml:6:16: spec.hostNetwork: expected true or false, not the text \"yes\" (write true, without quotes)",
        ),
        (
            spec("terminationGracePeriodSeconds: \"3\""),
            "pod.yaml:6:34: spec.terminationGracePeriodSeconds: expected a whole number, not the text \"3\" (write it without quotes: 3)",
        ),
        (spec("hostAliases: [{ip: x}]"), "pod.yaml:6:22: spec.hostAliases[0].ip: \"x\" is not an address"),
        (spec("dnsPolicy: None"), "pod.yaml:6:14: spec.dnsPolicy: with None, dnsConfig has to name servers"),
        (
            spec("volumes:\n- {name: v, nfs: {}}\ncontainers:\n- {name: c, image: web}"),
            "pod.yaml:7:5: spec.volumes[0]: volume \"v\" has no source that is supported here (there are hostPath, emptyDir, persistentVolumeClaim, configMap, secret, image, downwardAPI and projected)",
        ),
        (
            spec("volumes:\n- name: v\n  hostPath: {path: srv}"),
            "pod.yaml:8:22: spec.volumes[0].hostPath.path: \"srv\" is not an absolute path (begin it with /)",
        ),
        (
            spec("volumes:\n- name: v\n  hostPath: {path: /srv, type: Dir}"),
            "pod.yaml:8:34: spec.volumes[0].hostPath.type: \"Dir\" is not a type of hostPath (use Directory, DirectoryOrCreate, File, FileOrCreate, Socket, CharDevice or BlockDevice)",
        ),
        (
            spec("volumes:\n- {name: v, emptyDir: {}}\n- {name: v, emptyDir: {}}"),
            "pod.yaml:8:12: spec.volumes[1].name: the pod has two volumes of the name \"v\"",
        ),
        (
            spec("volumes:\n- name: v\n  configMap: {name: m}"),
            "pod.yaml:8:5: spec.volumes[0].configMap: configmap m not found (put it into the same stream, or give its file with --configmap; `optional: true` goes without it)",
        ),
        (
            spec("volumes:\n- name: v\n  secret: {secretName: s}"),
            "pod.yaml:8:5: spec.volumes[0].secret: no such secret s (play the Secret before, or in the same stream; `optional: true` goes without it)",
        ),
        (
            spec("volumes:\n- name: v\n  configMap: {name: m, defaultMode: 1000}")
                + "---\nkind: ConfigMap\nmetadata: {name: m}\n",
            "pod.yaml:8:39: spec.volumes[0].configMap.defaultMode: 1000 is not between 0 and 0777 (write it in octal, as 0400)",
        ),
        (
            container("imagePullPolicy: Often"),
            "pod.yaml:9:22: spec.containers[0].imagePullPolicy: \"Often\" is not a pull policy (use Always, IfNotPresent or Never)",
        ),
        (
            container("command: run"),
            "pod.yaml:9:14: spec.containers[0].command: expected a list, not the text \"run\"",
        ),
        (
            container("env: [{name: A, value: 1}]"),
            "pod.yaml:9:28: spec.containers[0].env[0].value: expected a text, not a number (1) (quote it: \"1\")",
        ),
        (
            container("env: [{name: A, value: on, valueFrom: {}}]"),
            "pod.yaml:9:11: spec.containers[0].env[0]: A has both a value and a valueFrom (take one of them away)",
        ),
        (
            container("env:\n- name: A\n  valueFrom: {configMapKeyRef: {name: m, key: k}}"),
            "pod.yaml:11:19: spec.containers[0].env[0].valueFrom.configMapKeyRef: cannot set env A: configmap m not found (put it into the same stream, or give its file with --configmap; `optional: true` goes without it)",
        ),
        (
            container("env:\n- name: A\n  valueFrom: {fieldRef: {fieldPath: spec.x}}"),
            "pod.yaml:11:41: spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: cannot set env A: fieldPath spec.x is either not valid or not supported (there are metadata.name, .namespace, .uid, .labels['KEY'], .annotations['KEY'] and spec.nodeName)",
        ),
        (
            container(
                "env:\n- name: A\n  valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 2}}",
            ),
            "pod.yaml:11:72: spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: cannot set env A: divisor value 2 is not valid (use one of 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei)",
        ),
        (
            container("resources: {limits: {memory: much}}"),
            "pod.yaml:9:34: spec.containers[0].resources.limits.memory: \"much\" is not an amount such as 500m, 1.5, 64Mi or 2G",
        ),
        (
            container("resources: {limits: {cpu: -1}}"),
            "pod.yaml:9:31: spec.containers[0].resources.limits.cpu: -1 is less than nothing",
        ),
        (
            container("resources: {limits: {memory: 1Mi}, requests: {memory: 2Mi}}"),
            "pod.yaml:9:59: spec.containers[0].resources.requests.memory: more memory is requested than the container may use",
        ),
        (
            container("ports: [{containerPort: 80, hostPort: 70000}]"),
            "pod.yaml:9:43: spec.containers[0].ports[0].hostPort: 70000 is not a port (ports are 1 to 65535)",
        ),
        (
            container("ports: [{containerPort: 80, hostPort: 80}, {containerPort: 81, hostPort: 80}]"),
            "pod.yaml:9:78: spec.containers[0].ports[1].hostPort: the port 80 of the machine is given twice",
        ),
        (
            container("ports: [{containerPort: 80, hostPort: 80, protocol: ICMP}]"),
            "pod.yaml:9:57: spec.containers[0].ports[0].protocol: \"ICMP\" is not a protocol (use TCP, UDP or SCTP)",
        ),
        (
            container("volumeMounts: [{name: v, mountPath: /v}]"),
            "pod.yaml:9:27: spec.containers[0].volumeMounts[0].name: the pod has no volume \"v\" (add it to spec.volumes)",
        ),
        (
            container("livenessProbe: {httpGet: {port: web}}"),
            "pod.yaml:9:37: spec.containers[0].livenessProbe.httpGet.port: unknown port: web (give a number, or the name of one of the container's ports)",
        ),
        (
            container("livenessProbe: {exec: {command: [x]}, periodSeconds: -1}"),
            "pod.yaml:9:58: spec.containers[0].livenessProbe.periodSeconds: -1 is not a number of seconds or times",
        ),
        (
            container("securityContext: {capabilities: {add: [FLY]}}"),
            "pod.yaml:9:44: spec.containers[0].securityContext.capabilities.add[0]: \"FLY\" is not a capability (capabilities are named as in NET_ADMIN, or ALL)",
        ),
        (
            container("securityContext: {runAsNonRoot: true}"),
            "pod.yaml:9:37: spec.containers[0].securityContext.runAsNonRoot: container \"c\" would run as root (say with runAsUser as whom it runs)",
        ),
        (
            container("securityContext: {seccompProfile: {type: Localhost, localhostProfile: a.json}}"),
            "pod.yaml:9:23: spec.containers[0].securityContext.seccompProfile: seccomp profile a.json: a.json: not there",
        ),
        (
            container("workingDir: x"),
            "pod.yaml:9:17: spec.containers[0].workingDir: \"x\" is not an absolute path",
        ),
        (
            container("image: !x y").replace("    image: web\n", ""),
            "pod.yaml:8:12: unknown tag !x (quote a text that begins with an exclamation mark)",
        ),
        (
            spec("containers:\n- {name: c, image: empty}"),
            "pod.yaml:7:5: spec.containers[0].command: there is nothing to run (image empty names no program: give a command)",
        ),
        (
            spec("initContainers:\n- {name: c, image: web, livenessProbe: {}}"),
            "pod.yaml:7:27: spec.initContainers[0].livenessProbe: an init container cannot have one (init containers end before the others start; restartPolicy: Always makes it run beside them)",
        ),
    ];
    let mut bad = Vec::new();
    for (text, expected) in &cases {
        let got = wrong(text).unwrap_or_else(|| "nothing is wrong".to_owned());
        if got != *expected {
            bad.push(format!("{text}\n  got      {got}\n  expected {expected}"));
        }
    }
    assert!(bad.is_empty(), "{} of {}:\n{}", bad.len(), cases.len(), bad.join("\n"));
}

#[test]
fn fields_that_nobody_knows_are_told_of() {
    let text = "apiVersion: v2
kind: Pod
metadata: {name: p, resourceVersion: \"1\"}
spec:
  hostnetwork: true
  nodeSelector: {a: b}
  runtimeClassName: x
  containers:
  - name: c
    image: web
    enviroment: []
    volumeDevices: []
status: {phase: Running}
---
kind: Service
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec: {replicas: 3}
";
    let mut stream = Stream::default();
    stream.read(text, 0).unwrap();
    let heard: Vec<String> = stream
        .warnings
        .iter()
        .map(|w| {
            format!(
                "{}:{} {}{}",
                w.pos.line,
                w.pos.column,
                w.message,
                w.hint.as_ref().map_or(String::new(), |h| format!(" ({h})"))
            )
        })
        .collect();
    assert_eq!(
        heard,
        [
            "1:13 apiVersion: a Pod is of version v1 (it is read as one of that version)",
            "5:3 spec.hostnetwork: unknown field (did you mean hostNetwork?)",
            "7:3 spec.runtimeClassName has no effect here",
            "11:5 spec.containers[0].enviroment: unknown field",
            "12:5 spec.containers[0].volumeDevices has no effect here",
            "20:18 spec.replicas: one pod is made, not 3 (several pods of one kind need a cluster)",
        ]
    );
    assert_eq!(stream.skipped, ["Service"]);
}
