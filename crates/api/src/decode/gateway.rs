//! The Gateway API's kinds. Constraints follow its CRDs (experimental channel, v1.6).

use std::sync::LazyLock;

use gateway_api::experimental::gatewayclasses::GatewayClassSpec;
use gateway_api::experimental::gateways::GatewaySpec;
use gateway_api::experimental::httproutes::{HttpRoute, HttpRouteRules, HttpRouteSpec};
use gateway_api::experimental::referencegrants::ReferenceGrantSpec;
use serde_json::{Value, json};

use super::Input;
use super::typed::{check, envelope, typed};
use crate::Resource;
use crate::report::Report;
use crate::rules::{gateway_listeners, route_filters, route_matches, route_references, route_timing};
use crate::schema::{Overlay, Shape, derive};

fn text(least: u32, most: u32, format: &str) -> Value {
    json!({"minLength": least, "maxLength": most, "format": format})
}

fn port() -> Value {
    json!({"minimum": 1, "maximum": 65535})
}

pub(super) fn class_overlay() -> Overlay {
    Overlay::on(envelope(&derive::<GatewayClassSpec>()))
        .add("spec.controllerName", &text(1, 253, "controller-name"))
        .add("spec.description", &json!({"maxLength": 64}))
        .reference("spec.parametersRef")
}

pub(super) fn gateway_overlay() -> Overlay {
    let names = |most: u32| json!({"maxProperties": most, "x-key-format": "label-key"});
    let named_by = |field: &str| json!({"minItems": 1, "maxItems": 64, "x-kubernetes-list-map-keys": [field]});
    let mut overlay = Overlay::on(envelope(&derive::<GatewaySpec>()))
        .add("spec.gatewayClassName", &json!({"minLength": 1, "maxLength": 253}))
        .add("spec.addresses", &json!({"maxItems": 16}))
        .add("spec.addresses[].type", &json!({"minLength": 1, "maxLength": 253}))
        .add("spec.addresses[].value", &json!({"maxLength": 253}))
        .add("spec.infrastructure.annotations", &names(16))
        .add("spec.infrastructure.annotations{}", &json!({"maxLength": 4096}))
        .add("spec.infrastructure.labels", &names(8))
        .add("spec.infrastructure.labels{}", &json!({"maxLength": 63, "format": "label-value"}))
        .reference("spec.infrastructure.parametersRef")
        .add("spec.listeners", &named_by("name"))
        .add("spec.listeners[].name", &text(1, 253, "subdomain"))
        .add("spec.listeners[].hostname", &text(1, 253, "wildcard-hostname"))
        .add("spec.listeners[].port", &port())
        .add("spec.listeners[].protocol", &json!({"minLength": 1, "maxLength": 255}))
        .add("spec.listeners[].allowedRoutes.kinds", &json!({"maxItems": 8}))
        .reference("spec.listeners[].allowedRoutes.kinds[]")
        .add("spec.listeners[].tls.certificateRefs", &json!({"maxItems": 64}))
        .reference("spec.listeners[].tls.certificateRefs[]")
        .add("spec.listeners[].tls.options", &json!({"maxProperties": 16}))
        .add("spec.listeners[].tls.options{}", &json!({"maxLength": 4096}))
        .reference("spec.tls.backend.clientCertificateRef")
        .add("spec.tls.frontend.perPort", &json!({"maxItems": 64, "x-kubernetes-list-map-keys": ["port"]}))
        .add("spec.tls.frontend.perPort[].port", &port());
    for selector in ["spec.listeners[].allowedRoutes.namespaces.selector", "spec.allowedListeners.namespaces.selector"]
    {
        let operators = json!({"enum": ["In", "NotIn", "Exists", "DoesNotExist"]});
        overlay = overlay.add(&format!("{selector}.matchExpressions[].operator"), &operators);
    }
    for validation in ["spec.tls.frontend.default.validation", "spec.tls.frontend.perPort[].tls.validation"] {
        let references = format!("{validation}.caCertificateRefs");
        overlay =
            overlay.add(&references, &json!({"minItems": 1, "maxItems": 16})).reference(&format!("{references}[]"));
    }
    overlay
}

pub(super) fn route_overlay() -> Overlay {
    let at_most = |most: u32| json!({"maxItems": most});
    let mut overlay = Overlay::on(envelope(&derive::<HttpRouteSpec>()))
        .add("spec.hostnames", &at_most(16))
        .add("spec.hostnames[]", &text(1, 253, "wildcard-hostname"))
        .add("spec.parentRefs", &at_most(32))
        .reference("spec.parentRefs[]")
        .add("spec.rules", &json!({"minItems": 1, "maxItems": 16}))
        .add("spec.rules[].name", &text(1, 253, "subdomain"))
        .add("spec.rules[].backendRefs", &at_most(16))
        .reference("spec.rules[].backendRefs[]")
        .add("spec.rules[].backendRefs[].weight", &json!({"minimum": 0, "maximum": 1_000_000}))
        .add("spec.rules[].matches", &at_most(64))
        .add("spec.rules[].matches[].path.value", &json!({"maxLength": 1024}))
        .add("spec.rules[].retry.attempts", &json!({"minimum": 1}))
        .add("spec.rules[].retry.backoff", &json!({"format": "duration"}))
        .add("spec.rules[].retry.codes", &json!({"x-kubernetes-list-type": "set"}))
        .add("spec.rules[].retry.codes[]", &json!({"minimum": 400, "maximum": 599}))
        .add("spec.rules[].timeouts.request", &json!({"format": "duration"}))
        .add("spec.rules[].timeouts.backendRequest", &json!({"format": "duration"}))
        .add("spec.rules[].sessionPersistence.absoluteTimeout", &json!({"format": "duration"}))
        .add("spec.rules[].sessionPersistence.idleTimeout", &json!({"format": "duration"}))
        .add("spec.rules[].sessionPersistence.sessionName", &json!({"maxLength": 128}));
    for matched in ["headers", "queryParams"] {
        let place = format!("spec.rules[].matches[].{matched}");
        let longest = if matched == "headers" { 4096 } else { 1024 };
        overlay = overlay
            .add(&place, &json!({"maxItems": 16, "x-kubernetes-list-map-keys": ["name"]}))
            .add(&format!("{place}[].name"), &text(1, 256, "header-name"))
            .add(&format!("{place}[].value"), &json!({"minLength": 1, "maxLength": longest}));
    }
    overlay = overlay.add("spec.rules[].matches[].headers[].value", &json!({"format": "header-value"}));
    ["spec.rules[].filters", "spec.rules[].backendRefs[].filters"].into_iter().fold(overlay, filter_overlay)
}

fn filter_overlay(overlay: Overlay, place: &str) -> Overlay {
    let at = |field: &str| format!("{place}[].{field}");
    let mut overlay = overlay
        .add(place, &json!({"maxItems": 16}))
        .reference(&at("extensionRef"))
        .reference(&at("requestMirror.backendRef"))
        .reference(&at("externalAuth.backendRef"))
        .add(&at("externalAuth.forwardBody.maxSize"), &json!({"minimum": 0}))
        .add(&at("requestMirror.percent"), &json!({"minimum": 0, "maximum": 100}))
        .add(&at("requestMirror.fraction.numerator"), &json!({"minimum": 0}))
        .add(&at("requestMirror.fraction.denominator"), &json!({"minimum": 1}))
        .add(&at("requestRedirect.port"), &port())
        .add(&at("requestRedirect.statusCode"), &json!({"enum": [301, 302, 303, 307, 308]}))
        .add(&at("cors.maxAge"), &json!({"minimum": 1}))
        .add(&at("cors.allowMethods"), &json!({"maxItems": 9, "x-kubernetes-list-type": "set"}))
        .add(&at("cors.allowMethods[]"), &json!({"enum": METHODS_AND_ANY}))
        .add(&at("cors.allowOrigins"), &json!({"maxItems": 64, "x-kubernetes-list-type": "set"}))
        .add(&at("cors.allowOrigins[]"), &text(1, 253, "cors-origin"));
    for list in ["cors.allowHeaders", "cors.exposeHeaders"] {
        overlay = overlay
            .add(&at(list), &json!({"maxItems": 64, "x-kubernetes-list-type": "set"}))
            .add(&at(&format!("{list}[]")), &text(1, 256, "header-name"));
    }
    for filter in ["requestRedirect", "urlRewrite"] {
        overlay = overlay
            .add(&at(&format!("{filter}.hostname")), &text(1, 253, "hostname"))
            .add(&at(&format!("{filter}.path.replaceFullPath")), &json!({"maxLength": 1024}))
            .add(&at(&format!("{filter}.path.replacePrefixMatch")), &json!({"maxLength": 1024}));
    }
    for filter in ["requestHeaderModifier", "responseHeaderModifier"] {
        for list in ["set", "add"] {
            let list = at(&format!("{filter}.{list}"));
            overlay = overlay
                .add(&list, &json!({"maxItems": 16, "x-kubernetes-list-map-keys": ["name"]}))
                .add(&format!("{list}[].name"), &text(1, 256, "header-name"))
                .add(&format!("{list}[].value"), &text(1, 4096, "header-value"));
        }
        let list = at(&format!("{filter}.remove"));
        overlay = overlay
            .add(&list, &json!({"maxItems": 16, "x-kubernetes-list-type": "set"}))
            .add(&format!("{list}[]"), &json!({"format": "header-name"}));
    }
    overlay
}

const METHODS_AND_ANY: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];

pub(super) fn grant_overlay() -> Overlay {
    let bounds = json!({"minItems": 1, "maxItems": 16});
    Overlay::on(envelope(&derive::<ReferenceGrantSpec>()))
        .add("spec.from", &bounds)
        .reference("spec.from[]")
        .add("spec.to", &bounds)
        .reference("spec.to[]")
}

static CLASS: LazyLock<Shape> = LazyLock::new(|| class_overlay().shape());
static GATEWAY: LazyLock<Shape> = LazyLock::new(|| gateway_overlay().shape());
static ROUTE: LazyLock<Shape> = LazyLock::new(|| route_overlay().shape());
static GRANT: LazyLock<Shape> = LazyLock::new(|| grant_overlay().shape());

pub(super) fn gateway_class(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &CLASS, report);
    typed(input.value, &CLASS, report).map(|class| Resource::GatewayClass(Box::new(class)))
}

pub(super) fn gateway(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &GATEWAY, report);
    gateway_listeners::check(input.value, report);
    typed(input.value, &GATEWAY, report).map(|gateway| Resource::Gateway(Box::new(gateway)))
}

pub(super) fn http_route(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &ROUTE, report);
    route_references::check(input.value, report);
    route_matches::check(input.value, report);
    route_filters::check(input.value, report);
    route_timing::check(input.value, report);
    let mut route: HttpRoute = typed(input.value, &ROUTE, report)?;
    // What the CRD's default says: one rule that takes everything and leads nowhere, so its requests get 500 and not
    // another route's answer.
    route.spec.rules.get_or_insert_with(|| vec![HttpRouteRules::default()]);
    Some(Resource::HttpRoute(Box::new(route)))
}

pub(super) fn reference_grant(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &GRANT, report);
    typed(input.value, &GRANT, report).map(|grant| Resource::ReferenceGrant(Box::new(grant)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_constraint_finds_its_field() {
        for overlay in
            [super::class_overlay(), super::gateway_overlay(), super::route_overlay(), super::grant_overlay()]
        {
            assert_eq!(overlay.missed(), [] as [&str; 0]);
        }
    }
}
