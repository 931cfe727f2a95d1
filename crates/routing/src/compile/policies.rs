//! Limits: our GatewayParameters, Envoy Gateway's two policies, and how they lie over each other.
//!
//! HTTPRoute timeouts come before a route's BackendTrafficPolicy, that before the Gateway's, that before
//! GatewayParameters (a listener's before the general ones), those before the defaults.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_api::gateway_parameters::{GatewayParametersSpec, ResolvedLimits, TimeLimit};
use tidegate_api::policy::{BackendTrafficPolicySpec, ClientTrafficPolicySpec, HttpTimeout, TargetRef};
use tidegate_api::{ObjectKey, Resource};

use super::index::{GATEWAY_GROUP, Index, Object};
use super::statuses::{Statuses, accepted, refused};
use crate::snapshot::Limits;

/// What a policy is in force on: kind, `namespace/name`, section.
type Target = (String, String, Option<String>);

/// All policies in force, by target.
#[derive(Debug, Default)]
pub(super) struct Policies<'a> {
    client: HashMap<Target, &'a ClientTrafficPolicySpec>,
    backend: HashMap<Target, &'a BackendTrafficPolicySpec>,
}

impl<'a> Policies<'a> {
    /// Finds out which policy is in force where: of two for one target, the older.
    pub(super) fn compile(index: &Index<'a>, statuses: &mut Statuses) -> Self {
        let mut policies = Self::default();
        let mut objects: Vec<Object<'a>> = index.all().collect();
        objects.sort_by_key(Object::age);
        for object in objects {
            let targets: Vec<&TargetRef> = match object.resource {
                Resource::ClientTrafficPolicy(spec) => spec.target_ref.iter().chain(&spec.target_refs).collect(),
                Resource::BackendTrafficPolicy(spec) => spec.target_ref.iter().chain(&spec.target_refs).collect(),
                _ => continue,
            };
            let mut problems = Vec::new();
            for target in &targets {
                let verdict = match policies.put(index, object, target) {
                    Ok(()) => accepted("Accepted", "in force on this target"),
                    Err((reason, message)) => {
                        problems.push((reason, message.clone()));
                        refused(reason, message)
                    }
                };
                statuses.ancestor(object.key, ancestor_ref(object.key, target), vec![verdict]);
            }
            let condition = match problems.len() {
                0 => accepted("Accepted", "in force on its targets"),
                wrong if wrong < targets.len() => {
                    let messages: Vec<String> = problems.into_iter().map(|(_, message)| message).collect();
                    accepted("Accepted", format!("in force on its other targets; {}", messages.join("; ")))
                }
                _ => {
                    let (reason, message) = problems.into_iter().next().unwrap_or_default();
                    refused(reason, message)
                }
            };
            statuses.condition(object.key, condition);
        }
        policies
    }

    fn put(&mut self, index: &Index<'a>, object: Object<'a>, target: &TargetRef) -> Result<(), (&'static str, String)> {
        let namespace = &object.key.namespace;
        let route = target.kind == "HTTPRoute" && matches!(object.resource, Resource::BackendTrafficPolicy(_));
        if target.group != GATEWAY_GROUP || !(target.kind == "Gateway" || route) {
            return Err((
                "Invalid",
                format!("{} cannot be attached to {} {}", object.key.kind, target.kind, target.name),
            ));
        }
        if index.get(GATEWAY_GROUP, &target.kind, namespace, &target.name).is_none() {
            return Err(("TargetNotFound", format!("{} {namespace}/{} is not described", target.kind, target.name)));
        }
        let place = (target.kind.clone(), format!("{namespace}/{}", target.name), target.section_name.clone());
        let taken = match object.resource {
            Resource::ClientTrafficPolicy(spec) => {
                let taken = self.client.contains_key(&place);
                self.client.entry(place).or_insert(spec.as_ref());
                taken
            }
            Resource::BackendTrafficPolicy(spec) => {
                let taken = self.backend.contains_key(&place);
                self.backend.entry(place).or_insert(spec.as_ref());
                taken
            }
            _ => false,
        };
        if taken {
            let message =
                format!("an older {} is in force on {} {namespace}/{}", object.key.kind, target.kind, target.name);
            return Err(("Conflicted", message));
        }
        Ok(())
    }

    /// The limits of one listener.
    pub(super) fn listener(
        &self,
        gateway: &ObjectKey,
        listener: &str,
        parameters: Option<&GatewayParametersSpec>,
    ) -> Limits {
        let mut limits = Limits::default();
        if let Some(parameters) = parameters {
            lay_parameters(&mut limits, &parameters.limits_of(listener));
        }
        let name = gateway.namespaced_name();
        for section in [None, Some(listener.to_owned())] {
            let place = ("Gateway".to_owned(), name.clone(), section);
            if let Some(client) = self.client.get(&place) {
                lay_client(&mut limits, client);
            }
            if let Some(backend) = self.backend.get(&place) {
                lay_backend(&mut limits, backend);
            }
        }
        limits
    }

    /// The limits of one rule: the listener's, with the route's policy over them.
    pub(super) fn rule(&self, route: &ObjectKey, rule: Option<&str>, listener: &Limits) -> Limits {
        let mut limits = listener.clone();
        for section in [None, rule.map(str::to_owned)] {
            let place = ("HTTPRoute".to_owned(), route.namespaced_name(), section);
            if let Some(backend) = self.backend.get(&place) {
                lay_backend(&mut limits, backend);
            }
        }
        limits
    }
}

/// A target as PolicyStatus prints it.
fn ancestor_ref(policy: &ObjectKey, target: &TargetRef) -> Value {
    let mut printed =
        json!({"group": target.group, "kind": target.kind, "namespace": policy.namespace, "name": target.name});
    if let (Some(section), Some(fields)) = (&target.section_name, printed.as_object_mut()) {
        fields.insert("sectionName".into(), section.clone().into());
    }
    printed
}

/// A time limit as written: `Some(None)` is switched off (`0s`), `None` says nothing. Decoding has checked the text.
pub(super) fn time_limit(text: Option<&String>) -> Option<Option<Duration>> {
    text.and_then(|text| TimeLimit::parse(text)).map(TimeLimit::duration)
}

fn lay<T>(over: Option<T>, limit: &mut T) {
    if let Some(over) = over {
        *limit = over;
    }
}

fn lay_parameters(limits: &mut Limits, over: &ResolvedLimits) {
    let time = |limit: Option<TimeLimit>| limit.map(TimeLimit::duration);
    lay(time(over.connect), &mut limits.connect);
    lay(time(over.stream_first_byte), &mut limits.stream_first_byte);
    lay(time(over.first_byte), &mut limits.first_byte);
    lay(time(over.idle), &mut limits.idle);
    lay(time(over.total), &mut limits.total);
    lay(time(over.request_header), &mut limits.request_header);
    lay(time(over.request_body), &mut limits.request_body);
    lay(over.body_bytes, &mut limits.body_bytes);
}

fn lay_client(limits: &mut Limits, policy: &ClientTrafficPolicySpec) {
    let buffer = policy.connection.as_ref().and_then(|connection| connection.buffer_limit.as_ref());
    let bytes = buffer.and_then(|limit| match limit {
        Value::String(text) => tidegate_api::quantity::parse_bytes(text).ok(),
        other => other.as_u64(),
    });
    lay(bytes, &mut limits.body_bytes);
    if let Some(http) = policy.timeout.as_ref().and_then(|timeout| timeout.http.as_ref()) {
        let received = http.request_received_timeout.as_ref().or(http.request_timeout.as_ref());
        lay(time_limit(received), &mut limits.request_body);
        lay(time_limit(http.idle_timeout.as_ref()), &mut limits.client_idle);
        lay(time_limit(http.stream_idle_timeout.as_ref()), &mut limits.idle);
    }
}

fn lay_backend(limits: &mut Limits, policy: &BackendTrafficPolicySpec) {
    let http: Option<&HttpTimeout> = policy.timeout.as_ref().and_then(|timeout| timeout.http.as_ref());
    if let Some(http) = http {
        lay(time_limit(http.request_timeout.as_ref()), &mut limits.total);
        lay(time_limit(http.connection_idle_timeout.as_ref()), &mut limits.upstream_idle);
        lay(time_limit(http.stream_idle_timeout.as_ref()), &mut limits.idle);
    }
}

/// The GatewayParameters that a Gateway names, or else its class.
pub(super) fn parameters<'a>(
    index: &Index<'a>,
    gateway: &Object<'a>,
    reference: Option<(&str, &str, &str)>,
    class: &str,
) -> Result<Option<&'a GatewayParametersSpec>, String> {
    let class_reference =
        index.get(GATEWAY_GROUP, "GatewayClass", "", class).and_then(|object| match object.resource {
            Resource::GatewayClass(class) => class.spec.parameters_ref.as_ref(),
            _ => None,
        });
    let (group, kind, namespace, name) = match (reference, class_reference) {
        (Some((group, kind, name)), _) => (group, kind, gateway.key.namespace.as_str(), name),
        (None, Some(class)) => {
            let namespace = class.namespace.as_deref().unwrap_or(&gateway.key.namespace);
            (class.group.as_str(), class.kind.as_str(), namespace, class.name.as_str())
        }
        (None, None) => return Ok(None),
    };
    if (group, kind) != ("tidegate.dev", "GatewayParameters") {
        return Err(format!("parametersRef names {kind} of {group}; here it takes GatewayParameters of tidegate.dev"));
    }
    match index.get(group, kind, namespace, name).map(|object| object.resource) {
        Some(Resource::GatewayParameters(parameters)) => Ok(Some(parameters)),
        _ => Err(format!("GatewayParameters {namespace}/{name} is not described")),
    }
}
