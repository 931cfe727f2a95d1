//! Rules of an HTTPRoute on one listener: matches, filters, arms, limits, retries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use gateway_api::experimental::httproutes::{
    HttpRoute, HttpRouteRules, HttpRouteRulesBackendRefs, HttpRouteRulesFilters, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesMatches,
};
use tidegate_api::annotation::{EmptyArm, ResponseModel, RouteAnnotations};
use tidegate_api::{FieldPath, Finding, ObjectKey};

use super::filters::{self, same};
use super::index::{FoundPool, Index, Object};
use super::matches;
use super::models::assumed_group;
use super::policies::{Policies, time_limit};
use super::pools::Pools;
use super::references::{Problem, Reference, Resolved, backend_reference, mirror_reference, resolve};
use super::rollouts::Plans;
use crate::Split;
use crate::route_match::Entry;
use crate::snapshot::{Arm, ArmTarget, Limits, Mirror, PoolIndex, RetryPolicy, Rule};

mod pairs;

/// The listener that rules are compiled for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'p> {
    pub(super) gateway: &'p ObjectKey,
    pub(super) limits: &'p Limits,
    pub(super) retry: &'p RetryPolicy,
    /// Who rolls out what.
    pub(super) plans: &'p Plans<'p>,
}

/// The rules of a route on one listener.
#[derive(Debug, Default)]
pub(super) struct CompiledRules {
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) entries: Vec<Entry>,
}

/// Where a reference leads.
struct Backend {
    pool: PoolIndex,
    /// It is an InferencePool.
    inference: bool,
    /// Annotations of the pool.
    annotations: RouteAnnotations,
}

/// Compiles a route's rules for one listener. Filters and matches that are not supported were found before
/// ([`unsupported`]).
pub(super) fn compile<'a>(
    index: &'a Index<'a>,
    policies: &Policies<'a>,
    pools: &mut Pools<'a>,
    object: &Object<'a>,
    route: &'a HttpRoute,
    place: Place<'_>,
) -> CompiledRules {
    let mut compiled = CompiledRules::default();
    for (number, spec) in route.spec.rules.iter().flatten().enumerate() {
        let mut maker = RuleMaker { index, pools, object, place };
        let limits = policies.rule(object.key, spec.name.as_deref(), place.limits);
        let rule = Arc::new(maker.rule(number, spec, limits));
        compiled.rules.push(rule.clone());
        let everything = [HttpRouteRulesMatches::default()];
        let written = spec.matches.as_deref().filter(|matches| !matches.is_empty()).unwrap_or(&everything);
        for (position, one) in written.iter().enumerate() {
            let Ok(one) = matches::compile(one) else { continue };
            let (created, name) = object.age();
            compiled.entries.push(Entry {
                rule: rule.clone(),
                path: one.path,
                method: one.method,
                headers: one.headers,
                queries: one.queries,
                age: (created, name, number, position),
            });
        }
    }
    compiled
}

/// The first thing in a route that is not supported, with its place.
pub(super) fn unsupported(route: &HttpRoute) -> Option<String> {
    for (number, rule) in route.spec.rules.iter().flatten().enumerate() {
        let place = |field: &str| format!("spec.rules[{number}].{field}");
        if rule.session_persistence.is_some() {
            return Some(format!(
                "{} is not supported; a session follows its x-session-id",
                place("sessionPersistence")
            ));
        }
        for (position, one) in rule.matches.iter().flatten().enumerate() {
            if let Err(error) = matches::compile(one) {
                return Some(format!("{}: {error}", place(&format!("matches[{position}]"))));
            }
        }
        if let Err(error) = filters::compile(rule.filters.as_deref().unwrap_or_default()) {
            return Some(format!("{}: {error}", place("filters")));
        }
        for (position, backend) in rule.backend_refs.iter().flatten().enumerate() {
            if let Err(error) = backend_filters(backend).and_then(|list| filters::compile(&list)) {
                return Some(format!("{}: {error}", place(&format!("backendRefs[{position}].filters"))));
            }
        }
    }
    None
}

pub(super) fn backend_filters(backend: &HttpRouteRulesBackendRefs) -> Result<Vec<HttpRouteRulesFilters>, String> {
    backend.filters.iter().flatten().map(same).collect()
}

/// Findings about InferencePool references without group, with their places.
pub(super) fn assumed_groups(index: &Index<'_>, object: &Object<'_>, route: &HttpRoute) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, rule) in route.spec.rules.iter().flatten().enumerate() {
        for (position, backend) in rule.backend_refs.iter().flatten().enumerate() {
            let namespace = backend.namespace.as_deref().unwrap_or(&object.key.namespace);
            if backend.kind.as_deref() != Some("InferencePool") || backend.group.as_deref() == Some("") {
                continue;
            }
            if let FoundPool::Assumed(_, _, group) = index.pool(namespace, backend.group.as_deref(), &backend.name) {
                let field = FieldPath::root().key("spec").key("rules").index(number);
                let field = field.key("backendRefs").index(position).key("group");
                findings.push(assumed_group(object, field, backend.group.as_deref(), &backend.name, group));
            }
        }
    }
    findings
}

/// Makes one rule after the other.
struct RuleMaker<'m, 'a> {
    index: &'a Index<'a>,
    pools: &'m mut Pools<'a>,
    object: &'m Object<'a>,
    place: Place<'m>,
}

impl RuleMaker<'_, '_> {
    fn rule(&mut self, number: usize, spec: &HttpRouteRules, mut limits: Limits) -> Rule {
        let key = self.object.key;
        // Decoding has said what the annotations get wrong.
        let (annotations, _) = RouteAnnotations::parse(key, &self.object.metadata.annotations);
        let compiled = filters::compile(spec.filters.as_deref().unwrap_or_default()).unwrap_or_default();
        let mut filters = compiled.filters;
        filters.mirrors = self.mirrors(&compiled.mirrors);
        let mut arms: Vec<pairs::Made> =
            spec.backend_refs.iter().flatten().map(|backend| self.arm(backend, &annotations)).collect();
        let pair = self.pair(number, spec, &mut arms).map(Arc::new);
        let inference_arms = || arms.iter().filter(|(_, _, inference)| *inference);
        let model_aware = inference_arms().all(|(_, annotations, _)| annotations.model_aware != Some(false));
        let allow_paths = opened(inference_arms().map(|(_, annotations, _)| annotations));
        let inference = inference_arms().next().is_some();
        let arms: Vec<Arm> = arms.into_iter().map(|(arm, _, _)| arm).collect();
        let timeouts = spec.timeouts.as_ref();
        if let Some(total) = time_limit(timeouts.and_then(|timeouts| timeouts.request.as_ref())) {
            limits.total = total;
        }
        Rule {
            route: Arc::new(key.clone()),
            route_label: key.namespaced_name().into(),
            index: number,
            name: spec.name.clone(),
            filters,
            split: split(&format!("{}/{number}", key.namespaced_name()), &arms, self.pools),
            pair,
            arms,
            limits,
            attempt_timeout: time_limit(timeouts.and_then(|timeouts| timeouts.backend_request.as_ref())).flatten(),
            retry: self.retry(spec),
            inference,
            model_aware,
            allow_paths,
        }
    }

    fn retry(&self, spec: &HttpRouteRules) -> RetryPolicy {
        let mut policy = self.place.retry.clone();
        if let Some(retry) = &spec.retry {
            if let Some(attempts) = retry.attempts.and_then(|attempts| u32::try_from(attempts).ok()) {
                policy.attempts = attempts;
                policy.connection_attempts = attempts;
            }
            let codes = retry.codes.iter().flatten();
            policy.codes = codes.filter_map(|code| u16::try_from(*code).ok()).collect();
            let backoff: Option<Duration> = time_limit(retry.backoff.as_ref()).flatten();
            policy.backoff = backoff;
        }
        policy
    }

    fn arm(&mut self, spec: &HttpRouteRulesBackendRefs, route: &RouteAnnotations) -> pairs::Made {
        let (target, annotations, inference) = match self.backend(backend_reference(spec)) {
            Ok(backend) => (ArmTarget::Pool(backend.pool), backend.annotations.or(route.clone()), backend.inference),
            Err((_, message)) => (ArmTarget::Invalid(message), route.clone(), false),
        };
        let compiled = backend_filters(spec).and_then(|list| filters::compile(&list)).unwrap_or_default();
        let mut filters = compiled.filters;
        filters.mirrors = self.mirrors(&compiled.mirrors);
        let namespace = spec.namespace.as_deref().unwrap_or(&self.object.key.namespace);
        let arm = Arm {
            label: format!("{namespace}/{}", spec.name).into(),
            weight: spec.weight.map_or(1, |weight| u32::try_from(weight).unwrap_or_default()),
            target,
            filters,
            redistribute_when_empty: annotations.empty_arm == Some(EmptyArm::Redistribute),
            answer_requested_model: annotations.response_model == Some(ResponseModel::Requested),
        };
        (arm, annotations, inference)
    }

    /// The pool or Service that a reference means.
    fn backend(&mut self, reference: Reference<'_>) -> Result<Backend, Problem> {
        match resolve(self.index, &self.object.key.namespace, reference)? {
            Resolved::Service(service) => {
                let pool = self.pools.service(&service);
                Ok(Backend { pool, inference: false, annotations: RouteAnnotations::default() })
            }
            Resolved::Pool(object, pool) => {
                self.pools.is_routed(object.key, self.place.gateway);
                let (annotations, _) = RouteAnnotations::parse(object.key, &object.metadata.annotations);
                Ok(Backend { pool: self.pools.inference(&object, pool), inference: true, annotations })
            }
        }
    }

    fn mirrors(&mut self, specs: &[HttpRouteRulesFiltersRequestMirror]) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        for spec in specs {
            // A mirror that leads nowhere is said by `unresolved`, and copies nothing.
            let Ok(backend) = self.backend(mirror_reference(spec)) else { continue };
            let (numerator, denominator) = match (&spec.fraction, spec.percent) {
                (Some(fraction), _) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
                (None, Some(percent)) => (percent, 100),
                (None, None) => (1, 1),
            };
            mirrors.push(Mirror {
                pool: backend.pool,
                numerator: u32::try_from(numerator).unwrap_or_default(),
                denominator: u32::try_from(denominator).unwrap_or(1).max(1),
            });
        }
        mirrors
    }
}

/// Paths that every inference arm opens: a request may go to any of them.
fn opened<'r>(mut arms: impl Iterator<Item = &'r RouteAnnotations>) -> Vec<String> {
    let first = arms.next().and_then(|annotations| annotations.allow_paths.clone()).unwrap_or_default();
    arms.fold(first, |open, annotations| {
        let these = annotations.allow_paths.as_deref().unwrap_or_default();
        open.into_iter().filter(|path| these.contains(path)).collect()
    })
}

/// The split over a rule's arms. Of two arms with one label (a pool of each group, while one is being replaced by the
/// other) the group tells them apart, not their order; the pool of the older group keeps the plain name, so that its
/// sessions stay when the newer one comes.
fn split(seed: &str, arms: &[Arm], pools: &Pools<'_>) -> Split {
    let mut groups: HashMap<&str, &str> = HashMap::new();
    for arm in arms {
        let last = groups.entry(&arm.label).or_default();
        *last = pools.group(&arm.target).max(last);
    }
    let name = |arm: &Arm| match pools.group(&arm.target) {
        group if groups.get(&*arm.label).is_some_and(|last| *last != group) => format!("{}#{group}", arm.label),
        _ => arm.label.to_string(),
    };
    let names: Vec<String> = arms.iter().map(name).collect();
    let weighted: Vec<(&str, u32)> = names.iter().map(String::as_str).zip(arms.iter().map(|arm| arm.weight)).collect();
    Split::new(seed, &weighted)
}
