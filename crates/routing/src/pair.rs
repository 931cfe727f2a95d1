//! Pair: stable and candidate of one roll-out as one alternative of a split, and which of the two a request gets.
//!
//! The split decides first, with the manifests' weights: third arms keep their share and their sessions. What falls on
//! either of the pair is divided here: with a session key by a threshold on its hash, so that a growing share only
//! moves sessions to the candidate, a share of 0 returns all of them, and every replica agrees without talking;
//! without one at random. Pure: the caller finds the key and draws the bits.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tidegate_api::ObjectKey;
use tidegate_api::rollout::{ArmName, AssignmentSettings, SessionKey, ShadowSettings, WHOLE_SHARE};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Draw, Overlay};

/// A pair in one rule, or in one model's targets.
#[derive(Debug)]
pub struct Pair {
    /// The InferenceRollout.
    pub rollout: Arc<ObjectKey>,
    /// `namespace/name` of it, for logs and metrics.
    pub label: Arc<str>,
    /// Identity of the release.
    pub uid: Arc<str>,
    /// Position of stable among the arms or targets.
    pub stable: usize,
    /// Position of the candidate.
    pub candidate: usize,
    /// The candidate's part of the pair's share, parts per million.
    pub candidate_share_ppm: u32,
    /// Where a session key is looked for, in this order; the first that is there counts.
    pub keys: Vec<KeySource>,
    /// Headers that force an arm; the first that fits counts.
    pub force: Vec<Force>,
    /// Whether what is forced to the candidate reaches it.
    pub admits_forced: bool,
    /// Whether what fails on the candidate before its first byte is sent to stable.
    pub shield: bool,
    /// Requested model names that stay on stable.
    pub excluded_models: BTreeSet<String>,
    /// Mirroring to the candidate.
    pub shadow: Option<ShadowSettings>,
    /// Whether prompts are kept in memory, to warm the candidate with.
    pub keeps_prompts: bool,
    seed: u64,
    /// Every position that is one of the pair: a backend can be listed twice.
    members: Vec<usize>,
}

/// Where a session key is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A request header.
    Header(HeaderName),
    /// `prompt_cache_key` of the body.
    PromptCacheKey,
    /// `user` of the body.
    User,
    /// `conversation` of the body.
    Conversation,
    /// The first messages of the body.
    FirstMessages,
}

/// A header that forces an arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Force {
    /// Its name.
    pub header: HeaderName,
    /// Its exact value.
    pub value: Vec<u8>,
    /// The arm.
    pub arm: ArmName,
}

/// Why a request got its arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The candidate does not have the model: no evidence, for no chance decided.
    ExcludedModel,
    /// A header forced it: no evidence either.
    Forced,
    /// By its session key.
    Session,
    /// By chance.
    Random,
}

/// Which arm of the pair a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// The arm.
    pub arm: ArmName,
    /// Why.
    pub cause: Cause,
}

/// Positions that are out of the choice: bit `i` stands for position `i`, those behind the 32nd never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Without a ready endpoint.
    pub empty: u32,
    /// Known not to serve the requested model.
    pub absent: u32,
}

impl Pair {
    /// The pair of an overlay at these positions. `members` are all positions of either arm.
    pub fn new(overlay: &Overlay, stable: usize, candidate: usize, members: Vec<usize>) -> Self {
        let AssignmentSettings { keys, force } = &overlay.assignment;
        let force = force.iter().filter_map(|rule| {
            let header = HeaderName::from_bytes(rule.header.as_bytes()).ok()?;
            Some(Force { header, value: rule.value.clone().into_bytes(), arm: rule.arm })
        });
        Self {
            rollout: Arc::new(overlay.rollout.clone()),
            label: overlay.rollout.namespaced_name().into(),
            uid: overlay.uid.as_str().into(),
            stable,
            candidate,
            candidate_share_ppm: overlay.candidate_share_ppm.min(WHOLE_SHARE),
            keys: keys.iter().filter_map(KeySource::of).collect(),
            force: force.collect(),
            admits_forced: overlay.admits_forced,
            shield: overlay.shield,
            excluded_models: overlay.excluded_models.clone(),
            shadow: overlay.shadow.clone(),
            keeps_prompts: overlay.keeps_prompts,
            seed: xxh3_64_with_seed(overlay.uid.as_bytes(), 0),
            members,
        }
    }

    /// The arm of a request: excluded models first, then forced arms, then the draw.
    pub fn draw(&self, headers: &HeaderMap, model: Option<&str>, draw: Draw<'_>) -> Drawn {
        if model.is_some_and(|model| self.excluded_models.contains(model)) {
            return Drawn { arm: ArmName::Stable, cause: Cause::ExcludedModel };
        }
        if let Some(arm) = self.forced(headers) {
            return Drawn { arm, cause: Cause::Forced };
        }
        let (point, cause) = match draw {
            Draw::Random(bits) => (bits, Cause::Random),
            Draw::Session(key) => (self.point(key), Cause::Session),
        };
        Drawn { arm: self.arm_at(point), cause }
    }

    /// The arm that a header forces.
    pub fn forced(&self, headers: &HeaderMap) -> Option<ArmName> {
        let fits = |force: &&Force| headers.get_all(&force.header).iter().any(|value| value.as_bytes() == force.value);
        let arm = self.force.iter().find(fits)?.arm;
        (arm == ArmName::Stable || self.admits_forced).then_some(arm)
    }

    /// Where a session stands on the line from 0 to 2⁶⁴.
    pub fn point(&self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    /// The arm at a point of that line: the candidate's part is its beginning.
    pub fn arm_at(&self, point: u64) -> ArmName {
        // point / 2^64 < share / WHOLE, without rounding.
        let candidate = u128::from(point) * u128::from(WHOLE_SHARE) < u128::from(self.candidate_share_ppm) << 64;
        if candidate { ArmName::Candidate } else { ArmName::Stable }
    }

    /// The position of an arm.
    pub fn position(&self, arm: ArmName) -> usize {
        match arm {
            ArmName::Stable => self.stable,
            ArmName::Candidate => self.candidate,
        }
    }

    /// Which arm of the pair a position is.
    pub fn arm_of(&self, position: usize) -> Option<ArmName> {
        match position {
            _ if position == self.candidate => Some(ArmName::Candidate),
            _ if position == self.stable => Some(ArmName::Stable),
            _ => None,
        }
    }

    /// Every position that is one of the pair.
    pub fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.members.iter().copied()
    }

    /// Whether a position is one of the pair.
    pub fn holds(&self, position: usize) -> bool {
        self.members.contains(&position)
    }

    /// Whether an arm gets any part of the pair's share.
    pub fn has_share(&self, position: usize) -> bool {
        match self.arm_of(position) {
            Some(ArmName::Candidate) => self.candidate_share_ppm > 0,
            Some(ArmName::Stable) => self.candidate_share_ppm < WHOLE_SHARE,
            None => false,
        }
    }

    /// Where a request goes for which the split chose `chosen`: there, unless that is one of the pair.
    pub fn place(&self, chosen: usize, arm: ArmName) -> usize {
        if self.holds(chosen) { self.position(arm) } else { chosen }
    }

    /// The arm that takes a request in place of `drawn`, with some arms closed; `None` when the pair cannot take it
    /// and third arms may. A closed candidate gives its share to stable. A stable without endpoints gives nothing to
    /// the candidate, whose weight nobody but the roll-out raises; a name that stable is known not to serve goes to
    /// the candidate once that has any share.
    pub fn open(&self, drawn: ArmName, closed: Closed) -> Option<ArmName> {
        let is = |mask: u32, arm: ArmName| {
            let position = u32::try_from(self.position(arm)).unwrap_or(u32::MAX);
            mask & 1_u32.checked_shl(position).unwrap_or(0) != 0
        };
        let is_open = |arm: ArmName| !is(closed.empty | closed.absent, arm);
        match drawn {
            _ if is_open(drawn) => Some(drawn),
            ArmName::Candidate => is_open(ArmName::Stable).then_some(ArmName::Stable),
            ArmName::Stable => {
                let may = !is(closed.empty, ArmName::Stable) && self.candidate_share_ppm > 0;
                (may && is_open(ArmName::Candidate)).then_some(ArmName::Candidate)
            }
        }
    }
}

impl KeySource {
    fn of(key: &SessionKey) -> Option<Self> {
        Some(match key {
            SessionKey::Header(name) => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
            SessionKey::PromptCacheKey => Self::PromptCacheKey,
            SessionKey::User => Self::User,
            SessionKey::Conversation => Self::Conversation,
            SessionKey::FirstMessages => Self::FirstMessages,
        })
    }
}

#[cfg(test)]
mod tests;
