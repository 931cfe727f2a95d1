//! Model tables: which names clients may ask a pool for, from InferenceModels and InferenceModelRewrites.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tidegate_api::inference::{Criticality, GROUP_ALPHA, GROUP_V1, ModelTarget, PoolRef};
use tidegate_api::{FieldPath, Finding, ObjectKey, Resource, Severity};

use super::index::{FoundPool, Index, Object};
use super::statuses::{Statuses, accepted, refused};
use crate::Split;
use crate::snapshot::{ModelRule, ModelTable, Target};

/// The table of each pool that some model names.
pub(super) fn tables(index: &Index<'_>, statuses: &mut Statuses) -> HashMap<ObjectKey, ModelTable> {
    let mut tables: HashMap<ObjectKey, ModelTable> = HashMap::new();
    let mut objects: Vec<Object<'_>> = index.all().collect();
    objects.sort_by_key(Object::age);
    // Rewrites first: they win over InferenceModels.
    for object in &objects {
        if let Resource::InferenceModelRewrite(rewrite) = object.resource
            && let Some(pool) = pool_of(index, object, &rewrite.pool, statuses)
        {
            let table = tables.entry(pool.clone()).or_default();
            let (mut lost, mut asked) = (Vec::new(), 0);
            for (number, rule) in rewrite.rules.iter().enumerate() {
                if mixed(&rule.targets) {
                    let field = FieldPath::root().key("spec").key("rules").index(number).key("targets");
                    let message = format!("{}: only some targets have weights; only those are drawn", object.key);
                    statuses.finding(object.admitted, Finding::new(Severity::Warning, "MixedWeights", field, message));
                }
                asked += rule.models.len().max(1);
                lost.extend(put_rewrite(table, object, &pool, &rule.models, &rule.targets));
            }
            if lost.len() < asked {
                // In part it is in force: what it lost to an older one is said, and does not refuse it.
                for (name, owner) in &lost {
                    statuses.finding(object.admitted, lost_name(object, name, owner));
                }
                lost.clear();
            }
            statuses.condition(object.key, verdict(&lost));
        }
    }
    for object in &objects {
        if let Resource::InferenceModel(model) = object.resource
            && let Some(pool) = pool_of(index, object, &model.pool, statuses)
        {
            let table = tables.entry(pool.clone()).or_default();
            let identity = [ModelTarget { name: model.model_name.clone(), weight: None }];
            let targets = if model.targets.is_empty() { &identity[..] } else { &model.targets };
            let mut lost: Vec<(String, Arc<ObjectKey>)> = Vec::new();
            lost.extend(put(table, object, &pool, &model.model_name, targets, model.criticality));
            if model.printed_versions {
                for version in targets {
                    // Its own name leads to itself; that another object took that name takes nothing from the split.
                    let itself = [ModelTarget { name: version.name.clone(), weight: None }];
                    let _ = put(table, object, &pool, &version.name, &itself, model.criticality);
                }
            }
            statuses.condition(object.key, verdict(&lost));
        }
    }
    for object in &objects {
        if let Resource::InferenceObjective(objective) = object.resource {
            pool_of(index, object, &objective.pool, statuses);
        }
    }
    tables
}

/// The pool that a model, rewrite or objective names; its absence, or a group that was assumed, is said.
fn pool_of(index: &Index<'_>, object: &Object<'_>, reference: &PoolRef, statuses: &mut Statuses) -> Option<ObjectKey> {
    match index.pool(&object.key.namespace, reference.group.as_deref(), &reference.name) {
        FoundPool::Named(pool, _) => Some(pool.key.clone()),
        // A group that was left out means the kind's default, which is no repair.
        FoundPool::Assumed(pool, _, group) if reference.group.is_none() && group == default_group(object) => {
            Some(pool.key.clone())
        }
        FoundPool::Assumed(pool, _, group) => {
            for field in group_fields(object) {
                let finding = assumed_group(object, field, reference.group.as_deref(), &reference.name, group);
                statuses.finding(object.admitted, finding);
            }
            Some(pool.key.clone())
        }
        FoundPool::Missing => {
            let message = format!("InferencePool {}/{} is not described", object.key.namespace, reference.name);
            statuses.condition(object.key, refused("PoolNotFound", message));
            None
        }
    }
}

/// The group that a `poolRef` without one means, by the kind's schema.
fn default_group(object: &Object<'_>) -> &'static str {
    if object.key.kind == "InferenceModel" { GROUP_ALPHA } else { GROUP_V1 }
}

/// Where the group of an object's poolRef is to be written: in the printed form, in each version that lacks it.
fn group_fields(object: &Object<'_>) -> Vec<FieldPath> {
    let spec = FieldPath::root().key("spec");
    let printed = matches!(object.resource, Resource::InferenceModel(model) if model.printed_versions);
    if !printed {
        return vec![spec.key("poolRef").key("group")];
    }
    let versions = object.admitted.document.value.pointer("/spec/versions").and_then(Value::as_array);
    let lacking = versions.into_iter().flatten().enumerate();
    lacking
        .filter(|(_, version)| version.pointer("/poolRef/group").is_none())
        .map(|(number, _)| spec.clone().key("versions").index(number).key("poolRef").key("group"))
        .collect()
}

/// Says that a group was left out, or named one that has no such pool.
pub(super) fn assumed_group(
    object: &Object<'_>,
    field: FieldPath,
    written: Option<&str>,
    name: &str,
    group: &str,
) -> Finding {
    let found = match written {
        None => "has no group".to_owned(),
        Some(written) => format!("names the group {written}, which has no pool of that name"),
    };
    let message = format!(
        "{}: {field}: the reference to InferencePool {name} {found}; the pool of {group} is taken: write `group: {group}`",
        object.key
    );
    Finding::new(Severity::Warning, "GroupAssumed", field, message).with_replacement(format!("group: {group}"))
}

fn lost_name(object: &Object<'_>, name: &str, owner: &ObjectKey) -> Finding {
    let field = FieldPath::root().key("spec").key("rules");
    let message = format!("{}: {field}: {name:?} is served by {owner} in the same pool", object.key);
    Finding::new(Severity::Warning, "ModelNameInUse", field, message)
}

fn verdict(lost: &[(String, Arc<ObjectKey>)]) -> tidegate_api::Condition {
    match lost.first() {
        None => accepted("Accepted", "in force"),
        Some((name, owner)) => refused("ModelNameInUse", format!("{name:?} is served by {owner} in the same pool")),
    }
}

fn put_rewrite(
    table: &mut ModelTable,
    object: &Object<'_>,
    pool: &ObjectKey,
    models: &[String],
    targets: &[ModelTarget],
) -> Vec<(String, Arc<ObjectKey>)> {
    if targets.is_empty() {
        return Vec::new();
    }
    if !models.is_empty() {
        return models.iter().filter_map(|model| put(table, object, pool, model, targets, None)).collect();
    }
    if let Some(generic) = &table.generic {
        // A later rule of the same object that can never be reached is no conflict with another.
        let other = *generic.owner != *object.key;
        return other.then(|| ("every model".to_owned(), generic.owner.clone())).into_iter().collect();
    }
    table.generic = Some(rule(object, pool, "", targets, None));
    Vec::new()
}

/// Puts a name into the table; gives it back, with its owner, when another object has it.
fn put(
    table: &mut ModelTable,
    object: &Object<'_>,
    pool: &ObjectKey,
    model: &str,
    targets: &[ModelTarget],
    criticality: Option<Criticality>,
) -> Option<(String, Arc<ObjectKey>)> {
    if let Some(owner) = table.exact.get(model).map(|rule| &rule.owner) {
        return (**owner != *object.key).then(|| (model.to_owned(), owner.clone()));
    }
    table.exact.insert(model.to_owned(), rule(object, pool, model, targets, criticality));
    None
}

fn rule(
    object: &Object<'_>,
    pool: &ObjectKey,
    model: &str,
    targets: &[ModelTarget],
    criticality: Option<Criticality>,
) -> Arc<ModelRule> {
    let weighted = targets.iter().any(|target| target.weight.is_some());
    let targets: Vec<Target> = targets
        .iter()
        .map(|target| Target {
            model: target.name.as_str().into(),
            // Without any weights all are equal; with some, those without get nothing.
            weight: if weighted { target.weight.unwrap_or(0) } else { 1 },
        })
        .collect();
    let split = split(pool, model, &targets);
    Arc::new(ModelRule { owner: Arc::new(object.key.clone()), split, pair: None, targets, criticality })
}

/// The split over a name's targets; of a rule for every name, `model` is empty.
pub(super) fn split(pool: &ObjectKey, model: &str, targets: &[Target]) -> Split {
    let arms: Vec<(&str, u32)> = targets.iter().map(|target| (&*target.model, target.weight)).collect();
    Split::new(&format!("{}/{}/{model}", pool.group, pool.namespaced_name()), &arms)
}

fn mixed(targets: &[ModelTarget]) -> bool {
    let weighted = targets.iter().filter(|target| target.weight.is_some()).count();
    weighted > 0 && weighted < targets.len()
}
