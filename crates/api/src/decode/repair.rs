//! Leniency, said aloud: `spec.rules` of an HTTPRoute given as one mapping is read as a list of one.

use serde_json::{Value, json};

use crate::node::Node;
use crate::report::Report;
use crate::{Document, Finding, Severity};

/// The document's value with what is leniently read written properly; `None` when nothing is to be repaired.
pub(super) fn repaired(document: &Document, report: &mut Report) -> Option<Value> {
    if document.key.kind != "HTTPRoute" {
        return None;
    }
    let rules = Node::root(&document.value).key("spec").key("rules");
    let rule = rules.value().filter(|value| value.is_object())?;
    let mut value = document.value.clone();
    let list = json!([rule]);
    let text = crate::yaml_text::block(&json!({"rules": list}));
    *value.pointer_mut("/spec/rules")? = list;
    let message = format!(
        "{}: {} is one mapping where a list is asked for, and is read as a list of one rule; write it with a dash",
        document.key,
        rules.path()
    );
    report.push(Finding::new(Severity::Warning, "RepairedList", rules.path().clone(), message).with_replacement(text));
    Some(value)
}
