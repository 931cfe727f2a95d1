//! Given away: which arms are known not to serve a name, said on their route.
//!
//! The data plane moves such an arm's share request by request; this says so to whoever reads the HTTPRoute's status.
//! Reads the snapshot and what pools are known to list; must not decide where a request goes.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_api::{Condition, ConditionStatus, ObjectKey, ObjectStatus};

use crate::Snapshot;
use crate::snapshot::{Arm, ArmTarget, Pool, Rule};

/// Names and arms that one message spells out; the rest is counted.
const SPELT_OUT: usize = 8;

/// What a pool's endpoints list together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// Whether every endpoint has answered; false for a pool without endpoints, because unknown is not absent.
    pub all_answered: bool,
    /// Every name that any endpoint lists.
    pub names: BTreeSet<String>,
}

/// The condition of each route that has an arm known not to serve a name that another arm of its rule serves. `listed`
/// stands in the order of [`Snapshot::pools`].
pub fn given_away(snapshot: &Snapshot, listed: &[Listed]) -> BTreeMap<ObjectKey, Condition> {
    // A route on several listeners has the same rules on each.
    let mut lines: BTreeMap<ObjectKey, BTreeSet<String>> = BTreeMap::new();
    let listeners = snapshot.sockets.iter().flat_map(|socket| &socket.listeners);
    for rule in listeners.flat_map(|listener| listener.router.rules()) {
        for line in of_rule(snapshot, rule, listed) {
            lines.entry((*rule.route).clone()).or_default().insert(line);
        }
    }
    lines
        .into_iter()
        .map(|(route, lines)| {
            let mut message = lines.iter().take(SPELT_OUT).map(String::as_str).collect::<Vec<_>>().join("; ");
            if let Some(more @ 1..) = lines.len().checked_sub(SPELT_OUT) {
                message.push_str(&format!("; and {more} more"));
            }
            (route, Condition::new("tidegate.dev/ModelAware", ConditionStatus::True, "ShareGivenAway", message))
        })
        .collect()
}

/// Puts the conditions of [`given_away`] on their routes.
pub fn say_given_away(statuses: &mut BTreeMap<ObjectKey, ObjectStatus>, conditions: &BTreeMap<ObjectKey, Condition>) {
    for (route, condition) in conditions {
        let Some(status) = statuses.get_mut(route) else { continue };
        let said = status.conditions.iter().chain(status.parents.iter().flat_map(|parent| &parent.conditions));
        let observed_generation = said.map(|one| one.observed_generation).next().unwrap_or_default();
        status.conditions.push(Condition { observed_generation, ..condition.clone() });
    }
}

fn of_rule(snapshot: &Snapshot, rule: &Rule, listed: &[Listed]) -> Vec<String> {
    if !rule.model_aware || rule.arms.len() < 2 {
        return Vec::new();
    }
    // The data plane looks at no more than 32 arms; what takes no requests has no share to give.
    let drawn = rule.arms.iter().enumerate().take(32).filter(|(position, _)| rule.has_share(*position));
    let arms: Vec<(&Arm, &Pool, &Listed)> = drawn
        .filter_map(|(_, arm)| match arm.target {
            ArmTarget::Pool(index) => Some((arm, &**snapshot.pools.get(index.0)?, listed.get(index.0)?)),
            ArmTarget::Invalid(_) => None,
        })
        .collect();
    let mut lines = Vec::new();
    for name in names(&arms) {
        let serves = |pool: &Pool, listed: &Listed| {
            if pool.models.rule(Some(name)).is_some() || listed.names.contains(name) {
                return Some(true);
            }
            listed.all_answered.then_some(false)
        };
        let takes = |arm: &Arm, pool: &Pool| !(arm.redistribute_when_empty && pool.endpoints.is_empty());
        if !arms.iter().any(|(arm, pool, listed)| takes(arm, pool) && serves(pool, listed) == Some(true)) {
            continue;
        }
        for (arm, _, _) in arms.iter().filter(|(_, pool, listed)| serves(pool, listed) == Some(false)) {
            lines.push(format!(
                "rule {}: arm {} does not serve {name:?} and gives its share of it to the arms that do",
                rule.index, arm.label
            ));
        }
    }
    lines
}

/// Names that clients may ask the arms for: those that are mapped, and those listed that are nobody's target. A target
/// is asked for by way of the name in front of it, so its absence elsewhere is no news.
fn names<'a>(arms: &[(&'a Arm, &'a Pool, &'a Listed)]) -> BTreeSet<&'a str> {
    let rules = || arms.iter().flat_map(|(_, pool, _)| pool.models.exact.values().chain(&pool.models.generic));
    let targets: BTreeSet<&str> = rules().flat_map(|rule| &rule.targets).map(|target| &*target.model).collect();
    let mapped = arms.iter().flat_map(|(_, pool, _)| pool.models.exact.keys().map(String::as_str));
    let listed = arms.iter().flat_map(|(_, _, listed)| listed.names.iter().map(String::as_str));
    mapped.chain(listed.filter(|name| !targets.contains(name))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};
    use tidegate_api::inference::{GROUP_ALPHA, GROUP_V1};
    use tidegate_api::{Document, ObjectKey};

    use super::{Listed, given_away, say_given_away};
    use crate::testing::document;
    use crate::{Compiled, Environment, Intake, compile};

    fn compiled(weights: [u32; 2], annotations: Value) -> Compiled {
        let backend = |name: &str, weight: u32| json!({"group": GROUP_V1, "kind": "InferencePool", "name": name, "weight": weight});
        let pool = |name: &str| {
            json!({"apiVersion": format!("{GROUP_V1}/v1"), "kind": "InferencePool", "metadata": {"name": name},
                   "spec": {"selector": {"matchLabels": {"pool": name}}, "targetPorts": [{"number": 8000}]}})
        };
        let values = [
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gateway"},
                   "spec": {"gatewayClassName": "any", "listeners": [
                       {"name": "one", "protocol": "HTTP", "port": 8080}, {"name": "two", "protocol": "HTTP", "port": 8081}]}}),
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                   "metadata": {"name": "route", "annotations": annotations, "generation": 3},
                   "spec": {"parentRefs": [{"name": "gateway"}],
                            "rules": [{"backendRefs": [backend("a", weights[0]), backend("b", weights[1])]}]}}),
            pool("a"),
            pool("b"),
            json!({"apiVersion": format!("{GROUP_ALPHA}/v1alpha2"), "kind": "InferenceModel", "metadata": {"name": "lora"},
                   "spec": {"modelName": "travelhelper", "poolRef": {"name": "a", "group": GROUP_V1},
                            "targetModels": [{"name": "v1", "weight": 1}]}}),
        ];
        let documents: Vec<Arc<Document>> =
            values.into_iter().enumerate().map(|(index, value)| document(&format!("{index}.yaml"), value)).collect();
        compile(&Intake::default().admit(&documents), &Environment::default())
    }

    fn listed(all_answered: bool, names: &[&str]) -> Listed {
        Listed { all_answered, names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// What is said of the route, with each pool's lists in the order of the arms.
    fn said(compiled: &Compiled, a: &Listed, b: &Listed) -> Option<String> {
        let pools = compiled.snapshot.pools.iter();
        let lists: Vec<Listed> = pools.map(|pool| if &*pool.key.name == "a" { a.clone() } else { b.clone() }).collect();
        let mut found = given_away(&compiled.snapshot, &lists);
        found
            .remove(&ObjectKey::new("gateway.networking.k8s.io", "HTTPRoute", "default", "route"))
            .map(|one| one.message)
    }

    #[test]
    fn an_arm_that_is_known_not_to_serve_a_name_is_named_once() {
        let compiled = compiled([90, 10], json!({}));
        let message = said(&compiled, &listed(true, &["base", "v1"]), &listed(true, &["base"])).expect("a condition");
        assert_eq!(
            message,
            "rule 0: arm default/b does not serve \"travelhelper\" and gives its share of it to the arms that do"
        );
        // A name that is only listed counts as well.
        let message = said(&compiled, &listed(true, &["v1"]), &listed(true, &["other", "travelhelper"]));
        assert!(message.is_some_and(|message| message.contains("default/a does not serve \"other\"")));
    }

    #[test]
    fn unknown_is_not_absent_and_nobody_gives_to_nobody() {
        let weighted = compiled([90, 10], json!({}));
        assert_eq!(said(&weighted, &listed(true, &["v1"]), &listed(false, &[])), None);
        assert_eq!(said(&weighted, &listed(true, &["v1"]), &listed(true, &["travelhelper"])), None);
        let off = json!({"tidegate.dev/model-aware": "false"});
        assert_eq!(said(&compiled([90, 10], off), &listed(true, &["v1"]), &listed(true, &[])), None);
        assert_eq!(said(&compiled([90, 0], json!({})), &listed(true, &["v1"]), &listed(true, &[])), None);
        assert_eq!(said(&compiled([0, 10], json!({})), &listed(true, &["v1"]), &listed(true, &[])), None);
    }

    #[test]
    fn the_condition_stands_on_the_route_with_its_generation() {
        let Compiled { snapshot, mut statuses, .. } = compiled([90, 10], json!({}));
        let lists = vec![listed(true, &[]); snapshot.pools.len()];
        say_given_away(&mut statuses, &given_away(&snapshot, &lists));
        let status = &statuses[&ObjectKey::new("gateway.networking.k8s.io", "HTTPRoute", "default", "route")];
        let condition = status.conditions.iter().find(|one| one.kind == "tidegate.dev/ModelAware").expect("it is said");
        assert_eq!((condition.reason.as_str(), condition.observed_generation), ("ShareGivenAway", 3));
    }
}
