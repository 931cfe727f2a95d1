//! Route, its outer half: from a socket and a host to the listener, and from there to the rule.
//!
//! A [`Table`] is the active snapshot in the shape a request asks it: by the socket it came in by.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_routing::Matched;
use tidegate_routing::snapshot::{Hostname, Listener, SocketProtocol};

use crate::active::Active;
use crate::forward::BudgetState;

/// What requests read; replaced as a whole.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) active: Arc<Active>,
    pub(crate) sockets: Vec<TableSocket>,
}

/// One socket.
#[derive(Debug)]
pub(crate) struct TableSocket {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: SocketProtocol,
    /// Most specific hostname first.
    pub(crate) listeners: Vec<TableListener>,
}

/// One listener with its living retry budget.
#[derive(Debug)]
pub(crate) struct TableListener {
    pub(crate) listener: Arc<Listener>,
    pub(crate) budget: Arc<BudgetState>,
    #[cfg(test)]
    rules: Vec<Arc<tidegate_routing::snapshot::Rule>>,
}

impl TableListener {
    /// The rule for a request.
    fn find(&self, host: &str, head: &http::request::Parts) -> Option<Matched<'_>> {
        #[cfg(test)]
        if let Some(rule) = self.rules.first() {
            return Some(Matched { rule, prefix_length: 0 });
        }
        self.listener.router.route(host, head)
    }
}

/// Budgets outlive snapshots: by listener label.
pub(crate) type Budgets = HashMap<Arc<str>, Arc<BudgetState>>;

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Routed<'a> {
    /// To a rule.
    Found(&'a TableListener, Matched<'a>),
    /// A listener takes the host, none of its rules the request.
    NoRule(&'a TableListener),
    /// No listener takes the host.
    NoListener,
    /// The TLS handshake was for another listener.
    Misdirected(&'a TableListener),
}

impl Table {
    /// A snapshot's table; `budgets` gives the counters of listeners that stay and forgets the others.
    pub(crate) fn new(active: Arc<Active>, budgets: &mut Budgets) -> Self {
        let mut kept = Budgets::new();
        let mut budget_of = |listener: &Listener| {
            let budget = budgets
                .get(&listener.label)
                .filter(|known| known.bounds == listener.retry_budget)
                .cloned()
                .unwrap_or_else(|| Arc::new(BudgetState { bounds: listener.retry_budget, ..BudgetState::default() }));
            kept.insert(listener.label.clone(), budget.clone());
            budget
        };
        let sockets = active
            .snapshot
            .sockets
            .iter()
            .map(|socket| TableSocket {
                address: socket.address,
                protocol: socket.protocol,
                listeners: socket
                    .listeners
                    .iter()
                    .map(|listener| TableListener {
                        listener: listener.clone(),
                        budget: budget_of(listener),
                        #[cfg(test)]
                        rules: crate::testing::rules_of(&listener.label),
                    })
                    .collect(),
            })
            .collect();
        *budgets = kept;
        Self { active, sockets }
    }

    /// A socket by the address that the snapshot gives it.
    pub(crate) fn socket(&self, address: SocketAddr) -> Option<&TableSocket> {
        self.sockets.iter().find(|socket| socket.address == address)
    }
}

impl TableSocket {
    /// The rule for a request. `host` is lower case and without port; `server_name` is that of the TLS handshake.
    pub(crate) fn route(&self, host: &str, server_name: Option<&str>, head: &http::request::Parts) -> Routed<'_> {
        let mut alike = self.listeners_for(host).peekable();
        let Some(first) = alike.peek().copied() else { return Routed::NoListener };
        // A connection that was made for one listener must not reach another's routes (RFC 9110, 7.4).
        if let Some(name) = server_name
            && name != host
            && self.listeners_for(name).next().map(|other| &other.listener.hostname) != Some(&first.listener.hostname)
        {
            return Routed::Misdirected(first);
        }
        alike
            .find_map(|table| table.find(host, head).map(|matched| Routed::Found(table, matched)))
            .unwrap_or(Routed::NoRule(first))
    }

    /// The listeners of the most specific hostname that takes a host: one, unless several Gateways share the socket.
    pub(crate) fn listeners_for(&self, host: &str) -> impl Iterator<Item = &TableListener> + use<'_> {
        let best = self.listeners.iter().find(|table| takes(table.listener.hostname.as_ref(), host));
        self.listeners
            .iter()
            .filter(move |table| best.is_some_and(|best| best.listener.hostname == table.listener.hostname))
    }
}

/// Whether a hostname takes a host.
pub(crate) fn takes(hostname: Option<&Hostname>, host: &str) -> bool {
    match hostname {
        None => true,
        Some(Hostname::Exact(exact)) => exact == host,
        Some(Hostname::Wildcard(suffix)) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_take_hosts() {
        let exact = Hostname::Exact("api.example.com".into());
        let wildcard = Hostname::Wildcard(".example.com".into());
        assert!(takes(None, ""));
        assert!(takes(Some(&exact), "api.example.com"));
        assert!(!takes(Some(&exact), "x.api.example.com"));
        assert!(takes(Some(&wildcard), "a.b.example.com"));
        assert!(!takes(Some(&wildcard), "example.com"));
        assert!(!takes(Some(&wildcard), ".example.com"));
    }
}
