//! What a roll-out has to do, once its document is read: the spec with every default filled in and every duration a
//! number.
//!
//! The machine knows this plan, never the document; `from_settings` makes the one of the other. Durations are milliseconds, shares parts per million. A plan built
//! from a validated document keeps its promises (last step 100 %, steps that do not shrink); one that comes out of a
//! damaged journal may not, and the machine survives that too.

use serde::{Deserialize, Serialize};
use tidegate_evidence::Policy;

use crate::freeze::FreezeWindow;
use crate::share::Share;

/// One minute, in milliseconds.
pub const MINUTE: u64 = 60_000;
/// One hour, in milliseconds.
pub const HOUR: u64 = 60 * MINUTE;
/// Most steps a plan may have.
pub const MOST_STEPS: usize = 32;

/// The three releases: they set defaults and preflight, nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReleaseKind {
    /// New machines under the same model.
    #[default]
    Node,
    /// A new base model in a pool of its own.
    BaseModel,
    /// A new adapter in the same pool.
    #[serde(rename = "LoRA")]
    Lora,
}

/// Who leads from Pending into Preflight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// The roll-out begins when its document appears.
    #[default]
    Automatic,
    /// It waits for the command `start`.
    Manual,
}

/// What a roll-out does from its first to its last day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Namespace of the document.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Identity of this release, 16 hexadecimal digits; salts the session split. From files: [`crate::uid::of_release`].
    pub uid: String,
    /// `metadata.generation`, 0 where the source knows none.
    pub generation: i64,
    /// Which defaults and which preflight.
    pub kind: ReleaseKind,
    /// The arm that serves today, as messages name it: a pool or a model.
    pub stable: String,
    /// The arm to move to.
    pub candidate: String,
    /// Who starts it.
    pub start: Start,
    /// `spec.paused`: holds the roll-out wherever it stands.
    pub paused: bool,
    /// At most [`MOST_STEPS`], shares that never shrink, the last 100 %.
    pub steps: Vec<Step>,
    /// What is looked at before any traffic.
    pub preflight: PreflightPlan,
    /// How the candidate's caches are warmed; none: not at all.
    pub warm_up: Option<WarmUpPlan>,
    /// Whether requests are mirrored before the first step; none: not at all.
    pub shadow: Option<ShadowPlan>,
    /// What is judged.
    pub analysis: AnalysisPlan,
    /// How it turns back.
    pub rollback: RollbackPlan,
    /// How the losing arm empties.
    pub drain: DrainPlan,
    /// When nothing may move forward.
    pub freeze: Vec<FreezeWindow>,
    /// What an edit of the pair's weights underneath does.
    pub drift: DriftPolicy,
    /// The longest the whole roll-out may take up to its promotion; none: no limit.
    pub deadline: Option<u64>,
    /// Candidate replicas count this much against stable's (κ); none: learnt, or 1.
    pub relative_capacity: Option<f64>,
    /// LoRA: adapters the gateway loads and unloads itself; none: not its task.
    pub adapters: Option<AdapterPlan>,
}

/// One rung of the ladder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The candidate's share.
    pub weight: StepWeight,
    /// The least time at this share before it is judged good.
    pub bake: u64,
    /// People who must agree before the next step.
    pub manual: Option<ManualGate>,
    /// A service that must agree before the next step.
    pub webhook: Option<WebhookGate>,
}

/// The candidate's share in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepWeight {
    /// This share.
    Share(Share),
    /// The candidate's part of the pair's capacity when the step begins.
    Parity,
}

impl Default for StepWeight {
    fn default() -> Self {
        Self::Share(Share::NONE)
    }
}

/// A step that waits for `approve`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManualGate {
    /// User names, or `group:NAME`; empty: whoever may write commands.
    pub approvers: Vec<String>,
}

/// A step that asks a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookGate {
    /// Where to ask.
    pub url: String,
    /// How long the answer may take.
    pub timeout: u64,
    /// What no answer means.
    pub on_error: GateError,
}

/// What a gate that does not answer means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GateError {
    /// Wait for a person: `resume` asks again.
    #[default]
    Hold,
    /// Turn back.
    Rollback,
    /// Go on as if it had agreed.
    Promote,
}

/// What is looked at before any traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreflightPlan {
    /// All of these must have passed; empty: no preflight.
    pub checks: Vec<Check>,
    /// Checks that still wait after this have failed.
    pub timeout: u64,
}

impl Default for PreflightPlan {
    fn default() -> Self {
        Self { checks: vec![Check::EndpointsReady, Check::SameModels, Check::Probe], timeout: 10 * MINUTE }
    }
}

/// One thing that preflight looks at, on every endpoint of the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Check {
    /// Every endpoint (or the asked part of them) is ready.
    EndpointsReady,
    /// Both arms serve the same model names.
    SameModels,
    /// Every adapter with recent traffic exists on the new base.
    Adapters,
    /// The gateway itself loaded the adapter on each endpoint.
    AdapterLoaded,
    /// The adapter is there, on each endpoint.
    AdapterPresent,
    /// Its parent is the base that is served.
    ParentMatches,
    /// A slot is free for it.
    FreeSlots,
    /// One token came from each endpoint.
    Probe,
    /// The context is as long as asked.
    ContextLength,
    /// The tokenizer is the same.
    Tokenizer,
    /// Both arms' answers have the same shape.
    ResponseShape,
}

/// How the candidate's caches are warmed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmUpPlan {
    /// Warm when the candidate's hit ratio is this part of stable's (0 to 1).
    pub cache_hit_ratio: f64,
    /// After this the roll-out goes on, cold or not.
    pub timeout: u64,
}

impl Default for WarmUpPlan {
    fn default() -> Self {
        Self { cache_hit_ratio: 0.8, timeout: 20 * MINUTE }
    }
}

/// Mirroring before the first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowPlan {
    /// How long requests are mirrored before the first step.
    pub before: u64,
}

/// What is judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisPlan {
    /// The guards, margins and error rates of the judge.
    pub policy: Policy,
    /// What a step that could not be decided within `step_max` does.
    pub on_inconclusive: Inconclusive,
    /// The longest a step may stay undecided; none: as long as it takes.
    pub step_max: Option<u64>,
}

/// What a step that could not be decided in time does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inconclusive {
    /// Stays where it is.
    #[default]
    Hold,
    /// Goes on, if no metric speaks against the candidate (every ln E below 0).
    Promote,
    /// Turns back.
    Rollback,
}

/// How a roll-out turns back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RollbackPlan {
    /// By itself; false: an alarm holds, and a person decides.
    pub auto: bool,
    /// What stable must have free beyond the pair's load, as a fraction (0.15), until it is settled.
    pub stable_headroom: f64,
    /// What becomes of the candidate's running streams.
    pub on_streams: OnStreams,
}

impl Default for RollbackPlan {
    fn default() -> Self {
        Self { auto: true, stable_headroom: 0.15, on_streams: OnStreams::Finish }
    }
}

/// What becomes of the candidate's running streams at a roll-back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnStreams {
    /// They finish.
    #[default]
    Finish,
    /// They are cut.
    Cut,
}

/// How the losing arm empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainPlan {
    /// Drained after this at the latest.
    pub timeout: u64,
    /// How long after its promotion the roll-out still takes `undo` before it is completed.
    pub min_retention: u64,
}

impl Default for DrainPlan {
    fn default() -> Self {
        Self { timeout: 15 * MINUTE, min_retention: HOUR }
    }
}

/// What an edit of the pair's weights underneath does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriftPolicy {
    /// Holds the roll-out until the edit is taken back or `resume` accepts it.
    #[default]
    Hold,
    /// Takes the new weights as what the manifests say, and goes on.
    Adopt,
    /// Goes on.
    Ignore,
}

/// LoRA adapters the gateway handles itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterPlan {
    /// Load the candidate on every endpoint before preflight, unload it after a roll-back.
    pub ensure_loaded: bool,
    /// Unload stable this long after it is settled; none: never.
    pub unload_stable_after: Option<u64>,
}

impl Plan {
    /// A plan with the defaults of the document: three steps of 5, 50 and 100 percent, ten minutes each.
    pub fn new(namespace: &str, name: &str, stable: &str, candidate: &str) -> Self {
        let step = |percent| Step {
            weight: StepWeight::Share(Share::from_percent(percent)),
            bake: 10 * MINUTE,
            ..Step::default()
        };
        Self {
            namespace: namespace.into(),
            name: name.into(),
            uid: crate::uid::of_release(namespace, name, stable, candidate),
            generation: 0,
            kind: ReleaseKind::Node,
            stable: stable.into(),
            candidate: candidate.into(),
            start: Start::Automatic,
            paused: false,
            steps: vec![step(5), step(50), step(100)],
            preflight: PreflightPlan::default(),
            warm_up: Some(WarmUpPlan::default()),
            shadow: None,
            analysis: AnalysisPlan {
                policy: Policy::node(),
                on_inconclusive: Inconclusive::Hold,
                step_max: Some(6 * HOUR),
            },
            rollback: RollbackPlan::default(),
            drain: DrainPlan::default(),
            freeze: Vec::new(),
            drift: DriftPolicy::Hold,
            deadline: None,
            relative_capacity: None,
            adapters: None,
        }
    }

    /// Whether another plan is another release: a changed arm, or a changed uid.
    pub fn is_other_release(&self, other: &Plan) -> bool {
        self.uid != other.uid || self.stable != other.stable || self.candidate != other.candidate
    }
}
