//! Overlay: the weights of roll-outs, laid over what the manifests say, and what compile tells their controller.
//!
//! Input and output of compile; must not decide anything itself. Manifests are never written: while a roll-out is
//! active, its overlay divides the share that stable and candidate have together.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_api::ObjectKey;
use tidegate_api::rollout::{
    ArmSettings, AssignmentSettings, RolloutSettings, RolloutTarget, ShadowSettings, WHOLE_SHARE,
};

use crate::snapshot::PoolIndex;

/// What the controller of roll-outs tells compile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rollouts {
    /// The active roll-outs, from preflight until they step aside. One that is active goes before every one that is
    /// not yet, however old that is.
    pub overlays: Vec<Overlay>,
    /// Roll-outs that have ended: they take nothing and stand in nobody's way.
    pub ended: BTreeSet<ObjectKey>,
}

/// The effective weights of one active roll-out, and all that the data plane needs of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    /// The InferenceRollout.
    pub rollout: ObjectKey,
    /// Identity of the release: salts the session split, the same on every replica.
    pub uid: String,
    /// Where the traffic is split.
    pub target: RolloutTarget,
    /// The arm that serves today.
    pub stable: ArmSettings,
    /// The arm to move to; need not stand in the manifests.
    pub candidate: ArmSettings,
    /// The candidate's part of the pair's share, parts per million, 0 to 1,000,000.
    pub candidate_share_ppm: u32,
    /// Session keys and forced arms.
    pub assignment: AssignmentSettings,
    /// Whether requests that are forced to the candidate reach it: not before preflight, and not while turning back.
    pub admits_forced: bool,
    /// Whether what fails on the candidate before its first byte is sent to stable.
    pub shield: bool,
    /// Requested model names that the candidate does not have: they stay on stable.
    pub excluded_models: BTreeSet<String>,
    /// Mirroring to the candidate, while it goes on.
    pub shadow: Option<ShadowSettings>,
    /// Whether prompts are kept in memory, to warm the candidate with.
    pub keeps_prompts: bool,
}

impl Overlay {
    /// The overlay of a roll-out that begins: everything on stable, nothing forced, nothing mirrored.
    pub fn new(rollout: &ObjectKey, uid: &str, settings: &RolloutSettings) -> Self {
        Self {
            rollout: rollout.clone(),
            uid: uid.to_owned(),
            target: settings.target.clone(),
            stable: settings.stable.clone(),
            candidate: settings.candidate.clone(),
            candidate_share_ppm: 0,
            assignment: settings.assignment.clone(),
            admits_forced: false,
            shield: settings.analysis.shield,
            excluded_models: BTreeSet::new(),
            shadow: None,
            keeps_prompts: false,
        }
    }

    /// Stable's and the candidate's percentage, `90/10`.
    pub fn percentages(&self) -> String {
        let candidate = self.candidate_share_ppm.min(WHOLE_SHARE);
        format!("{}/{}", percent(WHOLE_SHARE - candidate), percent(candidate))
    }
}

/// What the manifests say of a pair's weights; `None` where the arm does not stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairInManifests {
    /// Weight of stable.
    pub stable: Option<u32>,
    /// Weight of the candidate.
    pub candidate: Option<u32>,
}

impl PairInManifests {
    /// Whether stable gets nothing any more and the candidate something: the manifests say what a promotion says.
    pub fn says_promoted(&self) -> bool {
        self.stable.unwrap_or(0) == 0 && self.candidate.unwrap_or(0) > 0
    }

    /// Both together, arm by arm.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let add = |one: Option<u32>, other: Option<u32>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        Self { stable: add(self.stable, other.stable), candidate: add(self.candidate, other.candidate) }
    }
}

/// Why a roll-out is not accepted, or its references do not resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// CamelCase word: `Conflict`, `RouteNotFound`, `RuleNotFound`, `StableNotInRoute`, `PoolNotFound`,
    /// `ModelNotMapped`, `StableNotATarget`.
    pub reason: &'static str,
    /// A sentence with the field path.
    pub message: String,
}

/// One place where a roll-out's pair stands in the manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairPlace {
    /// The HTTPRoute, InferenceModel or InferenceModelRewrite; the pool where nothing maps the name.
    pub object: ObjectKey,
    /// Which rule of an HTTPRoute, from 0; 0 for the others, where the name says which.
    pub rule: usize,
    /// The weights there.
    pub weights: PairInManifests,
}

/// What compile found out about one roll-out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolloutFacts {
    /// Why it is not accepted: another roll-out has its rule or model.
    pub conflict: Option<Objection>,
    /// Why its references do not resolve.
    pub unresolved: Option<Objection>,
    /// What the manifests say of its pair, over all places together.
    pub in_manifests: PairInManifests,
    /// The places.
    pub places: Vec<PairPlace>,
    /// Stable's pool in the snapshot, when it is there: always while an overlay is active and the pool is described.
    pub stable_pool: Option<PoolIndex>,
    /// The candidate's; for adapters the same pool.
    pub candidate_pool: Option<PoolIndex>,
}

/// The facts of every roll-out that is described or active.
pub type FactsByRollout = BTreeMap<ObjectKey, RolloutFacts>;

/// A share as people write it: `5`, `0.5`.
fn percent(parts: u32) -> String {
    let fraction = format!("{:04}", parts % 10_000);
    match fraction.trim_end_matches('0') {
        "" => (parts / 10_000).to_string(),
        fraction => format!("{}.{fraction}", parts / 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_arm_by_arm() {
        let pair = |stable, candidate| PairInManifests { stable, candidate };
        assert_eq!(pair(Some(90), None).plus(pair(Some(10), Some(5))), pair(Some(100), Some(5)));
        assert!(pair(None, Some(1)).says_promoted() && pair(Some(0), Some(1)).says_promoted());
        assert!(!pair(Some(1), Some(99)).says_promoted() && !pair(None, None).says_promoted());
        assert!(!pair(Some(0), Some(0)).says_promoted());
    }

    #[test]
    fn shares_are_written_as_people_write_them() {
        assert_eq!([percent(1_000_000), percent(5_000), percent(0), percent(1)], ["100", "0.5", "0", "0.0001"]);
    }
}
