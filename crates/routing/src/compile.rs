//! Compile: documents to one [`Snapshot`] and the status of every document. A pure function.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tidegate_api::{ObjectKey, ObjectStatus};

use crate::{Admitted, FactsByRollout, Rollouts, Snapshot};

mod certificates;
mod filters;
mod gateways;
mod hostnames;
mod index;
mod matches;
mod models;
mod policies;
mod pools;
mod references;
mod rollouts;
mod routes;
mod rules;
mod services;
mod statuses;

use index::Index;
use policies::Policies;
use pools::Pools;
use rollouts::Plans;
use statuses::Statuses;

/// What compile needs to know beside the documents.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Counts compiles; copied to [`Snapshot::generation`].
    pub generation: u64,
    /// Where listeners bind unless the Gateway says `spec.addresses` (`--bind`, default all interfaces).
    pub bind: IpAddr,
    /// `--listen`: stands in for every Gateway that a route names and nobody describes.
    pub listen: Option<SocketAddr>,
    /// Sockets that could not be bound, and why: their listeners get Programmed=False.
    pub bind_failures: BTreeMap<SocketAddr, String>,
    /// Sockets that were bound, with the address they got (differs for port 0).
    pub bound: BTreeMap<SocketAddr, SocketAddr>,
    /// Addresses of this machine that a client can use, for a Gateway's `status.addresses` when bound to all
    /// interfaces; the first is the one to print.
    pub usable_addresses: Vec<IpAddr>,
    /// Active and ended roll-outs.
    pub rollouts: Rollouts,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            generation: 1,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            listen: None,
            bind_failures: BTreeMap::new(),
            bound: BTreeMap::new(),
            usable_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            rollouts: Rollouts::default(),
        }
    }
}

/// What compile gives.
#[derive(Debug)]
pub struct Compiled {
    /// The table for the data plane.
    pub snapshot: Arc<Snapshot>,
    /// What became of each document.
    pub statuses: BTreeMap<ObjectKey, ObjectStatus>,
    /// What was found out about each roll-out.
    pub rollouts: FactsByRollout,
}

/// Compiles what was admitted.
pub fn compile(admitted: &[Admitted], environment: &Environment) -> Compiled {
    let index = Index::new(admitted);
    let mut statuses = Statuses::new(admitted);
    let policies = Policies::compile(&index, &mut statuses);
    let mut gateways = gateways::compile(&index, environment, &policies, &mut statuses);
    let mut tables = models::tables(&index, &mut statuses);
    let plans = Plans::new(&index, &environment.rollouts, &tables);
    plans.lay_over_models(&mut tables, &mut statuses);
    let mut pools = Pools::new(&index, tables);
    routes::attach(&index, &policies, &mut gateways, &mut pools, &plans, &mut statuses);
    let rollouts = plans.finish(&index, &mut pools, &mut statuses);
    pools.report(&mut statuses);
    let sockets = gateways::finish(gateways, environment, &mut statuses);
    let snapshot = Snapshot { generation: environment.generation, sockets, pools: pools.into_list() };
    Compiled { snapshot: Arc::new(snapshot), statuses: statuses.into_map(), rollouts }
}

#[cfg(test)]
mod tests;
