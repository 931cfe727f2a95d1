//! Services as backends: their EndpointSlices, the ModelServers that they select, or their external name.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidegate_api::Resource;
use tidegate_api::inference::AppProtocol;

use super::index::{Index, Object};
use super::pools::{addresses, endpoint, model_servers};
use crate::snapshot::{Endpoint, ModelTable, PickerSource, Pool, PoolKind};

/// Label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The pool of a Service's port; else the reason of `ResolvedRefs=False` and a message.
pub(super) fn compile<'a>(
    index: &'a Index<'a>,
    namespace: &str,
    name: &str,
    port: Option<u16>,
) -> Result<(Object<'a>, Pool), (&'static str, String)> {
    let missing = || ("BackendNotFound", format!("Service {namespace}/{name} is not described"));
    let object = index.get("", "Service", namespace, name).ok_or_else(missing)?;
    let Resource::Service(service) = object.resource else { return Err(missing()) };
    let Some(number) = port else {
        return Err(("UnsupportedValue", format!("the reference to Service {namespace}/{name} names no port")));
    };
    let spec = service.spec.as_ref();
    let declared = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let declared = declared.into_iter().find(|declared| declared.port == i32::from(number));
    let external = spec.and_then(|spec| spec.external_name.as_ref());
    if declared.is_none() && external.is_none() {
        return Err(("BackendNotFound", format!("Service {namespace}/{name} has no port {number}")));
    }
    let mut endpoints = slices(index, namespace, name, declared);
    let fallback = BTreeMap::new();
    let selector = spec.and_then(|spec: &ServiceSpec| spec.selector.as_ref()).unwrap_or(&fallback);
    let target = match declared.and_then(|declared| declared.target_port.as_ref()) {
        Some(IntOrString::Int(target)) => u16::try_from(*target).unwrap_or(number),
        _ => number,
    };
    for (server, spec) in model_servers(index, namespace, selector) {
        for address in addresses(&spec.address, &[target]) {
            push(&mut endpoints, endpoint(address, &server.key.namespaced_name(), spec));
        }
    }
    if let (true, Some(external)) = (endpoints.is_empty(), external) {
        for address in addresses(external, &[number]) {
            push(&mut endpoints, plain(address, &object.key.namespaced_name()));
        }
    }
    let h2c = declared.and_then(|declared| declared.app_protocol.as_deref()) == Some("kubernetes.io/h2c");
    let pool = Pool {
        key: Arc::new(object.key.clone()),
        label: object.key.namespaced_name().into(),
        kind: PoolKind::Service,
        protocol: if h2c { AppProtocol::H2c } else { AppProtocol::Http },
        endpoints,
        models: ModelTable::default(),
        picker: PickerSource::BuiltIn,
    };
    Ok((object, pool))
}

/// The ready endpoints of the EndpointSlices that are labelled for the Service.
fn slices(index: &Index<'_>, namespace: &str, name: &str, declared: Option<&ServicePort>) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    let port_name = declared.and_then(|declared| declared.name.as_deref()).unwrap_or_default();
    for object in index.all() {
        let Resource::EndpointSlice(slice) = object.resource else { continue };
        let labelled = object.metadata.labels.get(SERVICE_NAME).is_some_and(|service| service == name);
        if !labelled || object.key.namespace != namespace {
            continue;
        }
        let ports = slice.ports.as_deref().unwrap_or_default();
        let of_name = ports.iter().find(|port| port.name.as_deref().unwrap_or_default() == port_name);
        let Some(number) = of_name.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()) else {
            continue;
        };
        for one in &slice.endpoints {
            // Absent means ready (discovery/v1 EndpointConditions).
            if one.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
                continue;
            }
            for address in one.addresses.iter().flat_map(|address| addresses(address, &[number])) {
                push(&mut endpoints, plain(address, &object.key.namespaced_name()));
            }
        }
    }
    endpoints
}

fn plain(address: String, name: &str) -> Endpoint {
    Endpoint { address: address.into(), name: name.into(), metrics_path: "".into(), engine: "".into() }
}

fn push(endpoints: &mut Vec<Endpoint>, endpoint: Endpoint) {
    if !endpoints.iter().any(|known| known.address == endpoint.address) {
        endpoints.push(endpoint);
    }
}
