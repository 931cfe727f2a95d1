//! `GET /v1/models`: what a route's pools serve together, and the names that stand in front of them.
//!
//! Answered from what the endpoints told, without asking them again. While none of them has told anything, the request
//! goes through as any other.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Response, request};
use serde_json::{Value, json};
use tidegate_api::ObjectKey;
use tidegate_routing::Router;
use tidegate_routing::snapshot::{ArmTarget, ModelRule, PoolIndex, PoolKind};

use crate::active::{Active, ActivePool};

/// Whether a request asks for the list.
pub(crate) fn is_asked(head: &request::Parts) -> bool {
    matches!(head.method, Method::GET | Method::HEAD) && matches!(head.uri.path(), "/v1/models" | "/v1/models/")
}

/// The list for a route; `None` while no endpoint of its pools has told its models.
pub(crate) fn answer(active: &Active, router: &Router, route: &ObjectKey) -> Option<Response<Bytes>> {
    let pools = pools_of(active, router, route);
    let list = union(&pools)?;
    let mut response = Response::new(Bytes::from(json!({"object": "list", "data": list}).to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(response)
}

/// The inference pools that a route's rules send requests to, in their order.
fn pools_of<'a>(active: &'a Active, router: &Router, route: &ObjectKey) -> Vec<&'a ActivePool> {
    let mut seen: HashSet<PoolIndex> = HashSet::new();
    router
        .rules()
        .filter(|rule| *rule.route == *route)
        .flat_map(|rule| &rule.arms)
        .filter(|arm| arm.weight > 0)
        .filter_map(|arm| match arm.target {
            ArmTarget::Pool(index) => Some(index),
            ArmTarget::Invalid(_) => None,
        })
        .filter(|index| seen.insert(*index))
        .filter_map(|index| active.pools.get(index.0))
        .map(|pool| &**pool)
        .filter(|pool| pool.pool.kind == PoolKind::Inference)
        .collect()
}

/// Every model once: as the first endpoint that lists it describes it, then the names in front.
fn union(pools: &[&ActivePool]) -> Option<Vec<Value>> {
    let lists: Vec<_> =
        pools.iter().flat_map(|pool| &pool.state.endpoints).filter_map(|endpoint| endpoint.models()).collect();
    if lists.is_empty() {
        return None;
    }
    let mut seen: HashSet<String> = HashSet::new();
    let mut cards: Vec<Value> = Vec::new();
    for card in lists.iter().flat_map(|list| list.iter()) {
        if seen.insert(card.id.clone()) {
            cards.push(card.card.clone());
        }
    }
    for pool in pools {
        let mut aliases: Vec<_> = pool.pool.models.exact.iter().collect();
        aliases.sort_by_key(|(name, _)| *name);
        for (name, rule) in aliases {
            if seen.insert(name.clone()) {
                let alias = alias_card(name, rule, &cards);
                cards.push(alias);
            }
        }
    }
    Some(cards)
}

/// A name in front of models, in the shape of a model.
fn alias_card(name: &str, rule: &ModelRule, cards: &[Value]) -> Value {
    let target = rule.targets.first().map(|target| &*target.model);
    let card = cards.iter().find(|card| card.get("id").and_then(Value::as_str) == target);
    let of_target = |field: &str| card.and_then(|card| card.get(field)).cloned();
    json!({
        "id": name,
        "object": "model",
        "created": of_target("created").unwrap_or_else(|| json!(0)),
        "owned_by": "tidegate",
        "root": target,
        "parent": null,
        "max_model_len": of_target("max_model_len"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_picker::ModelCard;
    use tidegate_routing::Split;
    use tidegate_routing::snapshot::Target;

    use super::*;
    use crate::testing::{activated, pool};

    fn card(id: &str) -> ModelCard {
        ModelCard {
            id: id.into(),
            parent: None,
            card: json!({"id": id, "object": "model", "created": 7, "owned_by": "vllm"}),
        }
    }

    #[tokio::test]
    async fn the_list_is_the_union_and_the_names_in_front() {
        let addresses = ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
        let mut first = pool("a", &addresses);
        let alias = |target: &str| {
            Arc::new(ModelRule {
                owner: Arc::new(ObjectKey::new("", "InferenceModel", "default", "x")),
                targets: vec![Target { model: target.into(), weight: 1 }],
                split: Split::new("x", &[(target, 1)]),
                pair: None,
                criticality: None,
            })
        };
        first.models.exact.insert("z-alias".into(), alias("base"));
        first.models.exact.insert("base".into(), alias("adapter"));
        first.models.exact.insert("later".into(), alias("not-loaded"));
        let active = activated(vec![first, pool("b", &addresses[..1])]);
        let pools: Vec<&ActivePool> = active.pools.iter().map(|pool| &**pool).collect();
        assert_eq!(union(&pools), None, "nobody has told anything");
        pools[0].state.endpoints[0].set_models(vec![card("base"), card("adapter")]);
        pools[1].state.endpoints[0].set_models(vec![card("base"), card("other")]);
        let list = union(&pools).unwrap();
        let ids: Vec<&str> = list.iter().filter_map(|card| card["id"].as_str()).collect();
        assert_eq!(ids, ["base", "adapter", "other", "later", "z-alias"]);
        assert_eq!(list[0]["owned_by"], "vllm", "a server's own card is left as it is");
        assert_eq!(list[3]["created"], 0);
        let alias = &list[4];
        assert_eq!(
            (&alias["created"], &alias["owned_by"], &alias["root"]),
            (&json!(7), &json!("tidegate"), &json!("base"))
        );
    }

    #[test]
    fn only_the_list_is_answered() {
        for (method, path, asked) in [
            (Method::GET, "/v1/models", true),
            (Method::HEAD, "/v1/models/", true),
            (Method::GET, "/v1/models?x=y", true),
            (Method::POST, "/v1/models", false),
            (Method::GET, "/v1/models/m", false),
        ] {
            let (head, ()) = http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
            assert_eq!(is_asked(&head), asked, "{path}");
        }
    }
}
