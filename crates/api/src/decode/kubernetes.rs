//! Kubernetes' own kinds: Service, EndpointSlice, Secret, Namespace.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use schemars::JsonSchema;
use serde_json::json;

use super::Input;
use super::typed::{check, typed};
use crate::certificate::{self, Unusable};
use crate::node::Node;
use crate::report::Report;
use crate::schema::{Overlay, Shape, derive};
use crate::{FieldPath, Resource};

/// The derived schema of a whole Kubernetes type, without `metadata` and `status`, which are handled apart.
fn base<T: JsonSchema>() -> Overlay {
    let mut schema = derive::<T>();
    if let Some(fields) = schema.pointer_mut("/properties").and_then(serde_json::Value::as_object_mut) {
        fields.insert("metadata".to_owned(), json!({}));
        fields.insert("status".to_owned(), json!({}));
        fields.entry("apiVersion").or_insert_with(|| json!({}));
        fields.entry("kind").or_insert_with(|| json!({}));
    }
    Overlay::on(schema)
}

fn port() -> serde_json::Value {
    json!({"minimum": 1, "maximum": 65535})
}

pub(super) fn service_overlay() -> Overlay {
    base::<Service>()
        .add("", &json!({"required": ["spec"]}))
        .add("spec.type", &json!({"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]}))
        .add("spec.ports[].port", &port())
        .add("spec.ports[].targetPort", &port())
        .add("spec.ports[].protocol", &json!({"enum": ["TCP", "UDP", "SCTP"]}))
        .add("spec.externalName", &json!({"maxLength": 253, "format": "hostname"}))
        .add("spec.selector{}", &json!({"format": "label-value"}))
}

pub(super) fn endpoint_slice_overlay() -> Overlay {
    base::<EndpointSlice>()
        // The API server prints a slice without endpoints with `endpoints: null`.
        .add("", &json!({"required": ["addressType"]}))
        .add("addressType", &json!({"enum": ["IPv4", "IPv6", "FQDN"]}))
        .add("endpoints", &json!({"maxItems": 1000}))
        .add("endpoints[].addresses", &json!({"minItems": 1, "maxItems": 100}))
        .add("ports", &json!({"maxItems": 100}))
        .add("ports[].port", &port())
        .add("ports[].protocol", &json!({"enum": ["TCP", "UDP", "SCTP"]}))
}

static SERVICE: LazyLock<Shape> = LazyLock::new(|| service_overlay().shape());
static ENDPOINT_SLICE: LazyLock<Shape> = LazyLock::new(|| endpoint_slice_overlay().shape());
static SECRET: LazyLock<Shape> = LazyLock::new(|| base::<Secret>().shape());
static NAMESPACE: LazyLock<Shape> = LazyLock::new(|| base::<Namespace>().shape());

pub(super) fn service(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &SERVICE, report);
    let spec = Node::root(input.value).key("spec");
    let ports = spec.key("ports").items();
    if spec.key("type").text() == Some("ExternalName") && !spec.key("externalName").present() {
        let sentence = "is missing; it must be the host name that a Service of type ExternalName stands for";
        report.error("RequiredField", spec.key("externalName").path(), sentence);
    }
    let mut names = std::collections::HashSet::new();
    for port in &ports {
        let name = port.key("name");
        match name.text() {
            None if ports.len() > 1 && !name.present() => {
                report.error("RequiredField", name.path(), "is missing; with several ports each needs a name");
            }
            Some(text) if !names.insert(text) => {
                report.error("Duplicate", name.path(), format!("is {text:?} once more; each port needs its own name"));
            }
            _ => {}
        }
    }
    typed(input.value, &SERVICE, report).map(|service| Resource::Service(Box::new(service)))
}

pub(super) fn endpoint_slice(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &ENDPOINT_SLICE, report);
    let root = Node::root(input.value);
    let wanted = root.key("addressType").text();
    for address in root.key("endpoints").items().iter().flat_map(|endpoint| endpoint.key("addresses").items()) {
        let Some(text) = address.text() else { continue };
        let (fits, what) = match wanted {
            Some("IPv4") => (text.parse::<std::net::Ipv4Addr>().is_ok(), "an IPv4 address, as addressType says"),
            Some("IPv6") => (text.parse::<std::net::Ipv6Addr>().is_ok(), "an IPv6 address, as addressType says"),
            _ => (crate::model_server::is_host(text), "a host name"),
        };
        if !fits {
            report.error("InvalidValue", address.path(), format!("is {text:?}, but must be {what}"));
        }
    }
    typed(input.value, &ENDPOINT_SLICE, report).map(|slice| Resource::EndpointSlice(Box::new(slice)))
}

pub(super) fn secret(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    let root = Node::root(input.value);
    // A wrong value of a Secret is not repeated in messages: it may be the secret itself.
    for field in [root.key("data"), root.key("stringData")] {
        if field.value().is_some_and(|value| !value.is_object()) {
            report.error("WrongType", field.path(), "is no mapping; write one line for each key of the Secret");
        }
    }
    for (_, value) in root.key("data").entries() {
        if value.text().is_none_or(|text| !crate::schema::TextFormat::named("byte").is_some_and(|f| f.accepts(text))) {
            report.error(
                "InvalidValue",
                value.path(),
                "is not base64; encode it, or write it in clear under stringData",
            );
        }
    }
    for (_, value) in root.key("stringData").entries() {
        if value.text().is_none() {
            report.error("WrongType", value.path(), "is no text; put it in quotes");
        }
    }
    if !report.has_errors() {
        check(input, &SECRET, report);
    }
    let secret: Secret = typed(input.value, &SECRET, report)?;
    if secret.type_.as_deref() == Some("kubernetes.io/tls") {
        check_certificate(&secret, report);
    }
    Some(Resource::Secret(Box::new(secret)))
}

/// What a TLS Secret must hold for a listener to use it. Found here and not by its listeners, so that a broken edit
/// leaves the certificate before it in force.
fn check_certificate(secret: &Secret, report: &mut Report) {
    let chain = part(secret, "tls.crt", "a certificate chain in PEM", report, |bytes| {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        chain.ok().filter(|chain| !chain.is_empty())
    });
    let key =
        part(secret, "tls.key", "a private key in PEM", report, |bytes| PrivateKeyDer::from_pem_slice(bytes).ok());
    let (Some((crt_field, chain)), Some((key_field, key))) = (chain, key) else { return };
    if let Err(unusable) = certificate::check(chain, &key) {
        let field = if unusable == Unusable::Certificate { crt_field } else { key_field };
        report.error("InvalidValue", &field, unusable.to_string());
    }
}

/// One value of a TLS Secret and its place; said where it is missing or is not what is wanted.
fn part<T>(
    secret: &Secret,
    key: &str,
    wanted: &str,
    report: &mut Report,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Option<(FieldPath, T)> {
    let plain = secret.string_data.as_ref().and_then(|data| data.get(key)).map(String::as_bytes);
    let encoded = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let section = if plain.is_some() { "stringData" } else { "data" };
    let field = FieldPath::root().key(section).key(key);
    let Some(bytes) = plain.or(encoded) else {
        let sentence = format!("is missing; a Secret of type kubernetes.io/tls needs {wanted} there");
        report.error("RequiredField", &field, sentence);
        return None;
    };
    let Some(value) = read(bytes) else {
        // What stands there is not repeated: it may be the secret itself.
        report.error("InvalidValue", &field, format!("is not {wanted}; put the whole file there"));
        return None;
    };
    Some((field, value))
}

pub(super) fn namespace(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &NAMESPACE, report);
    typed(input.value, &NAMESPACE, report).map(|namespace| Resource::Namespace(Box::new(namespace)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_constraint_finds_its_field() {
        for overlay in [super::service_overlay(), super::endpoint_slice_overlay()] {
            assert_eq!(overlay.missed(), [] as [&str; 0]);
        }
    }
}
