//! Log options as the monitor gets them: templates filled in, patterns turned into the names that they match.
//!
//! The monitor is small: it has neither a template language nor regular expressions.

use std::collections::{BTreeMap, BTreeSet};

use fluyt_gotmpl::{Function, Struct, Template, Value, docker_functions};
use fluyt_model::sandbox::LogSpec;
use fluyt_model::{Error, Result, id};
use regex_lite::Regex;

use crate::records::ContainerRecord;

/// The log specification for `monitor.json`, with this machine's name `host` for templates that want it.
///
/// # Errors
/// `Invalid` for a template or a pattern that cannot be read or applied.
pub(crate) fn resolved(record: &ContainerRecord, host: &str) -> Result<LogSpec> {
    let container = &record.spec.containers[0];
    let mut spec = container.log.clone();
    if let Some(tag) = spec.options.get_mut("tag") {
        *tag = fill_in(tag, record, host)?;
    }
    let labels: Vec<&str> = record.spec.labels.keys().map(String::as_str).collect();
    let env: Vec<&str> =
        container.process.env.iter().map(|e| e.split_once('=').map_or(e.as_str(), |(k, _)| k)).collect();
    for (option, names) in [("labels", labels), ("env", env)] {
        let by_pattern = format!("{option}-regex");
        if let Some(pattern) = spec.options.remove(&by_pattern) {
            let pattern = regex(&by_pattern, &pattern)?;
            let named = spec.options.remove(option).unwrap_or_default();
            let mut all: BTreeSet<&str> = named.split(',').filter(|n| !n.is_empty()).collect();
            all.extend(names.into_iter().filter(|n| pattern.is_match(n)));
            spec.options.insert(option.to_owned(), all.into_iter().collect::<Vec<_>>().join(","));
        }
    }
    Ok(spec)
}

fn regex(option: &str, pattern: &str) -> Result<Regex> {
    Regex::new(pattern)
        .map_err(|e| Error::invalid(format!("log opt {option}: {pattern:?} is no regular expression: {e}")))
}

/// Fills in the template of `tag`. The names are those of Docker's `loggerutils.Info`: fields, and methods that look
/// like fields.
fn fill_in(text: &str, record: &ContainerRecord, host: &str) -> Result<String> {
    let bad = |e: fluyt_gotmpl::Error| {
        Error::invalid(format!("log opt tag: {e}"))
            .with_hint("the template knows {{.ID}}, {{.FullID}}, {{.Name}}, {{.ImageID}}, {{.ImageFullID}}, {{.ImageName}}, {{.DaemonName}}, {{.Command}}")
    };
    let mut template = Template::new("log-tag").with_functions(docker_functions());
    template.parse(text).map_err(bad)?;
    template.execute(&info(record, host)).map_err(bad)
}

fn info(record: &ContainerRecord, host: &str) -> Value {
    let container = &record.spec.containers[0];
    let args = &container.process.args;
    let config: BTreeMap<String, String> = container.log.options.clone();
    let image = id::short(&container.image_id).to_owned();
    let command = args.join(" ");
    let fields = [
        ("Config", Value::string_map(config)),
        ("ContainerID", Value::str(record.id.as_str())),
        // Docker's names of containers begin with a slash.
        ("ContainerName", Value::str(format!("/{}", record.name))),
        ("ContainerEntrypoint", Value::str(args.first().map_or("", String::as_str))),
        ("ContainerArgs", Value::strings(args.iter().skip(1).map(String::as_str))),
        ("ContainerImageID", Value::str(container.image_id.as_str())),
        ("ContainerImageName", Value::str(container.image.as_str())),
        ("ContainerCreated", Value::str(fluyt_model::time::rfc3339(record.created))),
        ("ContainerEnv", Value::strings(container.process.env.iter().map(String::as_str))),
        (
            "ContainerLabels",
            Value::string_map(record.spec.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
        ),
        ("DaemonName", Value::str("fluyt")),
    ];
    let methods = [
        ("ID", id::short(&record.id).to_owned()),
        ("FullID", record.id.clone()),
        ("Name", record.name.clone()),
        ("ImageID", image),
        ("ImageFullID", container.image_id.clone()),
        ("ImageName", container.image.clone()),
        ("Command", command),
        ("Hostname", host.to_owned()),
    ];
    let info = Struct {
        type_name: "*loggerutils.Info".into(),
        fields: fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        methods: BTreeMap::new(),
    };
    methods.into_iter().fold(Value::Struct(info.into()), |value, (name, text)| {
        value.with_method(name, Function::getter(move || Value::str(text.as_str())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(options: &[(&str, &str)]) -> ContainerRecord {
        let mut record = ContainerRecord {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            ..ContainerRecord::default()
        };
        record.spec.containers = vec![fluyt_model::sandbox::ContainerSpec::default()];
        record.spec.labels = [("com.a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into();
        let container = &mut record.spec.containers[0];
        container.image = "box:1".into();
        container.image_id = "sha256:fedcba9876543210".into();
        container.process.env = vec!["PATH=/bin".into(), "APP_A=1".into(), "APP_B=2".into()];
        container.log.options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        record
    }

    #[test]
    fn tags_are_templates() {
        let tag = |text: &str| resolved(&record(&[("tag", text)]), "h").map(|s| s.options["tag"].clone());
        assert_eq!(tag("{{.Name}}/{{.ID}}").unwrap(), "web/0123456789ab");
        assert_eq!(tag("{{.ImageName}}|{{.ImageID}}|{{.Hostname}}").unwrap(), "box:1|fedcba987654|h");
        assert_eq!(tag(r#"{{upper .Name}}-{{index .ContainerLabels "b"}}"#).unwrap(), "WEB-2");
        assert_eq!(tag("plain").unwrap(), "plain");
        assert!(tag("{{.Nonsense}}").unwrap_err().to_string().contains("Nonsense"));
        assert!(tag("{{").is_err());
    }

    #[test]
    fn patterns_become_names() {
        let spec =
            resolved(&record(&[("env-regex", "^APP_"), ("env", "PATH"), ("labels-regex", "^com")]), "");
        let spec = spec.unwrap();
        assert_eq!(spec.options["env"], "APP_A,APP_B,PATH");
        assert_eq!(spec.options["labels"], "com.a");
        assert!(!spec.options.contains_key("env-regex"));
        assert!(resolved(&record(&[("env-regex", "(")]), "").unwrap_err().to_string().contains("env-regex"));
    }
}
