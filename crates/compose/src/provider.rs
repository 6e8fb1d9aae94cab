//! Services that are not containers: the words that a provider's program is called with, and what it answers. Pure; the
//! protocol is that of docker compose's extensions.

use std::collections::BTreeMap;

use fluyt_model::{Error, Result};
use serde_json::Value;

use crate::document::Node;
use crate::project::Project;
use crate::view::View;

/// What a provider is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make what the service stands for.
    Up,
    /// Pause it.
    Stop,
    /// Release it.
    Down,
}

impl Command {
    /// As a word of its command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Stop => "stop",
            Self::Down => "down",
        }
    }
}

/// What a provider says of itself; a provider that says nothing has none.
#[derive(Clone, Debug, Default)]
pub struct Metadata(Option<Value>);

impl Metadata {
    /// Reads the answer to `compose metadata`; what is not understood counts as none.
    pub fn read(bytes: &[u8]) -> Self {
        let value: Option<Value> = serde_json::from_slice(bytes).ok();
        let says = |v: &Value| {
            v["description"].as_str().is_some_and(|d| !d.is_empty())
                || v["up"]["parameters"].is_array()
                || v["down"]["parameters"].is_array()
        };
        Self(value.filter(says))
    }

    /// Whether the provider can pause.
    pub fn stops(&self) -> bool {
        self.0.as_ref().is_some_and(|v| v["stop"].is_object())
    }

    fn parameters(&self, command: Command) -> Option<Vec<&Value>> {
        let value = self.0.as_ref()?;
        Some(value[command.word()]["parameters"].as_array().into_iter().flatten().collect())
    }
}

/// The program that a service's provider is.
pub fn kind(service: &Node) -> Option<String> {
    service.get("provider").map(|p| p.text("type"))
}

/// Services with providers, each after those that it depends on.
pub fn services(project: &Project) -> Vec<String> {
    let all = crate::plan::in_order(project).into_iter();
    all.filter(|s| project.service(s).is_some_and(|n| n.get("provider").is_some()))
        .map(str::to_owned)
        .collect()
}

/// The words of a call, the program's name left out.
///
/// # Errors
/// An option is missing that the provider cannot do without.
pub fn words(project: &Project, service: &str, metadata: &Metadata, command: Command) -> Result<Vec<String>> {
    let node = project.service(service).and_then(|n| n.get("provider"));
    let Some(node) = node else { return Err(Error::internal(format!("service {service} has no provider"))) };
    let options = node.entries("options");
    let known = metadata.parameters(command);
    for parameter in known.iter().flatten().filter(|p| p["required"] == true) {
        let name = parameter["name"].as_str().unwrap_or_default();
        if !options.iter().any(|(key, _)| *key == name) {
            return Err(Error::invalid(format!(
                "required parameter {name:?} is missing from provider {:?} definition",
                node.text("type")
            ))
            .with_hint(format!("give it: services.{service}.provider.options.{name}")));
        }
    }
    let mut words =
        vec!["compose".to_owned(), format!("--project-name={}", project.name), command.word().to_owned()];
    for (key, values) in options {
        let takes = known.as_ref().is_none_or(|all| all.iter().any(|p| p["name"] == key));
        if !takes {
            continue;
        }
        match values.list() {
            Some(list) => words.extend(list.iter().filter_map(Node::scalar).map(|v| format!("--{key}={v}"))),
            None => words.extend(values.scalar().map(|v| format!("--{key}={v}"))),
        }
    }
    words.push(service.to_owned());
    Ok(words)
}

/// A line of a provider's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// How it gets on.
    Info(String),
    /// Why it failed.
    Error(String),
    /// For those who look closely.
    Debug(String),
    /// A variable for services that depend on it, whose name begins with the service's.
    Variable(String, String),
    /// A variable with exactly this name.
    Raw(String, String),
}

/// Reads a message.
///
/// # Errors
/// It is none that the protocol knows.
pub fn message(value: &Value) -> Result<Message> {
    let text = value["message"].as_str().unwrap_or_default().to_owned();
    let pair = |text: &str| {
        let pair = text.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        pair.ok_or_else(|| Error::invalid(format!("invalid response from plugin: {text}")))
    };
    Ok(match value["type"].as_str().unwrap_or_default() {
        "info" => Message::Info(text),
        "error" => Message::Error(text),
        "debug" => Message::Debug(text),
        "setenv" => pair(&text).map(|(k, v)| Message::Variable(k, v))?,
        "rawsetenv" => pair(&text).map(|(k, v)| Message::Raw(k, v))?,
        other => return Err(Error::invalid(format!("invalid response from plugin: {other:?}"))),
    })
}

/// Gives the services that depend on `provider` its variables; a sentence for each that was something else before.
pub fn inject(project: &mut Project, provider: &str, variables: &[Message]) -> Vec<String> {
    let mut warnings = Vec::new();
    let prefix = format!("{}_", provider.to_uppercase());
    let dependents: Vec<String> = project
        .services()
        .into_iter()
        .filter(|s| {
            project.service(s).is_some_and(|n| n.entries("depends_on").iter().any(|(on, _)| *on == provider))
        })
        .map(str::to_owned)
        .collect();
    for service in dependents {
        for variable in variables {
            let (name, value) = match variable {
                Message::Variable(name, value) => (format!("{prefix}{name}"), value),
                Message::Raw(name, value) => (name.clone(), value),
                _ => continue,
            };
            let before = project.service(&service).map(|n| n.dict("environment")).unwrap_or_default();
            if matches!(variable, Message::Raw(..)) && before.get(&name).is_some_and(|old| old != value) {
                warnings.push(format!(
                    "provider {provider:?} overrides environment variable {name:?} in service {service:?}"
                ));
            }
            project.set_variable(&service, &name, value);
            // A shell cannot read a name with a dash.
            if matches!(variable, Message::Variable(..)) && prefix.contains('-') {
                project.set_variable(&service, &name.replacen(&prefix, &prefix.replace('-', "_"), 1), value);
            }
        }
    }
    warnings
}

/// Gives services the variables of their models: what the model is called, and where it is answered.
pub fn models(project: &mut Project, endpoint: &str) {
    let mut all: Vec<(String, String, String)> = Vec::new();
    for service in project.services() {
        let Some(node) = project.service(service) else { continue };
        for (reference, how) in node.entries("models") {
            let model = project.tree.get("models").and_then(|m| m.get(reference));
            let model = model.map(|m| m.text("model")).unwrap_or_default();
            let prefix = reference.to_uppercase().replace('-', "_");
            let or =
                |given: String, end: &str| if given.is_empty() { format!("{prefix}_{end}") } else { given };
            all.push((service.to_owned(), or(how.text("model_var"), "MODEL"), model));
            all.push((service.to_owned(), or(how.text("endpoint_var"), "URL"), endpoint.to_owned()));
        }
    }
    for (service, name, value) in all {
        project.set_variable(&service, &name, &value);
    }
}

/// Whether services of a project use models.
pub fn uses_models(project: &Project) -> BTreeMap<String, Node> {
    let used: Vec<&str> = project
        .services()
        .into_iter()
        .filter_map(|s| project.service(s))
        .flat_map(|n| n.entries("models").into_iter().map(|(name, _)| name))
        .collect();
    let models = project.names("models").into_iter().filter(|m| used.contains(m));
    models.filter_map(|m| Some((m.to_owned(), project.tree.get("models")?.get(m)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::load::{Environment, Options, Source};

    struct One(&'static str);

    impl Source for One {
        fn read(&self, _: &Path) -> std::io::Result<String> {
            Ok(self.0.to_owned())
        }

        fn is_file(&self, path: &Path) -> bool {
            path == Path::new("/p/compose.yaml")
        }

        fn is_directory(&self, _: &Path) -> bool {
            false
        }
    }

    fn project(text: &'static str) -> Project {
        crate::load(&Options::new("/p", Environment::new()), &One(text)).unwrap()
    }

    const CLOUD: &str = "
services:
  app:
    image: x
    environment: {B: '1', SECRET: own}
    depends_on: [my-db]
    models: [llm-x]
  my-db:
    provider: {type: cloud, options: {type: mysql, size: 256, tag: [a, b]}}
models:
  llm-x: {model: ai/model}
";

    #[test]
    fn calls_are_made_of_options() {
        let project = project(CLOUD);
        assert_eq!(services(&project), ["my-db"]);
        let words_of = |metadata: &Metadata, command| words(&project, "my-db", metadata, command);
        assert_eq!(
            words_of(&Metadata::default(), Command::Up).unwrap().join(" "),
            "compose --project-name=p up --size=256 --tag=a --tag=b --type=mysql my-db"
        );
        let says = json!({"description": "d", "up": {"parameters": [{"name": "type", "required": true}]}, "stop": {}});
        let metadata = Metadata::read(says.to_string().as_bytes());
        assert!(metadata.stops());
        assert_eq!(
            words_of(&metadata, Command::Up).unwrap().join(" "),
            "compose --project-name=p up --type=mysql my-db"
        );
        let needs = json!({"description": "d", "down": {"parameters": [{"name": "zone", "required": true}]}});
        let error = words_of(&Metadata::read(needs.to_string().as_bytes()), Command::Down).unwrap_err();
        assert!(error.to_string().contains("required parameter \"zone\""), "{error}");
        assert!(!Metadata::read(b"no").stops());
    }

    #[test]
    fn variables_reach_those_who_depend() {
        let mut project = project(CLOUD);
        let hash = project.hash("app");
        let said: Vec<Message> = [
            json!({"type": "setenv", "message": "URL=a=b"}),
            json!({"type": "rawsetenv", "message": "SECRET=theirs"}),
            json!({"type": "info", "message": "done"}),
        ]
        .iter()
        .map(|m| message(m).unwrap())
        .collect();
        let warnings = inject(&mut project, "my-db", &said);
        assert_eq!(
            warnings,
            ["provider \"my-db\" overrides environment variable \"SECRET\" in service \"app\""]
        );
        models(&mut project, "http://models/v1");
        let environment = project.service("app").unwrap().dict("environment");
        let all: Vec<String> = environment.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(
            all,
            [
                "B=1",
                "LLM_X_MODEL=ai/model",
                "LLM_X_URL=http://models/v1",
                "MY-DB_URL=a=b",
                "MY_DB_URL=a=b",
                "SECRET=theirs"
            ]
        );
        assert_ne!(project.hash("app"), hash, "other variables are another configuration");
        assert!(message(&json!({"type": "setenv", "message": "x"})).is_err());
        assert!(message(&json!({"type": "huh"})).is_err());
    }
}
