//! References of HTTPRoutes to backends: what they mean, and why they do not resolve.
//!
//! Only looks things up; a pool is made when a rule that is in force names it (`rules`).

use gateway_api::experimental::httproutes::{
    HttpRoute, HttpRouteRulesBackendRefs, HttpRouteRulesFilters, HttpRouteRulesFiltersRequestMirror,
};
use tidegate_api::inference::{GROUP_ALPHA, GROUP_V1, InferencePool};

use super::index::{FoundPool, GATEWAY_GROUP, Index, Object, Referrer};
use super::rules::backend_filters;
use super::services;

/// Reason of `ResolvedRefs=False`, and a message.
pub(super) type Problem = (&'static str, String);

/// A reference to a backend, from a backendRef or a mirror.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reference<'r> {
    pub(super) group: Option<&'r str>,
    pub(super) kind: Option<&'r str>,
    pub(super) namespace: Option<&'r str>,
    pub(super) name: &'r str,
    pub(super) port: Option<i32>,
}

/// What a reference leads to.
pub(super) enum Resolved<'a> {
    /// A Service's port.
    Service(services::Found<'a>),
    /// An InferencePool.
    Pool(Object<'a>, &'a InferencePool),
}

/// Finds what a reference of an HTTPRoute in `own` means.
pub(super) fn resolve<'a>(index: &Index<'a>, own: &str, reference: Reference<'_>) -> Result<Resolved<'a>, Problem> {
    let namespace = reference.namespace.unwrap_or(own);
    let kind = reference.kind.unwrap_or("Service");
    let group = reference.group.unwrap_or_default();
    let is_pool = kind == "InferencePool" && (reference.group.is_none() || [GROUP_V1, GROUP_ALPHA].contains(&group));
    let is_service = kind == "Service" && group.is_empty();
    if !is_pool && !is_service {
        let message =
            format!("a backendRef takes Service (core) or InferencePool ({GROUP_V1}), not {kind} of group {group:?}");
        return Err(("InvalidKind", message));
    }
    let referrer = Referrer { group: GATEWAY_GROUP, kind: "HTTPRoute", namespace: own };
    let permitted = |group: &str| {
        if index.may_refer(referrer, group, kind, namespace, reference.name) {
            return Ok(());
        }
        let name = reference.name;
        let message =
            format!("no ReferenceGrant in {namespace} lets HTTPRoutes of {own} refer to {kind} {namespace}/{name}");
        Err(("RefNotPermitted", message))
    };
    if !is_pool {
        permitted("")?;
        let port = reference.port.and_then(|port| u16::try_from(port).ok());
        return services::find(index, namespace, reference.name, port).map(Resolved::Service);
    }
    match index.pool(namespace, reference.group, reference.name) {
        FoundPool::Named(object, pool) | FoundPool::Assumed(object, pool, _) => {
            permitted(&object.key.group)?;
            Ok(Resolved::Pool(object, pool))
        }
        FoundPool::Missing => {
            permitted(reference.group.unwrap_or(GROUP_V1))?;
            Err(("BackendNotFound", format!("InferencePool {namespace}/{} is not described", reference.name)))
        }
    }
}

/// The first reference of a route that does not resolve, whether or not the route attaches anywhere.
pub(super) fn unresolved(index: &Index<'_>, object: &Object<'_>, route: &HttpRoute) -> Option<Problem> {
    let own = object.key.namespace.as_str();
    let mirrored = |filters: &[HttpRouteRulesFilters]| {
        let mut mirrors = filters.iter().filter_map(|filter| filter.request_mirror.as_ref());
        let problem = mirrors.find_map(|mirror| resolve(index, own, mirror_reference(mirror)).err());
        problem.map(|(reason, message)| (reason, format!("mirror: {message}")))
    };
    route.spec.rules.iter().flatten().find_map(|rule| {
        mirrored(rule.filters.as_deref().unwrap_or_default()).or_else(|| {
            rule.backend_refs.iter().flatten().find_map(|backend| {
                let problem = resolve(index, own, backend_reference(backend)).err();
                problem.or_else(|| mirrored(&backend_filters(backend).unwrap_or_default()))
            })
        })
    })
}

/// The reference of a backendRef.
pub(super) fn backend_reference(spec: &HttpRouteRulesBackendRefs) -> Reference<'_> {
    Reference {
        group: spec.group.as_deref(),
        kind: spec.kind.as_deref(),
        namespace: spec.namespace.as_deref(),
        name: &spec.name,
        port: spec.port,
    }
}

/// The reference of a mirror.
pub(super) fn mirror_reference(spec: &HttpRouteRulesFiltersRequestMirror) -> Reference<'_> {
    let backend = &spec.backend_ref;
    Reference {
        group: backend.group.as_deref(),
        kind: backend.kind.as_deref(),
        namespace: backend.namespace.as_deref(),
        name: &backend.name,
        port: backend.port,
    }
}
