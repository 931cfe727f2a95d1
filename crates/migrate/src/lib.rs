//! Printed manifests to their current form: v1 pools, InferenceModelRewrites instead of InferenceModels, routes with
//! every repair written out and their references moved.
//!
//! A pure step after intake: documents go in, documents come out. Loading what comes out gives the same splits; what
//! has no equivalent is said in a comment on the document and in a note. Reading and printing are the caller's.

mod catalogue;
mod edit;
mod models;
mod pools;
mod routes;

use serde_json::Value;
use tidegate_api::{Resource, Severity};
use tidegate_routing::Admitted;

use catalogue::Catalogue;

/// One document of the result.
#[derive(Clone, Debug, PartialEq)]
pub struct MigratedDocument {
    /// The object, ready to be printed as YAML.
    pub value: Value,
    /// What its reader must know: to be printed above it, each as a comment line.
    pub comments: Vec<String>,
}

/// The whole set in current form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Migration {
    /// The documents, in the order of their sources.
    pub documents: Vec<MigratedDocument>,
    /// What has no equivalent or could not be done, each a sentence that names its object.
    pub notes: Vec<String>,
}

impl Migration {
    fn unchanged(&mut self, value: &Value) {
        self.documents.push(MigratedDocument { value: value.clone(), comments: Vec::new() });
    }

    /// Adds a document whose comments are also notes.
    fn with_comments(&mut self, subject: &Admitted, value: Value, comments: Vec<String>) {
        self.notes.extend(comments.iter().map(|comment| format!("{}: {comment}", subject.document.key)));
        self.documents.push(MigratedDocument { value, comments });
    }
}

/// Gives a whole set of documents in current form. A document that is not accepted stays as it is, with a comment.
pub fn migrate(admitted: &[Admitted]) -> Migration {
    let catalogue = Catalogue::of(admitted);
    let mut migration = Migration::default();
    for one in admitted {
        match accepted(one) {
            Some(resource) => migrate_one(one, resource, &catalogue, &mut migration),
            None => {
                let comment = format!("not migrated, because it is not accepted: {}", first_error(one));
                migration.with_comments(one, one.document.value.clone(), vec![comment]);
            }
        }
    }
    migration
}

fn migrate_one(one: &Admitted, resource: &Resource, catalogue: &Catalogue, migration: &mut Migration) {
    match resource {
        Resource::InferencePool(pool) => pools::migrate(one, pool, catalogue, migration),
        Resource::InferenceModel(model) => models::migrate(one, model, catalogue, migration),
        Resource::InferenceModelRewrite(rewrite) => models::move_rewrite(one, rewrite, catalogue, migration),
        Resource::InferenceObjective(objective) => models::move_objective(one, objective, catalogue, migration),
        Resource::HttpRoute(_) => routes::migrate(one, catalogue, migration),
        Resource::ReferenceGrant(_) => routes::migrate_grant(one, catalogue, migration),
        Resource::GatewayClass(_) | Resource::Gateway(_) => {
            let mut value = one.document.value.clone();
            edit::set(&mut value, "apiVersion", "gateway.networking.k8s.io/v1".into());
            migration.unchanged(&value);
        }
        _ => migration.unchanged(&one.document.value),
    }
}

/// The object, when its newest document is the one in force.
fn accepted(one: &Admitted) -> Option<&Resource> {
    let refused = one.findings.iter().any(|finding| finding.severity == Severity::Error);
    one.resource.as_deref().filter(|_| !refused)
}

fn first_error(one: &Admitted) -> String {
    let error = one.findings.iter().find(|finding| finding.severity == Severity::Error);
    error.map_or_else(|| "nothing of it could be read".to_owned(), |finding| finding.message.clone())
}

#[cfg(test)]
mod tests;
