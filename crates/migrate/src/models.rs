//! InferenceModels to InferenceModelRewrites, and the older group's Rewrites and Objectives to the current one.

use serde_json::{Value, json};
use tidegate_api::inference::{
    Criticality, GROUP_ALPHA, InferenceModel, InferenceModelRewrite, InferenceObjective, ModelTarget, PoolRef,
};
use tidegate_routing::Admitted;

use crate::catalogue::Catalogue;
use crate::{Migration, edit};

const API_VERSION: &str = "llm-d.ai/v1alpha2";
const REWRITE: &str = "InferenceModelRewrite";

/// One InferenceModelRewrite for one InferenceModel. Also for a name without alias and split: the pool then goes on
/// being known to serve it.
pub(crate) fn migrate(one: &Admitted, model: &InferenceModel, catalogue: &Catalogue, migration: &mut Migration) {
    let key = &one.document.key;
    let mut rules = vec![(model.model_name.clone(), targets(model))];
    if model.printed_versions {
        for target in &model.targets {
            if rules.iter().all(|(name, _)| *name != target.name) {
                rules.push((target.name.clone(), vec![json!({"modelRewrite": target.name})]));
            }
        }
    }
    let mut comments = Vec::new();
    rules.retain(|(name, _)| {
        let superseded = catalogue.is_rewritten(&key.namespace, &model.pool, name);
        if superseded {
            comments.push(format!("the model {name:?} is left out, because an InferenceModelRewrite already has it"));
        }
        !superseded
    });
    if let Some(criticality) = model.criticality {
        comments.push(criticality_comment(criticality));
    }
    comments.extend(catalogue.healed(&key.namespace, &model.pool.name, model.pool.group.as_deref()));
    if rules.is_empty() {
        migration.notes.extend(comments.iter().map(|comment| format!("{key}: {comment}")));
        return;
    }
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|(name, targets)| json!({"matches": [{"model": {"type": "Exact", "value": name}}], "targets": targets}))
        .collect();
    let spec = json!({"poolRef": pool_ref(&key.namespace, &model.pool, catalogue), "rules": rules});
    let value = edit::object(one, API_VERSION, REWRITE, &free_name(one, catalogue), spec);
    migration.with_comments(one, value, comments);
}

fn targets(model: &InferenceModel) -> Vec<Value> {
    if model.targets.is_empty() {
        return vec![json!({"modelRewrite": model.model_name})];
    }
    model.targets.iter().map(target).collect()
}

fn target(target: &ModelTarget) -> Value {
    match target.weight {
        Some(weight) => json!({"modelRewrite": target.name, "weight": weight}),
        None => json!({"modelRewrite": target.name}),
    }
}

fn criticality_comment(criticality: Criticality) -> String {
    let level = match criticality {
        Criticality::Critical => "Critical",
        Criticality::Standard => "Standard",
        Criticality::Sheddable => "Sheddable",
    };
    format!(
        "criticality {level} has no equivalent here; its successor is an InferenceObjective with a priority, which \
         clients choose per request"
    )
}

/// The InferenceModel's own name, unless a Rewrite has it.
fn free_name(one: &Admitted, catalogue: &Catalogue) -> String {
    let key = &one.document.key;
    let mut candidates = std::iter::once(key.name.clone())
        .chain((1_u32..).map(|count| {
            format!("{}-model{}", key.name, if count == 1 { String::new() } else { format!("-{count}") })
        }));
    candidates.find(|name| !catalogue.is_claimed(REWRITE, &key.namespace, name)).unwrap_or_else(|| key.name.clone())
}

fn pool_ref(namespace: &str, pool: &PoolRef, catalogue: &Catalogue) -> Value {
    let group = catalogue.group(namespace, &pool.name, pool.group.as_deref());
    json!({"group": group, "kind": pool.kind, "name": pool.name})
}

/// An existing Rewrite: to the current group, its pool's group written out.
pub(crate) fn move_rewrite(
    one: &Admitted,
    rewrite: &InferenceModelRewrite,
    catalogue: &Catalogue,
    migration: &mut Migration,
) {
    move_group(one, &rewrite.pool, catalogue, migration);
}

/// An existing Objective: the same.
pub(crate) fn move_objective(
    one: &Admitted,
    objective: &InferenceObjective,
    catalogue: &Catalogue,
    migration: &mut Migration,
) {
    move_group(one, &objective.pool, catalogue, migration);
}

fn move_group(one: &Admitted, pool: &PoolRef, catalogue: &Catalogue, migration: &mut Migration) {
    let key = &one.document.key;
    let mut comments: Vec<String> =
        catalogue.healed(&key.namespace, &pool.name, pool.group.as_deref()).into_iter().collect();
    let mut spec = one.document.value.get("spec").cloned().unwrap_or_else(|| json!({}));
    edit::set(&mut spec, "poolRef", pool_ref(&key.namespace, pool, catalogue));
    if key.group == GROUP_ALPHA && catalogue.is_taken(&key.kind, &key.namespace, &key.name) {
        let mut value = one.document.value.clone();
        edit::set(&mut value, "spec", spec);
        let comment = "stays in the older group, because the current one already has an object of its name";
        comments.push(comment.to_owned());
        migration.with_comments(one, value, comments);
        return;
    }
    let value = if key.group == GROUP_ALPHA {
        edit::object(one, API_VERSION, &key.kind, &key.name, spec)
    } else {
        let mut value = one.document.value.clone();
        edit::set(&mut value, "spec", spec);
        value
    };
    migration.with_comments(one, value, comments);
}
