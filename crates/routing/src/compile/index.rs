//! The admitted objects by name and by kind, and what one namespace may take from another.

use std::collections::{BTreeMap, HashMap};

use gateway_api::experimental::referencegrants::ReferenceGrant;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tidegate_api::inference::{GROUP_ALPHA, GROUP_V1, InferencePool};
use tidegate_api::model_server::ModelServerSpec;
use tidegate_api::{Metadata, ObjectKey, Resource};

use crate::Admitted;

/// Group of Gateway, HTTPRoute and their kin.
pub(super) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// Label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// One object in force.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) resource: &'a Resource,
    pub(super) metadata: &'a Metadata,
    /// The document, for positions.
    pub(super) admitted: &'a Admitted,
}

impl Object<'_> {
    /// Older sorts first: time where written, then `namespace/name`.
    pub(super) fn age(&self) -> (Option<String>, String) {
        (self.metadata.created.clone(), self.key.namespaced_name())
    }
}

/// A map by a name that stands in some document.
type ByName<'a, T> = HashMap<&'a str, T>;
/// A ModelServer.
pub(super) type Server<'a> = (Object<'a>, &'a ModelServerSpec);
/// An EndpointSlice.
pub(super) type Slice<'a> = (Object<'a>, &'a EndpointSlice);

/// All objects in force.
#[derive(Debug)]
pub(super) struct Index<'a> {
    objects: BTreeMap<&'a ObjectKey, Object<'a>>,
    grants: HashMap<&'a str, Vec<&'a ReferenceGrant>>,
    /// By namespace, label and its value.
    model_servers: ByName<'a, ByName<'a, ByName<'a, Vec<Server<'a>>>>>,
    /// By namespace and the Service that they are labelled for.
    endpoint_slices: ByName<'a, ByName<'a, Vec<Slice<'a>>>>,
}

/// Who refers to something, for a ReferenceGrant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referrer<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
}

/// What a reference to a pool leads to.
#[derive(Debug)]
pub(super) enum FoundPool<'a> {
    /// The pool that was named.
    Named(Object<'a>, &'a InferencePool),
    /// A pool of the other group, or of one that was left out: the group to write.
    Assumed(Object<'a>, &'a InferencePool, &'static str),
    /// There is none.
    Missing,
}

impl<'a> Index<'a> {
    pub(super) fn new(admitted: &'a [Admitted]) -> Self {
        let mut objects = BTreeMap::new();
        for one in admitted {
            let Some(resource) = one.resource.as_deref() else { continue };
            let key = &one.document.key;
            objects.insert(key, Object { key, resource, metadata: &one.metadata, admitted: one });
        }
        let mut index =
            Self { objects, grants: HashMap::new(), model_servers: HashMap::new(), endpoint_slices: HashMap::new() };
        // In the order of their keys, so that the lists are in it too.
        for object in index.objects.values().copied() {
            let namespace = object.key.namespace.as_str();
            match object.resource {
                Resource::ReferenceGrant(grant) => index.grants.entry(namespace).or_default().push(grant),
                Resource::ModelServer(spec) => {
                    for (label, value) in &object.metadata.labels {
                        let labelled = index.model_servers.entry(namespace).or_default().entry(label).or_default();
                        labelled.entry(value).or_default().push((object, spec));
                    }
                }
                Resource::EndpointSlice(slice) => {
                    if let Some(service) = object.metadata.labels.get(SERVICE_NAME) {
                        let slices = index.endpoint_slices.entry(namespace).or_default();
                        slices.entry(service).or_default().push((object, slice));
                    }
                }
                _ => {}
            }
        }
        index
    }

    /// The ModelServers of a namespace that a selector takes, in the order of their names; an empty selector takes
    /// none. Looks only at those that have the selector's rarest label, so that many pools cost what their servers do.
    pub(super) fn model_servers(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<Server<'a>> {
        let labels = self.model_servers.get(namespace);
        let with = |label: &str, value: &str| labels?.get(label)?.get(value).map(Vec::as_slice);
        let rarest = selector
            .iter()
            .map(|(label, value)| with(label, value).unwrap_or_default())
            .min_by_key(|labelled| labelled.len())
            .unwrap_or_default();
        let takes = |object: &Object<'_>| {
            selector.iter().all(|(label, value)| object.metadata.labels.get(label) == Some(value))
        };
        rarest.iter().filter(|(object, _)| takes(object)).copied().collect()
    }

    /// The EndpointSlices that are labelled for a Service, in the order of their names.
    pub(super) fn endpoint_slices(&self, namespace: &str, service: &str) -> &[Slice<'a>] {
        let slices = self.endpoint_slices.get(namespace).and_then(|services| services.get(service));
        slices.map(Vec::as_slice).unwrap_or_default()
    }

    /// All objects, by key.
    pub(super) fn all(&self) -> impl Iterator<Item = Object<'a>> + '_ {
        self.objects.values().copied()
    }

    /// One object.
    pub(super) fn get(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Option<Object<'a>> {
        self.objects.get(&ObjectKey::new(group, kind, namespace, name)).copied()
    }

    /// The pool that a reference means. Without a group, and where the named group has no pool of that name, either
    /// group's counts, v1 first.
    pub(super) fn pool(&self, namespace: &str, group: Option<&str>, name: &str) -> FoundPool<'a> {
        let find = |group: &str| {
            let object = self.get(group, "InferencePool", namespace, name)?;
            match object.resource {
                Resource::InferencePool(pool) => Some((object, pool)),
                _ => None,
            }
        };
        if let Some((object, pool)) = group.and_then(find) {
            return FoundPool::Named(object, pool);
        }
        for assumed in [GROUP_V1, GROUP_ALPHA] {
            if let Some((object, pool)) = find(assumed) {
                return FoundPool::Assumed(object, pool, assumed);
            }
        }
        FoundPool::Missing
    }

    /// Whether `referrer` may refer to an object of another namespace (ReferenceGrant); always within its own.
    pub(super) fn may_refer(
        &self,
        referrer: Referrer<'_>,
        group: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> bool {
        if referrer.namespace == namespace {
            return true;
        }
        self.grants.get(namespace).into_iter().flatten().any(|grant| {
            let from = grant.spec.from.iter().any(|from| {
                from.group == referrer.group && from.kind == referrer.kind && from.namespace == referrer.namespace
            });
            from && grant.spec.to.iter().any(|to| {
                to.group == group && to.kind == kind && to.name.as_deref().is_none_or(|wanted| wanted == name)
            })
        })
    }

    /// The labels of a namespace; one that no document describes has its name's label, as in a cluster.
    pub(super) fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let described = self.get("", "Namespace", "", namespace).map(|object| object.metadata.labels.clone());
        let mut labels = described.unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".into(), namespace.into());
        labels
    }
}
