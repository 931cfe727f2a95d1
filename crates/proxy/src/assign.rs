//! Assign: which arm a request goes to, and which model it asks there.
//!
//! An arm that is known not to serve the requested model gives its share to those that do; unknown is not absent.
//! Must not do I/O: it reads the snapshot and what signals have told.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tidegate_routing::snapshot::{Arm, ArmTarget, ModelRule, PickerSource, Rule};
use tidegate_routing::{Draw, Split};
use tidegate_telemetry::Reason;
use tidegate_telemetry::observation::{Redistribution, RedistributionReason};

use crate::active::{Active, ActivePool};
use crate::error::Refusal;

/// The header that carries a session key.
const SESSION: HeaderName = HeaderName::from_static("x-session-id");

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Assigned<'a> {
    pub(crate) arm: &'a Arm,
    pub(crate) pool: &'a Arc<ActivePool>,
    /// The name to ask for, where it differs from what was asked.
    pub(crate) target: Option<&'a Arc<str>>,
    /// The arm that gave the request away.
    pub(crate) redistributed: Option<Redistribution>,
}

/// The session key of a request.
pub(crate) fn session(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(SESSION).map(http::HeaderValue::as_bytes).filter(|key| !key.is_empty())
}

/// Chooses among a split's arms: by the session where there is one, else at random.
fn choose(split: &Split, session: Option<&[u8]>, masked: u32) -> Option<usize> {
    split.choose(session.map_or_else(|| Draw::Random(fastrand::u64(..)), Draw::Session), masked)
}

/// Assigns a request.
///
/// # Errors
/// 500 when the rule or the arm leads nowhere, 503 when the arm's pool has no endpoint or nobody to pick one.
pub(crate) fn assign<'a>(
    active: &'a Active,
    rule: &'a Rule,
    model: Option<&str>,
    session: Option<&[u8]>,
) -> Result<Assigned<'a>, Refusal> {
    let masks = Masks::of(active, rule, model);
    let nowhere = || Refusal::new(Reason::NoBackend, "the route's rule has no backend with a weight above 0");
    let drawn = choose(&rule.split, session, 0).ok_or_else(nowhere)?;
    let (index, redistributed) = match masks.reason(drawn) {
        None => (drawn, None),
        // The first draw's bits are spent: those that led to a masked arm are no longer uniform.
        Some(reason) => match choose(&rule.split, session, masks.all()) {
            Some(other) => {
                let from = rule.arms.get(drawn).map(|arm| Redistribution { from: arm.label.clone(), reason });
                (other, from)
            }
            None => (drawn, None),
        },
    };
    let arm = rule.arms.get(index).ok_or_else(nowhere)?;
    let pool = pool_of(active, arm)?;
    if let PickerSource::Unavailable(why) = &pool.pool.picker {
        return Err(Refusal::new(Reason::PickerUnavailable, why.clone()));
    }
    if pool.pool.endpoints.is_empty() {
        return Err(Refusal::new(Reason::NoEndpoint, format!("pool {} has no ready endpoint", pool.pool.label)));
    }
    let target = pool.pool.models.rule(model).and_then(|rule| target(rule, session));
    Ok(Assigned { arm, pool, target, redistributed })
}

/// The model that a requested name becomes.
pub(crate) fn target<'a>(rule: &'a ModelRule, session: Option<&[u8]>) -> Option<&'a Arc<str>> {
    let chosen = if rule.targets.len() == 1 { 0 } else { choose(&rule.split, session, 0)? };
    rule.targets.get(chosen).map(|target| &target.model)
}

fn pool_of<'a>(active: &'a Active, arm: &Arm) -> Result<&'a Arc<ActivePool>, Refusal> {
    match &arm.target {
        ArmTarget::Pool(index) => active
            .pools
            .get(index.0)
            .ok_or_else(|| Refusal::new(Reason::InvalidBackend, "the route's backend is not in the snapshot")),
        ArmTarget::Invalid(why) => Err(Refusal::new(Reason::InvalidBackend, why.clone())),
    }
}

/// Arms that are out of the choice, by position; those behind the 32nd never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    empty: u32,
    absent: u32,
}

impl Masks {
    fn of(active: &Active, rule: &Rule, model: Option<&str>) -> Self {
        let mut masks = Self::default();
        if rule.arms.len() < 2 {
            return masks;
        }
        let asked = model.filter(|_| rule.model_aware);
        let mut served = false;
        for (index, arm) in rule.arms.iter().enumerate().take(32) {
            let ArmTarget::Pool(position) = arm.target else { continue };
            let Some(pool) = active.pools.get(position.0) else { continue };
            if arm.redistribute_when_empty && pool.pool.endpoints.is_empty() {
                masks.empty |= 1 << index;
            }
            match asked.and_then(|model| serves(pool, model)) {
                // Weight 0 takes no requests: it is no arm to give a share to.
                Some(true) => served |= arm.weight > 0 && masks.empty & (1 << index) == 0,
                Some(false) => masks.absent |= 1 << index,
                None => {}
            }
        }
        if !served {
            masks.absent = 0;
        }
        masks
    }

    fn all(self) -> u32 {
        self.empty | self.absent
    }

    fn reason(self, index: usize) -> Option<RedistributionReason> {
        let bit = u32::try_from(index).ok().and_then(|index| 1_u32.checked_shl(index)).unwrap_or(0);
        if self.absent & bit != 0 {
            Some(RedistributionReason::ModelNotServed)
        } else if self.empty & bit != 0 {
            Some(RedistributionReason::EmptyArm)
        } else {
            None
        }
    }
}

/// Whether a pool serves a requested name: because something stands in front of it that maps the name, or because an
/// endpoint lists it; `None` while that is not known.
fn serves(pool: &ActivePool, model: &str) -> Option<bool> {
    if pool.pool.models.rule(Some(model)).is_some() { Some(true) } else { pool.state.serves(model) }
}

#[cfg(test)]
mod tests;
