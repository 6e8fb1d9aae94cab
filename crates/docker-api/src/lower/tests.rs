//! Lowering, case by case: what a request becomes.

use fluyt_model::Kind;
use fluyt_model::sandbox::{MountSource, Namespace, Seccomp};

use super::*;

fn request(json: serde_json::Value) -> CreateRequest {
    serde_json::from_value(json).unwrap()
}

fn image(json: serde_json::Value) -> ContainerConfig {
    serde_json::from_value(json).unwrap()
}

fn lower(req: serde_json::Value, img: serde_json::Value) -> Result<SandboxSpec> {
    container(&request(req), &image(img), "sha256:00")
}

#[test]
fn entry_points_and_commands_follow_dockers_precedence() {
    let img = serde_json::json!({"Entrypoint": ["/e"], "Cmd": ["a", "b"]});
    let args = |req| lower(req, img.clone()).map(|s| s.containers[0].process.args.clone());
    assert_eq!(args(serde_json::json!({})).unwrap(), ["/e", "a", "b"]);
    assert_eq!(args(serde_json::json!({"Cmd": ["x"]})).unwrap(), ["/e", "x"]);
    assert_eq!(args(serde_json::json!({"Entrypoint": ["/f"]})).unwrap(), ["/f"]);
    assert_eq!(args(serde_json::json!({"Entrypoint": [""], "Cmd": ["x"]})).unwrap(), ["x"]);
    assert_eq!(args(serde_json::json!({"Entrypoint": [""]})).unwrap_err().kind(), Kind::Invalid);
}

#[test]
fn the_users_environment_wins_over_the_images() {
    let img = serde_json::json!({"Cmd": ["x"], "Env": ["A=1", "PATH=/p"]});
    let spec = lower(serde_json::json!({"Env": ["A=2", "B=3"]}), img).unwrap();
    assert_eq!(spec.containers[0].process.env, ["PATH=/p", "A=2", "B=3"]);
}

#[test]
fn volumes_binds_and_tmpfs_become_one_list() {
    let spec = lower(
        serde_json::json!({
            "Cmd": ["x"],
            "HostConfig": {
                "Binds": ["/src:/dst:ro,rshared", "data:/data:nocopy", "/anon"],
                "Tmpfs": {"/run": "size=1m,mode=700"},
                "Mounts": [{"Type": "bind", "Source": "/s", "Target": "/t", "ReadOnly": true}]
            }
        }),
        serde_json::json!({"Volumes": {"/data": {}, "/cache": {}}}),
    )
    .unwrap();
    let mounts = &spec.containers[0].mounts;
    let targets: Vec<_> = mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(targets, ["/dst", "/data", "/anon", "/t", "/run", "/cache"]);
    assert!(mounts[0].read_only && mounts[0].propagation == "rshared");
    assert!(matches!(&mounts[1].source, MountSource::Volume { name, no_copy: true, .. } if name == "data"));
    assert!(matches!(&mounts[2].source, MountSource::Volume { name, .. } if name.is_empty()));
    assert!(
        matches!(&mounts[4].source, MountSource::Tmpfs { options } if options[..] == ["size=1m", "mode=700"])
    );
}

#[test]
fn bad_mounts_are_named() {
    let bad = |binds: &[&str]| {
        let req = serde_json::json!({"Cmd": ["x"], "HostConfig": {"Binds": binds}});
        lower(req, serde_json::json!({})).unwrap_err().chain()
    };
    assert!(bad(&["rel:path"]).contains("rel:path"));
    assert!(bad(&["./rel:/x"]).contains("./rel"));
    assert!(bad(&["/a:/x", "/b:/x/"]).contains("Duplicate mount point"));
    assert!(bad(&["/a:/x:bogus"]).contains("bogus"));
    assert!(bad(&["/a:/"]).contains("destination can't be"));
}

#[test]
fn network_modes_select_namespaces_and_attachments() {
    let mode = |m: &str| {
        lower(serde_json::json!({"Cmd": ["x"], "HostConfig": {"NetworkMode": m}}), serde_json::json!({}))
    };
    assert_eq!(mode("").unwrap().networks[0].network, "bridge");
    assert_eq!(mode("default").unwrap().networks[0].network, "bridge");
    assert!(mode("none").unwrap().networks.is_empty());
    assert_eq!(mode("host").unwrap().namespaces.network, Namespace::Host);
    assert_eq!(mode("container:a").unwrap().namespaces.network, Namespace::Container("a".into()));
    assert_eq!(mode("mine").unwrap().networks[0].network, "mine");
}

#[test]
fn security_options_are_read_in_both_forms() {
    let opts = |o: &[&str]| {
        lower(serde_json::json!({"Cmd": ["x"], "HostConfig": {"SecurityOpt": o}}), serde_json::json!({}))
            .map(|s| s.containers[0].security.clone())
    };
    assert_eq!(opts(&["seccomp=unconfined"]).unwrap().seccomp, Seccomp::Unconfined);
    assert_eq!(opts(&["seccomp:unconfined"]).unwrap().seccomp, Seccomp::Unconfined);
    assert!(opts(&["no-new-privileges"]).unwrap().no_new_privileges);
    assert!(matches!(opts(&["seccomp={\"a\":1}"]).unwrap().seccomp, Seccomp::Profile(p) if p == "{\"a\":1}"));
    let unmasked = opts(&["unmask=/proc/kcore"]).unwrap().masked_paths.unwrap();
    assert!(!unmasked.contains(&"/proc/kcore".to_owned()) && !unmasked.is_empty());
    assert!(opts(&["nonsense"]).is_err());
}

#[test]
fn health_checks_get_their_defaults() {
    let spec = lower(
        serde_json::json!({"Cmd": ["x"], "Healthcheck": {"Interval": 1_000_000_000}}),
        serde_json::json!({"Healthcheck": {"Test": ["CMD-SHELL", "curl -f localhost"]}}),
    )
    .unwrap();
    let health = spec.containers[0].health.clone().unwrap();
    assert_eq!(health.args, ["/bin/sh", "-c", "curl -f localhost"]);
    assert_eq!((health.interval, health.timeout, health.retries), (SECOND, 30 * SECOND, 3));
    let none = lower(
        serde_json::json!({"Cmd": ["x"], "Healthcheck": {"Test": ["NONE"]}}),
        serde_json::json!({"Healthcheck": {"Test": ["CMD", "a"]}}),
    );
    assert!(none.unwrap().containers[0].health.is_none());
}

#[test]
fn rm_and_restart_contradict_each_other() {
    let req = serde_json::json!({"Cmd": ["x"], "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}});
    assert_eq!(lower(req, serde_json::json!({})).unwrap_err().kind(), Kind::Conflict);
}
