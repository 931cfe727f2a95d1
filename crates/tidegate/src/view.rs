//! The active table for people and programs: `/snapshot`, gauges, and the model names that may be metric labels.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_proxy::Proxy;
use tidegate_proxy::active::{Active, ActivePool};
use tidegate_routing::Listed;
use tidegate_routing::snapshot::{ArmTarget, PoolKind, Rule, SocketProtocol};
use tidegate_signals::PollTarget;
use tidegate_telemetry::metrics::{EndpointGauges, LiveGauges};

/// The active table as JSON.
pub(crate) fn snapshot(active: &Active) -> Value {
    let sockets: Vec<Value> = active
        .snapshot
        .sockets
        .iter()
        .map(|socket| {
            let listeners: Vec<Value> = socket
                .listeners
                .iter()
                .map(|listener| {
                    let rules: Vec<Value> = listener.router.rules().map(|rule| rule_view(active, rule)).collect();
                    json!({"listener": listener.label, "rules": rules})
                })
                .collect();
            let protocol = match socket.protocol {
                SocketProtocol::Http => "HTTP",
                SocketProtocol::Https => "HTTPS",
            };
            json!({"address": socket.address.to_string(), "protocol": protocol, "listeners": listeners})
        })
        .collect();
    let pools: Vec<Value> = active.pools.iter().map(|pool| pool_view(pool)).collect();
    json!({"generation": active.snapshot.generation, "sockets": sockets, "pools": pools})
}

fn rule_view(active: &Active, rule: &Rule) -> Value {
    let arms: Vec<Value> = rule
        .arms
        .iter()
        .map(|arm| {
            let target = match &arm.target {
                ArmTarget::Pool(index) => {
                    let pool = active.snapshot.pools.get(index.0);
                    json!({"pool": pool.map(|pool| pool.label.clone()), "kind": pool.map(|pool| pool.key.kind.clone())})
                }
                ArmTarget::Invalid(why) => json!({"invalid": why}),
            };
            json!({"arm": arm.label, "weight": arm.weight, "target": target})
        })
        .collect();
    json!({"route": rule.route_label, "rule": rule.index, "name": rule.name, "arms": arms})
}

fn pool_view(active: &ActivePool) -> Value {
    let endpoints: Vec<Value> = active
        .pool
        .endpoints
        .iter()
        .zip(&active.state.endpoints)
        .map(|(endpoint, state)| {
            let models = state.models().map(|list| list.iter().map(|card| card.id.clone()).collect::<Vec<_>>());
            json!({
                "name": endpoint.name,
                "address": endpoint.address,
                "inFlight": state.in_flight(),
                "picked": state.picked(),
                "ejected": state.ejected(),
                "models": models,
                "metrics": state.metrics().as_deref(),
            })
        })
        .collect();
    let mut models: Vec<Value> = active
        .pool
        .models
        .exact
        .iter()
        .map(|(name, rule)| {
            let targets: Vec<Value> =
                rule.targets.iter().map(|target| json!({"model": target.model, "weight": target.weight})).collect();
            json!({"model": name, "owner": rule.owner.to_string(), "targets": targets})
        })
        .collect();
    models.sort_by(|one, other| one["model"].as_str().cmp(&other["model"].as_str()));
    json!({
        "pool": active.pool.label,
        "kind": format!("{:?}", active.pool.kind),
        "endpoints": endpoints,
        "models": models,
    })
}

/// Gauges for a scrape.
pub(crate) fn gauges(proxy: &Proxy) -> LiveGauges {
    let active = proxy.active();
    let endpoints = active
        .pools
        .iter()
        .flat_map(|pool| {
            pool.state.endpoints.iter().map(|state| EndpointGauges {
                pool: pool.pool.label.clone(),
                endpoint: state.address.clone(),
                in_flight: u64::from(state.in_flight()),
                ejected: state.ejected(),
                models: state.models().map(|models| models.len() as u64),
            })
        })
        .collect();
    LiveGauges { connections: Some(proxy.connections() as u64), endpoints }
}

/// Every model name that the snapshot or a model server knows, the configuration's first: they get the places that
/// metric labels have.
pub(crate) fn model_names(active: &Active) -> Vec<String> {
    let mut names = Vec::new();
    for pool in &active.pools {
        let generic = pool.pool.models.generic.iter().flat_map(|rule| &rule.targets);
        names.extend(generic.map(|target| target.model.to_string()));
        for (name, rule) in &pool.pool.models.exact {
            names.push(name.clone());
            names.extend(rule.targets.iter().map(|target| target.model.to_string()));
        }
    }
    names.extend(active.pools.iter().flat_map(|pool| pool.state.models().names.iter().cloned().collect::<Vec<_>>()));
    names
}

/// What each pool's endpoints list, in the snapshot's order.
pub(crate) fn listed(active: &Active) -> Vec<Listed> {
    let models = active.pools.iter().map(|pool| pool.state.models());
    models.map(|models| Listed { all_answered: models.all_answered, names: models.names.clone() }).collect()
}

/// The endpoints to ask for models and gauges: those of inference pools.
pub(crate) fn poll_targets(active: &Active) -> Vec<PollTarget> {
    let inference = active.pools.iter().filter(|pool| pool.pool.kind == PoolKind::Inference);
    inference
        .flat_map(|pool| {
            pool.pool.endpoints.iter().zip(&pool.state.endpoints).map(|(endpoint, state)| PollTarget {
                state: state.clone(),
                pool: Arc::downgrade(&pool.state),
                metrics_path: endpoint.metrics_path.clone(),
            })
        })
        .collect()
}
