//! The room that the build cache takes: accounts of it, and making some.

use fluyt_testkit::Host;
use serde_json::Value;

use crate::{host, ours_only};

/// Builds an image with a layer of so many MiB, and with a cache mount.
fn build(host: &Host, name: &str, mib: u32) {
    let text = format!(
        "FROM box\nRUN dd if=/dev/urandom of=/{name} bs=1M count={mib} 2>/dev/null\n\
         RUN --mount=type=cache,id={name},target=/c dd if=/dev/urandom of=/c/x bs=1M count=1 2>/dev/null\n"
    );
    host.scratch().write(&format!("{name}/Dockerfile"), text);
    let dir = host.scratch().join(name).display().to_string();
    host.ok_words(&["build", "-q", "-o", "type=cacheonly", &dir]);
}

fn entries(host: &Host, filter: &str) -> Vec<Value> {
    let mut words = vec!["builder", "du", "--format", "json"];
    if !filter.is_empty() {
        words.extend(["--filter", filter]);
    }
    host.ok_words(&words).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn described(host: &Host, what: &str) -> usize {
    entries(host, "").iter().filter(|e| e["Description"].as_str().is_some_and(|d| d.contains(what))).count()
}

#[test]
fn the_cache_is_in_the_accounts() {
    let host = host!();
    ours_only!(host);
    let row = |field: &str| {
        let lines = host.ok_words(&[
            "system",
            "df",
            "--format",
            "{{.Type}}={{.TotalCount}}={{.Size}}={{.Reclaimable}}",
        ]);
        let line = lines.lines().find(|l| l.starts_with(field)).expect(field).to_owned();
        line.split('=').skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(row("Build Cache"), ["0", "0B", "0B"]);
    let images = row("Images");
    build(&host, "big", 4);
    assert_eq!(row("Images")[1..], images[1..], "the cache is no part of the images");
    let cache = row("Build Cache");
    assert_eq!(cache[0], "3", "two steps and a cache mount");
    assert!(cache[1].starts_with("5.") && cache[2].ends_with("(100%)"), "{cache:?}");
    let all = entries(&host, "");
    assert_eq!(all.len(), 3);
    assert_eq!(entries(&host, "type=exec.cachemount").len(), 1);
    assert_eq!(entries(&host, "mutable=false").len(), 2);
    assert_eq!(entries(&host, "unused-for=1h").len(), 0);
    let step = all
        .iter()
        .find(|e| e["Description"].as_str().is_some_and(|d| d.contains("--mount")))
        .expect("a step");
    let below = all.iter().find(|e| e["ID"] == step["Parents"][0]).expect("its parent");
    assert!(below["Description"].as_str().is_some_and(|d| d.contains("RUN dd")), "{below}");
    let text = host.ok("builder du --verbose");
    assert!(text.contains("Description:\t[2/3] RUN dd") && text.contains("Reclaimable:\t5."), "{text}");
    let text = host.ok("system df -v");
    assert!(text.contains("Build cache usage: 5.") && text.contains("exec.cachemount"), "{text}");
    let document: Value = serde_json::from_str(&host.ok("system df -v --format json")).expect("JSON");
    assert_eq!(document["BuildCache"].as_array().map(Vec::len), Some(3));
    host.fails(1, "invalid filter", "builder du --filter color=red");
}

#[test]
fn prune_keeps_what_it_is_told_to() {
    let host = host!();
    ours_only!(host);
    build(&host, "first", 3);
    build(&host, "second", 3);
    // Times have seconds: what is used later must be so by the clock.
    let second = std::time::Duration::from_millis(1100);
    std::thread::sleep(second);
    build(&host, "second", 3);
    assert_eq!(entries(&host, "").len(), 6);
    host.ok("builder prune -af --filter until=1h");
    assert_eq!(entries(&host, "").len(), 6);
    host.ok("builder prune -af --filter type=exec.cachemount");
    assert_eq!(entries(&host, "").len(), 4);
    let said = host.ok("builder prune -af --max-used-space 4MB");
    assert!(said.contains("Total:\t3."), "{said}");
    assert_eq!((described(&host, "/first"), described(&host, "/second")), (0, 1));
    host.ok("builder prune -af --keep-storage 1GB");
    host.ok("builder prune -af --min-free-space 1");
    assert_eq!(described(&host, "/second"), 1);
    host.fails(1, "reserved-space", "builder prune -af --max-used-space 1 --reserved-space 2");
    host.ok("system prune -f --filter label=x");
    assert_eq!(described(&host, "/second"), 1, "nothing in the cache has labels");
    let said = host.ok("system prune -f");
    assert!(said.contains("Deleted build cache objects"), "{said}");
    assert_eq!(entries(&host, "").len(), 0);
    host.ok("system fsck");
}

#[test]
fn what_images_share_is_dangling_for_nobody() {
    let host = host!();
    ours_only!(host);
    host.scratch().write("kept/Dockerfile", "FROM box\nRUN echo kept > /kept\n");
    let dir = host.scratch().join("kept").display().to_string();
    host.ok_words(&["build", "-q", "-t", "kept", &dir]);
    build(&host, "loose", 1);
    host.ok("builder prune -f");
    assert_eq!((described(&host, "kept"), described(&host, "/loose")), (1, 0));
    host.ok("builder prune -af");
    assert_eq!(described(&host, "kept"), 0);
    assert_eq!(host.ok("run --rm kept cat /kept"), "kept");
}

#[test]
fn builds_keep_the_cache_below_its_mark() {
    let host = host!();
    ours_only!(host);
    let settings =
        r#"{"gc": {"defaultReservedSpace": 0, "defaultMaxUsedSpace": "9MB", "defaultMinFreeSpace": 0}}"#;
    std::fs::write(host.root().join("builder.json"), settings).expect("settings");
    for name in ["one", "two", "three", "four"] {
        build(&host, name, 3);
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert_eq!(described(&host, "/one"), 0, "{:?}", entries(&host, ""));
    assert_eq!(described(&host, "/four"), 1, "what was used last stays");
    let total: f64 = entries(&host, "").len() as f64;
    assert!(total > 1.0, "not everything goes");
    std::fs::write(host.root().join("builder.json"), r#"{"gc": {"enabled": false}}"#).expect("settings");
    for name in ["one", "two", "three"] {
        build(&host, name, 3);
    }
    assert_eq!(described(&host, "RUN dd"), 4, "nothing goes when that is off");
    std::fs::write(host.root().join("builder.json"), "{").expect("settings");
    let dir = host.scratch().join("one").display().to_string();
    let outcome = host.run_words(&["build", "-q", "-o", "type=cacheonly", &dir]);
    assert!(outcome.code == 0 && outcome.stderr.contains("builder.json"), "{outcome:?}");
}
