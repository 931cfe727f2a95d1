//! `tidegate migrate`: manifests in their current form.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::{Value, json};
use tidegate_migrate::{Migration, migrate};
use tidegate_routing::Intake;

use crate::output;

/// Arguments of `tidegate migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Manifests: files or folders (recursively), YAML or JSON; can be given several times.
    #[arg(short = 'f', long = "filename", required = true, value_name = "PATH")]
    pub(crate) filename: Vec<PathBuf>,
    /// Namespace of documents that name none.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// How to print.
    #[arg(short, long, default_value = "yaml")]
    pub(crate) output: Form,
}

/// What `migrate` can print: manifests, so no table.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Form {
    /// Documents with comments.
    Yaml,
    /// One List; comments go to stderr alone.
    Json,
}

/// Prints the migrated set; 1 when a document could not be read, and so is missing from it.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let options = tidegate_files::Options { default_namespace: arguments.namespace };
    let set = match tidegate_files::load(&arguments.filename, options) {
        Ok(set) => set,
        Err(error) => {
            eprintln!("tidegate migrate: {error}");
            return ExitCode::from(2);
        }
    };
    for problem in &set.problems {
        eprintln!("{problem}");
    }
    let migration = migrate(&Intake::default().admit(&set.documents));
    for note in &migration.notes {
        eprintln!("{note}");
    }
    match print(&migration, arguments.output) {
        Ok(text) => output::print(&text),
        Err(error) => {
            eprintln!("tidegate migrate: {error}");
            return ExitCode::FAILURE;
        }
    }
    let incomplete = set.problems.iter().any(|problem| problem.severity == tidegate_api::Severity::Error);
    if incomplete { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn print(migration: &Migration, form: Form) -> Result<String, String> {
    match form {
        Form::Json => {
            let items: Vec<Value> = migration.documents.iter().map(|document| document.value.clone()).collect();
            Ok(output::json(&json!({"apiVersion": "v1", "kind": "List", "items": items})))
        }
        Form::Yaml => {
            let mut text = String::new();
            for (index, document) in migration.documents.iter().enumerate() {
                if index > 0 {
                    text.push_str("---\n");
                }
                for line in document.comments.iter().flat_map(|comment| comment.lines()) {
                    text.push_str(&format!("# {line}\n"));
                }
                text.push_str(&output::yaml(&document.value)?);
            }
            Ok(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_migrate::MigratedDocument;

    use super::*;

    #[test]
    fn comments_stand_above_their_document() {
        let document = |name: &str, comments: &[&str]| MigratedDocument {
            value: json!({"kind": name}),
            comments: comments.iter().map(ToString::to_string).collect(),
        };
        let migration =
            Migration { documents: vec![document("A", &["one\ntwo"]), document("B", &[])], notes: Vec::new() };
        assert_eq!(print(&migration, Form::Yaml).unwrap(), "# one\n# two\nkind: A\n---\nkind: B\n");
        assert!(print(&migration, Form::Json).unwrap().contains("\"kind\": \"List\""));
    }
}
