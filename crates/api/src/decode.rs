//! Decoding: one document to its typed resource, with everything said that can be said by looking at it alone.
//!
//! For every kind: repair what is leniently read, check against the kind's schema, apply the rules that a schema cannot
//! say, and only then build the typed object. References to other objects are compile's matter.

mod gateway;
mod inference;
mod kubernetes;
mod metadata;
mod ours;
mod policy;
mod repair;
mod rollout;
mod typed;
mod unused;

use serde_json::Value;

use crate::inference::{GROUP_ALPHA, GROUP_LLMD, GROUP_V1};
use crate::report::Report;
use crate::{Decoded, Document, FieldPath, ObjectKey, Resource};

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
const ENVOY_GROUP: &str = "gateway.envoyproxy.io";
const OUR_GROUP: &str = "tidegate.dev";

/// How one kind is read.
struct Reader {
    group: &'static str,
    kind: &'static str,
    versions: &'static [&'static str],
    read: fn(&Input<'_>, &mut Report) -> Option<Resource>,
}

/// What a reader gets.
struct Input<'a> {
    /// The document's value, repaired.
    value: &'a Value,
    key: &'a ObjectKey,
}

const fn reader(
    group: &'static str,
    kind: &'static str,
    versions: &'static [&'static str],
    read: fn(&Input<'_>, &mut Report) -> Option<Resource>,
) -> Reader {
    Reader { group, kind, versions, read }
}

static READERS: &[Reader] = &[
    reader(GATEWAY_GROUP, "GatewayClass", &["v1", "v1beta1"], gateway::gateway_class),
    reader(GATEWAY_GROUP, "Gateway", &["v1", "v1beta1"], gateway::gateway),
    reader(GATEWAY_GROUP, "HTTPRoute", &["v1", "v1beta1"], gateway::http_route),
    reader(GATEWAY_GROUP, "ReferenceGrant", &["v1", "v1beta1"], gateway::reference_grant),
    reader(GROUP_V1, "InferencePool", &["v1"], inference::pool_v1),
    reader(GROUP_ALPHA, "InferencePool", &["v1alpha2"], inference::pool_v1alpha2),
    reader(GROUP_ALPHA, "InferenceModel", &["v1alpha2"], inference::model),
    reader(GROUP_LLMD, "InferenceModelRewrite", &["v1alpha2"], inference::rewrite),
    reader(GROUP_ALPHA, "InferenceModelRewrite", &["v1alpha2"], inference::rewrite),
    reader(GROUP_LLMD, "InferenceObjective", &["v1alpha2"], inference::objective),
    reader(GROUP_ALPHA, "InferenceObjective", &["v1alpha2"], inference::objective),
    reader("", "Service", &["v1"], kubernetes::service),
    reader("", "Secret", &["v1"], kubernetes::secret),
    reader("", "Namespace", &["v1"], kubernetes::namespace),
    reader("discovery.k8s.io", "EndpointSlice", &["v1"], kubernetes::endpoint_slice),
    reader(ENVOY_GROUP, "ClientTrafficPolicy", &["v1alpha1"], policy::client),
    reader(ENVOY_GROUP, "BackendTrafficPolicy", &["v1alpha1"], policy::backend),
    reader(OUR_GROUP, "ModelServer", &["v1alpha1"], ours::model_server),
    reader(OUR_GROUP, "GatewayParameters", &["v1alpha1"], ours::gateway_parameters),
    reader(OUR_GROUP, "InferenceRollout", &["v1alpha1"], rollout::inference_rollout),
];

/// Decodes and validates one document by itself.
pub(crate) fn decode(document: &Document) -> Decoded {
    let mut report = Report::new(&document.key);
    let metadata = metadata::read(document);
    let resource = read(document, &mut report);
    let resource = resource.filter(|_| !report.has_errors());
    let mut findings = report.into_findings();
    for finding in &mut findings {
        finding.position = document.origin.position(&finding.field);
    }
    Decoded { key: document.key.clone(), metadata, resource, findings }
}

fn read(document: &Document, report: &mut Report) -> Option<Resource> {
    let key = &document.key;
    let (_, version) = document.api_version.split_once('/').unwrap_or(("", &document.api_version));
    let Some(reader) = READERS.iter().find(|reader| reader.group == key.group && reader.kind == key.kind) else {
        return unknown_kind(document, report);
    };
    if !reader.versions.contains(&version) {
        refuse_version(key, &document.api_version, report);
        return None;
    }
    metadata::check(document, report);
    crate::annotation::review(&key.kind, &metadata::read(document).annotations, report);
    let repaired = repair::repaired(document, report);
    let value = repaired.as_ref().unwrap_or(&document.value);
    (reader.read)(&Input { value, key }, report)
}

/// A kind that we do not read is not used, unless it can only be a slip of the pen.
fn unknown_kind(document: &Document, report: &mut Report) -> Option<Resource> {
    let key = &document.key;
    let distinctive = key.kind.starts_with("Inference")
        || ["HTTPRoute", "GatewayClass", "ReferenceGrant", "EndpointSlice"].contains(&key.kind.as_str());
    if distinctive && READERS.iter().any(|reader| reader.kind == key.kind) {
        refuse_version(key, &document.api_version, report);
        return None;
    }
    if key.group == OUR_GROUP {
        let kinds: Vec<&str> =
            READERS.iter().filter(|reader| reader.group == OUR_GROUP).map(|reader| reader.kind).collect();
        let sentence = format!("is {:?}, but the kinds of {OUR_GROUP} are {}", key.kind, kinds.join(", "));
        report.error("UnknownKind", &FieldPath::root().key("kind"), sentence);
        return None;
    }
    unused::describe(document, report);
    Some(Resource::Unused)
}

fn refuse_version(key: &ObjectKey, written: &str, report: &mut Report) {
    let readable: Vec<String> = READERS
        .iter()
        .filter(|reader| reader.kind == key.kind)
        .flat_map(|reader| {
            reader.versions.iter().map(|version| {
                if reader.group.is_empty() { (*version).to_owned() } else { format!("{}/{version}", reader.group) }
            })
        })
        .collect();
    let sentence = format!("is {written:?}, but a {} is read as {}", key.kind, readable.join(", "));
    report.error("UnknownVersion", &FieldPath::root().key("apiVersion"), sentence);
}

#[cfg(test)]
mod tests;
