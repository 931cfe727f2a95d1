//! Fewest running requests, among the endpoints that serve the model; ties at random.

use crate::{PickRequest, Picker, PoolState, Reservation};

/// The first picker: fewest requests under way, weighted by what each endpoint is known to serve.
#[derive(Debug, Default)]
pub struct LeastRequests;

impl Picker for LeastRequests {
    fn pick(&self, pool: &PoolState, request: &PickRequest<'_>) -> Option<Reservation> {
        // (the picker author fills this in)
        let _ = request;
        let endpoint = pool.endpoints.first()?;
        let seen = endpoint.in_flight();
        endpoint.reserve_if(seen).then(|| Reservation::taken(endpoint.clone(), 0))
    }
}
