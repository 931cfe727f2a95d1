//! Rules that a schema cannot say: what fields must be to one another. Each module names what it checks; the CRDs'
//! validation expressions are their source.

pub(crate) mod gateway_listeners;
pub(crate) mod regular_expression;
pub(crate) mod rollout;
pub(crate) mod rollout_judging;
pub(crate) mod rollout_stages;
pub(crate) mod route_filters;
pub(crate) mod route_matches;
pub(crate) mod route_references;
pub(crate) mod route_timing;
