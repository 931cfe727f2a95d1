//! The patch that lets the manifests say what a roll-out came to: JSON merge, hence with the whole list of rules or
//! targets, which no patch can share.

use serde_json::{Value, json};

/// The object that is patched.
pub(super) struct Wanted {
    pub(super) kind: String,
    pub(super) name: String,
}

fn word<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// Which object a roll-out's weights lie over.
pub(super) fn wanted(rollout: &Value) -> Result<Wanted, String> {
    let named = [("/spec/target/routeRef", "HTTPRoute"), ("/spec/target/rewriteRef", "InferenceModelRewrite")];
    let found = named.into_iter().find_map(|(pointer, kind)| {
        let reference = rollout.pointer(pointer)?;
        let kind = word(reference, "/kind").unwrap_or(kind).to_owned();
        Some(Wanted { kind, name: word(reference, "/name")?.to_owned() })
    });
    found.ok_or_else(|| {
        "spec.target names neither routeRef nor rewriteRef; write spec.target.rewriteRef to have its patch".into()
    })
}

/// The patch of that object.
pub(super) fn settle(rollout: &Value, object: &Value) -> Result<Value, String> {
    let back = matches!(word(rollout, "/status/phase"), Some("RolledBack" | "RollingBack" | "Failed" | "Superseded"));
    let (keeps, leaves) = if back { ("candidate", "stable") } else { ("stable", "candidate") };
    let arm = |arm: &str, pointer: &str| word(rollout, &format!("/spec/{arm}{pointer}")).unwrap_or_default().to_owned();
    let (list, name, pointer) = match word(object, "/kind") {
        Some("HTTPRoute") => ("backendRefs", "name", "/poolRef/name"),
        Some("InferenceModel") => ("targetModels", "name", "/model"),
        _ => ("targets", "modelRewrite", "/model"),
    };
    let (loser, winner) = (arm(keeps, pointer), arm(leaves, pointer));
    let mut spec = object.get("spec").cloned().unwrap_or_default();
    let rule_name = word(rollout, "/spec/target/rule");
    let model = word(rollout, "/spec/target/model");
    let mut places: Vec<&mut Value> = if list == "targetModels" {
        vec![&mut spec]
    } else {
        let rules = spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten();
        rules.filter(|rule| is_meant(rule, rule_name, model)).collect()
    };
    let mut changed = false;
    for place in &mut places {
        if let Some(entries) = place.get_mut(list).and_then(Value::as_array_mut) {
            changed |= turn(entries, name, (&loser, &winner), list != "backendRefs");
        }
    }
    if !changed {
        return Err(format!("the manifests have nothing left to change: {loser} is not among the {list}, or weighs 0"));
    }
    let field = if list == "targetModels" { list } else { "rules" };
    Ok(json!({"spec": {field: spec.get(field)}}))
}

fn is_meant(rule: &Value, name: Option<&str>, model: Option<&str>) -> bool {
    let mut models = rule.get("matches").and_then(Value::as_array).into_iter().flatten();
    name.is_none_or(|name| word(rule, "/name") == Some(name))
        && model.is_none_or(|model| models.any(|found| word(found, "/model/value") == Some(model)))
}

/// Gives the winner what both had. A target that cannot weigh 0 is taken out.
fn turn(entries: &mut Vec<Value>, name: &str, (loser, winner): (&str, &str), takes_out: bool) -> bool {
    let weight = |entry: &Value| entry.get("weight").and_then(Value::as_u64).unwrap_or(1);
    let is = |entry: &Value, wanted: &str| entry.get(name).and_then(Value::as_str) == Some(wanted);
    let both =
        entries.iter().filter(|entry| is(entry, loser) || is(entry, winner)).map(weight).fold(0, u64::saturating_add);
    let Some(like) = entries.iter().find(|entry| is(entry, loser) && weight(entry) > 0).cloned() else { return false };
    if !entries.iter().any(|entry| is(entry, winner)) {
        let mut added = like;
        if let Some(fields) = added.as_object_mut() {
            fields.insert(name.into(), json!(winner));
        }
        entries.push(added);
    }
    if takes_out {
        entries.retain(|entry| !is(entry, loser));
    }
    let mut rest = both;
    for entry in entries.iter_mut() {
        // Of a backend that is listed twice the first takes all.
        let share = if is(entry, winner) { std::mem::take(&mut rest) } else { 0 };
        if (is(entry, winner) || is(entry, loser))
            && let Some(fields) = entry.as_object_mut()
        {
            fields.insert("weight".into(), json!(share));
        }
    }
    true
}
