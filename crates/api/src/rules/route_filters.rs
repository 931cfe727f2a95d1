//! An HTTPRoute's filters: each carries what its type says, and they can be applied together.

use serde_json::Value;

use crate::node::Node;
use crate::report::Report;

/// A filter's type and the field that carries it.
const CARRIERS: [(&str, &str); 8] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("ExtensionRef", "extensionRef"),
    ("CORS", "cors"),
    ("ExternalAuth", "externalAuth"),
];

/// Types that may stand only once in a list.
const ONCE: [&str; 5] = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite", "CORS"];

/// Checks them all.
pub(crate) fn check(route: &Value, report: &mut Report) {
    for rule in Node::root(route).key("spec").key("rules").items() {
        let backends = rule.key("backendRefs").items();
        let filters = rule.key("filters").items();
        list(&filters, report);
        for backend in &backends {
            list(&backend.key("filters").items(), report);
        }
        for filter in filters.iter().filter(|filter| filter.key("requestRedirect").present()) {
            if !backends.is_empty() {
                let sentence =
                    "redirects every request, so the rule's backendRefs would never be used; remove one of the two";
                report.error("IncompatibleFilters", filter.path(), sentence);
            }
        }
        let of_backends = backends.iter().flat_map(|backend| backend.key("filters").items());
        for filter in filters.iter().cloned().chain(of_backends) {
            prefix_replacement(&rule, &filter, report);
        }
    }
}

fn list(filters: &[Node<'_>], report: &mut Report) {
    for name in ONCE {
        for again in of_type(filters, name).skip(1) {
            report.error("Duplicate", again.path(), format!("is a second {name}; write all its changes in one"));
        }
    }
    if let (Some(rewrite), Some(_)) =
        (of_type(filters, "URLRewrite").next(), of_type(filters, "RequestRedirect").next())
    {
        let sentence = "rewrites a request that another filter redirects; a redirect can change the path by itself";
        report.error("IncompatibleFilters", rewrite.path(), sentence);
    }
    for filter in filters {
        carrier(filter, report);
        mirror_share(&filter.key("requestMirror"), report);
        for name in ["requestRedirect", "urlRewrite"] {
            path_change(&filter.key(name).key("path"), report);
        }
        cors_any(&filter.key("cors"), report);
        external_auth(&filter.key("externalAuth"), report);
    }
}

fn of_type<'a, 'b>(filters: &'b [Node<'a>], name: &'b str) -> impl Iterator<Item = &'b Node<'a>> {
    filters.iter().filter(move |filter| filter.key("type").text() == Some(name))
}

fn carrier(filter: &Node<'_>, report: &mut Report) {
    let Some(kind) = filter.key("type").text() else { return };
    for (name, field) in CARRIERS {
        let carried = filter.key(field);
        if kind == name && !carried.present() {
            report.error("RequiredField", carried.path(), format!("is missing; a filter of type {name} must have it"));
        } else if kind != name && carried.present() {
            let sentence = format!("belongs to type {name}, but the filter's type is {kind}; correct one of the two");
            report.error("IncompatibleFilters", carried.path(), sentence);
        }
    }
}

fn mirror_share(mirror: &Node<'_>, report: &mut Report) {
    let (percent, fraction) = (mirror.key("percent"), mirror.key("fraction"));
    if percent.present() && fraction.present() {
        report.error("IncompatibleFilters", fraction.path(), "stands beside percent; write only one of the two");
    }
    let denominator = fraction.key("denominator");
    let whole = if denominator.present() { denominator.whole() } else { Some(100) };
    if let (Some(part), Some(whole)) = (fraction.key("numerator").whole(), whole)
        && part > whole
    {
        let sentence = format!("is {part}, more than the denominator {whole}; at most all requests can be mirrored");
        report.error("OutOfRange", fraction.key("numerator").path(), sentence);
    }
}

fn path_change(path: &Node<'_>, report: &mut Report) {
    let Some(kind) = path.key("type").text() else { return };
    for (name, field) in [("ReplaceFullPath", "replaceFullPath"), ("ReplacePrefixMatch", "replacePrefixMatch")] {
        let carried = path.key(field);
        if kind == name && !carried.present() {
            report.error("RequiredField", carried.path(), format!("is missing; type {name} must have it"));
        } else if kind != name && carried.present() {
            let sentence = format!("belongs to type {name}, but the type is {kind}; correct one of the two");
            report.error("IncompatibleFilters", carried.path(), sentence);
        }
    }
}

/// A prefix can only be replaced where the rule says which prefix matched.
fn prefix_replacement(rule: &Node<'_>, filter: &Node<'_>, report: &mut Report) {
    for name in ["requestRedirect", "urlRewrite"] {
        let replacement = filter.key(name).key("path").key("replacePrefixMatch");
        if !replacement.present() {
            continue;
        }
        let matches = rule.key("matches").items();
        // Without matches, the default is the prefix "/".
        let one_prefix = match matches.as_slice() {
            [] => !rule.key("matches").present(),
            [only] => only.key("path").key("type").text_or("PathPrefix") == Some("PathPrefix"),
            _ => false,
        };
        if !one_prefix {
            let sentence = "needs a rule with exactly one match, on a PathPrefix, to know which prefix it replaces";
            report.error("IncompatibleFilters", replacement.path(), sentence);
        }
    }
}

fn cors_any(cors: &Node<'_>, report: &mut Report) {
    for name in ["allowOrigins", "allowMethods", "allowHeaders"] {
        let values = cors.key(name);
        let items = values.items();
        if items.len() > 1 && items.iter().any(|item| item.text() == Some("*")) {
            report.error("IncompatibleFilters", values.path(), "has \"*\" beside others; \"*\" stands alone");
        }
    }
}

fn external_auth(auth: &Node<'_>, report: &mut Report) {
    let Some(protocol) = auth.key("protocol").text() else { return };
    for (name, field) in [("GRPC", "grpc"), ("HTTP", "http")] {
        let carried = auth.key(field);
        if protocol == name && !carried.present() {
            report.error("RequiredField", carried.path(), format!("is missing; protocol {name} must have it"));
        } else if protocol != name && carried.present() {
            let sentence =
                format!("belongs to protocol {name}, but the protocol is {protocol}; correct one of the two");
            report.error("IncompatibleFilters", carried.path(), sentence);
        }
    }
}
