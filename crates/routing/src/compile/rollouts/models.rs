//! A roll-out's pair among the targets of a model's name.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_api::ObjectKey;

use crate::Pair;
use crate::compile::models::split;
use crate::overlay::Overlay;
use crate::snapshot::{ModelRule, ModelTable, Target};

/// Puts the pair into the rule for `model`, and a rule where none stood in front of the name. Gives the object that
/// maps the name, where one does.
pub(super) fn lay_over(
    tables: &mut HashMap<ObjectKey, ModelTable>,
    pool: &ObjectKey,
    model: &str,
    overlay: &Overlay,
) -> Option<ObjectKey> {
    let table = tables.entry(pool.clone()).or_default();
    // What every other name follows still does; only this one gets a rule of its own. It keeps the name under which
    // its sessions are drawn, so that none moves.
    let drawn_as = if table.exact.contains_key(model) { model } else { "" };
    let below = table.rule(Some(model)).cloned();
    let stable: Arc<str> = overlay.stable.name().into();
    let candidate: Arc<str> = overlay.candidate.name().into();
    let mut targets = match &below {
        Some(rule) => rule.targets.clone(),
        None => vec![Target { model: stable.clone(), weight: 1 }],
    };
    let mut position = |name: &Arc<str>| {
        targets.iter().position(|target| target.model == *name).unwrap_or_else(|| {
            targets.push(Target { model: name.clone(), weight: 0 });
            targets.len() - 1
        })
    };
    let (old, new) = (position(&stable), position(&candidate));
    let is_member = |target: &Target| target.model == stable || target.model == candidate;
    let members = targets.iter().enumerate().filter(|(_, target)| is_member(target)).map(|(at, _)| at).collect();
    let rule = ModelRule {
        owner: below.as_ref().map_or_else(|| Arc::new(overlay.rollout.clone()), |rule| rule.owner.clone()),
        split: split(pool, drawn_as, &targets),
        pair: Some(Arc::new(Pair::new(overlay, old, new, members))),
        targets,
        criticality: below.as_ref().and_then(|rule| rule.criticality),
    };
    table.exact.insert(model.to_owned(), Arc::new(rule));
    below.map(|rule| (*rule.owner).clone())
}
