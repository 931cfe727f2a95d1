//! Fewest running requests, among the endpoints that serve the model; ties at random.

use std::sync::Arc;

use crate::{EndpointState, PickRequest, Picker, PoolState, Reservation};

/// The first picker: fewest requests under way, weighted by what each endpoint is known to serve.
#[derive(Debug, Default)]
pub struct LeastRequests;

/// How willingly an endpoint is taken, smaller first. The order of the fields is the order of the fall-backs: an
/// endpoint that was tried comes after all others, one that is ejected after all that are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    tried: bool,
    ejected: bool,
    serves: Serves,
    in_flight: u32,
}

/// What is known of an endpoint and a model; unknown is not absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Serves {
    Yes,
    Unknown,
    No,
}

impl Picker for LeastRequests {
    fn pick(&self, pool: &PoolState, request: &PickRequest<'_>) -> Option<Reservation> {
        let mut random = request.random;
        // A reservation fails only because another one succeeded, so some request always gets on.
        loop {
            let (index, endpoint, seen) = best(pool, request, &mut random)?;
            if endpoint.reserve_if(seen) {
                return Some(Reservation::taken(endpoint.clone(), index));
            }
        }
    }
}

/// The endpoint of the best rank, its position, and the load it was seen with; each of several is equally likely.
fn best<'p>(
    pool: &'p PoolState,
    request: &PickRequest<'_>,
    random: &mut u64,
) -> Option<(usize, &'p Arc<EndpointState>, u32)> {
    let mut best: Option<(Rank, usize, &Arc<EndpointState>)> = None;
    let mut alike: u64 = 0;
    for (index, endpoint) in pool.endpoints.iter().enumerate() {
        let rank = rank(index, endpoint, request);
        let taken = match best {
            Some((known, ..)) if rank > known => continue,
            Some((known, ..)) if rank == known => {
                alike += 1;
                draw(random, alike)
            }
            _ => {
                alike = 1;
                true
            }
        };
        if taken {
            best = Some((rank, index, endpoint));
        }
    }
    best.map(|(rank, index, endpoint)| (index, endpoint, rank.in_flight))
}

fn rank(index: usize, endpoint: &EndpointState, request: &PickRequest<'_>) -> Rank {
    let serves = match request.model.map(|model| endpoint.lists(model)) {
        None | Some(Some(true)) => Serves::Yes,
        Some(None) => Serves::Unknown,
        Some(Some(false)) => Serves::No,
    };
    Rank { tried: request.tried.contains(&index), ejected: endpoint.ejected(), serves, in_flight: endpoint.in_flight() }
}

/// True once in `of` times: the last of `of` equals replaces the one that is held (reservoir sampling).
fn draw(random: &mut u64, of: u64) -> bool {
    // Knuth's MMIX generator; its low bits are poor, its high ones are not.
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*random >> 32).checked_rem(of) == Some(0)
}

#[cfg(test)]
mod tests;
