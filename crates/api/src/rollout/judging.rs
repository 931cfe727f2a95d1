//! How a roll-out is judged, turns back and ends, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisSpec {
    /// Whose guards are taken where `guards` is absent: `node-default`, `basemodel-default`, `lora-default`; default
    /// the type's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Chance of turning a healthy candidate back, over all guards; 1e-6 to 0.1, default 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Additional failures that may remain unseen, in percentage points of all traffic; default `0.5pp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm_budget: Option<String>,
    /// Send what fails on the candidate before its first byte to stable; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shield: Option<bool>,
    /// What a step that could not be decided in time does; default Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_inconclusive: Option<Inconclusive>,
    /// The longest a step may stay undecided; default 6h for Node and LoRA, 24h for BaseModel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_max_duration: Option<String>,
    /// What turns it back; default by the template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<GuardSpec>,
    /// What is reported and never gates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observe: Vec<String>,
    /// What turns it back at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerSpec>,
}

/// What a step that could not be decided in time does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Inconclusive {
    /// Stays where it is.
    #[default]
    Hold,
    /// Goes on, if no metric speaks against the candidate.
    Promote,
    /// Turns back.
    Rollback,
}

/// One metric that turns the roll-out back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GuardSpec {
    /// Its name: `error`, `abort`, `empty`, `ttft`, `tpot`, `finish_reason:length` and others.
    pub metric: String,
    /// Events: how many times stable's rate is tolerated; 1 to 19, default by the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r0: Option<f64>,
    /// Latencies: how much slower is tolerated, `15%`; default by the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<String>,
    /// Latencies: how much slower it may be at most for the next step, `25%`; default by the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<String>,
}

/// What turns the roll-out back at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerSpec {
    /// So many failures of the candidate in a row; 2 to 1000, default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_failures: Option<u32>,
    /// This share of the latest `window` requests of the candidate failed; default `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_share: Option<String>,
    /// Requests that `errorShare` looks at; 5 to 1000, default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
}

/// How a roll-out turns back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackSpec {
    /// By itself (default); false: an alarm holds, and a person decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<bool>,
    /// What stable must have free beyond the pair's load until it is settled; default `15%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable_headroom: Option<String>,
    /// What becomes of the candidate's running streams; default Finish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_streams: Option<OnStreams>,
}

/// What becomes of the candidate's running streams at a roll-back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnStreams {
    /// They finish.
    #[default]
    Finish,
    /// They are cut.
    Cut,
}

/// How the losing arm empties.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainSpec {
    /// Drained after this at the latest; default 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How long the old arm is kept after the promotion; default 1h for Node, 24h for BaseModel and LoRA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_retention: Option<String>,
}

/// A time in which nothing moves forward.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreezeSpec {
    /// When it begins: minute, hour, day of month, month, day of week.
    pub cron: String,
    /// How long it lasts.
    pub duration: String,
    /// Time zone of `cron`, `Europe/Berlin`; default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tz: Option<String>,
    /// What may happen all the same; default `[Rollback]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<FreezeAllow>>,
}

/// What may happen in a freeze all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FreezeAllow {
    /// Turning back.
    Rollback,
}

/// What is done after the roll-out is settled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CleanupSpec {
    /// LoRA: unload stable's adapter so long after it is settled; default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unload_stable_after: Option<String>,
}
