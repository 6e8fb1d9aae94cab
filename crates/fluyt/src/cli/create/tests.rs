//! Goldens of the translation, by field.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::cli::flags::{UsageError, parse};

struct Fake;

impl Host for Fake {
    fn env(&self, key: &str) -> Option<String> {
        (key == "HOME").then(|| "/home/me".to_owned())
    }

    fn vars(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn read(&self, path: &str) -> std::io::Result<Vec<u8>> {
        match path {
            "e" => Ok(b"\xef\xbb\xbfA=1\r\n# no\n\n  B=x y\nHOME\nNONE\n".to_vec()),
            "bad" => Ok(b"A B=1\n".to_vec()),
            "l" => Ok(b"a=1\nb\n".to_vec()),
            "s.json" => Ok(b"{ \"a\" : 1 }".to_vec()),
            _ => Err(std::io::Error::from_raw_os_error(2)),
        }
    }

    fn cwd(&self) -> PathBuf {
        PathBuf::from("/cwd")
    }
}

fn run(line: &str) -> Result<Value, String> {
    let words: Vec<String> = line.split(' ').map(|w| w.replace('~', " ")).collect();
    let parsed = match parse(&RUN, "run", &words) {
        Ok(parsed) => parsed,
        Err(UsageError::Flag(why) | UsageError::Arguments(why)) => return Err(why),
        Err(UsageError::Help) => return Err("help".to_owned()),
    };
    request(&parsed, &Fake).map(|r| serde_json::to_value(r).unwrap())
}

#[test]
fn fields() {
    let cases: &[(&str, &str, Value)] = &[
        ("img", "/Image", json!("img")),
        ("img", "/Cmd", Value::Null),
        ("img -v x", "/Cmd", json!(["-v", "x"])),
        ("-- img --rm", "/Cmd", json!(["--rm"])),
        ("-it img", "/Tty", json!(true)),
        ("-it img", "/StdinOnce", json!(true)),
        ("-ti=false img", "/OpenStdin", json!(false)),
        ("--tty=0 img", "/Tty", json!(false)),
        ("-a stdout img", "/AttachStderr", json!(false)),
        ("img", "/AttachStderr", json!(true)),
        (
            "-eA=1 -e HOME -e NONE --env-file e img",
            "/Env",
            json!(["A=1", "B=x y", "HOME=/home/me", "A=1", "HOME=/home/me", "NONE"]),
        ),
        ("-l a=1 -l b --label-file l img", "/Labels", json!({"a": "1", "b": ""})),
        ("--entrypoint= img", "/Entrypoint", json!([""])),
        ("--entrypoint=sh img", "/Entrypoint", json!(["sh"])),
        ("-p 80 --expose 90-91 img", "/ExposedPorts", json!({"80/tcp": {}, "90/tcp": {}, "91/tcp": {}})),
        (
            "-p80:8080 img",
            "/HostConfig/PortBindings",
            json!({"8080/tcp": [{"HostIp": "", "HostPort": "80"}]}),
        ),
        ("-p 80 -P img", "/HostConfig/PublishAllPorts", json!(true)),
        ("-v ./a:/b:ro -v /c img", "/HostConfig/Binds", json!(["/cwd/a:/b:ro"])),
        ("-v ./a:/b:ro -v /c img", "/Volumes", json!({"/c": {}})),
        ("-m 512m img", "/HostConfig/Memory", json!(536_870_912)),
        ("--memory-swap -1 img", "/HostConfig/MemorySwap", json!(-1)),
        ("--cpus 1.5 img", "/HostConfig/NanoCpus", json!(1_500_000_000)),
        ("--cpuset-cpus 0-1 img", "/HostConfig/CpusetCpus", json!("0-1")),
        ("--pids-limit 7 img", "/HostConfig/PidsLimit", json!(7)),
        (
            "--ulimit nofile=1 --ulimit nofile=2 --ulimit core=0 img",
            "/HostConfig/Ulimits",
            json!([{"Name": "core", "Hard": 0, "Soft": 0}, {"Name": "nofile", "Hard": 2, "Soft": 2}]),
        ),
        (
            "--restart on-failure:3 img",
            "/HostConfig/RestartPolicy",
            json!({"Name": "on-failure", "MaximumRetryCount": 3}),
        ),
        ("img", "/HostConfig/RestartPolicy/Name", json!("no")),
        ("--network none img", "/HostConfig/NetworkMode", json!("none")),
        ("img", "/HostConfig/NetworkMode", json!("default")),
        (
            "--net n --network-alias a --ip 10.0.0.9 img",
            "/NetworkingConfig/EndpointsConfig/n/Aliases",
            json!(["a"]),
        ),
        (
            "--net n --ip 10.0.0.9 img",
            "/NetworkingConfig/EndpointsConfig/n/IPAMConfig",
            json!({"IPv4Address": "10.0.0.9"}),
        ),
        (
            "--network name=n,alias=a,alias=b,driver-opt=x=y,gw-priority=2 img",
            "/NetworkingConfig/EndpointsConfig/n/GwPriority",
            json!(2),
        ),
        (
            "--network name=n,alias=a,alias=b img",
            "/NetworkingConfig/EndpointsConfig/n/Aliases",
            json!(["a", "b"]),
        ),
        ("--network a --network b img", "/NetworkingConfig/EndpointsConfig/b/IPAMConfig", Value::Null),
        (
            "--mac-address 92:D0:c6:0a:29:33 img",
            "/NetworkingConfig/EndpointsConfig/default/MacAddress",
            json!("92:d0:c6:0a:29:33"),
        ),
        ("--dns 1.1.1.1 --dns-opt ndots:1 img", "/HostConfig/DnsOptions", json!(["ndots:1"])),
        ("--add-host a=[::1] img", "/HostConfig/ExtraHosts", json!(["a:::1"])),
        (
            "--health-cmd true --health-interval 1m30s --health-retries 2 img",
            "/Healthcheck",
            json!({"Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000_i64, "Retries": 2}),
        ),
        ("--no-healthcheck img", "/Healthcheck/Test", json!(["NONE"])),
        ("--security-opt seccomp=s.json img", "/HostConfig/SecurityOpt", json!(["seccomp={\"a\":1}"])),
        (
            "--security-opt no-new-privileges --security-opt seccomp=unconfined img",
            "/HostConfig/SecurityOpt",
            json!(["no-new-privileges", "seccomp=unconfined"]),
        ),
        ("--security-opt systempaths=unconfined img", "/HostConfig/MaskedPaths", json!([])),
        ("img", "/HostConfig/MaskedPaths", Value::Null),
        ("--tmpfs /t:size=1m,mode=700 img", "/HostConfig/Tmpfs", json!({"/t": "size=1m,mode=700"})),
        ("--gpus all --device v.com/c=x img", "/HostConfig/DeviceRequests/1/DeviceIDs", json!(["v.com/c=x"])),
        (
            "--log-driver local --log-opt max-size=1m img",
            "/HostConfig/LogConfig",
            json!({"Type": "local", "Config": {"max-size": "1m"}}),
        ),
        ("--stop-timeout 0 img", "/StopTimeout", json!(0)),
        ("--init=false img", "/HostConfig/Init", json!(false)),
        ("--annotation a=b --sysctl net.x=1 img", "/HostConfig/Sysctls", json!({"net.x": "1"})),
        ("--memory-swappiness 0 img", "/HostConfig/MemorySwappiness", json!(0)),
        (
            "--device-read-bps /dev/a:1mb img",
            "/HostConfig/BlkioDeviceReadBps",
            json!([{"Path": "/dev/a", "Rate": 1_048_576}]),
        ),
        ("--storage-opt size=1g img", "/HostConfig/StorageOpt", json!({"size": "1g"})),
        ("--rm --name x --cidfile f img", "/HostConfig/AutoRemove", json!(true)),
    ];
    for (line, pointer, expected) in cases {
        let value = run(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        assert_eq!(value.pointer(pointer).unwrap_or(&Value::Null), expected, "{line} {pointer}");
    }
}

#[test]
fn refusals_speak_dockers_words() {
    for (line, why) in [
        ("", "no positional"),
        ("--bad img", "unknown flag: --bad"),
        ("-y img", "unknown shorthand flag: 'y' in -y"),
        ("-iy img", "unknown shorthand flag: 'y' in -iy"),
        ("--name", "flag needs an argument: --name"),
        ("-ie", "flag needs an argument: 'e' in -ie"),
        ("--rm --restart always img", "conflicting options: cannot specify both --restart and --rm"),
        ("-m x img", "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
        (
            "--cpu-shares x img",
            "invalid argument \"x\" for \"-c, --cpu-shares\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "--init=maybe img",
            "invalid argument \"maybe\" for \"--init\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax",
        ),
        ("--memory-swappiness 101 img", "invalid value: 101. Valid memory swappiness range is 0-100"),
        ("--pid x img", "--pid: invalid PID mode"),
        ("--uts x img", "--uts: invalid UTS mode"),
        ("--userns x img", "--userns: invalid USER mode"),
        ("--cgroupns x img", "--cgroupns: invalid CGROUP mode"),
        ("--restart :1 img", "invalid restart policy format: no policy provided before colon"),
        (
            "--restart on-failure:x img",
            "invalid restart policy format: maximum retry count must be an integer",
        ),
        ("--no-healthcheck --health-cmd x img", "--no-healthcheck conflicts with --health-* options"),
        ("--health-timeout -1s img", "--health-timeout cannot be negative"),
        ("--log-driver none --log-opt a=b img", "invalid logging opts for driver none"),
        ("--storage-opt x img", "invalid storage option"),
        ("--security-opt x img", "invalid --security-opt: \"x\""),
        (
            "--security-opt seccomp=no img",
            "opening seccomp profile (no) failed: open no: no such file or directory",
        ),
        ("--env-file no img", "--env-file: open no: no such file or directory"),
        ("--env-file bad img", "--env-file: invalid env file (bad): variable 'A B' contains whitespaces"),
        ("--mac-address x img", "x is not a valid mac address"),
        ("--network-alias a img", "network-scoped aliases are only supported for user-defined networks"),
        ("--network a --network a img", "network \"a\" is specified multiple times"),
        (
            "--network a --network host img",
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            "--network name=a,x=y img",
            "invalid argument \"name=a,x=y\" for \"--network\" flag: invalid field key x",
        ),
        (
            "--mount type=x,y img",
            "invalid argument \"type=x,y\" for \"--mount\" flag: invalid field 'y' must be a key=value pair",
        ),
        (
            "-a x img",
            "invalid argument \"x\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR",
        ),
        ("-v a::b img", "invalid spec: a::b: empty section between colons"),
    ] {
        if line.is_empty() {
            assert_eq!(
                parse(&RUN, "run", &[]).unwrap_err(),
                UsageError::Arguments("fluyt: 'fluyt run' requires at least 1 argument".to_owned())
            );
            continue;
        }
        assert_eq!(run(line).unwrap_err(), why, "{line}");
    }
}
