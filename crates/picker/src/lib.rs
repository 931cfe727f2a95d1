//! Choice of an endpoint inside a pool, and the state it is chosen by.
//!
//! A [`Picker`] chooses and reserves in one step, so that two requests at once never see the same load. The state is
//! written by others: in-flight counts by reservations, models and metrics by `tidegate-signals`, ejection by the
//! data plane. A missing signal never makes an endpoint unreachable. Nothing here does I/O or reads a clock.

pub mod least_requests;
pub mod state;

pub use least_requests::LeastRequests;
pub use state::{EndpointState, EngineMetrics, ModelCard, ModelList, PoolModels, PoolState, Reservation};

/// What a pick may depend on.
#[derive(Clone, Copy, Debug)]
pub struct PickRequest<'a> {
    /// The target model (after rewriting), if the request names one.
    pub model: Option<&'a str>,
    /// Endpoints of this request's earlier attempts, by position in the pool; passed over while another is left.
    pub tried: &'a [usize],
    /// 64 uniform random bits.
    pub random: u64,
}

/// Chooses an endpoint and reserves a place on it, in one step.
pub trait Picker: Send + Sync + std::fmt::Debug {
    /// A reservation on one endpoint of `pool`; `None` only when the pool has no endpoint at all. Ejected endpoints
    /// are passed over while another is left; so are endpoints that do not list `request.model` while another does.
    fn pick(&self, pool: &PoolState, request: &PickRequest<'_>) -> Option<Reservation>;
}
