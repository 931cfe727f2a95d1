//! Services as backends: their EndpointSlices, the ModelServers that they select, or their external name.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tidegate_api::inference::AppProtocol;
use tidegate_api::{ObjectKey, Resource};

use super::index::{Index, Object};
use super::pools::{Endpoints, addresses, endpoint};
use crate::snapshot::{Endpoint, ModelTable, PickerSource, Pool, PoolKind};

/// A Service's port that a reference means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    object: Object<'a>,
    spec: Option<&'a ServiceSpec>,
    number: u16,
    /// `None` where only an external name is declared.
    declared: Option<&'a ServicePort>,
}

/// Finds a Service's port, without a look at its endpoints; else the reason of `ResolvedRefs=False` and a message.
pub(super) fn find<'a>(
    index: &Index<'a>,
    namespace: &str,
    name: &str,
    port: Option<u16>,
) -> Result<Found<'a>, (&'static str, String)> {
    let missing = || ("BackendNotFound", format!("Service {namespace}/{name} is not described"));
    let object = index.get("", "Service", namespace, name).ok_or_else(missing)?;
    let Resource::Service(service) = object.resource else { return Err(missing()) };
    let Some(number) = port else {
        return Err(("UnsupportedValue", format!("the reference to Service {namespace}/{name} names no port")));
    };
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let declared = ports.into_iter().find(|declared| declared.port == i32::from(number));
    if declared.is_none() && spec.is_none_or(|spec| spec.external_name.is_none()) {
        return Err(("BackendNotFound", format!("Service {namespace}/{name} has no port {number}")));
    }
    Ok(Found { object, spec, number, declared })
}

impl<'a> Found<'a> {
    /// The Service.
    pub(super) fn key(&self) -> &'a ObjectKey {
        self.object.key
    }

    /// The port that the reference names.
    pub(super) fn port(&self) -> u16 {
        self.number
    }

    /// The pool of the Service's port.
    pub(super) fn compile(&self, index: &Index<'a>) -> Pool {
        let protocol = match self.declared.and_then(|declared| declared.app_protocol.as_deref()) {
            Some("kubernetes.io/h2c") => AppProtocol::H2c,
            _ => AppProtocol::Http,
        };
        Pool {
            key: Arc::new(self.object.key.clone()),
            label: self.object.key.namespaced_name().into(),
            kind: PoolKind::Service,
            protocol,
            endpoints: self.endpoints(index),
            models: ModelTable::default(),
            picker: PickerSource::BuiltIn,
        }
    }

    fn endpoints(&self, index: &Index<'a>) -> Vec<Endpoint> {
        let mut endpoints = Endpoints::default();
        self.push_slices(index, &mut endpoints);
        let nothing = BTreeMap::new();
        let selector = self.spec.and_then(|spec| spec.selector.as_ref()).unwrap_or(&nothing);
        let target = match self.declared.and_then(|declared| declared.target_port.as_ref()) {
            Some(IntOrString::Int(target)) => u16::try_from(*target).unwrap_or(self.number),
            _ => self.number,
        };
        for (server, spec) in index.model_servers(&self.object.key.namespace, selector) {
            for address in addresses(&spec.address, &[target]) {
                endpoints.push(endpoint(address, &server.key.namespaced_name(), spec));
            }
        }
        let external = self.spec.and_then(|spec| spec.external_name.as_ref());
        if let (true, Some(external)) = (endpoints.is_empty(), external) {
            for address in addresses(external, &[self.number]) {
                endpoints.push(plain(address, &self.object.key.namespaced_name()));
            }
        }
        endpoints.into_list()
    }

    /// The ready endpoints of the EndpointSlices that are labelled for the Service.
    fn push_slices(&self, index: &Index<'a>, endpoints: &mut Endpoints) {
        let port_name = self.declared.and_then(|declared| declared.name.as_deref()).unwrap_or_default();
        for (object, slice) in index.endpoint_slices(&self.object.key.namespace, &self.object.key.name) {
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
                    endpoints.push(plain(address, &object.key.namespaced_name()));
                }
            }
        }
    }
}

fn plain(address: String, name: &str) -> Endpoint {
    Endpoint { address: address.into(), name: name.into(), metrics_path: "".into(), engine: "".into() }
}
