//! `tidegate get`: objects of a running gateway, as kubectl prints them.

mod columns;

use std::process::ExitCode;

use serde_json::{Value, json};
use tidegate_admin::kinds::{self, Kind};

use super::server::{Server, ServerError};
use crate::output::{self, Format, Table};

/// Arguments of `tidegate get`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Kind as kubectl takes it (httproute, HTTPRoutes, gtw, inferencepools.inference.networking.k8s.io), or KIND/NAME.
    #[arg(value_name = "KIND[/NAME]")]
    pub(crate) kind: String,
    /// Name of one object.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Namespace.
    #[arg(short, long, default_value = "default", conflicts_with = "all_namespaces")]
    pub(crate) namespace: String,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// How to print: table, json, yaml or jsonpath={…}.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Format,
    /// The gateway's admin API.
    #[arg(long, default_value = "http://127.0.0.1:15000", value_name = "URL")]
    pub(crate) server: Server,
}

/// Prints what was asked for; 1 when it is not there or the gateway does not answer, 2 for a kind that is not known.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    match get(&arguments) {
        Ok(Answer { text, note }) => {
            output::print(&text);
            if let Some(note) = note {
                eprintln!("{note}");
            }
            ExitCode::SUCCESS
        }
        Err(Failure { code, message }) => {
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

#[derive(Debug)]
struct Answer {
    text: String,
    /// For stderr.
    note: Option<String>,
}

#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

fn get(arguments: &Arguments) -> Result<Answer, Failure> {
    let (kind, name) = match (arguments.kind.split_once('/'), &arguments.name) {
        (Some(_), Some(_)) => return Err(Failure::new(2, "tidegate get: write KIND NAME or KIND/NAME, not both")),
        (Some((kind, name)), None) => (kind, Some(name)),
        (None, name) => (arguments.kind.as_str(), name.as_deref()),
    };
    if name == Some("") {
        return Err(Failure::new(2, "tidegate get: no name stands after the /"));
    }
    if name.is_some() && arguments.all_namespaces {
        return Err(Failure::new(2, "tidegate get: one object is in one namespace: use -n, not -A"));
    }
    let Some((kind, group)) = kinds::find(kind) else {
        let message = format!("tidegate get: the kind {kind} is not known; known are {}", kinds::names());
        return Err(Failure::new(2, message));
    };
    let namespace = (kind.namespaced && !arguments.all_namespaces).then_some(arguments.namespace.as_str());
    let items = arguments.server.objects(kind.name, namespace, name).map_err(|error| refused(&error))?;
    let items: Vec<Value> = items.into_iter().filter(|item| kinds::is_of(item, group)).collect();
    if let Some(name) = name
        && items.is_empty()
    {
        let message = format!("Error from server (NotFound): {} \"{name}\" not found", kind.full_plural());
        return Err(Failure::new(1, message));
    }
    print(arguments, kind, name.is_some(), items)
}

fn refused(error: &ServerError) -> Failure {
    Failure::new(1, format!("tidegate get: {error}"))
}

fn print(arguments: &Arguments, kind: &Kind, one: bool, mut items: Vec<Value>) -> Result<Answer, Failure> {
    if let Format::Table = arguments.output {
        if items.is_empty() {
            let note = match kind.namespaced && !arguments.all_namespaces {
                true => format!("No resources found in {} namespace.", arguments.namespace),
                false => "No resources found".into(),
            };
            return Ok(Answer { text: String::new(), note: Some(note) });
        }
        let text = table(kind, &items, arguments.all_namespaces && kind.namespaced).render();
        return Ok(Answer { text, note: None });
    }
    // Two groups can have an object of one kind and name; then the answer is a list although one name was asked for.
    let value = match items.len() {
        1 if one => items.pop().unwrap_or_default(),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}}),
    };
    let text = match &arguments.output {
        Format::Table | Format::Json => output::json(&value),
        Format::Yaml => output::yaml(&value).map_err(|error| Failure::new(1, format!("tidegate get: {error}")))?,
        Format::JsonPath(template) => template.render(&value),
    };
    Ok(Answer { text, note: None })
}

fn table(kind: &Kind, items: &[Value], with_namespace: bool) -> Table {
    let columns = columns::of(kind.name);
    let namespace = with_namespace.then_some("NAMESPACE");
    let head = namespace.into_iter().chain(["NAME"]).chain(columns.iter().map(|column| column.head)).chain(["AGE"]);
    let mut table = Table::new(head);
    for item in items {
        let mut cells = Vec::new();
        if with_namespace {
            cells.push(columns::text(item, "/metadata/namespace"));
        }
        cells.push(columns::text(item, "/metadata/name"));
        cells.extend(columns.iter().map(|column| (column.cell)(item)));
        cells.push(columns::age(item, jiff::Timestamp::now()));
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests;
