//! Quadlet: the generator as systemd calls it, its services before systemd's own eyes, the lines in them, and what a
//! service manager is told.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fluyt_testkit::host::{BOX, finish};
use fluyt_testkit::{Host, wait};

use crate::{STAY, host, ours_only};

/// Writes units; where they are.
fn units(host: &Host, files: &[(&str, &str)]) -> PathBuf {
    let directory = host.scratch().join("units");
    for (name, text) in files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, text).expect("a unit");
    }
    directory
}

/// Calls the program as systemd calls a generator.
fn generate(host: &Host, units: &Path, words: &[&str]) -> fluyt_testkit::host::Outcome {
    let generator = host.scratch().join("fluyt-system-generator");
    if !generator.exists() {
        std::os::unix::fs::symlink(crate::PROGRAM, &generator).expect("a link");
    }
    let mut command = Command::new(generator);
    command.args(words).env("QUADLET_UNIT_DIRS", units);
    finish(&mut command, b"", 60)
}

/// A command line of a service, run by a shell as systemd would.
fn run_line(host: &Host, service: &str, key: &str) -> fluyt_testkit::host::Outcome {
    let prefix = format!("{key}=");
    let line =
        service.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_else(|| panic!("{service}"));
    let line = line.trim_start_matches('-').replace("%N", "web").replace("%%", "%");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).env("FLUYT_ROOT", host.root()).current_dir(host.scratch().path());
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    finish(&mut command, b"", 60)
}

#[test]
fn the_generator_writes_services_that_systemd_takes() {
    let host = host!();
    ours_only!(host);
    let units = units(
        &host,
        &[
            (
                "web.container",
                "[Unit]\nDescription=A web server\nAfter=data.volume\n\n[Container]\nImage=localhost/box\nVolume=data.volume:/data\n\
                 Network=inner.network:ip=10.89.77.5\nExec=sh -c \"echo 'a b'; sleep 9\"\nPublishPort=127.0.0.1:8080:80\n\
                 Environment=A=1 \"B=2 3\"\nReadOnly=yes\n\n[Service]\nRestart=on-failure\n\n[Install]\nWantedBy=multi-user.target\n",
            ),
            ("web.container.d/10-more.conf", "[Container]\nLabel=from=drop-in\n"),
            ("data.volume", "[Volume]\nUser=7\nGroup=8\n"),
            ("inner.network", "[Network]\nSubnet=10.89.77.0/24\n"),
            ("base.image", "[Image]\nImage=localhost/box\n"),
            ("made.build", "[Build]\nImageTag=localhost/made\nSetWorkingDirectory=unit\n"),
            ("both.pod", "[Pod]\nPublishPort=8081:80\n"),
            ("play.kube", "[Kube]\nYaml=play.yaml\n"),
            (
                "each@.container",
                "[Container]\nImage=localhost/box\nExec=echo %i\n[Install]\nWantedBy=multi-user.target\nDefaultInstance=one\n",
            ),
        ],
    );
    let out = host.scratch().join("out");
    let early = host.scratch().join("early");
    let words = ["--no-kmsg-log", out.to_str().unwrap(), early.to_str().unwrap(), early.to_str().unwrap()];
    assert_eq!(generate(&host, &units, &words).success(), "");
    let mut made: Vec<String> = std::fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".service"))
        .collect();
    made.sort_unstable();
    assert_eq!(
        made,
        [
            "base-image.service",
            "both-pod.service",
            "data-volume.service",
            "each@.service",
            "inner-network.service",
            "made-build.service",
            "play.service",
            "web.service",
        ]
    );
    let link = |at: &str| std::fs::read_link(out.join(at)).unwrap();
    assert_eq!(link("multi-user.target.wants/web.service"), Path::new("../web.service"));
    assert_eq!(link("multi-user.target.wants/each@one.service"), Path::new("../each@.service"));
    let web = std::fs::read_to_string(out.join("web.service")).unwrap();
    assert!(web.contains("--label from=drop-in") && web.contains("\n[X-Container]\n"), "{web}");
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(made.iter().map(|name| match name.as_str() {
        "each@.service" => out.join("each@one.service"),
        name => out.join(name),
    }));
    std::os::unix::fs::symlink("each@.service", out.join("each@one.service")).unwrap();
    let verified = finish(&mut verify, b"", 60);
    assert_eq!(verified.code, 0, "{verified:?}");
    // It may have something to say about this machine's own units, but nothing about these.
    let about: Vec<&str> =
        verified.stderr.lines().filter(|line| line.contains(out.to_str().unwrap())).collect();
    assert!(about.is_empty(), "{about:?}");

    let shown = generate(&host, &units, &["--dryrun"]);
    assert!(
        shown.stdout.contains("---web.service---\n") && shown.stderr.contains("Loading source unit file")
    );
}

#[test]
fn what_the_generator_cannot_read_is_named() {
    let host = host!();
    ours_only!(host);
    let units = units(
        &host,
        &[
            ("bad.container", "[Container]\nImage=x\nPublishPrt=80\n"),
            ("good.volume", "[Volume]\n"),
            ("rubbish.network", "[Network]\nwhat is this\n"),
        ],
    );
    let out = host.scratch().join("out");
    let outcome = generate(&host, &units, &["--no-kmsg-log", out.to_str().unwrap()]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("unsupported key 'PublishPrt' in group 'Container' in"), "{outcome:?}");
    assert!(outcome.stderr.contains("bad.container, line 3; did you mean PublishPort?"), "{outcome:?}");
    assert!(outcome.stderr.contains("rubbish.network, line 2"), "{outcome:?}");
    assert!(out.join("good-volume.service").exists());
    let outcome = generate(&host, &units, &["--no-kmsg-log"]);
    assert!(outcome.code == 1 && outcome.stderr.contains("missing output directory"), "{outcome:?}");
}

#[test]
fn the_lines_of_services_work() {
    let host = host!();
    ours_only!(host);
    let container = format!(
        "[Container]\nImage=box\nExec=sh -c \"touch /tmp/x; id -u; {STAY}\"\nVolume=data.volume:/data\nNetwork=inner.network:ip=10.89.78.5\n\
         Environment=A=1\nLabel=l=1\nDropCapability=ALL\nAddCapability=chown\nNoNewPrivileges=yes\nReadOnly=yes\nTimezone=local\n\
         RunInit=yes\nHealthCmd=true\nHealthOnFailure=kill\nPidsLimit=50\nMemory=64m\nShmSize=1m\nUlimit=nofile=100\nMask=/proc/kcore\n\
         AddDevice=-/dev/none\nTmpfs=/scratch\nPull=never\nSysctl=net.ipv4.ip_forward=0\nStopTimeout=7\nHostName=h\nDNS=192.0.2.1\n\
         AddHost=a:192.0.2.2\nMount=type=tmpfs,destination=/more\nSecurityLabelDisable=true\nUser=0\nGroup=0\nHttpProxy=yes\n\
         EnvironmentHost=no\nAnnotation=x=y\nExposeHostPort=80\nAutoUpdate=registry\nReloadCmd=true\n"
    );
    let units = units(
        &host,
        &[
            ("web.container", &container),
            ("data.volume", "[Volume]\nUser=7\nGroup=8\nCopy=no\nLabel=a=b\n"),
            (
                "inner.network",
                "[Network]\nSubnet=10.89.78.0/24\nGateway=10.89.78.1\nInternal=yes\nOptions=mtu=1400\nNetworkDeleteOnStop=yes\nIPAMDriver=host-local\n",
            ),
        ],
    );
    let out = host.scratch().join("out");
    let _ = generate(&host, &units, &["--no-kmsg-log", out.to_str().unwrap()]).success();
    let service = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let (volume, network, web) =
        (service("data-volume.service"), service("inner-network.service"), service("web.service"));
    for _ in 0..2 {
        let _ = run_line(&host, &volume, "ExecStart").success();
        let _ = run_line(&host, &network, "ExecStart").success();
    }
    let data = PathBuf::from(host.ok("volume inspect systemd-data --format {{.Mountpoint}}"));
    let status = std::fs::metadata(data).unwrap();
    assert_eq!((status.uid(), status.gid()), (7, 8));
    // A second start takes the place of the first.
    let first = run_line(&host, &web, "ExecStart").success();
    let second = run_line(&host, &web, "ExecStart").success();
    assert_ne!(first, second);
    assert_eq!(host.field("systemd-web", "{{.Id}}"), second);
    assert_eq!(
        host.field("systemd-web", "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}}"),
        "true 67108864"
    );
    let _ = run_line(&host, &web, "ExecReload").success();
    let _ = run_line(&host, &web, "ExecStop").success();
    let _ = run_line(&host, &web, "ExecStopPost").success();
    let _ = host.fails(1, "No such", "container inspect systemd-web");
    let _ = run_line(&host, &network, "ExecStopPost").success();
    let _ = host.ok("volume rm systemd-data");
}

#[test]
fn removing_as_podman_does_stops_first() {
    let host = host!();
    ours_only!(host);
    let file = host.scratch().join("said");
    std::fs::write(&file, "").unwrap();
    let bind = format!("{}:/said", file.display());
    let script = "trap 'echo stopped > /said; exit 0' TERM; echo up > /said; sleep 1000 & wait";
    let cid = host.scratch().join("cid");
    let flags = ["run", "-d", "--rm", "--name", "web", "--cidfile", cid.to_str().unwrap(), "-v", &bind];
    let _ = host.ok_words(&[&flags[..], &[BOX, "sh", "-c", script]].concat());
    wait::until("the trap", 30, || (std::fs::read_to_string(&file).unwrap() == "up\n").then_some(()));
    let _ = host.ok_words(&["rm", "-v", "-f", "-i", "--cidfile", cid.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "stopped\n");
    let _ = host.ok("rm -v -f -i web nobody");
    let _ = host.ok("rm -i --cidfile /nowhere");
    let _ = host.fails(1, "/nowhere", "rm --cidfile /nowhere");
}

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(host: &Host) -> Self {
        let path = host.scratch().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(wait::patience(30)))).expect("a socket");
        Self { socket, path }
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    fn hears_nothing_yet(&self) -> bool {
        self.socket.set_nonblocking(true).expect("a socket");
        let nothing = self.socket.recv(&mut [0; 512]).is_err();
        self.socket.set_nonblocking(false).expect("a socket");
        nothing
    }

    fn run(&self, host: &Host, words: &[&str]) -> String {
        let mut command = host.command(words);
        finish(command.env("NOTIFY_SOCKET", &self.path), b"", 60).success()
    }
}

/// The process that a message names.
fn main_process(message: &str) -> i32 {
    message
        .lines()
        .find_map(|line| line.strip_prefix("MAINPID="))
        .expect("a process")
        .parse()
        .expect("a number")
}

#[test]
fn a_service_manager_is_told_of_the_start() {
    let host = host!();
    ours_only!(host);
    let manager = Manager::new(&host);
    let words =
        ["run", "-d", "--rm", "--name", "web", "--cgroups=split", "--sdnotify=conmon", BOX, "sh", "-c", STAY];
    let _ = manager.run(&host, &words);
    let said = manager.hear();
    assert!(said.ends_with("\nREADY=1\n"), "{said}");
    let name = std::fs::read_to_string(format!("/proc/{}/comm", main_process(&said))).unwrap();
    assert_eq!(name, "fluyt-monitor\n");
    assert!(!host.ok_words(&["exec", "web", "env"]).contains("NOTIFY_SOCKET"));
    let _ = host.ok("rm -f -i web");
    // Without a manager nobody is told, and that is no failure.
    let _ = host.ok_words(&words);
    let _ = host.ok("rm -f -i web");
    let refused = host.run_words(&["run", "--sdnotify=maybe", BOX, "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("is not one of"), "{refused:?}");
    assert_eq!(host.run("container reap --exit-code 7 nobody").code, 7);
}

#[test]
fn a_container_says_itself_that_it_is_up() {
    let host = host!();
    ours_only!(host);
    let manager = Manager::new(&host);
    let words = ["run", "-d", "--rm", "--name", "web", "--sdnotify=container", BOX, "sh", "-c", STAY];
    let _ = manager.run(&host, &words);
    let said = manager.hear();
    assert!(!said.contains("READY"), "{said}");
    assert_eq!(host.ok_words(&["exec", "web", "sh", "-c", "echo $NOTIFY_SOCKET"]), "/run/notify/notify.sock");
    let inside = format!("/proc/{}/root/run/notify/notify.sock", host.field("web", "{{.State.Pid}}"));
    let speaker = UnixDatagram::unbound().unwrap();
    speaker.send_to(b"STATUS=warming up", &inside).unwrap();
    assert_eq!(manager.hear(), "STATUS=warming up\n");
    speaker.send_to(b"MAINPID=1\nREADY=1\n", &inside).unwrap();
    assert_eq!(manager.hear(), "READY=1\n");
    let _ = host.ok("rm -f -i web");
}

#[test]
fn a_container_counts_as_up_once_it_is_healthy() {
    let host = host!();
    ours_only!(host);
    let manager = Manager::new(&host);
    let words = ["run", "-d", "--rm", "--name", "web", "--sdnotify=healthy"];
    let check = ["--health-cmd", "test -f /ok", "--health-interval", "100ms", "--health-retries", "1000"];
    let command = [BOX, "sh", "-c", STAY];
    let _ = manager.run(&host, &[&words[..], &check, &command].concat());
    assert!(!manager.hear().contains("READY"));
    assert!(manager.hears_nothing_yet());
    let _ = host.ok_words(&["exec", "web", "touch", "/ok"]);
    assert_eq!(manager.hear(), "READY=1\n");
    let _ = host.ok("rm -f -i web");
    let mut without = host.command([&words[..], &command].concat());
    let refused = finish(without.env("NOTIFY_SOCKET", &manager.path), b"", 60);
    assert!(refused.code == 125 && refused.stderr.contains("requires a healthcheck"), "{refused:?}");
    // One that turns unhealthy is killed, if it should be.
    let words = ["run", "-d", "--name", "ill", "--health-on-failure=kill"];
    let check = ["--health-cmd", "false", "--health-interval", "100ms", "--health-retries", "1"];
    let _ = host.ok_words(&[&words[..], &check, &command].concat());
    host.wait_for("ill", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    let _ = host.ok("rm ill");
}

#[test]
fn output_is_passed_on_to_who_started_the_container() {
    let host = host!();
    ours_only!(host);
    let (out, err) = (host.scratch().join("out"), host.scratch().join("err"));
    let mut command =
        host.command(["run", "-d", "--name", "web", "--log-driver=passthrough", BOX, "sh", "-c"]);
    command.arg("echo said; echo complained >&2");
    command.stdout(std::fs::File::create(&out).unwrap()).stderr(std::fs::File::create(&err).unwrap());
    assert!(command.status().unwrap().success());
    host.wait_for("web", "{{.State.Status}}", "exited");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&err), "complained\n");
    assert!(read(&out).lines().any(|line| line == "said"), "{}", read(&out));
    let _ = host.fails(1, "does not support reading", "logs web");
    let _ = host.ok("rm web");
    let _ = host.fails(125, "unknown log opt", "run --log-driver passthrough --log-opt tag=x box true");
}

#[test]
fn units_are_installed_listed_shown_and_removed() {
    let host = host!();
    ours_only!(host);
    let directory = host.scratch().join("installed");
    std::fs::create_dir(&directory).unwrap();
    let quadlet = |line: &str| {
        let mut command = host.command(["quadlet"].into_iter().chain(line.split(' ')));
        finish(command.env("QUADLET_UNIT_DIRS", &directory), b"", 60)
    };
    let app = host.scratch().join("app");
    std::fs::create_dir(&app).unwrap();
    std::fs::write(app.join("web.container"), "[Container]\nImage=x\nPod=p.pod\n").unwrap();
    std::fs::write(app.join("web.conf"), "x\n").unwrap();
    let many = host.scratch().join("many.quadlets");
    std::fs::write(&many, "# FileName=one\n[Volume]\n---\n# FileName=two\n[Network]\n").unwrap();

    let said = quadlet(&format!("install {}", app.display())).success();
    let at = |name: &str| directory.join(name).display().to_string();
    assert_eq!(said, format!("{}\n{}", at("web.conf"), at("web.container")));
    let said = quadlet(&format!("install {}", many.display())).success();
    assert_eq!(said, format!("{}\n{}", at("one.volume"), at("two.network")));
    let again = quadlet(&format!("install {}", app.display()));
    assert!(again.code == 1 && again.stderr.contains("installed already"), "{again:?}");
    let _ = quadlet(&format!("install --replace {}", app.display())).success();
    let wrong = quadlet(&format!("install {}", app.join("web.conf").display()));
    assert!(wrong.code == 1 && wrong.stderr.contains("not a unit"), "{wrong:?}");

    let format = "{{.Name}}|{{.UnitName}}|{{.Status}}|{{.App}}|{{.Pod}}";
    let listed = quadlet(&format!("list --format {format}")).success();
    assert_eq!(
        listed,
        "one.volume|one-volume.service|Not loaded|.many.app|\ntwo.network|two-network.service|Not loaded|.many.app|\n\
         web.container|web.service|Not loaded|.app.app|p.pod"
    );
    assert_eq!(quadlet("list --filter name=^web --format {{.Name}}").success(), "web.container");
    assert_eq!(quadlet("list -n --filter pod=q").success(), "");
    assert!(quadlet("list").success().starts_with("NAME "));
    assert_eq!(quadlet("print web.container").success(), "[Container]\nImage=x\nPod=p.pod");
    let absent = quadlet("print nobody.pod");
    assert!(absent.code == 1 && absent.stderr.contains("no unit nobody.pod"), "{absent:?}");
    let shown = quadlet("generate");
    assert!(shown.code == 1 && shown.stderr.contains("quadlet pod unit p.pod does not exist"), "{shown:?}");
    assert!(shown.stdout.contains("---two-network.service---"), "{shown:?}");

    assert_eq!(quadlet("rm web.container").success(), "web.container");
    assert_eq!(quadlet("rm --ignore web.container two.network").success(), "two.network\none.volume");
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    let _ = host.fails(1, "replaced by Quadlet", "generate systemd --new --name web");
}
