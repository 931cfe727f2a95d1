//! Certificates of HTTPS listeners, from Secrets.

use std::sync::Arc;

use gateway_api::experimental::gateways::GatewayListenersTlsCertificateRefs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_api::certificate::Unusable;
use tidegate_api::{Resource, Severity};
use xxhash_rust::xxh3::xxh3_64;

use super::index::{GATEWAY_GROUP, Index, Referrer};
use crate::snapshot::Certificate;

/// The reason of `ResolvedRefs=False`, and a message.
type Problem = (&'static str, String);

/// The certificate that a listener of a Gateway in `namespace` refers to, and what is wrong with its newest description
/// where an earlier one serves.
///
/// # Errors
/// Why there is none.
pub(super) fn load(
    index: &Index<'_>,
    namespace: &str,
    reference: &GatewayListenersTlsCertificateRefs,
) -> Result<(Arc<Certificate>, Option<Problem>), Problem> {
    let group = reference.group.as_deref().unwrap_or_default();
    let kind = reference.kind.as_deref().unwrap_or("Secret");
    let (name, other) = (&reference.name, reference.namespace.as_deref().unwrap_or(namespace));
    let invalid = |message: String| ("InvalidCertificateRef", message);
    if !group.is_empty() || kind != "Secret" {
        return Err(invalid(format!("certificateRefs takes Secrets of the core group, not {kind} of {group:?}")));
    }
    let referrer = Referrer { group: GATEWAY_GROUP, kind: "Gateway", namespace };
    if !index.may_refer(referrer, "", "Secret", other, name) {
        return Err((
            "RefNotPermitted",
            format!("no ReferenceGrant in {other} lets Gateways of {namespace} refer to Secret {other}/{name}"),
        ));
    }
    let object = index
        .get("", "Secret", other, name)
        .ok_or_else(|| invalid(format!("Secret {other}/{name} is not described, or what describes it is broken")))?;
    let Resource::Secret(secret) = object.resource else {
        return Err(invalid(format!("Secret {other}/{name} is not described")));
    };
    let part = |key: &str| -> Option<Vec<u8>> {
        let plain = secret.string_data.as_ref().and_then(|data| data.get(key)).map(|text| text.clone().into_bytes());
        plain.or_else(|| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()))
    };
    let read = |key: &str| part(key).ok_or_else(|| invalid(format!("Secret {other}/{name} has no {key}")));
    let (certificate, private) = (read("tls.crt")?, read("tls.key")?);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format!("tls.crt of Secret {other}/{name} is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(invalid(format!("tls.crt of Secret {other}/{name} holds no certificate")));
    }
    let key = PrivateKeyDer::from_pem_slice(&private)
        .map_err(|error| invalid(format!("tls.key of Secret {other}/{name} holds no private key: {error}")))?;
    tidegate_api::certificate::check(chain.clone(), &key).map_err(|unusable| {
        let part = if unusable == Unusable::Certificate { "tls.crt" } else { "tls.key" };
        invalid(format!("{part} of Secret {other}/{name} {unusable}"))
    })?;
    let broken = object.admitted.findings.iter().find(|finding| finding.severity == Severity::Error).map(|finding| {
        invalid(format!(
            "Secret {other}/{name} is broken ({}); the certificate before it serves until that is mended",
            finding.message
        ))
    });
    let fingerprint = xxh3_64(&[certificate, private].concat());
    Ok((Arc::new(Certificate { secret: Arc::new(object.key.clone()), chain, key, fingerprint }), broken))
}
