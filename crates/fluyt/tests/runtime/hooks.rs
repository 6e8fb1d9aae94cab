//! Hooks of every stage: where they run, what they get, what their failure does.

use crate::bundle::Bundle;
use serde_json::{Value, json};

fn hook(b: &Bundle, name: &str, extra: &str) -> Value {
    let file = b.scratch.join("hooks.log");
    let script = format!("s=$(cat); echo {name} $s >> {}; {extra}", file.display());
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b"]}])
}

#[test]
fn all_stages_in_order_with_the_state() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["annotations"] = json!({"k": "v"});
    b.spec["hooks"] = json!({
        "prestart": hook(&b, "prestart", ""),
        "createRuntime": hook(&b, "createRuntime", ""),
        "createContainer": hook(&b, "createContainer", ""),
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/startContainer"]}],
        "poststart": hook(&b, "poststart", ""),
        "poststop": hook(&b, "poststop", ""),
    });
    b.script("grep -c '\"status\":\"created\"' /tmp/startContainer; sleep 0.2");
    assert_eq!(b.run().ok(), "1");
    let log = std::fs::read_to_string(b.scratch.join("hooks.log")).expect("log");
    let stages: Vec<&str> = log.lines().filter_map(|l| l.split(' ').next()).collect();
    assert_eq!(stages, ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
    let statuses = ["created", "creating", "creating", "running", "stopped"];
    for (line, status) in log.lines().zip(statuses) {
        let state: Value = serde_json::from_str(line.split_once(' ').expect("state").1).expect("json");
        assert_eq!((&state["id"], &state["annotations"]["k"]), (&json!(b.id), &json!("v")), "{line}");
        assert_eq!(state["status"], status, "{line}");
    }
}

#[test]
fn a_failing_hook_ends_the_creation() {
    for stage in ["prestart", "createRuntime", "createContainer", "startContainer"] {
        let Some(mut b) = Bundle::new() else { return };
        b.spec["hooks"] =
            json!({ stage: [{"path": "/bin/sh", "args": ["sh", "-c", "echo sorry >&2; exit 3"]}] });
        let said = b.script("echo ran").run();
        assert!(said.code != 0 && !said.out.contains("ran"), "{stage}: {}", said.out);
        if std::env::var_os("FLUYT_TEST_RUNTIME").is_none() {
            assert!(said.err.contains(stage) && said.err.contains("sorry"), "{}", said.err);
        }
    }
}

#[test]
fn a_hook_past_its_timeout_is_killed() {
    let Some(mut b) = Bundle::new() else { return };
    b.spec["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]});
    let begin = std::time::Instant::now();
    assert_ne!(b.run().code, 0);
    assert!(begin.elapsed().as_secs() < 10);
}
