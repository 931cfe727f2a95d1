//! Each check, read from what the endpoints answered. Pure. What can still come waits; what cannot has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use tidegate_api::rollout::{AdapterRequirement, ContextLength, OnMissing, RolloutSettings};
use tidegate_rollout::event::{CheckOutcome, Refusal};
use tidegate_rollout::plan::Check;

use super::look::{Card, Look};
use crate::adapters::NotLoaded;

/// One round's answers.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) stable: Vec<Look>,
    pub(super) candidate: Vec<Look>,
    /// Adapters that could not be loaded, by endpoint.
    pub(super) loads: BTreeMap<Arc<str>, NotLoaded>,
}

/// Reads one check.
pub(super) fn read(check: Check, seen: &Seen, settings: &RolloutSettings) -> CheckOutcome {
    match check {
        Check::EndpointsReady => endpoints_ready(seen, settings),
        Check::SameModels => same_models(seen),
        Check::Adapters => adapters(seen, settings),
        Check::AdapterLoaded => adapter_loaded(seen, settings),
        Check::AdapterPresent => adapter_present(seen, settings),
        Check::ParentMatches => parent_matches(seen, settings),
        Check::FreeSlots => free_slots(seen, settings),
        Check::Probe => probe(seen),
        Check::ContextLength => context_length(seen, settings),
        Check::Tokenizer => tokenizer(seen),
        Check::ResponseShape => response_shape(seen),
    }
}

fn waiting(reason: &str, message: impl Into<String>) -> CheckOutcome {
    CheckOutcome::Waiting(Refusal { reason: reason.into(), message: message.into() })
}

fn failed(reason: &str, message: impl Into<String>) -> CheckOutcome {
    CheckOutcome::Failed(Refusal { reason: reason.into(), message: message.into() })
}

fn endpoints_ready(seen: &Seen, settings: &RolloutSettings) -> CheckOutcome {
    let all = seen.candidate.len();
    let ready = seen.candidate.iter().filter(|look| look.not_ready.is_none()).count();
    let asked =
        (all as u64).saturating_mul(u64::from(settings.preflight.endpoints_ready_ppm)).div_ceil(1_000_000).max(1);
    if ready as u64 >= asked {
        return CheckOutcome::Passed;
    }
    let why = seen.candidate.iter().find_map(|look| Some(format!("{}: {}", look.address, look.not_ready.as_ref()?)));
    let why = why.unwrap_or_else(|| "the pool has no endpoint".to_owned());
    let name = settings.candidate.name();
    waiting(
        "EndpointsNotReady",
        format!("{ready} of {all} endpoints of {name} are ready, {asked} are asked for; {why}"),
    )
}

/// An endpoint that has not answered, as a reason to wait.
fn silent(looks: &[Look], side: &str) -> Option<CheckOutcome> {
    if looks.is_empty() {
        return Some(waiting("EndpointsNotReady", format!("{side} has no endpoint")));
    }
    let silent = looks.iter().find(|look| look.cards.is_empty())?;
    let why = silent.not_ready.as_deref().unwrap_or("it lists no model");
    Some(waiting("EndpointsNotReady", format!("{}: {why}", silent.address)))
}

fn bases(look: &Look) -> BTreeSet<&str> {
    look.cards.iter().filter(|card| card.parent.is_none()).map(|card| card.id.as_str()).collect()
}

fn card<'a>(look: &'a Look, name: &str) -> Option<&'a Card> {
    look.cards.iter().find(|card| card.id == name)
}

/// What stable's endpoints that answered all list.
fn stable_bases(seen: &Seen) -> BTreeSet<&str> {
    seen.stable.iter().flat_map(bases).collect()
}

fn same_models(seen: &Seen) -> CheckOutcome {
    if let Some(outcome) = silent(&seen.candidate, "the candidate").or_else(|| silent(&seen.stable, "stable")) {
        return outcome;
    }
    let asked = stable_bases(seen);
    for look in &seen.candidate {
        let found = bases(look);
        let missing: Vec<&str> = asked.difference(&found).copied().collect();
        if !missing.is_empty() {
            let found: Vec<&str> = found.into_iter().collect();
            return failed(
                "ModelsDiffer",
                format!(
                    "{} serves {}, and not {}, which stable serves; start it with the same --served-model-name",
                    look.address,
                    found.join(", "),
                    missing.join(", ")
                ),
            );
        }
    }
    CheckOutcome::Passed
}

fn adapters(seen: &Seen, settings: &RolloutSettings) -> CheckOutcome {
    if let Some(outcome) = silent(&seen.candidate, "the candidate").or_else(|| silent(&seen.stable, "stable")) {
        return outcome;
    }
    let has_traffic =
        |name: &str| seen.stable.iter().any(|look| look.slots.as_ref().is_some_and(|slots| slots.ever.contains(name)));
    let listed = seen.stable.iter().flat_map(|look| &look.cards).filter(|card| card.parent.is_some());
    let asked: BTreeSet<&str> = match settings.preflight.require_adapters {
        AdapterRequirement::None => BTreeSet::new(),
        AdapterRequirement::All => listed.map(|card| card.id.as_str()).collect(),
        AdapterRequirement::Active => listed.map(|card| card.id.as_str()).filter(|name| has_traffic(name)).collect(),
    };
    let is_missing = |name: &&str| seen.candidate.iter().any(|look| card(look, name).is_none());
    let missing: BTreeSet<String> = asked.into_iter().filter(is_missing).map(str::to_owned).collect();
    if missing.is_empty() {
        return CheckOutcome::Passed;
    }
    match settings.preflight.on_missing {
        OnMissing::ExcludeModel => CheckOutcome::PassedWithout { models: missing },
        OnMissing::Fail => {
            let names: Vec<String> = missing.into_iter().collect();
            failed(
                "IncompatibleAdapters",
                format!(
                    "{} had requests and are not on every endpoint of the candidate; load them there, or set preflight.adapters.onMissing: ExcludeModel",
                    names.join(", ")
                ),
            )
        }
    }
}

fn adapter_loaded(seen: &Seen, settings: &RolloutSettings) -> CheckOutcome {
    if let Some(refused) = seen.loads.values().find(|failed| failed.is_final) {
        return failed("AdapterNotLoaded", refused.message.clone());
    }
    if let Some(late) = seen.loads.values().next() {
        return waiting("AdapterNotLoaded", late.message.clone());
    }
    adapter_present(seen, settings)
}

fn adapter_present(seen: &Seen, settings: &RolloutSettings) -> CheckOutcome {
    if let Some(outcome) = silent(&seen.candidate, "the pool") {
        return outcome;
    }
    let name = settings.candidate.name();
    let without: Vec<&str> =
        seen.candidate.iter().filter(|look| card(look, name).is_none()).map(|look| &*look.address).collect();
    if without.is_empty() {
        return CheckOutcome::Passed;
    }
    waiting(
        "AdapterMissing",
        format!("{name} is not listed by {}; load it there, or set candidate.ensureLoaded", without.join(", ")),
    )
}

fn parent_matches(seen: &Seen, settings: &RolloutSettings) -> CheckOutcome {
    let (stable, candidate) = (settings.stable.name(), settings.candidate.name());
    if let Some(outcome) = silent(&seen.candidate, "the pool") {
        return outcome;
    }
    for look in &seen.candidate {
        let Some(found) = card(look, candidate) else {
            return waiting("AdapterMissing", format!("{} does not list {candidate}", look.address));
        };
        let Some(parent) = &found.parent else {
            return failed("BaseMismatch", format!("{}: {candidate} is a base model, not an adapter", look.address));
        };
        let expected = card(look, stable).and_then(|card| card.parent.clone());
        if let Some(expected) = expected.filter(|expected| expected != parent) {
            return failed(
                "BaseMismatch",
                format!("{}: {candidate} belongs to {parent}, and {stable} to {expected}", look.address),
            );
        }
        if !bases(look).contains(parent.as_str()) {
            return failed(
                "BaseMismatch",
                format!("{}: {candidate} belongs to {parent}, which it does not serve", look.address),
            );
        }
    }
    CheckOutcome::Passed
}

fn free_slots(seen: &Seen, settings: &RolloutSettings) -> CheckOutcome {
    let candidate = settings.candidate.name();
    let asked = u64::from(settings.preflight.free_lora_slots);
    for look in &seen.candidate {
        // An engine that had no request of an adapter yet says nothing, and has all its slots.
        let Some(slots) = &look.slots else { continue };
        let others = slots.active.iter().filter(|name| *name != candidate).count() as u64;
        if others.saturating_add(asked) > slots.most {
            let names: Vec<&str> = slots.active.iter().map(String::as_str).collect();
            return waiting(
                "LoraSlotsFull",
                format!(
                    "{}: {} of {} adapter slots are in use ({}), {asked} must be free; raise --max-loras",
                    look.address,
                    others,
                    slots.most,
                    names.join(", ")
                ),
            );
        }
    }
    CheckOutcome::Passed
}

fn probe(seen: &Seen) -> CheckOutcome {
    if let Some(outcome) = silent(&seen.candidate, "the candidate") {
        return outcome;
    }
    for look in &seen.candidate {
        match &look.probe {
            Some(Ok(_)) => {}
            Some(Err(why)) => return waiting("ProbeFailed", format!("{} gave no token: {why}", look.address)),
            None => {
                let why = look.not_ready.as_deref().unwrap_or("the model is not there yet");
                return waiting("ProbeFailed", format!("{}: {why}", look.address));
            }
        }
    }
    CheckOutcome::Passed
}

fn context_length(seen: &Seen, settings: &RolloutSettings) -> CheckOutcome {
    if let Some(outcome) = silent(&seen.candidate, "the candidate").or_else(|| silent(&seen.stable, "stable")) {
        return outcome;
    }
    let lengths = |look: &Look| {
        look.cards.iter().filter(|card| card.parent.is_none()).filter_map(|card| card.max_model_len).min()
    };
    let Some(asked) = seen.stable.iter().filter_map(lengths).max() else { return CheckOutcome::Passed };
    for look in &seen.candidate {
        let Some(found) = lengths(look) else { continue };
        let fits = match settings.preflight.context_length {
            ContextLength::Ignore => true,
            ContextLength::AtLeast => found >= asked,
            ContextLength::Equal => found == asked,
        };
        if !fits {
            return failed(
                "ContextLength",
                format!(
                    "{} takes {found} tokens, stable takes {asked}; start it with --max-model-len {asked}",
                    look.address
                ),
            );
        }
    }
    CheckOutcome::Passed
}

fn tokenizer(seen: &Seen) -> CheckOutcome {
    if let Some(outcome) = silent(&seen.candidate, "the candidate").or_else(|| silent(&seen.stable, "stable")) {
        return outcome;
    }
    // A server without /tokenize says nothing, which is held against nobody.
    let Some(asked) = seen.stable.iter().find_map(|look| look.tokens.as_ref()) else { return CheckOutcome::Passed };
    let other = seen.candidate.iter().find(|look| look.tokens.as_ref().is_some_and(|tokens| tokens != asked));
    match other {
        None => CheckOutcome::Passed,
        Some(look) => failed(
            "TokenizerChanged",
            format!(
                "{} turns the same text into other tokens than stable; expected? set preflight.tokenizerChange: Warn",
                look.address
            ),
        ),
    }
}

fn response_shape(seen: &Seen) -> CheckOutcome {
    let answer = |look: &Look| look.probe.clone().and_then(Result::ok);
    let Some(asked) = seen.stable.iter().find_map(answer) else {
        return waiting("ProbeFailed", "no endpoint of stable gave an answer to compare with");
    };
    for look in &seen.candidate {
        let Some(found) = answer(look) else {
            return waiting("ProbeFailed", format!("{} gave no answer to compare", look.address));
        };
        if let Some(path) = missing_shape(&asked, &found, String::new()) {
            return failed("ResponseShape", format!("{}: its answer has no {path} as stable's has", look.address));
        }
    }
    CheckOutcome::Passed
}

/// The first field of `asked` that `found` lacks, or has as another type. Null says nothing.
fn missing_shape(asked: &Value, found: &Value, path: String) -> Option<String> {
    match (asked, found) {
        (Value::Object(asked), Value::Object(found)) => {
            asked.iter().filter(|(_, value)| !value.is_null()).find_map(|(key, value)| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match found.get(key) {
                    None => Some(path),
                    Some(found) => missing_shape(value, found, path),
                }
            })
        }
        (Value::Array(asked), Value::Array(found)) => match (asked.first(), found.first()) {
            (Some(asked), Some(found)) => missing_shape(asked, found, format!("{path}[0]")),
            _ => None,
        },
        (Value::Null, _) | (_, Value::Null) => None,
        (asked, found) if std::mem::discriminant(asked) != std::mem::discriminant(found) => Some(path),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
