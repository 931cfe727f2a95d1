//! Gateways: their listeners, which routes these take, and the sockets they make.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use gateway_api::experimental::gateways::{
    Gateway, GatewayListeners, GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesNamespacesFrom,
    GatewayListenersTlsMode,
};
use gateway_api::experimental::httproutes::HttpRoute;
use tidegate_api::gateway_parameters::GatewayParametersSpec;
use tidegate_api::status::ListenerStatus;
use tidegate_api::{Condition, ConditionStatus, ObjectKey, Resource};

use super::certificates;
use super::hostnames;
use super::index::{GATEWAY_GROUP, Index, Object};
use super::policies::{self, Policies};
use super::statuses::{Statuses, accepted, note, refused, resolved_refs};
use crate::Environment;
use crate::route_match::{Entry, Router};
use crate::snapshot::{
    Certificate, Hostname, Limits, Listener, RetryBudget, RetryPolicy, Rule, Socket, SocketProtocol,
};

/// A Gateway under construction.
#[derive(Debug)]
pub(super) struct GatewayDraft<'a> {
    pub(super) key: ObjectKey,
    /// `None` for the one that `--listen` stands for.
    object: Option<Object<'a>>,
    pub(super) listeners: Vec<ListenerDraft<'a>>,
    /// Addresses to bind.
    addresses: Vec<IpAddr>,
    /// Why it as a whole is not accepted.
    problem: Option<(&'static str, String)>,
    /// Retries of its rules that say nothing themselves.
    pub(super) retry: RetryPolicy,
    budget: RetryBudget,
    access_log: bool,
}

/// A listener under construction.
#[derive(Debug)]
pub(super) struct ListenerDraft<'a> {
    pub(super) name: String,
    pub(super) port: u16,
    protocol: SocketProtocol,
    pub(super) hostname: Option<Hostname>,
    pub(super) limits: Limits,
    allowed: Option<&'a GatewayListenersAllowedRoutes>,
    certificates: Vec<Arc<Certificate>>,
    /// `Accepted=False`.
    refused: Option<(&'static str, String)>,
    /// `ResolvedRefs=False`.
    unresolved: Option<(&'static str, String)>,
    /// `Conflicted=True`.
    conflict: Option<(&'static str, String)>,
    pub(super) attached: u32,
    /// The route that attached last: routes come one after the other.
    pub(super) last_route: Option<&'a ObjectKey>,
    pub(super) entries: Vec<(Vec<Hostname>, Entry)>,
    pub(super) rules: Vec<Arc<Rule>>,
}

/// All Gateways, and one for `--listen` where a route names a Gateway that nobody describes.
pub(super) fn compile<'a>(
    index: &'a Index<'a>,
    environment: &Environment,
    policies: &Policies<'a>,
    statuses: &mut Statuses,
) -> Vec<GatewayDraft<'a>> {
    let mut objects: Vec<Object<'a>> = index.all().collect();
    objects.sort_by_key(Object::age);
    let mut taken = BTreeMap::new();
    let mut drafts: Vec<GatewayDraft<'a>> = objects
        .iter()
        .filter_map(|object| match object.resource {
            Resource::Gateway(gateway) => Some(described(index, environment, policies, *object, gateway, statuses)),
            _ => None,
        })
        .collect();
    if let Some(address) = environment.listen {
        drafts.extend(stand_in(&objects, index, address));
    }
    for draft in &mut drafts {
        find_conflicts(draft, &mut taken);
    }
    drafts
}

fn described<'a>(
    index: &'a Index<'a>,
    environment: &Environment,
    policies: &Policies<'a>,
    object: Object<'a>,
    gateway: &'a Gateway,
    statuses: &mut Statuses,
) -> GatewayDraft<'a> {
    let class = &gateway.spec.gateway_class_name;
    match index.get(GATEWAY_GROUP, "GatewayClass", "", class).map(|class| class.resource) {
        Some(Resource::GatewayClass(found)) if found.spec.controller_name != tidegate_api::status::CONTROLLER_NAME => {
            let message = format!(
                "GatewayClass {class} is {}'s; from files it is served here all the same",
                found.spec.controller_name
            );
            statuses.finding(object.admitted, note("OtherController", message));
        }
        Some(_) => {}
        None => {
            let message =
                format!("GatewayClass {class} is not described; from files the Gateway is served all the same");
            statuses.finding(object.admitted, note("ClassNotDescribed", message));
        }
    }
    let reference =
        gateway.spec.infrastructure.as_ref().and_then(|infrastructure| infrastructure.parameters_ref.as_ref());
    let reference = reference.map(|found| (found.group.as_str(), found.kind.as_str(), found.name.as_str()));
    let (parameters, mut problem) = match policies::parameters(index, &object, reference, class) {
        Ok(parameters) => (parameters, None),
        Err(message) => (None, Some(("InvalidParameters", message))),
    };
    let mut addresses = Vec::new();
    for address in gateway.spec.addresses.iter().flatten() {
        let is_ip = address.r#type.as_deref().is_none_or(|kind| kind == "IPAddress");
        match address.value.as_ref().map(|value| value.parse::<IpAddr>()) {
            Some(Ok(parsed)) if is_ip => addresses.push(parsed),
            _ => {
                let value = address.value.as_deref().unwrap_or("(no value)");
                problem = Some((
                    "UnsupportedAddress",
                    format!("spec.addresses: only IPAddress values can be bound, not {value}"),
                ));
            }
        }
    }
    if addresses.is_empty() {
        addresses.push(environment.bind);
    }
    let (retry, budget) = retries(parameters);
    let listeners =
        gateway.spec.listeners.iter().map(|spec| listener(index, policies, &object, spec, parameters)).collect();
    GatewayDraft {
        key: object.key.clone(),
        object: Some(object),
        listeners,
        addresses,
        problem,
        retry,
        budget,
        access_log: parameters
            .and_then(|parameters| parameters.access_log.as_ref())
            .and_then(|log| log.enabled)
            .unwrap_or(true),
    }
}

fn retries(parameters: Option<&GatewayParametersSpec>) -> (RetryPolicy, RetryBudget) {
    let (mut retry, mut budget) = (RetryPolicy::default(), RetryBudget::default());
    if let Some(written) = parameters.and_then(|parameters| parameters.retries.as_ref()) {
        retry.attempts = written.attempts.unwrap_or(retry.attempts);
        retry.connection_attempts = written.connection_attempts.unwrap_or(retry.connection_attempts);
        budget.percent = written.budget_percent.unwrap_or(budget.percent);
        budget.minimum = written.budget_minimum.unwrap_or(budget.minimum);
    }
    (retry, budget)
}

fn listener<'a>(
    index: &'a Index<'a>,
    policies: &Policies<'a>,
    gateway: &Object<'a>,
    spec: &'a GatewayListeners,
    parameters: Option<&GatewayParametersSpec>,
) -> ListenerDraft<'a> {
    let protocol = if spec.protocol == "HTTPS" { SocketProtocol::Https } else { SocketProtocol::Http };
    let mut draft = ListenerDraft {
        name: spec.name.clone(),
        port: u16::try_from(spec.port).unwrap_or_default(),
        protocol,
        hostname: spec.hostname.as_deref().filter(|name| !name.is_empty()).map(hostnames::parse),
        limits: policies.listener(gateway.key, &spec.name, parameters),
        allowed: spec.allowed_routes.as_ref(),
        certificates: Vec::new(),
        refused: None,
        unresolved: None,
        conflict: None,
        attached: 0,
        last_route: None,
        entries: Vec::new(),
        rules: Vec::new(),
    };
    if !["HTTP", "HTTPS"].contains(&spec.protocol.as_str()) {
        let message = format!("protocol {} is not supported; HTTP and HTTPS are", spec.protocol);
        draft.refused = Some(("UnsupportedProtocol", message));
    }
    let kinds = spec.allowed_routes.as_ref().and_then(|allowed| allowed.kinds.as_ref());
    if let Some(other) = kinds.into_iter().flatten().find(|kind| !is_http_route(kind.group.as_deref(), &kind.kind)) {
        let message = format!("allowedRoutes.kinds: routes of kind {} are not supported; HTTPRoute is", other.kind);
        draft.unresolved = Some(("InvalidRouteKinds", message));
    }
    if protocol == SocketProtocol::Https {
        certify(index, gateway, spec, &mut draft);
    }
    draft
}

fn is_http_route(group: Option<&str>, kind: &str) -> bool {
    group.unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP && kind == "HTTPRoute"
}

fn certify(index: &Index<'_>, gateway: &Object<'_>, spec: &GatewayListeners, draft: &mut ListenerDraft<'_>) {
    let tls = spec.tls.as_ref();
    if tls.and_then(|tls| tls.mode.as_ref()) == Some(&GatewayListenersTlsMode::Passthrough) {
        draft.refused = Some(("UnsupportedValue", "tls.mode Passthrough is not supported; Terminate is".into()));
        return;
    }
    let references = tls.and_then(|tls| tls.certificate_refs.as_deref()).unwrap_or_default();
    if references.is_empty() {
        draft.unresolved = Some(("InvalidCertificateRef", "an HTTPS listener needs tls.certificateRefs".into()));
    }
    for reference in references {
        let problem = match certificates::load(index, &gateway.key.namespace, reference) {
            Ok((certificate, problem)) => {
                draft.certificates.push(certificate);
                problem
            }
            Err(problem) => Some(problem),
        };
        if let Some((reason, message)) = problem {
            draft.unresolved = Some((reason, format!("listener {}: {message}", spec.name)));
        }
    }
}

/// The Gateway that `--listen` stands for, if a route names one that nobody describes.
fn stand_in<'a>(objects: &[Object<'a>], index: &Index<'a>, address: SocketAddr) -> Option<GatewayDraft<'a>> {
    let key = objects.iter().find_map(|object| match object.resource {
        Resource::HttpRoute(route) => missing_gateways(index, object, route).into_iter().next(),
        _ => None,
    })?;
    Some(GatewayDraft {
        key,
        object: None,
        listeners: vec![ListenerDraft {
            name: "listen".into(),
            port: address.port(),
            protocol: SocketProtocol::Http,
            hostname: None,
            limits: Limits::default(),
            allowed: None,
            certificates: Vec::new(),
            refused: None,
            unresolved: None,
            conflict: None,
            attached: 0,
            last_route: None,
            entries: Vec::new(),
            rules: Vec::new(),
        }],
        addresses: vec![address.ip()],
        problem: None,
        retry: RetryPolicy::default(),
        budget: RetryBudget::default(),
        access_log: true,
    })
}

/// Gateways that a route names and nobody describes.
fn missing_gateways(index: &Index<'_>, object: &Object<'_>, route: &HttpRoute) -> BTreeSet<ObjectKey> {
    let parents = route.spec.parent_refs.iter().flatten();
    parents
        .filter(|parent| {
            parent.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP
                && parent.kind.as_deref().unwrap_or("Gateway") == "Gateway"
        })
        .map(|parent| {
            let namespace = parent.namespace.as_deref().unwrap_or(&object.key.namespace);
            ObjectKey::new(GATEWAY_GROUP, "Gateway", namespace, &parent.name)
        })
        .filter(|key| index.get(GATEWAY_GROUP, "Gateway", &key.namespace, &key.name).is_none())
        .collect()
}

/// What is taken on one socket: its protocol, and the owner of each hostname.
type Taken = BTreeMap<SocketAddr, (SocketProtocol, HashMap<Option<Hostname>, ObjectKey>)>;

/// Two listeners of one port must differ in hostname and agree in protocol; the one that comes first has the place.
fn find_conflicts(draft: &mut GatewayDraft<'_>, taken: &mut Taken) {
    let key = draft.key.clone();
    for listener in draft.listeners.iter_mut().filter(|listener| listener.refused.is_none()) {
        for address in &draft.addresses {
            let socket = SocketAddr::new(*address, listener.port);
            let (protocol, names) = taken.entry(socket).or_insert_with(|| (listener.protocol, HashMap::new()));
            if *protocol != listener.protocol {
                let message = format!("port {} is taken by a listener of another protocol", listener.port);
                listener.conflict = Some(("ProtocolConflict", message));
            } else if let Some(owner) = names.get(&listener.hostname) {
                let message = format!("{owner} has a listener on port {} for the same hostname", listener.port);
                if *owner == key {
                    listener.conflict = Some(("HostnameConflict", message));
                } else {
                    listener.refused = Some(("PortUnavailable", message));
                }
            } else {
                names.insert(listener.hostname.clone(), key.clone());
            }
        }
    }
}

impl GatewayDraft<'_> {
    /// Whether it is the one that `--listen` stands for.
    pub(super) fn is_stand_in(&self) -> bool {
        self.object.is_none()
    }
}

impl ListenerDraft<'_> {
    /// Whether it serves.
    pub(super) fn is_sound(&self) -> bool {
        let certified = self.protocol == SocketProtocol::Http || !self.certificates.is_empty();
        self.refused.is_none() && self.conflict.is_none() && certified
    }

    /// What keeps it from its port, if another has it.
    pub(super) fn obstacle(&self) -> Option<&str> {
        self.refused.as_ref().or(self.conflict.as_ref()).map(|(_, message)| message.as_str())
    }

    /// Whether it takes HTTPRoutes of a namespace.
    pub(super) fn allows(&self, index: &Index<'_>, gateway: &ObjectKey, namespace: &str) -> bool {
        let kinds = self.allowed.and_then(|allowed| allowed.kinds.as_ref());
        if kinds.is_some_and(|kinds| {
            !kinds.is_empty() && !kinds.iter().any(|kind| is_http_route(kind.group.as_deref(), &kind.kind))
        }) {
            return false;
        }
        let namespaces = self.allowed.and_then(|allowed| allowed.namespaces.as_ref());
        match namespaces.and_then(|namespaces| namespaces.from.as_ref()) {
            Some(GatewayListenersAllowedRoutesNamespacesFrom::All) => true,
            Some(GatewayListenersAllowedRoutesNamespacesFrom::Selector) => {
                let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
                selector.is_some_and(|selector| {
                    let labels = index.namespace_labels(namespace);
                    let wanted = selector.match_labels.iter().flatten();
                    let by_label = wanted.into_iter().all(|(key, value)| labels.get(key) == Some(value));
                    by_label
                        && selector.match_expressions.iter().flatten().all(|expression| {
                            let values = expression.values.as_deref().unwrap_or_default();
                            let value = labels.get(&expression.key);
                            match expression.operator.as_str() {
                                "In" => value.is_some_and(|value| values.contains(value)),
                                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                                "Exists" => value.is_some(),
                                "DoesNotExist" => value.is_none(),
                                _ => false,
                            }
                        })
                })
            }
            Some(GatewayListenersAllowedRoutesNamespacesFrom::Same) | None => gateway.namespace == namespace,
        }
    }

    fn status(&self, sockets: &[SocketAddr], environment: &Environment) -> ListenerStatus {
        let failure = sockets.iter().find_map(|socket| Some((socket, environment.bind_failures.get(socket)?)));
        let mut conditions = vec![match (&self.refused, &self.conflict) {
            (Some((reason, message)), _) | (None, Some((reason, message))) => refused(reason, message.clone()),
            (None, None) => accepted("Accepted", "its routes are served"),
        }];
        conditions.push(match (self.is_sound(), failure) {
            (true, None) => Condition::new("Programmed", ConditionStatus::True, "Programmed", "listening"),
            (true, Some((socket, failure))) => {
                Condition::new("Programmed", ConditionStatus::False, "Invalid", bind_failure(*socket, failure))
            }
            (false, _) => {
                Condition::new("Programmed", ConditionStatus::False, "Invalid", "not served; see the other conditions")
            }
        });
        conditions.push(resolved_refs(self.unresolved.as_ref()));
        conditions.push(match &self.conflict {
            Some((reason, message)) => Condition::new("Conflicted", ConditionStatus::True, reason, message.clone()),
            None => Condition::new("Conflicted", ConditionStatus::False, "NoConflicts", "no conflict"),
        });
        let supported = self.unresolved.as_ref().is_none_or(|(reason, _)| *reason != "InvalidRouteKinds");
        ListenerStatus {
            name: self.name.clone(),
            supported_kinds: if supported || self.accepts_http() { vec!["HTTPRoute".into()] } else { Vec::new() },
            attached_routes: self.attached,
            conditions,
        }
    }

    fn accepts_http(&self) -> bool {
        let kinds = self.allowed.and_then(|allowed| allowed.kinds.as_ref());
        kinds.is_none_or(|kinds| kinds.iter().any(|kind| is_http_route(kind.group.as_deref(), &kind.kind)))
    }
}

/// The data plane's words name the socket already.
fn bind_failure(socket: SocketAddr, failure: &str) -> String {
    match failure.contains(&socket.to_string()) {
        true => format!("{failure}; the other listeners serve"),
        false => format!("cannot listen on {socket}: {failure}; the other listeners serve"),
    }
}

/// Sockets of all sound listeners, and the Gateways' statuses.
pub(super) fn finish(drafts: Vec<GatewayDraft<'_>>, environment: &Environment, statuses: &mut Statuses) -> Vec<Socket> {
    let mut sockets: BTreeMap<SocketAddr, Socket> = BTreeMap::new();
    for draft in drafts {
        let GatewayDraft { key, object, listeners, addresses, problem, budget, access_log, .. } = draft;
        let mut listener_statuses = Vec::new();
        let mut programmed = false;
        let gateway = Arc::new(key);
        for listener in listeners {
            let places: Vec<SocketAddr> =
                addresses.iter().map(|address| SocketAddr::new(*address, listener.port)).collect();
            let status = listener.status(&places, environment);
            programmed |= status
                .conditions
                .iter()
                .any(|condition| condition.kind == "Programmed" && condition.status == ConditionStatus::True);
            listener_statuses.push(status);
            if !listener.is_sound() {
                continue;
            }
            let protocol = listener.protocol;
            let made = Arc::new(Listener {
                label: format!("{}/{}", gateway.namespaced_name(), listener.name).into(),
                gateway: gateway.clone(),
                name: listener.name.into(),
                hostname: listener.hostname,
                certificates: listener.certificates,
                limits: listener.limits,
                retry_budget: budget,
                access_log,
                router: Router::new(listener.entries, listener.rules),
            });
            for address in places {
                let socket = sockets.entry(address);
                socket
                    .or_insert_with(|| Socket { address, protocol, listeners: Vec::new() })
                    .listeners
                    .push(made.clone());
            }
        }
        if let Some(object) = object {
            report(&object, &problem, programmed, &listener_statuses, statuses);
            let usable = usable_addresses(&addresses, environment, programmed);
            statuses.gateway(object.key, listener_statuses, usable);
        }
    }
    let mut sockets: Vec<Socket> = sockets.into_values().collect();
    for socket in &mut sockets {
        socket.listeners.sort_by_key(|listener| hostnames::specificity(listener.hostname.as_ref()));
    }
    sockets
}

fn report(
    object: &Object<'_>,
    problem: &Option<(&'static str, String)>,
    programmed: bool,
    listeners: &[ListenerStatus],
    statuses: &mut Statuses,
) {
    let unsound = listeners.iter().any(|listener| {
        listener
            .conditions
            .iter()
            .any(|condition| condition.kind == "Accepted" && condition.status == ConditionStatus::False)
    });
    let verdict = match problem {
        Some((reason, message)) => refused(reason, message.clone()),
        None if unsound => accepted("ListenersNotValid", "some listeners are not accepted; see their conditions"),
        None => accepted("Accepted", "served"),
    };
    statuses.condition(object.key, verdict);
    let condition = if programmed {
        Condition::new("Programmed", ConditionStatus::True, "Programmed", "at least one listener serves")
    } else {
        Condition::new("Programmed", ConditionStatus::False, "Invalid", "no listener serves; see their conditions")
    };
    statuses.condition(object.key, condition);
}

/// What a client on this machine can use.
fn usable_addresses(addresses: &[IpAddr], environment: &Environment, programmed: bool) -> Vec<String> {
    if !programmed {
        return Vec::new();
    }
    let mut usable: Vec<IpAddr> = Vec::new();
    for address in addresses {
        let these: &[IpAddr] =
            if address.is_unspecified() { &environment.usable_addresses } else { std::slice::from_ref(address) };
        usable.extend(these.iter().filter(|address| !usable.contains(address)).copied().collect::<Vec<_>>());
    }
    usable.iter().map(IpAddr::to_string).collect()
}
