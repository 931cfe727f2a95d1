//! `tidegate check`: every document with its conditions, without serving.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_api::{Condition, ConditionStatus, Document, Finding, ObjectKey, ObjectStatus, Severity};
use tidegate_files::FileSet;
use tidegate_routing::{Environment, Intake, compile};

use crate::output::{self, Format};

/// Arguments of `tidegate check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Manifests: files or folders (recursively), YAML or JSON; can be given several times.
    #[arg(short = 'f', long = "filename", required = true, value_name = "PATH")]
    pub(crate) filename: Vec<PathBuf>,
    /// Namespace of documents that name none.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Address that stands in for a Gateway that routes name and nobody describes.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// How to print: table, json, yaml or jsonpath={…}.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Format,
}

/// Prints the report; 1 when a document is not accepted, 2 when a path is missing.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let options = tidegate_files::Options { default_namespace: arguments.namespace };
    let set = match tidegate_files::load(&arguments.filename, options) {
        Ok(set) => set,
        Err(error) => {
            eprintln!("tidegate check: {error}");
            return ExitCode::from(2);
        }
    };
    let report = Report::of(set, arguments.listen);
    let text = match &arguments.output {
        Format::Table => Ok(report.text()),
        Format::Json => Ok(output::json(&report.value())),
        Format::Yaml => output::yaml(&report.value()),
        Format::JsonPath(template) => Ok(template.render(&report.value())),
    };
    match text {
        Ok(text) => output::print(&text),
        Err(error) => {
            eprintln!("tidegate check: {error}");
            return ExitCode::FAILURE;
        }
    }
    if report.accepted() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One document and what became of it.
struct Line {
    document: Arc<Document>,
    status: ObjectStatus,
    /// The later document that describes the same object.
    later: Option<Arc<Document>>,
    /// It is in force although there is a later one, which is broken.
    serves: bool,
}

struct Report {
    lines: Vec<Line>,
    set: FileSet,
}

impl Report {
    fn of(set: FileSet, listen: Option<SocketAddr>) -> Self {
        let admitted = Intake::default().admit(&set.documents);
        let mut statuses = compile(&admitted, &Environment { listen, ..Environment::default() }).statuses;
        for one in &admitted {
            statuses
                .entry(one.document.key.clone())
                .or_insert_with(|| ObjectStatus { findings: one.findings.clone(), ..ObjectStatus::default() });
        }
        let stands_in: BTreeMap<ObjectKey, String> =
            admitted.iter().filter_map(|one| Some((one.document.key.clone(), one.stand_in.clone()?))).collect();
        let last: BTreeMap<ObjectKey, Arc<Document>> =
            set.documents.iter().map(|document| (document.key.clone(), document.clone())).collect();
        let lines = set
            .documents
            .iter()
            .map(|document| {
                let later = last.get(&document.key).filter(|last| !Arc::ptr_eq(last, document)).cloned();
                let serves = later.is_some() && stands_in.get(&document.key) == Some(&document.origin.to_string());
                let status = match &later {
                    Some(_) => ObjectStatus { findings: document.findings.clone(), ..ObjectStatus::default() },
                    None => statuses.get(&document.key).cloned().unwrap_or_default(),
                };
                Line { document: document.clone(), status, later, serves }
            })
            .collect();
        Self { lines, set }
    }

    fn accepted(&self) -> bool {
        self.lines.iter().all(|line| line.status.accepted())
            && !self.set.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    fn value(&self) -> Value {
        let documents: Vec<Value> = self.lines.iter().map(Line::value).collect();
        json!({"accepted": self.accepted(), "documents": documents, "problems": self.set.problems})
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            line.write(&mut text);
        }
        for problem in &self.set.problems {
            text.push_str(&format!("{problem}\n  {}: {}\n", severity(problem.severity), problem.reason));
        }
        let refused = self.lines.iter().filter(|line| !line.status.accepted()).count();
        let broken = self.set.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        let plural = if self.lines.len() == 1 { "" } else { "s" };
        text.push_str(&format!(
            "{} document{plural}, {refused} not accepted, {broken} that could not be read\n",
            self.lines.len()
        ));
        text
    }
}

impl Line {
    fn value(&self) -> Value {
        let Self { document, status, later, serves } = self;
        let place = later.as_ref().map(|later| later.origin.to_string());
        let (superseded_by, stands_in_for) = if *serves { (None, place) } else { (place, None) };
        let singular = document.key.kind == "InferencePool" && document.api_version.ends_with("/v1alpha2");
        json!({
            "source": &*document.origin.source,
            "line": document.origin.position(&tidegate_api::FieldPath::root()).map(|position| position.line),
            "apiVersion": document.api_version,
            "kind": document.key.kind,
            "namespace": document.key.namespace,
            "name": document.key.name,
            "accepted": status.accepted(),
            "supersededBy": superseded_by,
            "standsInFor": stands_in_for,
            "status": status.to_value(singular),
            "findings": status.findings,
        })
    }

    fn write(&self, text: &mut String) {
        let Self { document, status, later, serves } = self;
        let verdict = match (later, status.accepted()) {
            (Some(later), _) if *serves => format!("serves, because {} is broken", later.origin),
            (Some(later), _) => format!("superseded by {}", later.origin),
            (None, true) => "accepted".into(),
            (None, false) => "NOT ACCEPTED".into(),
        };
        text.push_str(&format!("{}  {}  {verdict}\n", document.origin, document.key));
        for condition in &status.conditions {
            write_condition("", condition, &status.findings, text);
        }
        for parent in &status.parents {
            let name = parent.parent_ref.get("name").and_then(Value::as_str).unwrap_or_default();
            let prefix = format!("parent {name}: ");
            parent.conditions.iter().for_each(|condition| write_condition(&prefix, condition, &status.findings, text));
        }
        for target in &status.ancestors {
            let word = |field: &str| target.parent_ref.get(field).and_then(Value::as_str).unwrap_or_default();
            let prefix = format!("target {} {}: ", word("kind"), word("name"));
            target.conditions.iter().for_each(|condition| write_condition(&prefix, condition, &status.findings, text));
        }
        for listener in &status.listeners {
            let prefix = format!("listener {}: ", listener.name);
            listener
                .conditions
                .iter()
                .for_each(|condition| write_condition(&prefix, condition, &status.findings, text));
        }
        for finding in &status.findings {
            write_finding(document, finding, text);
        }
    }
}

/// Conditions whose message a finding repeats are given without it.
fn write_condition(prefix: &str, condition: &Condition, findings: &[Finding], text: &mut String) {
    let status = match condition.status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    };
    text.push_str(&format!("  {prefix}{}={status} {}", condition.kind, condition.reason));
    if !condition.message.is_empty() && !findings.iter().any(|finding| finding.message == condition.message) {
        text.push_str(&format!(": {}", condition.message.replace('\n', "; ")));
    }
    text.push('\n');
}

fn write_finding(document: &Document, finding: &Finding, text: &mut String) {
    let place = match finding.position.or_else(|| document.origin.position(&finding.field)) {
        Some(position) => format!("{}:{}:{}", document.origin.source, position.line, position.column),
        None => document.origin.source.to_string(),
    };
    text.push_str(&format!("  {place}: {} {}: {}\n", severity(finding.severity), finding.reason, finding.message));
    if let Some(replacement) = &finding.replacement {
        let mut lines = replacement.lines();
        text.push_str(&format!("      write: {}\n", lines.next().unwrap_or_default()));
        lines.for_each(|line| text.push_str(&format!("             {line}\n")));
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> (tempfile::TempDir, Report) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), text).unwrap();
        let set = tidegate_files::load(&[folder.path().to_owned()], tidegate_files::Options::default()).unwrap();
        let report = Report::of(set, None);
        (folder, report)
    }

    #[test]
    fn a_broken_document_is_told_with_its_place_and_the_rest_stays() {
        let (_folder, report) =
            report("apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n---\nkind: `HTTPRoute`\n");
        assert!(!report.accepted());
        let text = report.text();
        assert!(text.contains("a.yaml:1  Namespace n  accepted"), "{text}");
        assert!(text.contains("a.yaml:5:7: a value cannot begin with a backtick"), "{text}");
        assert_eq!(report.value()["problems"][0]["reason"], "InvalidYaml");
    }

    #[test]
    fn an_object_described_twice_names_the_later_place() {
        let one = "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n";
        let (_folder, report) = report(&format!("{one}---\n{one}"));
        assert!(report.text().contains("a.yaml:1  Namespace n  superseded by"), "{}", report.text());
        assert!(report.accepted());
    }
    #[test]
    fn an_earlier_description_that_serves_for_a_broken_one_is_not_called_superseded() {
        let server = |address: &str| {
            format!(
                "apiVersion: tidegate.dev/v1alpha1\nkind: ModelServer\nmetadata: {{name: s}}\nspec: {{address: {address}}}\n"
            )
        };
        let (_folder, report) = report(&[server("x:1"), server("y:2"), server("7")].join("---\n"));
        let text = report.text();
        assert!(text.contains("a.yaml:1  ModelServer default/s  superseded by"), "{text}");
        assert!(text.contains("a.yaml:6  ModelServer default/s  serves, because"), "{text}");
        assert!(text.contains("a.yaml:11  ModelServer default/s  NOT ACCEPTED"), "{text}");
        let documents = report.value()["documents"].clone();
        assert!(documents[1]["supersededBy"].is_null() && documents[1]["standsInFor"].is_string(), "{documents}");
        assert!(documents[0]["supersededBy"].is_string() && documents[0]["standsInFor"].is_null(), "{documents}");
        assert!(!report.accepted());
    }
}
