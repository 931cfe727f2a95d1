//! HTTPRoutes: to which listeners they attach, and what is said about it.

use std::collections::HashMap;

use gateway_api::experimental::httproutes::{HttpRoute, HttpRouteParentRefs};
use serde_json::{Map, Value};
use tidegate_api::{Condition, ObjectKey, Resource};

use super::gateways::GatewayDraft;
use super::hostnames;
use super::index::{GATEWAY_GROUP, Index, Object};
use super::policies::Policies;
use super::pools::Pools;
use super::references;
use super::rollouts::Plans;
use super::rules::{self, Place};
use super::statuses::{Statuses, accepted, refused, resolved_refs};
use crate::snapshot::Hostname;

/// Attaches every route to the listeners that take it.
pub(super) fn attach<'a>(
    index: &'a Index<'a>,
    policies: &Policies<'a>,
    gateways: &mut [GatewayDraft<'a>],
    pools: &mut Pools<'a>,
    plans: &Plans<'_>,
    statuses: &mut Statuses,
) {
    let by_key = gateways.iter().enumerate().map(|(position, gateway)| (gateway.key.clone(), position)).collect();
    let stand_in = gateways.iter().position(GatewayDraft::is_stand_in);
    let mut attaching = Attaching { index, policies, gateways, by_key, stand_in, pools, plans };
    for object in index.all() {
        let Resource::HttpRoute(route) = object.resource else { continue };
        for finding in rules::assumed_groups(index, &object, route) {
            statuses.finding(object.admitted, finding);
        }
        let problem = rules::unsupported(route);
        let unresolved = references::unresolved(index, &object, route);
        let laid_over = plans.condition_of_route(object.key);
        for parent in route.spec.parent_refs.iter().flatten() {
            let verdict = match &problem {
                Some(message) => refused("UnsupportedValue", message.clone()),
                None => attach_to(&mut attaching, &object, route, parent),
            };
            let mut conditions = vec![verdict, resolved_refs(unresolved.as_ref())];
            conditions.extend(laid_over.clone());
            statuses.parent(object.key, parent_ref(&object, parent), conditions);
        }
        if route.spec.parent_refs.iter().flatten().next().is_none() {
            let message = "it has no parentRefs, so no Gateway serves it";
            statuses.condition(object.key, refused("NoMatchingParent", message));
        }
    }
}

/// What routes attach to.
struct Attaching<'a, 'm> {
    index: &'a Index<'a>,
    policies: &'m Policies<'a>,
    gateways: &'m mut [GatewayDraft<'a>],
    /// Positions of the Gateways.
    by_key: HashMap<ObjectKey, usize>,
    /// Position of the one that `--listen` stands for.
    stand_in: Option<usize>,
    pools: &'m mut Pools<'a>,
    plans: &'m Plans<'m>,
}

/// Whether one parent accepts a route.
fn attach_to<'a>(
    attaching: &mut Attaching<'a, '_>,
    object: &Object<'a>,
    route: &'a HttpRoute,
    parent: &HttpRouteParentRefs,
) -> Condition {
    let Attaching { index, policies, gateways, by_key, stand_in, pools, plans } = attaching;
    let index: &'a Index<'a> = index;
    let namespace = parent.namespace.as_deref().unwrap_or(&object.key.namespace);
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    let no_parent = |message: String| refused("NoMatchingParent", message);
    if parent.group.as_deref().unwrap_or(GATEWAY_GROUP) != GATEWAY_GROUP || kind != "Gateway" {
        return no_parent(format!("parents of kind {kind} are not served; Gateway is"));
    }
    let described = index.get(GATEWAY_GROUP, "Gateway", namespace, &parent.name).is_some();
    // The Gateway that the route names, also where another serves in its place.
    let key = ObjectKey::new(GATEWAY_GROUP, "Gateway", namespace, &parent.name);
    let position = if described { by_key.get(&key).copied() } else { *stand_in };
    let Some(gateway) = position.and_then(|position| gateways.get_mut(position)) else {
        return no_parent(format!(
            "Gateway {namespace}/{} is not described; describe it, or let `--listen ADDR` stand in for it",
            parent.name
        ));
    };
    let routes: Vec<Hostname> = route.spec.hostnames.iter().flatten().map(|name| hostnames::parse(name)).collect();
    let (mut named, mut allowed, mut attached) = (false, false, false);
    let retry = gateway.retry.clone();
    for listener in &mut gateway.listeners {
        let section = parent.section_name.as_ref().is_none_or(|section| *section == listener.name);
        let port = parent.port.is_none_or(|port| port == i32::from(listener.port));
        if described && !(section && port) {
            continue;
        }
        named = true;
        if let (false, Some(taken)) = (described, listener.obstacle()) {
            return no_parent(format!("`--listen` cannot stand in for Gateway {namespace}/{}: {taken}", parent.name));
        }
        if !listener.allows(index, &key, &object.key.namespace) && described {
            continue;
        }
        allowed = true;
        let Some(names) = hostnames::meet(listener.hostname.as_ref(), &routes) else { continue };
        attached = true;
        // Another parentRef of this route led here before: what it takes and where that leads is the same.
        let again = listener.last_route.replace(object.key) == Some(object.key);
        if !again {
            listener.attached = listener.attached.saturating_add(1);
        }
        if !listener.is_sound() {
            continue;
        }
        let place = Place { gateway: &key, limits: &listener.limits, retry: &retry, plans };
        let compiled = rules::compile(index, policies, pools, object, route, place);
        if again {
            continue;
        }
        listener.entries.extend(compiled.entries.into_iter().map(|entry| (names.clone(), entry)));
        listener.rules.extend(compiled.rules);
    }
    if !attached {
        let gateway = key.namespaced_name();
        let (reason, message) = if !named {
            ("NoMatchingParent", format!("Gateway {gateway} has no listener of that sectionName or port"))
        } else if !allowed {
            (
                "NotAllowedByListeners",
                format!("no listener of Gateway {gateway} takes routes of this namespace and kind"),
            )
        } else {
            ("NoMatchingListenerHostname", format!("no hostname meets one of a listener of Gateway {gateway}"))
        };
        return refused(reason, message);
    }
    match described {
        true => accepted("Accepted", "attached"),
        false => accepted(
            "Accepted",
            format!("attached to `--listen`, which stands in for Gateway {}", key.namespaced_name()),
        ),
    }
}

/// A parentRef as Kubernetes prints it.
fn parent_ref(object: &Object<'_>, parent: &HttpRouteParentRefs) -> Value {
    let mut printed = Map::new();
    printed.insert("group".into(), parent.group.as_deref().unwrap_or(GATEWAY_GROUP).into());
    printed.insert("kind".into(), parent.kind.as_deref().unwrap_or("Gateway").into());
    printed.insert("name".into(), parent.name.clone().into());
    printed.insert("namespace".into(), parent.namespace.as_deref().unwrap_or(&object.key.namespace).into());
    printed.extend(parent.section_name.as_ref().map(|section| ("sectionName".into(), section.clone().into())));
    printed.extend(parent.port.map(|port| ("port".into(), port.into())));
    Value::Object(printed)
}
