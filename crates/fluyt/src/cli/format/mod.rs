//! `--format`: tables, Go templates and JSON over rows of named texts.
//!
//! A command says what its rows hold and what its columns are called ([`Layout`]); everything else is here.

pub mod indent;
pub mod rows;
pub mod tabs;

use std::collections::BTreeMap;
use std::sync::Arc;

use fluyt_gotmpl::{Function, Param, Signature, Struct, Template, Value, docker_functions, to_json};
use fluyt_model::{Error, Result};

/// What a command can show.
#[derive(Debug)]
pub struct Layout {
    /// The type's name in template errors.
    pub type_name: &'static str,
    /// Placeholders with their column headers, sorted by placeholder.
    pub headers: &'static [(&'static str, &'static str)],
    /// The template of `table`.
    pub table: &'static str,
    /// The template of `--quiet`.
    pub quiet: &'static str,
}

/// One row: a value for each placeholder, and labels for `{{.Label "x"}}`.
#[derive(Debug, Default)]
pub struct Row {
    fields: Vec<(String, Value)>,
    labels: Option<BTreeMap<String, String>>,
}

impl Row {
    /// Sets a placeholder's text.
    #[must_use]
    pub fn with(mut self, name: &str, text: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), Value::from(text.into())));
        self
    }

    /// Sets a placeholder's value.
    #[must_use]
    pub fn with_value(mut self, name: &str, value: Value) -> Self {
        self.fields.push((name.to_owned(), value));
        self
    }

    /// Sets a placeholder to what another one has.
    #[must_use]
    pub fn with_same(mut self, name: &str, other: &str) -> Self {
        let value = self.fields.iter().find(|(field, _)| field == other).map(|(_, value)| value.clone());
        self.fields.extend(value.map(|value| (name.to_owned(), value)));
        self
    }

    /// Sets the labels: `{{.Labels}}` and `{{.Label "x"}}`.
    #[must_use]
    pub fn with_labels(mut self, labels: &BTreeMap<String, String>) -> Self {
        let joined = labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
        self.labels = Some(labels.clone());
        self.with("Labels", joined)
    }

    /// The row as a template sees it.
    pub fn into_value(mut self, type_name: &str) -> Value {
        self.fields.sort_by(|a, b| a.0.cmp(&b.0));
        let row = Struct { type_name: type_name.into(), fields: self.fields, methods: BTreeMap::new() };
        let value = Value::Struct(Arc::new(row));
        match self.labels {
            None => value,
            Some(labels) => {
                let label = Function::new(Signature::fixed(&[Param::Str]), move |args| {
                    let key = args[0].as_str().unwrap_or_default();
                    Ok(Value::from(labels.get(key).cloned().unwrap_or_default()))
                });
                value.with_method("Label", label)
            }
        }
    }
}

/// The template that `--format` and `--quiet` choose.
pub fn choose<'a>(layout: &'a Layout, format: &'a str, quiet: bool) -> &'a str {
    match (format, quiet) {
        ("" | "table", true) => layout.quiet,
        ("" | "table", false) => layout.table,
        (other, _) => other,
    }
}

/// Renders rows by `format` (a template, `table TEMPLATE`, or `json`).
///
/// # Errors
/// A template that cannot be parsed or that names what a row lacks.
pub fn render(layout: &Layout, format: &str, rows: impl IntoIterator<Item = Row>) -> Result<String> {
    let values = rows.into_iter().map(|row| row.into_value(layout.type_name));
    if format == "json" {
        return Ok(values.map(|value| to_json(&value) + "\n").collect());
    }
    let (is_table, text) = match format.strip_prefix("table") {
        Some(rest) => (true, rest),
        None => (false, format),
    };
    let text = unescape(text.trim_matches(' '));
    let template = parse(&text)?;
    let mut body = String::new();
    for value in values {
        template.execute_to(&value, &mut body).map_err(bad_template)?;
        body.push('\n');
    }
    if !is_table {
        return Ok(body);
    }
    let head = header(layout, &text)?;
    Ok(tabs::align(&format!("{head}\n{body}"), tabs::TABLE))
}

/// The header line: the same template over the columns' names, with functions that leave them as they are.
fn header(layout: &Layout, text: &str) -> Result<String> {
    let mut functions = docker_functions();
    let same = |params: &[Param]| {
        Function::new(Signature::fixed(params), |args| Ok(args.first().cloned().unwrap_or_default()))
    };
    for (name, params) in [
        ("json", &[Param::Any][..]),
        ("title", &[Param::Str]),
        ("lower", &[Param::Str]),
        ("upper", &[Param::Str]),
        ("truncate", &[Param::Str, Param::Int]),
    ] {
        functions.insert(name.to_owned(), same(params));
    }
    let mut template = Template::new("").with_functions(functions);
    template.parse(text).map_err(bad_template)?;
    let mut row = Row::default();
    for (name, title) in layout.headers {
        row = row.with(name, *title);
    }
    let named = Function::new(Signature::fixed(&[Param::Str]), |args| {
        let key = args[0].as_str().unwrap_or_default();
        let short = key.rsplit('.').next().unwrap_or(key);
        Ok(Value::from(short.replace(['-', '_'], " ")))
    });
    let value = row.into_value(layout.type_name).with_method("Label", named);
    template.execute(&value).map_err(bad_template)
}

/// Parses a template with Docker's functions.
///
/// # Errors
/// Go's message behind `template parsing error: `.
pub fn parse(text: &str) -> Result<Template> {
    let mut template = Template::new("").with_functions(docker_functions());
    template.parse(text).map_err(bad_template)?;
    Ok(template)
}

/// Docker's wording of a template's failure.
#[allow(clippy::needless_pass_by_value)] // for map_err
pub fn bad_template(error: fluyt_gotmpl::Error) -> Error {
    Error::invalid(format!("template parsing error: {error}"))
}

/// Backslash escapes that shells leave in a format.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        type_name: "*formatter.Test",
        headers: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
        table: "table {{.ID}}\t{{.Names}}",
        quiet: "{{.ID}}",
    };

    fn rows() -> Vec<Row> {
        let labels = BTreeMap::from([("com.x.role".to_owned(), "db".to_owned())]);
        vec![
            Row::default().with("ID", "0123").with("Names", "a").with_labels(&labels),
            Row::default().with("ID", "4567").with("Names", "b").with_labels(&BTreeMap::new()),
        ]
    }

    #[test]
    fn tables_templates_and_json() {
        let show = |format: &str| render(&LAYOUT, format, rows()).unwrap();
        assert_eq!(show(LAYOUT.table), "CONTAINER ID   NAMES\n0123           a\n4567           b\n");
        assert_eq!(
            show("table {{.Names}}\\t{{.Label \"com.x.role\"}}"),
            "NAMES     role\na         db\nb         \n"
        );
        assert_eq!(show("{{.ID}}:{{upper .Names}}"), "0123:A\n4567:B\n");
        assert_eq!(show("table {{upper .Names}}"), "NAMES\nA\nB\n");
        assert_eq!(
            show("json"),
            "{\"ID\":\"0123\",\"Labels\":\"com.x.role=db\",\"Names\":\"a\"}\n{\"ID\":\"4567\",\"Labels\":\"\",\"Names\":\"b\"}\n"
        );
        let error = render(&LAYOUT, "{{.Nope}}", rows()).unwrap_err().to_string();
        assert!(error.contains("can't evaluate field Nope"), "{error}");
        assert!(
            render(&LAYOUT, "{{", rows()).unwrap_err().to_string().starts_with("template parsing error: ")
        );
    }
}
