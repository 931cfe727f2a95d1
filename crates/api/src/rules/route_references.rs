//! An HTTPRoute's references: parents that differ, Services with ports, rule names used once, hostnames that are names.

use std::collections::HashMap;

use serde_json::Value;

use crate::node::Node;
use crate::report::Report;

/// Checks them all.
pub(crate) fn check(route: &Value, report: &mut Report) {
    let spec = Node::root(route).key("spec");
    distinct_parents(&spec.key("parentRefs").items(), report);
    for hostname in spec.key("hostnames").items() {
        if hostname.text().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()) {
            let sentence = "is an address, and the Gateway API asks for names; leave hostnames out to match every Host";
            report.warn("HostnameIsAddress", hostname.path(), sentence);
        }
    }
    let rules = spec.key("rules").items();
    unique_rule_names(&rules, report);
    for rule in &rules {
        for backend in rule.key("backendRefs").items() {
            service_port(&backend, report);
            mirror_ports(&backend, report);
        }
        mirror_ports(rule, report);
    }
}

fn mirror_ports(holder: &Node<'_>, report: &mut Report) {
    for filter in holder.key("filters").items() {
        service_port(&filter.key("requestMirror").key("backendRef"), report);
        service_port(&filter.key("externalAuth").key("backendRef"), report);
    }
}

/// A reference to a Service names its port; for every other kind the port is optional.
fn service_port(reference: &Node<'_>, report: &mut Report) {
    let is_service =
        reference.key("group").text_or("") == Some("") && reference.key("kind").text_or("Service") == Some("Service");
    let port = reference.key("port");
    if reference.value().is_some_and(Value::is_object) && is_service && !port.present() {
        let sentence = "is missing; a reference to a Service needs the Service's port (if an InferencePool is meant, \
                        write group: inference.networking.k8s.io and kind: InferencePool)";
        report.error("RequiredField", port.path(), sentence);
    }
}

/// References to one parent differ in sectionName or port, and each names one of them.
fn distinct_parents(parents: &[Node<'_>], report: &mut Report) {
    let mut by_object: HashMap<[Option<&str>; 4], Vec<&Node<'_>>> = HashMap::new();
    for parent in parents.iter().filter(|parent| parent.key("name").text().is_some()) {
        let object = [
            parent.key("group").text_or("gateway.networking.k8s.io"),
            parent.key("kind").text_or("Gateway"),
            parent.key("namespace").text_or(""),
            parent.key("name").text(),
        ];
        by_object.entry(object).or_default().push(parent);
    }
    for same in by_object.values().filter(|same| same.len() > 1) {
        let mut seen = HashMap::new();
        for parent in same {
            let section = (parent.key("sectionName").text(), parent.key("port").whole());
            if section == (None, None) {
                let sentence = "names the same parent as another entry; give each a sectionName or a port of its own";
                report.error("Duplicate", parent.path(), sentence);
            } else if let Some(first) = seen.insert(section, parent.path().clone()) {
                report.error("Duplicate", parent.path(), format!("is the same as {first}; write each parent once"));
            }
        }
    }
}

fn unique_rule_names(rules: &[Node<'_>], report: &mut Report) {
    let mut seen = HashMap::new();
    for name in rules.iter().map(|rule| rule.key("name")) {
        let Some(text) = name.text() else { continue };
        if let Some(first) = seen.insert(text, name.path().clone()) {
            report.error("Duplicate", name.path(), format!("is {text:?} like {first}; give each rule its own name"));
        }
    }
}
