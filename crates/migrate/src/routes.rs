//! HTTPRoutes with every repair written out and their references moved; ReferenceGrants for the moved pools.

use serde_json::{Value, json};
use tidegate_api::inference::{GROUP_ALPHA, GROUP_V1};
use tidegate_routing::Admitted;

use crate::catalogue::Catalogue;
use crate::{Migration, edit};

/// A route: v1, `rules` as a list, groups of pools written out.
pub(crate) fn migrate(one: &Admitted, catalogue: &Catalogue, migration: &mut Migration) {
    let mut comments = Vec::new();
    let mut value = one.document.value.clone();
    edit::set(&mut value, "apiVersion", "gateway.networking.k8s.io/v1".into());
    if let Some(rules) = value.pointer_mut("/spec/rules") {
        if rules.is_object() {
            *rules = json!([rules.take()]);
        }
        for rule in rules.as_array_mut().into_iter().flatten() {
            migrate_rule(rule, &one.document.key.namespace, catalogue, &mut comments);
        }
    }
    migration.with_comments(one, value, comments);
}

fn migrate_rule(rule: &mut Value, namespace: &str, catalogue: &Catalogue, comments: &mut Vec<String>) {
    move_mirrors(rule, namespace, catalogue, comments);
    for backend in rule.get_mut("backendRefs").and_then(Value::as_array_mut).into_iter().flatten() {
        move_reference(backend, namespace, catalogue, comments);
        move_mirrors(backend, namespace, catalogue, comments);
    }
}

fn move_mirrors(holder: &mut Value, namespace: &str, catalogue: &Catalogue, comments: &mut Vec<String>) {
    for filter in holder.get_mut("filters").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(reference) = filter.pointer_mut("/requestMirror/backendRef") {
            move_reference(reference, namespace, catalogue, comments);
        }
    }
}

/// Writes the group of a reference to an InferencePool out, as the one where the pool will be.
fn move_reference(reference: &mut Value, route_namespace: &str, catalogue: &Catalogue, comments: &mut Vec<String>) {
    if reference.get("kind").and_then(Value::as_str) != Some("InferencePool") {
        return;
    }
    let text = |name: &str| reference.get(name).and_then(Value::as_str);
    let namespace = text("namespace").unwrap_or(route_namespace);
    let name = text("name").unwrap_or_default();
    comments.extend(catalogue.healed(namespace, name, text("group")));
    let group = catalogue.group(namespace, name, text("group")).to_owned();
    if let Some(mapping) = reference.as_object_mut() {
        edit::set_first(mapping, "group", group.into());
    }
}

/// A grant for pools of the older group, extended to where they have gone.
pub(crate) fn migrate_grant(one: &Admitted, catalogue: &Catalogue, migration: &mut Migration) {
    let namespace = &one.document.key.namespace;
    let mut value = one.document.value.clone();
    let mut comments = Vec::new();
    if let Some(to) = value.pointer_mut("/spec/to").and_then(Value::as_array_mut) {
        let written = std::mem::take(to);
        for target in written {
            let is_old_pool = target.get("group").and_then(Value::as_str) == Some(GROUP_ALPHA)
                && target.get("kind").and_then(Value::as_str) == Some("InferencePool");
            let (moving, staying) = match target.get("name").and_then(Value::as_str) {
                _ if !is_old_pool => (false, true),
                Some(name) => (catalogue.moves(namespace, name), !catalogue.moves(namespace, name)),
                None => catalogue.pools_of_namespace(namespace),
            };
            if moving {
                let mut moved = target.clone();
                edit::set(&mut moved, "group", GROUP_V1.into());
                to.push(moved);
                if target.get("name").is_none() {
                    comments.push("now grants references to every v1 InferencePool of its namespace".to_owned());
                }
            }
            if staying || !moving {
                to.push(target);
            }
        }
    }
    migration.with_comments(one, value, comments);
}
