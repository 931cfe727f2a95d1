//! Hostnames of listeners and routes, and where they meet.

use crate::snapshot::Hostname;

/// `*.example.com` or `api.example.com`, in any case.
pub(super) fn parse(text: &str) -> Hostname {
    let text = text.to_ascii_lowercase();
    match text.strip_prefix('*') {
        Some(suffix) => Hostname::Wildcard(suffix.to_owned()),
        None => Hostname::Exact(text),
    }
}

/// The hostnames under which a route is reachable through a listener: empty means any host; `None` means that they
/// do not meet (HTTPRouteSpec.hostnames).
pub(super) fn meet(listener: Option<&Hostname>, route: &[Hostname]) -> Option<Vec<Hostname>> {
    let Some(listener) = listener else { return Some(route.to_vec()) };
    if route.is_empty() {
        return Some(vec![listener.clone()]);
    }
    let met: Vec<Hostname> = route.iter().filter_map(|route| narrower(listener, route)).collect();
    (!met.is_empty()).then_some(met)
}

/// The narrower of two hostnames, if one lies in the other.
fn narrower(one: &Hostname, other: &Hostname) -> Option<Hostname> {
    match (one, other) {
        (Hostname::Exact(name), Hostname::Exact(same)) => (name == same).then(|| one.clone()),
        (Hostname::Exact(name), Hostname::Wildcard(suffix)) => lies_under(name, suffix).then(|| one.clone()),
        (Hostname::Wildcard(suffix), Hostname::Exact(name)) => lies_under(name, suffix).then(|| other.clone()),
        (Hostname::Wildcard(wide), Hostname::Wildcard(narrow)) if narrow.ends_with(wide.as_str()) => {
            Some(other.clone())
        }
        (Hostname::Wildcard(narrow), Hostname::Wildcard(wide)) => narrow.ends_with(wide.as_str()).then(|| one.clone()),
    }
}

/// `a.example.com` lies under `.example.com`; `.example.com` itself does not.
fn lies_under(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix)
}

/// More specific first: exact names, then longer wildcards, then none.
pub(super) fn specificity(hostname: Option<&Hostname>) -> (u8, usize) {
    match hostname {
        Some(Hostname::Exact(_)) => (0, 0),
        Some(Hostname::Wildcard(suffix)) => (1, usize::MAX - suffix.len()),
        None => (2, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::{meet, parse};

    #[test]
    fn hostnames_meet_as_the_specification_says() {
        let met = |listener: Option<&str>, route: &[&str]| {
            let route: Vec<_> = route.iter().map(|name| parse(name)).collect();
            meet(listener.map(parse).as_ref(), &route)
        };
        assert_eq!(met(None, &[]), Some(vec![]));
        assert_eq!(met(Some("*.example.com"), &[]), Some(vec![parse("*.example.com")]));
        assert_eq!(met(Some("*.example.com"), &["a.example.com", "b.net"]), Some(vec![parse("a.example.com")]));
        assert_eq!(met(Some("a.example.com"), &["*.example.com"]), Some(vec![parse("a.example.com")]));
        assert_eq!(met(Some("*.example.com"), &["example.com"]), None);
        assert_eq!(met(Some("*.a.example.com"), &["*.example.com"]), Some(vec![parse("*.a.example.com")]));
        assert_eq!(met(Some("a.com"), &["b.com"]), None);
    }
}
