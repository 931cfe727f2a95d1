//! A Gateway's listeners and addresses: what protocol, TLS and host name must be to one another.

use std::collections::HashMap;

use serde_json::Value;

use crate::node::Node;
use crate::report::Report;

/// Checks them all.
pub(crate) fn check(gateway: &Value, report: &mut Report) {
    let spec = Node::root(gateway).key("spec");
    let listeners = spec.key("listeners").items();
    for listener in &listeners {
        protocol_and_tls(listener, report);
    }
    distinct_sockets(&listeners, report);
    addresses(&spec.key("addresses").items(), report);
}

fn protocol_and_tls(listener: &Node<'_>, report: &mut Report) {
    let Some(protocol) = listener.key("protocol").text() else { return };
    let (tls, hostname) = (listener.key("tls"), listener.key("hostname"));
    let mode = tls.key("mode");
    if ["HTTP", "TCP", "UDP"].contains(&protocol) && tls.present() {
        let sentence = format!("must not be there with protocol {protocol}; write protocol: HTTPS or remove tls");
        report.error("InvalidValue", tls.path(), sentence);
    }
    if protocol == "HTTPS" && mode.text() == Some("Passthrough") {
        report.error("InvalidValue", mode.path(), "is \"Passthrough\", but must be Terminate with protocol HTTPS");
    }
    if protocol == "TLS" && !mode.present() {
        report.error("RequiredField", mode.path(), "is missing; with protocol TLS it must be given");
    }
    if ["TCP", "UDP"].contains(&protocol) && hostname.present() {
        report.error("InvalidValue", hostname.path(), format!("must not be there with protocol {protocol}"));
    }
    if tls.value().is_some_and(Value::is_object)
        && mode.text_or("Terminate") == Some("Terminate")
        && tls.key("certificateRefs").items().is_empty()
        && tls.key("options").entries().is_empty()
    {
        let sentence = "is missing; to terminate TLS, name a Secret that holds the certificate";
        report.error("RequiredField", tls.key("certificateRefs").path(), sentence);
    }
}

fn distinct_sockets(listeners: &[Node<'_>], report: &mut Report) {
    let mut seen = HashMap::new();
    for listener in listeners {
        let (Some(port), Some(protocol)) = (listener.key("port").whole(), listener.key("protocol").text()) else {
            continue;
        };
        let hostname = listener.key("hostname").text();
        if let Some(first) = seen.insert((port, protocol, hostname), listener.path().clone()) {
            let sentence =
                format!("has the same port, protocol and hostname as {first}; change one of them or remove a listener");
            report.error("Duplicate", listener.path(), sentence);
        }
    }
}

fn addresses(addresses: &[Node<'_>], report: &mut Report) {
    let mut seen = HashMap::new();
    for address in addresses {
        let (Some(kind), value) = (address.key("type").text_or("IPAddress"), address.key("value")) else { continue };
        let Some(text) = value.text() else { continue };
        if kind == "IPAddress" && text.parse::<std::net::IpAddr>().is_err() {
            report.error("InvalidValue", value.path(), format!("is {text:?}, but must be an IP address"));
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        if kind == "Hostname" && !text.is_empty() && !crate::model_server::is_host(name) {
            report.error("InvalidValue", value.path(), format!("is {text:?}, but must be a host name"));
        }
        if ["IPAddress", "Hostname"].contains(&kind)
            && let Some(first) = seen.insert((kind, text), value.path().clone())
        {
            report.error("Duplicate", value.path(), format!("is {text:?} like {first}; write each address once"));
        }
    }
}
