//! What the machine decides. The controller carries these out, in order, after the input that caused them is in the
//! journal.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::Actor;
use crate::plan::{Check, Plan, WarmUpPlan, WebhookGate};
use crate::share::Share;
use crate::stage::Phase;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Serve by these weights; answer [`crate::event::Event::WeightsApplied`] when every replica does.
    SetWeights(WeightChange),
    /// Serve by the manifests again: the overlay is gone.
    Release,
    /// Look at these; answer [`crate::event::Event::Preflight`] for each, again whenever an answer changes.
    RunPreflight {
        /// Comes back in the answers.
        attempt: u32,
        /// What to look at.
        checks: Vec<Check>,
    },
    /// Stop looking.
    StopPreflight,
    /// Keep these models on stable.
    ExcludeModels {
        /// Names of the models.
        models: BTreeSet<String>,
    },
    /// Load the arm's adapter on each of its endpoints.
    LoadAdapter {
        /// Which arm's.
        arm: Arm,
    },
    /// Unload it.
    UnloadAdapter {
        /// Which arm's.
        arm: Arm,
    },
    /// Replay recent prompts to the candidate; report [`crate::event::Event::WarmUp`].
    StartWarmUp(WarmUpPlan),
    /// Stop replaying.
    StopWarmUp,
    /// Mirror; report [`crate::event::Event::Shadow`].
    StartShadow,
    /// Stop mirroring.
    StopShadow,
    /// Ask a gate; answer [`crate::event::Event::Gate`].
    CallGate(GateCall),
    /// Cut the running streams of an arm.
    CutStreams {
        /// Which arm's.
        arm: Arm,
    },
    /// Write a checkpoint and fsync it; answer [`crate::event::Event::CheckpointDurable`]. A promotion waits for it.
    Checkpoint {
        /// Comes back in the answer.
        id: u64,
        /// What waits for it.
        reason: String,
    },
    /// A line of the history.
    Transition(Transition),
    /// Tell people.
    Notify(Notification),
    /// A command was taken.
    CommandTaken {
        /// Its id.
        id: String,
        /// What came of it, in a sentence.
        message: String,
    },
    /// A command was refused, and changed nothing.
    CommandRefused {
        /// Its id.
        id: String,
        /// Why, and what to do instead.
        message: String,
    },
    /// The document now describes another release: begin a machine of its own for this plan.
    Successor(Box<Plan>),
    /// The document is gone and nothing is left to do: its state may be removed.
    Forget,
}

impl Effect {
    /// Whether the journal must be fsynced up to the causing input before this is carried out. True for whatever gives
    /// the candidate more: what a power cut could make us forget must not have happened. A roll-back never waits.
    pub fn needs_sync(&self) -> bool {
        match self {
            Self::SetWeights(change) => change.raises,
            Self::Release | Self::Forget | Self::Successor(_) | Self::UnloadAdapter { .. } => true,
            _ => false,
        }
    }
}

/// One of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Arm {
    /// The arm that served before.
    Stable,
    /// The arm to move to.
    Candidate,
}

/// New effective weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightChange {
    /// Counts up with every change; a replica never goes back to a smaller one.
    pub epoch: u64,
    /// Stable's share of the pair.
    pub stable: Share,
    /// The candidate's.
    pub candidate: Share,
    /// The candidate gets more than before.
    pub raises: bool,
    /// Why.
    pub cause: Cause,
}

/// Why weights change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The roll-out begins: stable takes all.
    Start,
    /// A step begins.
    Step,
    /// A person moved it on.
    Promoted,
    /// An edit of the document lowered the step.
    Edit,
    /// The candidate has no ready endpoint, and the document forbids to roll back by itself.
    CandidateEmpty,
    /// It turns back.
    Rollback,
    /// Another release takes its place.
    Superseded,
    /// The same weights again, after a restart.
    Restart,
}

/// A question to a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateCall {
    /// Comes back in the answer. The same number again (after a restart) is the same question.
    pub call: u64,
    /// Index of the step, from 0.
    pub step: usize,
    /// The candidate's share while it is asked.
    pub candidate: Share,
    /// Where, and how long.
    pub gate: WebhookGate,
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// Milliseconds since 1970 UTC.
    pub at: i64,
    /// From.
    pub from: Phase,
    /// To.
    pub to: Phase,
    /// Index of the step, from 0, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Who; none: the roll-out itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
    /// The numbers it was decided on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numbers: BTreeMap<String, f64>,
}

/// Something people are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// What it is about.
    pub kind: NotificationKind,
    /// Whether somebody should look.
    pub warning: bool,
    /// A sentence.
    pub message: String,
}

/// What people are told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotificationKind {
    /// It left Pending.
    RolloutStarted,
    /// It will not begin.
    PreflightFailed,
    /// The caches are warm, or time was up.
    WarmupComplete,
    /// The candidate's share changed.
    WeightChanged,
    /// The split that is seen is not the one that was set.
    WeightMismatch,
    /// Evidence against the candidate grows.
    GuardWarning,
    /// Somebody must approve.
    GateWaiting,
    /// Somebody did.
    Approved,
    /// A gate refused.
    GateRejected,
    /// It stands still.
    Held,
    /// What held it is gone.
    HoldEnded,
    /// A freeze began.
    FreezeEntered,
    /// It ended.
    FreezeLeft,
    /// A person paused it.
    Paused,
    /// A person let it go on.
    Resumed,
    /// It turns back.
    RollbackStarted,
    /// Stable serves alone again.
    RolledBack,
    /// The candidate takes all from now on.
    Promoted,
    /// Streams outlived the drain.
    DrainTimeout,
    /// The pair's weights were edited underneath.
    DriftDetected,
    /// The manifests do not say it yet.
    SettlePending,
    /// The manifests say it.
    Settled,
    /// Done.
    Completed,
    /// Another release takes its place.
    Superseded,
}
