//! The statuses under construction.

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate_api::status::{ListenerStatus, ParentStatus};
use tidegate_api::{Condition, ConditionStatus, FieldPath, Finding, ObjectKey, ObjectStatus, Severity};

use crate::Admitted;

/// Status of every document.
#[derive(Debug)]
pub(super) struct Statuses {
    map: BTreeMap<ObjectKey, ObjectStatus>,
    generations: BTreeMap<ObjectKey, i64>,
}

impl Statuses {
    /// A status for each document, with what was found so far. A document that never had a good version is refused.
    pub(super) fn new(admitted: &[Admitted]) -> Self {
        let mut statuses = Self { map: BTreeMap::new(), generations: BTreeMap::new() };
        for one in admitted {
            let key = one.document.key.clone();
            statuses.generations.insert(key.clone(), one.metadata.generation);
            let mut status = ObjectStatus { findings: one.findings.clone(), ..ObjectStatus::default() };
            status.conditions.extend(conditions(&one.findings, one.resource.is_some()));
            statuses.map.insert(key, status);
        }
        statuses
    }

    /// The finished statuses. What nobody said anything about is accepted.
    pub(super) fn into_map(self) -> BTreeMap<ObjectKey, ObjectStatus> {
        let Self { mut map, generations } = self;
        for (key, status) in &mut map {
            let said = status.conditions.iter().any(|condition| condition.kind == "Accepted");
            if !said && status.parents.is_empty() {
                status.conditions.insert(0, accepted("Accepted", "in force"));
            }
            let generation = generations.get(key).copied().unwrap_or_default();
            let all = status
                .conditions
                .iter_mut()
                .chain(status.parents.iter_mut().flat_map(|parent| &mut parent.conditions))
                .chain(status.ancestors.iter_mut().flat_map(|ancestor| &mut ancestor.conditions))
                .chain(status.listeners.iter_mut().flat_map(|listener| &mut listener.conditions));
            for condition in all {
                condition.observed_generation = generation;
            }
        }
        map
    }

    /// Adds a condition to an object.
    pub(super) fn condition(&mut self, key: &ObjectKey, condition: Condition) {
        if let Some(status) = self.map.get_mut(key) {
            status.conditions.retain(|known| known.kind != condition.kind);
            status.conditions.push(condition);
        }
    }

    /// Adds a finding, with its position in the document, and its condition.
    pub(super) fn finding(&mut self, admitted: &Admitted, mut finding: Finding) {
        finding.position = admitted.document.origin.position(&finding.field);
        if let Some(status) = self.map.get_mut(&admitted.document.key) {
            if status.findings.contains(&finding) {
                return;
            }
            status.findings.push(finding);
            let accepted_already = status.conditions.iter().any(|condition| condition.kind == "Accepted");
            for condition in conditions(&status.findings, true) {
                if condition.kind != "Accepted" || !accepted_already {
                    status.conditions.retain(|known| known.kind != condition.kind);
                    status.conditions.push(condition);
                }
            }
        }
    }

    /// Adds a parent's conditions.
    pub(super) fn parent(&mut self, key: &ObjectKey, parent_ref: Value, conditions: Vec<Condition>) {
        if let Some(status) = self.map.get_mut(key) {
            status.parents.push(ParentStatus { parent_ref, conditions });
        }
    }

    /// Adds a policy's conditions on one of its targets.
    pub(super) fn ancestor(&mut self, key: &ObjectKey, ancestor_ref: Value, conditions: Vec<Condition>) {
        if let Some(status) = self.map.get_mut(key) {
            status.ancestors.push(ParentStatus { parent_ref: ancestor_ref, conditions });
        }
    }

    /// Sets a Gateway's listeners and addresses.
    pub(super) fn gateway(&mut self, key: &ObjectKey, listeners: Vec<ListenerStatus>, addresses: Vec<String>) {
        if let Some(status) = self.map.get_mut(key) {
            status.listeners = listeners;
            status.addresses = addresses;
        }
    }
}

/// The conditions that findings make: one of each kind, with all messages.
fn conditions(findings: &[Finding], in_force: bool) -> Vec<Condition> {
    let messages = |severity: Severity| {
        let of_it = findings.iter().filter(|finding| finding.severity == severity);
        let lines: Vec<&str> = of_it.clone().map(|finding| finding.message.as_str()).collect();
        (of_it.map(|finding| finding.reason).next(), lines.join("; "))
    };
    let mut conditions = Vec::new();
    if let (Some(reason), message) = messages(Severity::Error) {
        if !in_force {
            conditions.push(refused(reason, message.clone()));
        }
        conditions.push(Condition::new("tidegate.dev/Broken", ConditionStatus::True, reason, message));
    }
    if let (Some(reason), message) = messages(Severity::Warning) {
        conditions.push(Condition::new("tidegate.dev/Warning", ConditionStatus::True, reason, message));
    }
    if let (Some(reason), message) = messages(Severity::Note) {
        conditions.push(Condition::new("tidegate.dev/Note", ConditionStatus::True, reason, message));
    }
    conditions
}

/// `Accepted=True`.
pub(super) fn accepted(reason: &str, message: impl Into<String>) -> Condition {
    Condition::new("Accepted", ConditionStatus::True, reason, message)
}

/// `Accepted=False`.
pub(super) fn refused(reason: &str, message: impl Into<String>) -> Condition {
    Condition::new("Accepted", ConditionStatus::False, reason, message)
}

/// `ResolvedRefs`, from the first reference that does not resolve.
pub(super) fn resolved_refs(problem: Option<&(&'static str, String)>) -> Condition {
    match problem {
        None => Condition::new("ResolvedRefs", ConditionStatus::True, "ResolvedRefs", "all references resolve"),
        Some((reason, message)) => Condition::new("ResolvedRefs", ConditionStatus::False, reason, message.clone()),
    }
}

/// A note about the whole object.
pub(super) fn note(reason: &'static str, message: impl Into<String>) -> Finding {
    Finding::new(Severity::Note, reason, FieldPath::root(), message)
}
