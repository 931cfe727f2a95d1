//! InferenceRollout: a phased release that runs itself, for new nodes, a new base model or a new adapter.
//!
//! The types here are the document as written; [`InferenceRolloutSpec::settings`] reads every value and fills in the
//! defaults of its type. What fields must be to one another is checked while decoding, not here.

mod amounts;
mod defaults;
mod judging;
mod metric;
mod schedule;
mod settings;
mod stages;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use amounts::STEP_WEIGHT;
pub use amounts::{StepWeight, WHOLE_SHARE, parse_percent_ppm, parse_points_ppm};
pub(crate) use defaults::template_type;
pub use judging::{
    AnalysisSpec, BreakerSpec, CleanupSpec, DrainSpec, FreezeAllow, FreezeSpec, GuardSpec, Inconclusive, OnStreams,
    RollbackSpec,
};
pub use metric::{METRICS, Metric, MetricKind, OBSERVED_ONLY};
pub use schedule::is_cron;
pub use settings::{
    AnalysisSettings, ArmSettings, AssignmentSettings, BreakerSettings, ForceRule, FreezeSettings, Gate, GuardSettings,
    ModelTargetSettings, PreflightSettings, RollbackSettings, RolloutSettings, RolloutTarget, RouteTarget, SessionKey,
    ShadowSettings, StepSettings, WarmUpSettings, WebhookSettings,
};
pub use stages::{
    AdapterRequirement, AdaptersSpec, ContextLength, GateError, GateSpec, OnMissing, PreflightSpec, ProbeSpec,
    ReplaySource, ReplaySpec, ShadowBudgetSpec, ShadowSample, ShadowSpec, StepSpec, TokenizerChange, WarmUntilSpec,
    WarmUpSpec, WebhookSpec,
};

/// Most steps that a roll-out may have.
pub const MOST_STEPS: usize = 32;

/// A phased release. Durations are written `10m`, `1h30m`, `24h`; shares `5` (percent) or `"0.5%"`.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "InferenceRollout",
    plural = "inferencerollouts",
    shortname = "infrollout",
    namespaced
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceRolloutSpec {
    /// What is released; sets defaults and preflight, nothing else.
    #[serde(rename = "type")]
    pub kind: RolloutType,
    /// Where the traffic is split.
    pub target: TargetSpec,
    /// The arm that serves today.
    pub stable: ArmSpec,
    /// The arm to move to.
    pub candidate: CandidateSpec,
    /// How weights are put into force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightsSpec>,
    /// Which request goes to which arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment: Option<AssignmentSpec>,
    /// What is looked at before any traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<PreflightSpec>,
    /// How the candidate's caches are warmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<WarmUpSpec>,
    /// Mirroring before the first step; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowSpec>,
    /// The ladder of shares; when absent, the ladder of the type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepSpec>,
    /// What is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<AnalysisSpec>,
    /// How it turns back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RollbackSpec>,
    /// How the losing arm empties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSpec>,
    /// When nothing may move forward.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<FreezeSpec>,
    /// What is done after it is settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<CleanupSpec>,
    /// Holds the roll-out wherever it stands; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Whether it starts when its document appears; default Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// The longest the whole may take up to its promotion; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

/// The three releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutType {
    /// New machines under the same model: another pool.
    Node,
    /// A new base model in a pool of its own.
    BaseModel,
    /// A new adapter in the same pool.
    #[serde(rename = "LoRA")]
    Lora,
}

impl RolloutType {
    /// As manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::BaseModel => "BaseModel",
            Self::Lora => "LoRA",
        }
    }
}

/// Who leads from Pending into Preflight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Start {
    /// The roll-out begins when its document appears.
    #[default]
    Auto,
    /// It waits for the command.
    Manual,
}

/// Where the traffic is split: a route, or a model in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSpec {
    /// The HTTPRoute: every rule of it that names `stable`, or the one of `rule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_ref: Option<ObjectRef>,
    /// Name of a single rule of that route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The name that clients ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The pool in which that model is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<ObjectRef>,
    /// The InferenceModelRewrite (or InferenceModel) that maps it; default: whichever does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite_ref: Option<ObjectRef>,
}

/// A reference to an object of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// API group; default the kind's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind; default HTTPRoute, InferencePool or InferenceModelRewrite, by the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
}

/// The arm that serves today: a pool, or a model of the target's pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArmSpec {
    /// Its pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<ObjectRef>,
    /// Its model or adapter, as the servers call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// The arm to move to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateSpec {
    /// Its pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_ref: Option<ObjectRef>,
    /// Tokens per second of one of its replicas as a multiple of stable's; above 0, at most 1000; default learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_capacity: Option<f64>,
    /// Its model or adapter, as the servers call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where the adapter lies (path, URL or repository), as the model server takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Load the adapter from `source` on every endpoint; default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ensure_loaded: Option<bool>,
}

/// How weights are put into force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightsSpec {
    /// `Overlay`, the only mode: the manifests stay as they are, the gateway lays the weights over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// What an edit of the pair's weights in the manifests does meanwhile; default Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_drift: Option<OnDrift>,
}

/// What an edit of the pair's weights underneath does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDrift {
    /// Holds the roll-out until the edit is taken back or someone resumes.
    #[default]
    Hold,
    /// Takes the new weights as what the manifests say, and goes on.
    Adopt,
    /// Goes on.
    Ignore,
}

/// Which request goes to which arm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentSpec {
    /// What stays together on one arm; default Conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<AssignmentUnit>,
    /// Where the session key is looked for, in this order: `header:NAME`, `body:prompt_cache_key`, `body:user`,
    /// `body:conversation`, `messages:first`. Default: by the unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Requests with such a header go to that arm; the first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub force: Vec<ForceSpec>,
}

/// What stays together on one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AssignmentUnit {
    /// A conversation: `header:x-session-id`, `body:prompt_cache_key`, `body:conversation`, `body:user`.
    #[default]
    Conversation,
    /// A user: `body:user`.
    User,
    /// Nothing: each request is drawn for itself.
    Request,
}

/// A header that forces an arm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForceSpec {
    /// Header name, in any case.
    pub header: String,
    /// Its exact value.
    pub value: String,
    /// The arm.
    pub arm: ArmName,
}

/// One of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArmName {
    /// The arm that serves today.
    Stable,
    /// The arm to move to.
    Candidate,
}

impl ArmName {
    /// `stable` or `candidate`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Candidate => "candidate",
        }
    }
}

#[cfg(test)]
mod tests;
