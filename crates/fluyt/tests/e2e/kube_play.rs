//! `fluyt kube`: pods of busybox containers, from `play` to `down`, and back from what runs to YAML.

use std::fs;

use fluyt_testkit::Host;
use fluyt_testkit::wait::{free_port, http_get, until};

use crate::{host, ours_only};

/// The network of pods that ask for none.
const NETWORK: &str = "fluyt-default-kube-network";

/// A file in the host's scratch directory.
fn file(host: &Host, name: &str, text: &str) -> String {
    host.scratch().write(name, text).display().to_string()
}

/// The id behind `title` in what `play` printed.
fn listed<'o>(output: &'o str, title: &str) -> Vec<&'o str> {
    let after = output.lines().skip_while(|line| *line != title).skip(1);
    after.take_while(|line| !line.is_empty() && !line.ends_with(':')).collect()
}

const SHOP: &str = "apiVersion: v1
kind: Pod
metadata:
  name: shop
  labels: {app: shop}
spec:
  terminationGracePeriodSeconds: 1
  hostAliases: [{ip: 10.9.8.7, hostnames: [elsewhere]}]
  initContainers:
  - name: prepare
    image: box
    imagePullPolicy: Never
    command: [sh, -c, 'cp /conf/page /www/index.html']
    volumeMounts: [{name: www, mountPath: /www}, {name: conf, mountPath: /conf}]
  containers:
  - name: web
    image: box
    imagePullPolicy: Never
    command: [sh, -c, 'exec httpd -f -p $(PORT) -h /www']
    env: [{name: PORT, value: \"80\"}]
    ports: [{containerPort: 80, hostPort: HOSTPORT, hostIP: 127.0.0.1}]
    volumeMounts: [{name: www, mountPath: /www}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
  - name: side
    image: box
    imagePullPolicy: Never
    command: [sleep, \"1000\"]
    envFrom: [{configMapRef: {name: words}}]
    env:
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: key, key: token}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: ID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
    - {name: MEM, valueFrom: {resourceFieldRef: {containerName: web, resource: limits.memory, divisor: 1Mi}}}
    securityContext: {runAsUser: 1000, runAsGroup: 1000, readOnlyRootFilesystem: true}
    livenessProbe: {exec: {command: [\"true\"]}, periodSeconds: 1}
    volumeMounts:
    - {name: www, mountPath: /shared}
    - {name: mem, mountPath: /mem}
    - {name: key, mountPath: /key}
    - {name: conf, mountPath: /etc/one, subPath: page}
    - {name: store, mountPath: /store}
  volumes:
  - {name: www, emptyDir: {}}
  - {name: mem, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: conf, configMap: {name: words}}
  - {name: key, secret: {secretName: key, defaultMode: 0444, items: [{key: token, path: in/token}]}}
  - {name: store, persistentVolumeClaim: {claimName: shop-store}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {page: welcome, COLOUR: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
data: {token: c2VzYW1l}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shop-store}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

#[test]
fn a_pod_is_played_and_goes_without_a_trace() {
    let host = host!();
    ours_only!(host);
    let port = free_port();
    let yaml = file(&host, "shop.yaml", &SHOP.replace("HOSTPORT", &port.to_string()));
    let said = host.ok(&format!("kube play {yaml}"));
    assert_eq!(listed(&said, "Volumes:"), ["shop-store"]);
    assert_eq!(listed(&said, "Secrets:"), ["key"]);
    let (pods, containers) = (listed(&said, "Pod:"), listed(&said, "Containers:"));
    assert_eq!((pods.len(), containers.len()), (1, 2), "{said}");
    assert_eq!(host.ok("ps -aq").lines().count(), 2, "what ran once before is gone");
    until("the web server to answer", 20, || {
        http_get(&format!("127.0.0.1:{port}"), "/").filter(|answer| answer.contains("welcome"))
    });
    let show = "echo $COLOUR $TOKEN $POD $MEM; [ $ID = UID ] && echo id; id -u; cat /shared/index.html /key/in/token /etc/one; grep -c elsewhere /etc/hosts; wget -qO- http://localhost/; hostname"
        .replace("UID", pods[0]);
    assert_eq!(
        host.ok_words(&["exec", "shop-side", "sh", "-c", &show]),
        "blue sesame shop 64\nid\n1000\nwelcomesesamewelcome1\nwelcomeshop"
    );
    let write = "echo x > /mem/x && echo x > /shared/x && df -k /mem | tail -1 | awk '{print $2}'; echo y > /key/in/token";
    let written = host.run_words(&["exec", "shop-side", "sh", "-c", write]);
    assert_eq!(written.stdout.trim(), "1024", "{}", written.stderr);
    assert!(written.stderr.contains("Read-only"), "{}", written.stderr);
    assert_eq!(
        host.field("shop-web", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}"),
        "67108864 500000000"
    );
    host.wait_for("shop-side", "{{.State.Health.Status}}", "healthy");

    host.fails(125, "in use", &format!("kube play {yaml}"));
    let again = host.ok(&format!("kube play --replace {yaml}"));
    assert_ne!(listed(&again, "Pod:"), pods, "the pod was made anew");

    let gone = host.ok(&format!("kube down --force {yaml}"));
    assert_eq!(listed(&gone, "Pods removed:"), listed(&again, "Pod:"));
    assert_eq!(listed(&gone, "Secrets removed:"), ["key"]);
    let volumes = listed(&gone, "Volumes removed:");
    assert_eq!(volumes[1..], ["shop-store", "words"], "{gone}");
    assert!(volumes[0].starts_with("key-"), "{gone}");
    for (what, list) in [("containers", "ps -aq"), ("pods", "pod ps -q"), ("volumes", "volume ls -q")] {
        assert_eq!(host.ok(list), "", "{what}");
    }
    host.ok(&format!("network rm {NETWORK}"));
}

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      hostNetwork: true
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: box
        imagePullPolicy: Never
        command: [sleep, \"1000\"]
        env: [{name: A, value: $$(B)}]
        volumeMounts: [{name: dir, mountPath: /dir}]
        securityContext: {capabilities: {add: [NET_ADMIN]}}
      volumes: [{name: dir, emptyDir: {}}]
";

#[test]
fn what_runs_becomes_yaml_that_gives_the_same_pod() {
    let host = host!();
    ours_only!(host);
    let yaml = file(&host, "web.yaml", DEPLOYMENT);
    let played = host.run(&format!("play kube {yaml}"));
    assert!(played.stderr.contains("spec.replicas: one pod is made, not 2"), "{}", played.stderr);
    assert_eq!(listed(&played.stdout, "Container:").len(), 1, "{}", played.stdout);
    let first = host.ok("kube generate web-pod");
    assert!(first.starts_with("# Save the output of this file"), "{first}");
    host.ok(&format!("kube down {yaml}"));
    let second = file(&host, "again.yaml", &first);
    host.ok(&format!("kube play {second}"));
    let again = host.ok("generate kube web-pod");
    let body = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("creationTimestamp"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(body(&first), body(&again));
    let target = host.scratch().path().join("out.yaml").display().to_string();
    host.ok(&format!("kube generate --type deployment --replicas 3 -s -f {target} web-pod"));
    let text = fs::read_to_string(&target).expect("the file");
    assert!(text.contains("kind: Service") && text.contains("replicas: 3"), "{text}");
    host.fails(125, "file exists", &format!("kube generate -f {target} web-pod"));
    host.fails(125, "associated with pod", "kube generate web-pod-main");
    host.fails(125, "not found", "kube generate nobody");
    host.ok(&format!("kube down {second}"));

    host.ok("volume create --label a=b store");
    assert!(host.ok("kube generate store").contains("volume.podman.io/driver: local"));
    host.ok("create --name lone -v store:/data -e X=1 box sleep 5");
    let lone = host.ok("kube generate lone");
    for part in ["name: lone-pod", "claimName: store", "- name: X", "restartPolicy: Never"] {
        assert!(lone.contains(part), "{part}: {lone}");
    }
    host.ok("rm lone");
    host.ok("volume rm store");
}

#[test]
fn waiting_ends_with_the_pod_and_takes_everything_away() {
    let host = host!();
    ours_only!(host);
    let yaml = "apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  template:
    spec:
      restartPolicy: Never
      hostNetwork: true
      containers:
      - {name: c, image: box, imagePullPolicy: Never, command: [\"true\"], volumeMounts: [{name: v, mountPath: /v}]}
      volumes: [{name: v, persistentVolumeClaim: {claimName: kept}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
";
    let said = host.run_with_input(&["kube", "play", "--wait", "-"], yaml.as_bytes()).success();
    assert!(said.contains("Cleaning up containers, pods, and volumes..."), "{said}");
    assert_eq!(listed(&said, "Volumes removed:"), ["kept"]);
    assert_eq!(host.ok("pod ps -q"), "");
}

#[test]
fn what_cannot_be_played_is_told_with_its_place_and_leaves_nothing() {
    let host = host!();
    ours_only!(host);
    let pod = |name: &str, spec: &str| {
        file(&host, name, &format!("kind: Pod\nmetadata: {{name: pp}}\nspec:\n  hostNetwork: true\n{spec}"))
    };
    let no_image =
        pod("image.yaml", "  containers:\n  - {name: c, image: nowhere/none, imagePullPolicy: Never}\n");
    let told = host.fails(125, "image.yaml:6:5", &format!("kube play {no_image}"));
    assert!(told.stderr.contains("no image nowhere/none is here"), "{}", told.stderr);
    let path = pod(
        "path.yaml",
        "  volumes: [{name: v, hostPath: {path: /none/there, type: File}}]\n  containers:\n  - {name: c, image: box, imagePullPolicy: Never}\n",
    );
    host.fails(125, "/none/there does not exist", &format!("kube play {path}"));
    let first = pod(
        "init.yaml",
        "  initContainers:\n  - {name: i, image: box, imagePullPolicy: Never, command: [\"false\"]}\n  containers:\n  - {name: c, image: box, imagePullPolicy: Never}\n",
    );
    host.fails(125, "init container pp-i exited with code 1", &format!("kube play {first}"));
    host.ok(&format!("kube down {first}"));
    host.fails(
        125,
        "nothing of it can be played: Ingress",
        &format!("kube play {}", file(&host, "x.yaml", "kind: Ingress\n")),
    );
    host.fails(125, "--force may be specified only with --down", &format!("kube play --force {first}"));
    assert_eq!(host.ok("ps -aq"), "");
    assert_eq!(host.ok("pod ps -q"), "");
}
