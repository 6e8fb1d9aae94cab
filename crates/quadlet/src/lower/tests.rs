//! Whole units and what becomes of them.

use super::*;

struct Null;

impl Machine for Null {
    fn exists(&self, path: &str) -> bool {
        path == "/dev/null"
    }
}

fn make(files: &[(&str, &str)], user: bool) -> Vec<Made> {
    let units: Vec<Unit> =
        files.iter().map(|(name, text)| Unit::parse(&format!("/q/{name}"), text).unwrap()).collect();
    generate(&units, &Options { program: "/bin/fluyt", user, machine: &Null })
}

/// The service of the first unit.
fn service(files: &[(&str, &str)]) -> Unit {
    make(files, false).remove(0).service.unwrap_or_else(|e| panic!("{}", e.chain())).unit
}

/// The command line of the first unit's `ExecStart`, without program.
fn start(files: &[(&str, &str)]) -> String {
    let service = service(files);
    let line = service.raw("Service", "ExecStart").unwrap();
    line.strip_prefix("/bin/fluyt ").unwrap().to_owned()
}

fn container(keys: &str) -> String {
    let line = start(&[("w.container", &format!("[Container]\nImage=i\n{keys}\n"))]);
    let head = "run --name systemd-%N --replace --rm ";
    line.strip_prefix(head).unwrap_or_else(|| panic!("{line}")).to_owned()
}

fn failure(name: &str, text: &str) -> String {
    let error = make(&[(name, text)], false).remove(0).service.unwrap_err();
    format!("{}; {}", error.chain(), error.hint().unwrap_or_default())
}

#[test]
fn a_container_becomes_a_service() {
    let text = "# mine\n[Unit]\nDescription=Web\nAfter=data.volume x.service\n\n[Container]\nImage=docker.io/library/a\n\
                Exec=sh -c \"echo 'a b'\"\nVolume=data.volume:/data:ro\n\n[Install]\nWantedBy=multi-user.target\n";
    let made = make(&[("web.container", text), ("data.volume", "[Volume]\n")], false).remove(0);
    let service = made.service.unwrap();
    assert_eq!(service.unit.name, "web.service");
    assert_eq!(service.links.len(), 1);
    assert_eq!(
        service.unit.to_text(),
        "# mine\n[Unit]\nWants=network-online.target\nAfter=network-online.target\nDescription=Web\n\n\
         After=data-volume.service x.service\nSourcePath=/q/web.container\nRequiresMountsFor=%t/containers\n\
         Requires=data-volume.service\nAfter=data-volume.service\n\n\
         [X-Container]\nImage=docker.io/library/a\nExec=sh -c \"echo 'a b'\"\nVolume=data.volume:/data:ro\n\n\
         [Install]\nWantedBy=multi-user.target\n\n\
         [Service]\nEnvironment=PODMAN_SYSTEMD_UNIT=%n\nKillMode=mixed\n\
         ExecStop=/bin/fluyt rm -v -f -i systemd-%N\nExecStopPost=-/bin/fluyt rm -v -f -i systemd-%N\n\
         Delegate=yes\nType=notify\nNotifyAccess=all\nSyslogIdentifier=%N\n\
         ExecStart=/bin/fluyt run --name systemd-%N --replace --rm --cgroups=split --sdnotify=conmon -d \
         -v systemd-data:/data:ro docker.io/library/a sh -c \"echo 'a b'\"\n"
            .replace("Description=Web\n\n", "Description=Web\n")
    );
}

#[test]
fn keys_of_containers_become_flags() {
    let rest = "--cgroups=split --sdnotify=conmon -d";
    assert_eq!(container(""), format!("{rest} i"));
    for (keys, flags) in [
        ("Timezone=local\nPidsLimit=9", "--tz local --pids-limit 9"),
        ("DNS=1.1.1.1\nDNS=\nDNS=2.2.2.2", "--dns 2.2.2.2"),
        ("RunInit=yes\nHttpProxy=no", "--init --http-proxy=false"),
        ("Entrypoint=", "--entrypoint="),
    ] {
        assert_eq!(container(keys), format!("--cgroups=split {flags} --sdnotify=conmon -d i"), "{keys}");
    }
    for (keys, flags) in [
        ("NoNewPrivileges=true", "--security-opt=no-new-privileges"),
        ("SecurityLabelType=spc_t\nAppArmor=x", "--security-opt label=type:spc_t --security-opt apparmor=x"),
        (
            "AddDevice=-/dev/null:/dev/x -/dev/none:r /dev/fuse",
            "--device /dev/null:/dev/x --device /dev/fuse",
        ),
        (
            "DropCapability=ALL\nAddCapability=CAP_CHOWN KILL",
            "--cap-drop all --cap-add cap_chown --cap-add kill",
        ),
        ("User=1\nGroup=2", "--user 1:2"),
        ("RemapUsers=auto\nRemapUid=0:1:2\nRemapUidSize=9", "--userns auto:uidmapping=0:1:2,size=9"),
        ("Volume=./d:/x\nVolume=/anon\nVolume=%h/e:/y:Z", "-v /q/d:/x -v /anon -v %h/e:/y:Z"),
        ("Environment=B=2 \"A=1 1\"\nEnvironment=B=3 C", "--env \"A=1 1\" --env B=3 --env C"),
        ("Label=A=1", "--label A=1"),
        ("EnvironmentFile=a %h/b /c", "--env-file /q/a --env-file %h/b --env-file /c"),
        ("Mask=/a:/b", "--security-opt mask=/a:/b"),
        ("Mount=target=/x,type=bind,src=./s", "--mount type=bind,target=/x,source=/q/s"),
        ("Mount=type=tmpfs,dst=/t", "--mount type=tmpfs,dst=/t"),
        ("HealthCmd=\"true\"\nHealthOnFailure=kill", "--health-cmd true --health-on-failure kill"),
        ("PodmanArgs=--a \"b c\"", "--a \"b c\""),
        ("ExposeHostPort=80-90/tcp \nPublishPort=80", "--expose 80-90/tcp --publish 80"),
    ] {
        assert_eq!(container(keys), format!("{rest} {flags} i"), "{keys}");
    }
    assert!(container("Notify=healthy").contains("--sdnotify=healthy -d"));
    assert!(container("Notify=yes").contains("--sdnotify=container -d"));
    assert_eq!(container("[Service]\nType=oneshot"), "--cgroups=split i");
}

#[test]
fn containers_join_pods_networks_and_one_another() {
    let pod = ("p.pod", "[Pod]\nPodName=pp\n");
    let web =
        ("w.container", "[Container]\nImage=i.image\nPod=p.pod\nNetwork=n.network:alias=x\nNetwork=host\n");
    let others = [web, pod, ("n.network", "[Network]\n"), ("i.image", "[Image]\nImage=quay.io/x\n")];
    let service = service(&others);
    let line = service.raw("Service", "ExecStart").unwrap();
    assert!(
        line.ends_with("--network systemd-n:alias=x --network host --sdnotify=conmon -d --pod pp quay.io/x"),
        "{line}"
    );
    assert_eq!(service.all("Unit", "BindsTo"), ["p-pod.service"]);
    assert_eq!(service.all("Unit", "Requires"), ["n-network.service", "i-image.service"]);
    let made = make(&others, false);
    let pod = made[1].service.as_ref().unwrap();
    assert_eq!(pod.unit.all("Unit", "Wants"), ["network-online.target", "w.service"]);
    let line = start(&[("a.container", "[Container]\nImage=i\nNetwork=w.container\n"), web]);
    assert!(line.contains("--network container:systemd-w"), "{line}");
    for (key, why) in [
        ("Network=x.network", "requested Quadlet unit x.network was not found (/q/w.container, line 3)"),
        ("Pod=p", "pod p is not Quadlet based (/q/w.container, line 3)"),
        ("Pod=q.pod", "quadlet pod unit q.pod does not exist"),
        ("Volume=v.volume:/x", "requested Quadlet source v.volume was not found"),
    ] {
        let said = failure("w.container", &format!("[Container]\nImage=i\n{key}\n"));
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn volumes_networks_and_images_are_made_once() {
    let volume = "[Volume]\nDevice=/dev/x\nType=ext4\nCopy=no\nUser=root\nGroup=7\nOptions=ro\nLabel=a=b\n";
    assert_eq!(
        start(&[("d.volume", volume)]),
        "volume create --ignore --opt nocopy --opt device=/dev/x --opt type=ext4 --opt o=uid=0,gid=7,ro --label a=b \
         systemd-d"
    );
    let image = "[Volume]\nDriver=image\nImage=b.build\n";
    let build = ("b.build", "[Build]\nImageTag=localhost/b\nFile=/d/Containerfile\n");
    assert_eq!(
        start(&[("d.volume", image), build]),
        "volume create --ignore --driver image --opt image=localhost/b systemd-d"
    );
    let network = "[Network]\nSubnet=10.1.0.0/16\nSubnet=10.2.0.0/16\nGateway=10.1.0.1\nIPv6=no\nNetworkDeleteOnStop=yes\n";
    let made = service(&[("n.network", network)]);
    assert_eq!(
        made.raw("Service", "ExecStart"),
        Some(
            "/bin/fluyt network create --ignore --ipv6=false --subnet 10.1.0.0/16 --gateway 10.1.0.1 --subnet 10.2.0.0/16 \
             systemd-n"
        )
    );
    assert_eq!(made.raw("Service", "ExecStopPost"), Some("/bin/fluyt network rm systemd-n"));
    assert_eq!(made.raw("Service", "RemainAfterExit"), Some("yes"));
    assert_eq!(
        start(&[("i.image", "[Image]\nImage=quay.io/x\nOS=linux\nTLSVerify=no\nGlobalArgs=--root /r\n")]),
        "--root /r image pull --os linux --tls-verify=false quay.io/x"
    );
    let tmpl = start(&[
        ("t@.container", "[Container]\nImage=i\nVolume=d@.volume:/d\n"),
        ("d@.volume", "[Volume]\n"),
    ]);
    assert!(tmpl.contains("--name systemd-%p_%i") && tmpl.contains("-v systemd-d-%i:/d"), "{tmpl}");
}

#[test]
fn builds_find_their_context() {
    let build = |keys: &str| {
        let made = service(&[("b.build", &format!("[Build]\nImageTag=t\n{keys}\n"))]);
        let line =
            made.raw("Service", "ExecStart").unwrap().strip_prefix("/bin/fluyt build --tag t ").unwrap();
        format!("{line} @{}", made.raw("Service", "WorkingDirectory").unwrap_or("-"))
    };
    assert_eq!(build("SetWorkingDirectory=unit"), "/q @/q");
    assert_eq!(build("File=C\nSetWorkingDirectory=file"), "--file C /q @/q");
    assert_eq!(build("SetWorkingDirectory=."), ". @/q");
    assert_eq!(build("File=/etc/C"), "--file /etc/C @-");
    assert_eq!(build("SetWorkingDirectory=https://x/y.git"), "https://x/y.git @-");
    assert_eq!(build("File=%h/C"), "--file %h/C @-");
    assert_eq!(build("File=C\n[Service]\nWorkingDirectory=/w"), "--file C /w @/w");
    assert!(failure("b.build", "[Build]\nImageTag=t\n").contains("neither SetWorkingDirectory"));
    assert!(failure("b.build", "[Build]\nImageTag=t\nFile=C\n").contains("relative path in File"));
    assert!(failure("b.build", "[Build]\n").contains("no ImageTag"));
}

#[test]
fn pods_and_kubernetes_files() {
    let pod = service(&[("p.pod", "[Pod]\nPublishPort=80:80\nStopTimeout=3\n")]);
    let line = |key: &str| pod.raw("Service", key).unwrap().strip_prefix("/bin/fluyt pod ").unwrap();
    assert_eq!(
        line("ExecStartPre"),
        "create --infra-conmon-pidfile=%t/%N.pid --replace --exit-policy stop --publish 80:80 \
         --infra-name systemd-p-infra --name systemd-p"
    );
    assert_eq!(line("ExecStop"), "stop --ignore --time=3 systemd-p");
    let kube = service(&[(
        "k.kube",
        "[Kube]\nYaml=a.yml /b.yml\nConfigMap=c.yml\nKubeDownForce=true\nAutoUpdate=x/local\n",
    )]);
    assert_eq!(
        kube.raw("Service", "ExecStart"),
        Some(
            "/bin/fluyt kube play --replace --service-container=true --annotation=io.containers.autoupdate/x=local \
             --configmap /q/c.yml /q/a.yml /b.yml"
        )
    );
    assert_eq!(kube.raw("Service", "ExecStopPost"), Some("/bin/fluyt kube down --force /q/a.yml /b.yml"));
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_a_way_out() {
    for (name, text, why) in [
        (
            "w.container",
            "[Container]\nImgae=x\n",
            "unsupported key 'Imgae' in group 'Container' in /q/w.container, line 2; did you mean Image?",
        ),
        (
            "w.container",
            "[Quadlet]\nDefaults=x\n[Container]\nImage=x\n",
            "unsupported key 'Defaults' in group 'Quadlet'",
        ),
        ("w.container", "[Unit]\n", "no Image or Rootfs key specified; the unit has no section [Container]"),
        ("w.container", "[Container]\nImage=x\nRootfs=y\n", "conflict"),
        ("w.container", "[Container]\nImage=x\nGroup=y\n", "invalid Group set without User"),
        ("w.container", "[Container]\nImage=x\n[Service]\nKillMode=none\n", "invalid KillMode 'none'"),
        ("w.container", "[Container]\nImage=x\n[Service]\nType=simple\n", "invalid service Type 'simple'"),
        ("w.container", "[Container]\nImage=x\nExposeHostPort=x\n", "invalid port format 'x'"),
        ("w.container", "[Container]\nImage=x\nReloadCmd=a\nReloadSignal=b\n", "mutually exclusive"),
        ("w.container", "[Container]\nImage=x\nUserNS=host\nRemapUsers=auto\n", "deprecated Remap keys"),
        (
            "w.container",
            "[Container]\nImage=x\nMount=type=bind,dst=/x\n",
            "source parameter is required for mount type bind",
        ),
        (
            "w.container",
            "[Unit]\nAfter=y.volume\n[Container]\nImage=x\n",
            "unable to translate dependency for y.volume (/q/w.container, line 2)",
        ),
        ("d.volume", "[Volume]\nType=bind\n", "key Type can't be used without Device"),
        ("d.volume", "[Volume]\nUser=nobody\n", "User=nobody: not a number"),
        ("d.volume", "[Volume]\nDriver=image\n", "the key Image is mandatory"),
        ("n.network", "[Network]\nGateway=1.1.1.1\n", "cannot set gateway or range without subnet"),
        ("n.network", "[Network]\nSubnet=1.1.1.0/24\nIPRange=a\nIPRange=b\n", "more ranges than subnets"),
        ("i.image", "[Image]\n", "no Image key specified"),
        ("k.kube", "[Kube]\n", "no Yaml key specified"),
        ("k.kube", "[Kube]\nYaml=a b\nSetWorkingDirectory=yaml\n", "single Yaml key"),
        ("k.kube", "[Kube]\nYaml=a\nRemapUsers=manual\n", "RemapUsers=manual is not supported"),
        ("a.artifact", "[Artifact]\nArtifact=x\n", "fluyt has no artifacts"),
    ] {
        let said = failure(name, text);
        assert!(said.contains(why), "{text}: {said}");
    }
    let made = make(
        &[("w.container", "[Container]\nImage=x\nLabel=a=\\?\nExec=b \\q\n[Service]\nUser=me\n")],
        false,
    );
    assert_eq!(made[0].warnings.len(), 3, "{:?}", made[0].warnings);
    assert!(made[0].warnings[1].contains("unsupported escape char"), "{:?}", made[0].warnings);
}

#[test]
fn the_default_dependency_can_be_left_out() {
    let without = service(&[("w.container", "[Quadlet]\nDefaultDependencies=no\n[Container]\nImage=x\n")]);
    assert!(without.all("Unit", "After").is_empty() && without.has_section("X-Quadlet"));
    let reset = service(&[("w.container", "[Unit]\nAfter=\n[Container]\nImage=x\n")]);
    assert!(reset.all("Unit", "After").is_empty());
    let user = make(&[("w.container", "[Container]\nImage=x\n")], true).remove(0).service.unwrap();
    assert!(user.unit.all("Unit", "Wants").is_empty());
}
