use tidegate_api::ObjectKey;
use tidegate_picker::ModelCard;
use tidegate_routing::snapshot::{Pool, Target};

use super::*;
use crate::testing::{activated, arm, pool, rule};

fn rule_for(targets: &[(&str, u32)]) -> Arc<ModelRule> {
    Arc::new(ModelRule {
        owner: Arc::new(ObjectKey::new("", "InferenceModel", "default", "m")),
        targets: targets.iter().map(|(name, weight)| Target { model: (*name).into(), weight: *weight }).collect(),
        split: Split::new("m", targets),
        pair: None,
        criticality: None,
    })
}

fn one(name: &str, port: u16) -> Pool {
    pool(name, &[std::net::SocketAddr::from(([127, 0, 0, 1], port))])
}

fn lists(active: &Active, pool: usize, names: &[&str]) {
    let card = |name: &&str| ModelCard { id: (*name).into(), parent: None, card: serde_json::Value::Null };
    active.pools[pool].state.endpoints[0].set_models(names.iter().map(card).collect());
    active.pools[pool].state.refresh_models();
}

fn asked_for<'a>(active: &'a Active, rule: &'a Rule, model: &str) -> Result<Assigned<'a>, Refusal> {
    let read = ReadBody { model: Some(model.into()), ..ReadBody::default() };
    assign(active, rule, Asking { headers: &HeaderMap::new(), read: &read })
}

#[test]
fn an_arm_that_is_known_not_to_serve_a_model_is_masked_while_another_serves_it() {
    let active = activated(vec![one("a", 1), one("b", 2), one("c", 3)]);
    let mut rule = rule(vec![arm(0, 1), arm(1, 1), arm(2, 1)]);
    let masks = |rule: &Rule, model| Masks::of(&active, rule, model);
    assert_eq!(masks(&rule, Some("m")), Masks::default(), "nothing is known");
    lists(&active, 1, &["base"]);
    assert_eq!(masks(&rule, Some("m")), Masks::default(), "no arm is known to serve it");
    lists(&active, 0, &["base", "m"]);
    let known = masks(&rule, Some("m"));
    assert_eq!(known, Masks { absent: 0b010, ..Masks::default() }, "unknown is not absent");
    assert_eq!(known.reason(1), Some(RedistributionReason::ModelNotServed));
    assert_eq!((known.reason(0), known.reason(40)), (None, None));
    assert_eq!(masks(&rule, None), Masks::default());
    rule.arms[0].weight = 0;
    assert_eq!(masks(&rule, Some("m")), Masks::default(), "an arm of weight 0 cannot take the share");
    rule.arms[0].weight = 1;
    rule.model_aware = false;
    assert_eq!(masks(&rule, Some("m")), Masks::default());
}

#[test]
fn a_name_in_front_of_a_pool_counts_as_served() {
    let mut named = one("a", 1);
    named.models.exact.insert("travelhelper".into(), rule_for(&[("travel-helper-v1", 1)]));
    let active = activated(vec![named, one("b", 2)]);
    lists(&active, 0, &["base"]);
    lists(&active, 1, &["base"]);
    let masks = Masks::of(&active, &rule(vec![arm(0, 9), arm(1, 1)]), Some("travelhelper"));
    assert_eq!(masks, Masks { absent: 0b10, ..Masks::default() });
}

#[test]
fn an_empty_arm_gives_its_share_away_only_where_asked() {
    let active = activated(vec![pool("a", &[]), one("b", 2)]);
    let mut rule = rule(vec![arm(0, 1), arm(1, 1)]);
    assert_eq!(Masks::of(&active, &rule, None).all(), 0);
    rule.arms[0].redistribute_when_empty = true;
    let masks = Masks::of(&active, &rule, None);
    assert_eq!((masks.all(), masks.reason(0)), (0b01, Some(RedistributionReason::EmptyArm)));
}

#[test]
fn a_model_rule_gives_the_target() {
    let mut named = one("a", 1);
    named.models.exact.insert("alias".into(), rule_for(&[("real", 1)]));
    let active = activated(vec![named]);
    let rule = rule(vec![arm(0, 1)]);
    let assigned = asked_for(&active, &rule, "alias").unwrap();
    assert_eq!(assigned.target.map(|target| &**target), Some("real"));
    let assigned = asked_for(&active, &rule, "unmapped").unwrap();
    assert_eq!(assigned.target, None);
}
