//! Assign: which arm a request goes to, and which model it asks there.
//!
//! An arm that is known not to serve the requested model gives its share to those that do; unknown is not absent.
//! Must not do I/O: it reads the snapshot and what signals have told.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tidegate_api::rollout::ArmName;
use tidegate_routing::pair::Closed;
use tidegate_routing::snapshot::{Arm, ArmTarget, ModelRule, PickerSource, Rule};
use tidegate_routing::{Draw, Split};
use tidegate_telemetry::Reason;
use tidegate_telemetry::observation::{Redistribution, RedistributionReason};

use crate::active::{Active, ActivePool};
use crate::error::Refusal;
use crate::read::ReadBody;

mod paired;

pub(crate) use paired::Paired;
use paired::Placed;

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
    /// Its place in the pair of a roll-out between the rule's arms.
    pub(crate) arm_pair: Option<Paired<'a>>,
    /// Its place in the pair of a roll-out between the pool's models.
    pub(crate) target_pair: Option<Paired<'a>>,
}

impl<'a> Assigned<'a> {
    /// The pairs that the request fell on.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = &Paired<'a>> {
        self.arm_pair.iter().chain(&self.target_pair)
    }
}

/// A request as far as its assignment depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'r> {
    pub(crate) headers: &'r HeaderMap,
    pub(crate) read: &'r ReadBody,
}

impl<'r> Asking<'r> {
    fn model(&self) -> Option<&'r str> {
        self.read.model.as_deref()
    }
}

/// The session key of a request.
pub(crate) fn session(headers: &HeaderMap) -> Option<&[u8]> {
    // A look at each of a request's few names costs less than the hash of this one.
    let value = headers.iter().find(|(name, _)| **name == SESSION).map(|(_, value)| value);
    value.map(http::HeaderValue::as_bytes).filter(|key| !key.is_empty())
}

/// Chooses among a split's arms: by the session where there is one, else at random.
fn choose(split: &Split, session: Option<&[u8]>, masked: u32) -> Option<usize> {
    split.choose(session.map_or_else(|| Draw::Random(fastrand::u64(..)), Draw::Session), masked)
}

/// Assigns a request.
///
/// # Errors
/// 500 when the rule or the arm leads nowhere, 503 when the arm's pool has no endpoint or nobody to pick one.
pub(crate) fn assign<'a>(active: &'a Active, rule: &'a Rule, asking: Asking<'_>) -> Result<Assigned<'a>, Refusal> {
    let Chosen { index, redistributed, paired } = choose_arm(active, rule, asking)
        .ok_or_else(|| nowhere("the route's rule has no backend with a weight above 0"))?;
    let arm = rule.arms.get(index).ok_or_else(|| nowhere("the rule's split and its arms differ"))?;
    let pool = pool_of(active, arm)?;
    let (target, target_pair) = match pool.pool.models.rule(asking.model()) {
        Some(rule) => target(pool, rule, asking),
        None => (None, None),
    };
    Ok(Assigned { arm, pool, target, redistributed, arm_pair: paired, target_pair })
}

/// Where a request goes in the place of where it was assigned: the same, but for another arm of its pairs. Nothing where
/// that cannot take it.
pub(crate) fn assign_to<'a>(
    active: &'a Active,
    rule: &'a Rule,
    assigned: &Assigned<'a>,
    asking: Asking<'_>,
    to: ArmName,
) -> Option<Assigned<'a>> {
    let there = |paired: &Paired<'a>| Paired { arm: to, forced: true, ..paired.clone() };
    let arm_pair = assigned.arm_pair.as_ref().map(there);
    let arm = match &arm_pair {
        Some(paired) => rule.arms.get(paired.pair.position(to))?,
        None => assigned.arm,
    };
    let pool = pool_of(active, arm).ok()?;
    let same_pool = Arc::ptr_eq(pool, assigned.pool);
    let (target, target_pair) = match (pool.pool.models.rule(asking.model()), &assigned.target_pair) {
        (Some(rule), Some(paired)) if same_pool => {
            (rule.targets.get(paired.pair.position(to)).map(|target| &target.model), Some(there(paired)))
        }
        (Some(rule), _) => (target(pool, rule, asking).0, None),
        (None, _) => (None, None),
    };
    Some(Assigned { arm, pool, target, redistributed: None, arm_pair, target_pair })
}

/// The arm that a request gets.
struct Chosen<'a> {
    index: usize,
    redistributed: Option<Redistribution>,
    paired: Option<Paired<'a>>,
}

fn choose_arm<'a>(active: &Active, rule: &'a Rule, asking: Asking<'_>) -> Option<Chosen<'a>> {
    let session = session(asking.headers);
    let masks = Masks::of(active, rule, asking.model());
    let drawn = choose(&rule.split, session, 0)?;
    let given =
        |position: usize, reason| rule.arms.get(position).map(|arm| Redistribution { from: arm.label.clone(), reason });
    let pair = rule.pair.as_ref();
    let members = pair.map_or(0, |pair| bits(pair.members()));
    if let Some(pair) = pair.filter(|pair| pair.holds(drawn)) {
        let (paired, placed) = Paired::draw(pair, &asking, paired::closed(masks));
        return Some(match placed {
            Placed::There { arm, instead_of } => {
                let from = instead_of.map(|arm| pair.position(arm));
                let redistributed = from.and_then(|from| given(from, masks.why_closed(from)));
                Chosen { index: pair.position(arm), redistributed, paired: Some(paired) }
            }
            Placed::Nowhere => match choose(&rule.split, session, masks.all() | members) {
                Some(other) => {
                    Chosen { index: other, redistributed: given(drawn, masks.why_closed(drawn)), paired: None }
                }
                None => Chosen { index: pair.position(paired.arm), redistributed: None, paired: Some(paired) },
            },
        });
    }
    let Some(reason) = masks.reason(drawn) else {
        return Some(Chosen { index: drawn, redistributed: None, paired: None });
    };
    // The first draw's bits are spent: those that led to a masked arm are no longer uniform. A pair is out of the choice
    // when both of its arms are: between the two it decides itself.
    let masked = match pair {
        Some(_) if masks.all() & members != members => masks.all() & !members,
        _ => masks.all(),
    };
    let Some(other) = choose(&rule.split, session, masked) else {
        return Some(Chosen { index: drawn, redistributed: None, paired: None });
    };
    let redistributed = given(drawn, reason);
    Some(match pair.filter(|pair| pair.holds(other)) {
        Some(pair) => {
            let (paired, _) = Paired::draw(pair, &asking, paired::closed(masks));
            // Not by chance alone: an arm that was closed sent it here.
            let paired = Paired { forced: true, ..paired };
            Chosen { index: pair.position(paired.arm), redistributed, paired: Some(paired) }
        }
        None => Chosen { index: other, redistributed, paired: None },
    })
}

/// The model that a requested name becomes, and the request's place in the pair that decided so.
pub(crate) fn target<'a>(
    pool: &ActivePool,
    rule: &'a ModelRule,
    asking: Asking<'_>,
) -> (Option<&'a Arc<str>>, Option<Paired<'a>>) {
    let chosen = if rule.targets.len() == 1 { Some(0) } else { choose(&rule.split, session(asking.headers), 0) };
    let Some(chosen) = chosen else { return (None, None) };
    let (chosen, paired) = match rule.pair.as_ref().filter(|pair| pair.holds(chosen)) {
        None => (chosen, None),
        Some(pair) => {
            let listed = |position: usize| pool.state.serves(&rule.targets.get(position)?.model);
            let absent = bits(pair.members().filter(|position| listed(*position) == Some(false)));
            let (paired, _) = Paired::draw(pair, &asking, Closed { empty: 0, absent });
            (pair.position(paired.arm), Some(paired))
        }
    };
    (rule.targets.get(chosen).map(|target| &target.model), paired)
}

fn nowhere(message: &'static str) -> Refusal {
    Refusal::new(Reason::NoBackend, message)
}

/// A mask of positions; those behind the 32nd are left out.
fn bits(positions: impl Iterator<Item = usize>) -> u32 {
    positions.filter_map(|position| 1_u32.checked_shl(u32::try_from(position).ok()?)).fold(0, |mask, bit| mask | bit)
}

/// The pool of an arm, with endpoints and somebody to pick one.
fn pool_of<'a>(active: &'a Active, arm: &Arm) -> Result<&'a Arc<ActivePool>, Refusal> {
    let pool = match &arm.target {
        ArmTarget::Pool(index) => active
            .pools
            .get(index.0)
            .ok_or_else(|| Refusal::new(Reason::InvalidBackend, "the route's backend is not in the snapshot")),
        ArmTarget::Invalid(why) => Err(Refusal::new(Reason::InvalidBackend, why.clone())),
    }?;
    if let PickerSource::Unavailable(why) = &pool.pool.picker {
        return Err(Refusal::new(Reason::PickerUnavailable, why.clone()));
    }
    if pool.pool.endpoints.is_empty() {
        return Err(Refusal::new(Reason::NoEndpoint, format!("pool {} has no ready endpoint", pool.pool.label)));
    }
    Ok(pool)
}

/// Arms that are out of the choice, by position; those behind the 32nd never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    /// Without endpoints, and the route says that such an arm gives its share away.
    empty: u32,
    /// Known not to serve the model, while another arm that takes requests serves it.
    absent: u32,
    /// Without endpoints, whatever the route says: a roll-out's candidate gives its share away in any case.
    without_endpoints: u32,
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
            if pool.pool.endpoints.is_empty() {
                masks.without_endpoints |= 1 << index;
                if arm.redistribute_when_empty {
                    masks.empty |= 1 << index;
                }
            }
            match asked.and_then(|model| serves(pool, model)) {
                // An arm that takes no requests is none to give a share to.
                Some(true) => served |= rule.has_share(index) && masks.empty & (1 << index) == 0,
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
        let bit = bits(std::iter::once(index));
        if self.absent & bit != 0 {
            Some(RedistributionReason::ModelNotServed)
        } else if self.empty & bit != 0 {
            Some(RedistributionReason::EmptyArm)
        } else {
            None
        }
    }

    /// Why an arm of a pair gave a request away.
    fn why_closed(self, index: usize) -> RedistributionReason {
        if self.absent & bits(std::iter::once(index)) != 0 {
            RedistributionReason::ModelNotServed
        } else {
            RedistributionReason::EmptyArm
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
