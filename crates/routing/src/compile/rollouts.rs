//! Roll-outs: which rules and models each one has, who gives way to whom, and what is said about it.
//!
//! Runs before rules are made. Laying the pair over a rule's arms is the rule's matter (`rules::pairs`), over a model's
//! targets [`models`]'s; weights are never invented here, they come from the overlays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tidegate_api::rollout::{ArmSettings, RolloutSettings, RolloutTarget};
use tidegate_api::{Condition, ConditionStatus, ObjectKey, Resource};

use super::index::{Index, Object};
use super::pools::Pools;
use super::statuses::{Statuses, accepted, refused};
use crate::overlay::{FactsByRollout, Objection, Overlay, RolloutFacts, Rollouts};
use crate::snapshot::ModelTable;

mod models;
mod targets;

use targets::Found;
pub(super) use targets::{is_arm, pool_of};

/// Condition on a route, InferenceModel or InferenceModelRewrite whose weights a roll-out decides.
const CONDITION: &str = "tidegate.dev/RolloutOverlay";

/// A place that only one roll-out may have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Claim {
    /// A rule of an HTTPRoute.
    Rule(ObjectKey, usize),
    /// A model's name in a pool.
    Model(ObjectKey, String),
}

/// One roll-out: as it is active, or as its document describes it.
struct Subject<'a> {
    rollout: ObjectKey,
    overlay: Option<&'a Overlay>,
    described: Option<(Object<'a>, RolloutSettings)>,
}

impl Subject<'_> {
    /// What is in force of it: the overlay's, or else the document's.
    fn parts(&self) -> Option<(&RolloutTarget, &ArmSettings, &ArmSettings)> {
        match (self.overlay, &self.described) {
            (Some(overlay), _) => Some((&overlay.target, &overlay.stable, &overlay.candidate)),
            (None, Some((_, settings))) => Some((&settings.target, &settings.stable, &settings.candidate)),
            (None, None) => None,
        }
    }

    /// Active ones first, then the oldest, then by name.
    fn rank(&self) -> (bool, Option<String>, String) {
        let created = self.described.as_ref().and_then(|(object, _)| object.metadata.created.clone());
        (self.overlay.is_none(), created, self.rollout.namespaced_name())
    }
}

/// The roll-outs, and who has what.
#[derive(Debug, Default)]
pub(super) struct Plans<'a> {
    active: HashMap<Claim, &'a Overlay>,
    /// Pools of stable and candidate, by roll-out.
    pools: BTreeMap<ObjectKey, (Option<ObjectKey>, Option<ObjectKey>)>,
    facts: FactsByRollout,
}

impl<'a> Plans<'a> {
    /// Finds what every roll-out means, and gives each place to one of them.
    pub(super) fn new(index: &Index<'a>, rollouts: &'a Rollouts, tables: &HashMap<ObjectKey, ModelTable>) -> Self {
        let mut plans = Self::default();
        let mut subjects = subjects(index, rollouts);
        subjects.sort_by_cached_key(Subject::rank);
        let mut taken: HashMap<Claim, ObjectKey> = HashMap::new();
        for subject in subjects {
            let Some((target, stable, candidate)) = subject.parts() else { continue };
            let namespace = subject.rollout.namespace.as_str();
            let found = targets::find(index, tables, namespace, target, stable, candidate);
            let conflict = found.claims.iter().find_map(|claim| Some(conflict(claim, taken.get(claim)?)));
            if conflict.is_none() {
                for claim in &found.claims {
                    taken.insert(claim.clone(), subject.rollout.clone());
                    if let Some(overlay) = subject.overlay {
                        plans.active.insert(claim.clone(), overlay);
                    }
                }
            }
            plans.put(index, tables, &subject, found, conflict);
        }
        plans
    }

    fn put(
        &mut self,
        index: &Index<'a>,
        tables: &HashMap<ObjectKey, ModelTable>,
        subject: &Subject<'a>,
        found: Found,
        conflict: Option<Objection>,
    ) {
        // The document may have gone on to another candidate than the one that is active.
        let unresolved = match (&subject.described, subject.overlay) {
            (Some((_, now)), Some(_)) if !is_the_same(subject, now) => {
                let namespace = &subject.rollout.namespace;
                targets::find(index, tables, namespace, &now.target, &now.stable, &now.candidate).unresolved
            }
            _ => found.unresolved,
        };
        let in_manifests = found.places.iter().fold(Default::default(), |sum, place| place.weights.plus(sum));
        let facts =
            RolloutFacts { conflict, unresolved, in_manifests, places: found.places, ..RolloutFacts::default() };
        self.pools.insert(subject.rollout.clone(), (found.stable_pool, found.candidate_pool));
        self.facts.insert(subject.rollout.clone(), facts);
    }

    /// The overlay that decides in a rule of a route.
    pub(super) fn of_rule(&self, route: &ObjectKey, rule: usize) -> Option<&'a Overlay> {
        // Most tables have no roll-outs.
        if self.active.is_empty() {
            return None;
        }
        self.active.get(&Claim::Rule(route.clone(), rule)).copied()
    }

    /// What is to be said on a route about the overlays in its rules.
    pub(super) fn condition_of_route(&self, route: &ObjectKey) -> Option<Condition> {
        let rules: BTreeMap<usize, &Overlay> = self
            .active
            .iter()
            .filter_map(|(claim, overlay)| match claim {
                Claim::Rule(of, rule) if of == route => Some((*rule, *overlay)),
                _ => None,
            })
            .collect();
        let different: HashSet<&ObjectKey> = rules.values().map(|overlay| &overlay.rollout).collect();
        let message = match rules.values().next() {
            None => return None,
            Some(overlay) if different.len() == 1 => says(overlay),
            Some(_) => {
                let lines: Vec<String> =
                    rules.iter().map(|(rule, overlay)| format!("rule {rule}: {}", says(overlay))).collect();
                lines.join("; ")
            }
        };
        Some(laid_over(message))
    }

    /// Lays the active pairs over the tables of models.
    pub(super) fn lay_over_models(&self, tables: &mut HashMap<ObjectKey, ModelTable>, statuses: &mut Statuses) {
        let mut lines: BTreeMap<ObjectKey, BTreeSet<String>> = BTreeMap::new();
        for (claim, overlay) in &self.active {
            let Claim::Model(pool, model) = claim else { continue };
            if let Some(owner) = models::lay_over(tables, pool, model, overlay) {
                lines.entry(owner).or_default().insert(says(overlay));
            }
        }
        for (owner, lines) in lines {
            let message = lines.into_iter().collect::<Vec<_>>().join("; ");
            statuses.condition(&owner, laid_over(message));
        }
    }

    /// Says on each roll-out what became of it, and gives the facts. The pools of active ones are put into the table
    /// although no rule may name them.
    pub(super) fn finish(
        mut self,
        index: &'a Index<'a>,
        pools: &mut Pools<'a>,
        statuses: &mut Statuses,
    ) -> FactsByRollout {
        let active: HashSet<&ObjectKey> = self.active.values().map(|overlay| &overlay.rollout).collect();
        for (rollout, (stable, candidate)) in &self.pools {
            let Some(facts) = self.facts.get_mut(rollout) else { continue };
            let is_active = active.contains(rollout);
            let mut position = |pool: &Option<ObjectKey>| {
                let pool = pool.as_ref()?;
                let object = index.get(&pool.group, &pool.kind, &pool.namespace, &pool.name)?;
                match object.resource {
                    Resource::InferencePool(pool) if is_active => Some(pools.inference(&object, pool)),
                    _ => pools.position(pool),
                }
            };
            facts.stable_pool = position(stable);
            facts.candidate_pool = position(candidate);
            statuses.condition(
                rollout,
                match &facts.conflict {
                    None => accepted("Accepted", "in force"),
                    Some(conflict) => refused(conflict.reason, conflict.message.clone()),
                },
            );
            statuses.condition(rollout, super::statuses::resolved_refs(facts.unresolved.as_ref().map(reason).as_ref()));
        }
        self.facts
    }
}

fn reason(objection: &Objection) -> (&'static str, String) {
    (objection.reason, objection.message.clone())
}

fn subjects<'a>(index: &Index<'a>, rollouts: &'a Rollouts) -> Vec<Subject<'a>> {
    let mut subjects: BTreeMap<&ObjectKey, Subject<'a>> = BTreeMap::new();
    for overlay in &rollouts.overlays {
        let rollout = overlay.rollout.clone();
        subjects.entry(&overlay.rollout).or_insert(Subject { rollout, overlay: Some(overlay), described: None });
    }
    for object in index.all() {
        let Resource::InferenceRollout(spec) = object.resource else { continue };
        let described = Some((object, spec.settings()));
        match subjects.get_mut(object.key) {
            Some(subject) => subject.described = described,
            None if rollouts.ended.contains(object.key) => {}
            None => {
                let rollout = object.key.clone();
                subjects.insert(object.key, Subject { rollout, overlay: None, described });
            }
        }
    }
    subjects.into_values().collect()
}

fn is_the_same(subject: &Subject<'_>, now: &RolloutSettings) -> bool {
    subject.parts() == Some((&now.target, &now.stable, &now.candidate))
}

fn conflict(claim: &Claim, owner: &ObjectKey) -> Objection {
    let place = match claim {
        Claim::Rule(route, rule) => format!("rule {rule} of {route}"),
        Claim::Model(pool, model) => format!("{model:?} in {pool}"),
    };
    let message = format!(
        "spec.target: {place} is rolled out by {} already; the one under way goes first, then the oldest: wait until it has ended, or delete it",
        owner.namespaced_name()
    );
    Objection { reason: "Conflict", message }
}

/// `90/10 by serving/llm-to-h200`.
fn says(overlay: &Overlay) -> String {
    format!("{} by {}", overlay.percentages(), overlay.rollout.namespaced_name())
}

fn laid_over(message: String) -> Condition {
    Condition::new(CONDITION, ConditionStatus::True, "WeightsLaidOver", message)
}
