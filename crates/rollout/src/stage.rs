//! Where a roll-out stands. A [`Stage`] is where it is by itself; pauses, holds and freezes lie over it and remember it
//! by not touching it; the [`Phase`] is what people see of both.

use serde::{Deserialize, Serialize};

/// Where a roll-out is by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Not begun.
    #[default]
    Pending,
    /// Looking at the candidate.
    Preflight,
    /// Filling its caches.
    Warming,
    /// Mirroring to it.
    Shadowing,
    /// A step's share is being applied and seen.
    Shifting,
    /// A step's least time runs.
    Baking,
    /// A step waits for its verdict and its gates.
    Gating,
    /// The last step is good; the promotion is being written down.
    Promoting,
    /// Stable's last requests finish.
    Draining,
    /// 0/100 is held until the manifests say it.
    Settling,
    /// Done; the manifests rule.
    Completed,
    /// 100/0; the candidate's last requests finish.
    RollingBack,
    /// Stable serves alone, and is held there until the manifests say so too.
    RolledBack,
    /// Another release took its place.
    Superseded,
    /// Preflight said no.
    Failed,
}

/// What people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Not begun.
    Pending,
    /// Looking at the candidate.
    Preflight,
    /// Filling its caches.
    Warming,
    /// Mirroring to it.
    Shadowing,
    /// On a step.
    Progressing,
    /// Writing the promotion down.
    Promoting,
    /// Stable's last requests finish.
    Draining,
    /// Waiting for the manifests.
    Settling,
    /// Done.
    Completed,
    /// A person stopped it.
    Paused,
    /// A reason stopped it.
    Held,
    /// A calendar stopped it.
    Frozen,
    /// Turning back.
    RollingBack,
    /// Turned back.
    RolledBack,
    /// Another release took its place.
    Superseded,
    /// Preflight said no.
    Failed,
}

impl Stage {
    /// What people see when nothing interrupts it.
    pub fn phase(self) -> Phase {
        match self {
            Self::Pending => Phase::Pending,
            Self::Preflight => Phase::Preflight,
            Self::Warming => Phase::Warming,
            Self::Shadowing => Phase::Shadowing,
            Self::Shifting | Self::Baking | Self::Gating => Phase::Progressing,
            Self::Promoting => Phase::Promoting,
            Self::Draining => Phase::Draining,
            Self::Settling => Phase::Settling,
            Self::Completed => Phase::Completed,
            Self::RollingBack => Phase::RollingBack,
            Self::RolledBack => Phase::RolledBack,
            Self::Superseded => Phase::Superseded,
            Self::Failed => Phase::Failed,
        }
    }

    /// On one of the ladder's steps.
    pub fn is_progressing(self) -> bool {
        matches!(self, Self::Shifting | Self::Baking | Self::Gating)
    }

    /// Between the start and the promotion: a pause, a hold or a freeze stops it.
    pub fn moves_forward(self) -> bool {
        matches!(self, Self::Preflight | Self::Warming | Self::Shadowing | Self::Promoting) || self.is_progressing()
    }

    /// The candidate may have traffic, and stable may have to take it back.
    pub fn is_exposed(self) -> bool {
        self.is_progressing() || matches!(self, Self::Promoting | Self::Draining | Self::Settling)
    }

    /// An arm empties.
    pub fn drains(self) -> bool {
        matches!(self, Self::Draining | Self::RollingBack | Self::Superseded)
    }

    /// Nothing more happens by itself.
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Completed | Self::RolledBack | Self::Superseded | Self::Failed)
    }
}

/// Why a roll-out is held. More than one can hold it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HoldReason {
    /// The pair's weights were edited underneath.
    DriftDetected,
    /// The next share would push an arm past what it can carry.
    LoadImbalance,
    /// Stable could not take everything back.
    RollbackCapacity,
    /// Stable has no ready endpoint.
    StableEmpty,
    /// The candidate has none.
    CandidateEmpty,
    /// Observations were lost.
    EvidenceLoss,
    /// The split that is seen is not the one that was set.
    WeightMismatch,
    /// Not enough evidence, either way.
    Inconclusive,
    /// An alarm rang, and the document or a freeze forbids to roll back by itself.
    Alarm,
    /// A gate refused or did not answer.
    Gate,
    /// The whole took longer than it may.
    Deadline,
    /// Something it refers to is gone.
    Unresolved,
}

impl HoldReason {
    /// Whether the clocks of the step go on: only waiting for evidence is part of a step.
    pub fn keeps_clock(self) -> bool {
        self == Self::Inconclusive
    }

    /// The word that conditions and history use.
    pub fn word(self) -> &'static str {
        match self {
            Self::DriftDetected => "DriftDetected",
            Self::LoadImbalance => "LoadImbalance",
            Self::RollbackCapacity => "RollbackCapacity",
            Self::StableEmpty => "StableEmpty",
            Self::CandidateEmpty => "CandidateEmpty",
            Self::EvidenceLoss => "EvidenceLoss",
            Self::WeightMismatch => "WeightMismatch",
            Self::Inconclusive => "Inconclusive",
            Self::Alarm => "Alarm",
            Self::Gate => "GateRejected",
            Self::Deadline => "DeadlineExceeded",
            Self::Unresolved => "UnresolvedRefs",
        }
    }
}
