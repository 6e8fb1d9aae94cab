//! Every case of `golden.json` was rendered by Go's text/template itself; output and error must be the same.

use fluyt_gotmpl::{Function, Map, MissingKey, Param, Signature, Struct, Template, Value, docker_functions};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, PartialEq)]
struct Case {
    template: String,
    missing_key: MissingKey,
    result: Result<String, String>,
}

fn cases() -> Vec<Case> {
    let json: serde_json::Value = serde_json::from_str(include_str!("golden.json")).expect("test data");
    let text = |v: &serde_json::Value| v.as_str().map(str::to_owned);
    json.as_array()
        .expect("test data")
        .iter()
        .map(|c| Case {
            template: text(&c["template"]).expect("test data"),
            missing_key: match c["missingkey"].as_str() {
                Some("zero") => MissingKey::Zero,
                Some("error") => MissingKey::Error,
                _ => MissingKey::Invalid,
            },
            result: text(&c["out"]).ok_or_else(|| text(&c["err"]).expect("test data")),
        })
        .collect()
}

/// The data that the expectations were made with.
fn data() -> Value {
    let json = serde_json::json!({
        "s": "hello", "i": 42, "f": 3.25, "t": true, "nul": null, "l": [1, 2, "x"],
        "m": {"a": 1, "b": "two"}, "e": [], "em": {}, "a": {"b": {"c": "deep"}},
        "u": 18446744073709551615u64, "maps": [{"k": "v0"}, {"k": null}],
    });
    let Value::Map(map) = Value::from(&json) else { panic!("an object is a map") };
    let mut entries = Arc::unwrap_or_clone(map).entries;
    let strings = Signature::fixed(&[Param::Str, Param::Str]);
    let join = |a: &[Value]| {
        Ok(format!("{}{}", a[0].as_str().expect("test data"), a[1].as_str().expect("test data")).into())
    };
    entries.insert("strs".into(), Value::strings(["p", "q", "r"]));
    entries.insert("labels".into(), Value::string_map([("x", "lx"), ("y", "ly")]));
    entries.insert("fn".into(), Value::Func(Function::getter(|| "called".into())));
    entries.insert("fn2".into(), Value::Func(Function::new(strings, join)));
    entries.insert("st".into(), structure());
    Value::Map(Arc::new(Map { entries, ..Map::default() }))
}

fn structure() -> Value {
    let label = |a: &[Value]| Ok(format!("label-{}", a[0].as_str().expect("test data")).into());
    let fields = vec![
        ("L".into(), Value::strings(["l1", "l2"])),
        ("M".into(), Value::string_map([("k", "v")])),
        ("N".into(), Value::Int(7)),
        ("Name".into(), "cn".into()),
        ("Ptr".into(), Value::NilPointer("*main.Inner".into())),
    ];
    Value::Struct(Arc::new(Struct { type_name: "main.Ctx".into(), fields, methods: BTreeMap::new() }))
        .with_method("Label", Function::new(Signature::fixed(&[Param::Str]), label))
        .with_method("Hello", Function::getter(|| "hello!".into()))
        .with_method("Fail", Function::new(Signature::default(), |_| Err("it failed".into())))
}

#[test]
fn everything_is_as_go_has_it() {
    let data = data();
    let mut wrong = Vec::new();
    for case in cases() {
        let mut template =
            Template::new("").with_functions(docker_functions()).with_missing_key(case.missing_key);
        let result =
            template.parse(&case.template).and_then(|()| template.execute(&data)).map_err(|e| e.to_string());
        if result != case.result {
            wrong.push(format!("{}\n  go:   {:?}\n  ours: {result:?}", case.template, case.result));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}
