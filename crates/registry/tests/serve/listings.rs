//! Tags, repositories, referrers and search, a page at a time.

use serde_json::json;

use crate::support::{Answer, INDEX, MANIFEST, Served};

/// The path in a `Link` header to the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.find("link")?;
    assert!(link.ends_with("; rel=\"next\""), "{link}");
    Some(link[1..link.find('>').expect("works")].to_owned())
}

#[test]
fn tags_come_in_order_and_in_pages() {
    let registry = Served::new();
    let (manifest, _) = registry.image("a", "c", b"layer");
    for tag in ["b", "a", "Z", "1.10", "1.9"] {
        registry.manifest("a", tag, &manifest);
    }
    let all = ["1.10", "1.9", "Z", "a", "b", "c"];
    assert_eq!(registry.ask("GET", "/v2/a/tags/list").is(200).json(), json!({"name": "a", "tags": all}));
    let (mut found, mut path) = (Vec::new(), Some("/v2/a/tags/list?n=4".to_owned()));
    let mut pages = 0;
    while let Some(here) = path {
        let answer = registry.ask("GET", &here);
        let tags = answer.is(200).json()["tags"].as_array().unwrap().clone();
        found.extend(tags.iter().map(|t| t.as_str().unwrap().to_owned()));
        path = next(&answer);
        pages += 1;
    }
    assert_eq!((found, pages), (all.map(String::from).to_vec(), 2));
    let exact = registry.ask("GET", "/v2/a/tags/list?n=6");
    assert!(next(exact.is(200)).is_none(), "nothing follows");
    let none = registry.ask("GET", "/v2/a/tags/list?n=0");
    assert!(none.is(200).json()["tags"].as_array().unwrap().is_empty() && none.find("link").is_none());
    let last = registry.ask("GET", "/v2/a/tags/list?last=Z&n=1");
    assert_eq!(last.is(200).json()["tags"], json!(["a"]));
    for bad in ["-1", "x", "1x", "99999999999"] {
        let path = format!("/v2/a/tags/list?n={bad}");
        registry.ask("GET", &path).refuses(400, "PAGINATION_NUMBER_INVALID");
    }
    registry.ask("GET", "/v2/none/tags/list").refuses(404, "NAME_UNKNOWN");
}

#[test]
fn repositories_are_listed_and_found() {
    let registry = Served::new();
    for name in ["web/app", "web/api", "db"] {
        registry.image(name, "1", b"layer");
    }
    registry.blob("without/manifest", b"x");
    let list = |path: &str| registry.ask("GET", path).is(200).json();
    assert_eq!(list("/v2/_catalog"), json!({"repositories": ["db", "web/api", "web/app"]}));
    let first = registry.ask("GET", "/v2/_catalog?n=2");
    assert_eq!(first.json(), json!({"repositories": ["db", "web/api"]}));
    assert_eq!(list(&next(&first).unwrap()), json!({"repositories": ["web/app"]}));
    let found = list("/v1/search?q=WEB&n=1&page=2");
    assert_eq!((&found["num_results"], &found["num_pages"]), (&json!(2), &json!(2)));
    assert_eq!(found["results"][0]["name"], "web/app");
    assert_eq!(list("/v1/search?q=%25")["num_results"], 0, "no patterns");
}

#[test]
fn referrers_are_listed_filtered_and_forgotten() {
    let registry = Served::new();
    let (manifest, subject) = registry.image("a", "x", b"layer");
    let descriptor =
        json!({"mediaType": MANIFEST, "digest": subject.as_str(), "size": manifest.to_string().len()});
    let list = |filter: &str| registry.ask("GET", &format!("/v2/a/referrers/{subject}{filter}"));
    assert_eq!(list("").is(200).json()["manifests"], json!([]));
    let mut signature = manifest.clone();
    signature["subject"] = descriptor.clone();
    signature["artifactType"] = json!("example/signature");
    signature["annotations"] = json!({"k": "v"});
    let signature_digest = registry.manifest("a", "", &signature);
    let mut bill = manifest.clone();
    bill["subject"] = descriptor.clone();
    bill["config"]["mediaType"] = json!("example/sbom");
    registry.manifest("a", "", &bill);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": descriptor});
    registry.manifest("a", "", &index);
    let all = list("");
    assert_eq!(all.is(200).header("content-type"), INDEX);
    assert_eq!(all.json()["manifests"].as_array().unwrap().len(), 3);
    assert!(all.find("oci-filters-applied").is_none());
    let some = list("?artifactType=example/signature");
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    let expected = json!([{
        "mediaType": MANIFEST, "digest": signature_digest.as_str(), "size": signature.to_string().len(),
        "artifactType": "example/signature", "annotations": {"k": "v"},
    }]);
    assert_eq!(some.json()["manifests"], expected);
    assert_eq!(list("?artifactType=example/sbom").json()["manifests"].as_array().unwrap().len(), 1);
    registry.ask("DELETE", &format!("/v2/a/manifests/{signature_digest}")).is(202);
    assert_eq!(list("").json()["manifests"].as_array().unwrap().len(), 2);
    let nowhere = format!("/v2/none/referrers/{subject}");
    assert_eq!(registry.ask("GET", &nowhere).is(200).json()["manifests"], json!([]));
    registry.ask("GET", "/v2/a/referrers/x").refuses(400, "DIGEST_INVALID");
}

#[test]
fn many_referrers_come_in_pages() {
    let registry = Served::new();
    let (manifest, subject) = registry.image("a", "x", b"layer");
    std::thread::scope(|scope| {
        for part in 0..8 {
            let (registry, manifest, subject) = (&registry, &manifest, &subject);
            scope.spawn(move || {
                for n in 0..65 {
                    let mut referrer = manifest.clone();
                    referrer["subject"] =
                        json!({"mediaType": MANIFEST, "digest": subject.as_str(), "size": 1});
                    referrer["annotations"] = json!({"n": format!("{part}-{n}")});
                    registry.manifest("a", "", &referrer);
                }
            });
        }
    });
    let first = registry.ask("GET", &format!("/v2/a/referrers/{subject}"));
    assert_eq!(first.is(200).json()["manifests"].as_array().unwrap().len(), 500);
    let second = registry.ask("GET", &next(&first).expect("another page"));
    assert_eq!(second.is(200).json()["manifests"].as_array().unwrap().len(), 20);
    assert!(next(&second).is_none());
}

#[test]
fn a_page_of_referrers_is_no_longer_than_a_manifest_may_be() {
    const LARGEST: usize = 4 << 20;
    let registry = Served::new();
    let (manifest, subject) = registry.image("a", "x", b"layer");
    for n in 0..4 {
        let mut referrer = manifest.clone();
        referrer["subject"] = json!({"mediaType": MANIFEST, "digest": subject.as_str(), "size": 1});
        referrer["annotations"] = json!({"n": n.to_string(), "long": "x".repeat(2 << 20)});
        registry.manifest("a", "", &referrer);
    }
    let mut path = Some(format!("/v2/a/referrers/{subject}"));
    let mut pages = Vec::new();
    while let Some(this) = path.take() {
        let answer = registry.ask("GET", &this);
        assert!(answer.is(200).body.len() <= LARGEST, "{} bytes", answer.body.len());
        pages.push(answer.json()["manifests"].as_array().unwrap().len());
        path = next(&answer);
    }
    assert_eq!(pages, [1, 1, 1, 1]);
}
