//! What a roll-out's references lead to, and what the manifests say there.

use std::collections::HashMap;

use gateway_api::experimental::httproutes::{HttpRoute, HttpRouteRules, HttpRouteRulesBackendRefs};
use tidegate_api::inference::{GROUP_ALPHA, GROUP_V1};
use tidegate_api::rollout::{ArmSettings, ModelTargetSettings, RolloutTarget, RouteTarget};
use tidegate_api::{ObjectKey, Resource};

use super::Claim;
use crate::compile::index::{FoundPool, GATEWAY_GROUP, Index, Object};
use crate::overlay::{Objection, PairInManifests, PairPlace};
use crate::snapshot::{ModelRule, ModelTable};

/// What a roll-out's references lead to.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The places that it needs for itself.
    pub(super) claims: Vec<Claim>,
    /// Those places as the manifests have them.
    pub(super) places: Vec<PairPlace>,
    /// The first reference that leads nowhere.
    pub(super) unresolved: Option<Objection>,
    pub(super) stable_pool: Option<ObjectKey>,
    pub(super) candidate_pool: Option<ObjectKey>,
}

impl Found {
    fn object_to(&mut self, reason: &'static str, message: String) {
        self.unresolved.get_or_insert(Objection { reason, message });
    }
}

/// Follows a roll-out's references.
pub(super) fn find(
    index: &Index<'_>,
    tables: &HashMap<ObjectKey, ModelTable>,
    namespace: &str,
    target: &RolloutTarget,
    stable: &ArmSettings,
    candidate: &ArmSettings,
) -> Found {
    let mut found = Found::default();
    match target {
        RolloutTarget::Route(target) => {
            found.stable_pool = arm_pool(index, namespace, stable, "stable", &mut found);
            found.candidate_pool = arm_pool(index, namespace, candidate, "candidate", &mut found);
            route(index, namespace, target, (stable, candidate), &mut found);
        }
        RolloutTarget::Model(target) => model(index, tables, namespace, target, (stable, candidate), &mut found),
    }
    found
}

/// The object of an arm's pool.
pub(in crate::compile) fn pool_of<'a>(index: &Index<'a>, namespace: &str, arm: &ArmSettings) -> Option<Object<'a>> {
    let ArmSettings::Pool { group, name } = arm else { return None };
    match index.pool(namespace, group.as_deref(), name) {
        FoundPool::Named(object, _) | FoundPool::Assumed(object, _, _) => Some(object),
        FoundPool::Missing => None,
    }
}

fn arm_pool(
    index: &Index<'_>,
    namespace: &str,
    arm: &ArmSettings,
    field: &str,
    found: &mut Found,
) -> Option<ObjectKey> {
    let object = pool_of(index, namespace, arm);
    if object.is_none() {
        let message = format!(
            "spec.{field}.poolRef: InferencePool {namespace}/{} is not described; describe it, or name another",
            arm.name()
        );
        found.object_to("PoolNotFound", message);
    }
    object.map(|object| object.key.clone())
}

fn route(
    index: &Index<'_>,
    namespace: &str,
    target: &RouteTarget,
    (stable, candidate): (&ArmSettings, &ArmSettings),
    found: &mut Found,
) {
    let object = index.get(GATEWAY_GROUP, "HTTPRoute", namespace, &target.name);
    let Some((object, Resource::HttpRoute(route))) = object.map(|object| (object, object.resource)) else {
        let message = format!(
            "spec.target.routeRef: HTTPRoute {namespace}/{} is not described; describe it, or name another",
            target.name
        );
        found.object_to("RouteNotFound", message);
        return;
    };
    let mut rules = named(route, target.rule.as_deref()).peekable();
    if rules.peek().is_none() {
        let message = match &target.rule {
            Some(rule) => format!("spec.target.rule: {} has no rule named {rule:?}", object.key),
            None => format!("spec.target.routeRef: {} has no rules", object.key),
        };
        found.object_to("RuleNotFound", message);
        return;
    }
    let own = &object.key.namespace;
    let weights = |rule: &HttpRouteRules| PairInManifests {
        stable: weight(index, own, rule, stable),
        candidate: weight(index, own, rule, candidate),
    };
    let all: Vec<(usize, PairInManifests)> = rules.map(|(number, rule)| (number, weights(rule))).collect();
    // Rules that name stable; once none does (the manifests say the same as a promotion), those with the candidate.
    // A rule that leads to the candidate alone beside them is left as it is: testers are sent there by it.
    let with_stable = all.iter().any(|(_, weights)| weights.stable.is_some());
    for (number, weights) in all {
        let covered = if with_stable { weights.stable.is_some() } else { weights.candidate.is_some() };
        if covered {
            found.claims.push(Claim::Rule(object.key.clone(), number));
            found.places.push(PairPlace { object: object.key.clone(), rule: number, weights });
        }
    }
    if found.claims.is_empty() {
        let message = format!(
            "spec.stable.poolRef: {}{} has no backendRef to InferencePool {namespace}/{}; write one, or name the pool that serves there",
            object.key,
            target.rule.as_ref().map(|rule| format!(", rule {rule:?},")).unwrap_or_default(),
            stable.name()
        );
        found.object_to("StableNotInRoute", message);
    }
}

/// The rules of a route with their numbers: all, or the one of that name.
fn named<'r>(route: &'r HttpRoute, name: Option<&'r str>) -> impl Iterator<Item = (usize, &'r HttpRouteRules)> {
    let rules = route.spec.rules.iter().flatten().enumerate();
    rules.filter(move |(_, rule)| name.is_none_or(|name| rule.name.as_deref() == Some(name)))
}

/// The weight of an arm in a rule; a backend that is listed twice adds up.
fn weight(index: &Index<'_>, own: &str, rule: &HttpRouteRules, arm: &ArmSettings) -> Option<u32> {
    let backends = rule.backend_refs.iter().flatten().filter(|backend| is_arm(index, own, backend, own, arm));
    let weights = backends.map(|backend| backend.weight.map_or(1, |weight| u32::try_from(weight).unwrap_or_default()));
    weights.reduce(u32::saturating_add)
}

/// Whether a backendRef of a route in `own` means an arm's pool of a roll-out in `namespace`. Of a pool that is not
/// described only the name can be compared.
pub(in crate::compile) fn is_arm(
    index: &Index<'_>,
    own: &str,
    backend: &HttpRouteRulesBackendRefs,
    namespace: &str,
    arm: &ArmSettings,
) -> bool {
    let ArmSettings::Pool { group, name } = arm else { return false };
    let group_written = backend.group.as_deref();
    let is_pool = backend.kind.as_deref() == Some("InferencePool")
        && group_written.is_none_or(|group| [GROUP_V1, GROUP_ALPHA].contains(&group));
    if !is_pool || backend.namespace.as_deref().unwrap_or(own) != namespace || backend.name != *name {
        return false;
    }
    let key = |group: Option<&str>| match index.pool(namespace, group, name) {
        FoundPool::Named(object, _) | FoundPool::Assumed(object, _, _) => Some(object.key),
        FoundPool::Missing => None,
    };
    key(group_written) == key(group.as_deref())
}

fn model(
    index: &Index<'_>,
    tables: &HashMap<ObjectKey, ModelTable>,
    namespace: &str,
    target: &ModelTargetSettings,
    (stable, candidate): (&ArmSettings, &ArmSettings),
    found: &mut Found,
) {
    let pool = ArmSettings::Pool { group: target.pool.group.clone(), name: target.pool.name.clone() };
    let Some(pool) = pool_of(index, namespace, &pool).map(|object| object.key.clone()) else {
        let message = format!(
            "spec.target.poolRef: InferencePool {namespace}/{} is not described; describe it, or name another",
            target.pool.name
        );
        found.object_to("PoolNotFound", message);
        return;
    };
    (found.stable_pool, found.candidate_pool) = (Some(pool.clone()), Some(pool.clone()));
    let rule = tables.get(&pool).and_then(|table| table.rule(Some(&target.model)));
    let model = &target.model;
    if let Some(named) = &target.rewrite {
        let is_it = |owner: &ObjectKey| Some(owner.kind.as_str()) == named.kind.as_deref() && owner.name == named.name;
        if !rule.is_some_and(|rule| is_it(&rule.owner)) {
            let message = format!(
                "spec.target.rewriteRef: {} {namespace}/{} does not map {model:?} in {pool}{}",
                named.kind.as_deref().unwrap_or_default(),
                named.name,
                rule.map(|rule| format!("; {} does", rule.owner)).unwrap_or_default()
            );
            found.object_to("ModelNotMapped", message);
            return;
        }
    }
    let weights = match rule {
        Some(rule) => PairInManifests {
            stable: target_weight(rule, stable.name()),
            candidate: target_weight(rule, candidate.name()),
        },
        // Clients ask for the adapter by its own name, and nothing stands in front of it.
        None if model == stable.name() => PairInManifests { stable: Some(1), candidate: None },
        None => {
            let message = format!(
                "spec.target.model: nothing maps {model:?} in {pool}; describe an InferenceModelRewrite that leads it to {}, or write the name that clients ask for",
                stable.name()
            );
            found.object_to("ModelNotMapped", message);
            return;
        }
    };
    if let (Some(rule), None, None) = (rule, weights.stable, weights.candidate) {
        let message = format!(
            "spec.stable.model: {} does not lead {model:?} to {:?}; name one of its targets",
            rule.owner,
            stable.name()
        );
        found.object_to("StableNotATarget", message);
        return;
    }
    let object = rule.map_or_else(|| pool.clone(), |rule| (*rule.owner).clone());
    found.places.push(PairPlace { object, rule: 0, weights });
    found.claims.push(Claim::Model(pool, model.clone()));
}

fn target_weight(rule: &ModelRule, name: &str) -> Option<u32> {
    rule.targets.iter().filter(|target| &*target.model == name).map(|target| target.weight).reduce(u32::saturating_add)
}
