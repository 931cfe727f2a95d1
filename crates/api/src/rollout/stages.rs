//! The stages of a roll-out as written: preflight, warm-up, shadow, steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StepWeight;

/// What is looked at before any traffic; each absent field has the default of the roll-out's type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreflightSpec {
    /// How many of the candidate's endpoints must be ready, `100%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints_ready: Option<String>,
    /// Both arms serve the same model names; default true for Node and BaseModel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_models: Option<bool>,
    /// Ask each endpoint itself; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_endpoint: Option<bool>,
    /// LoRA: the adapter's `parent` is the base that is served; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_matches: Option<bool>,
    /// LoRA: how many adapter slots must be free on each endpoint; 0 to 1000, default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_lora_slots: Option<u32>,
    /// Adapters that must exist on the new base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapters: Option<AdaptersSpec>,
    /// What a changed tokenizer means; default Warn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_change: Option<TokenizerChange>,
    /// What the candidate's context length must be to stable's; default AtLeast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<ContextLength>,
    /// The request that each endpoint must answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeSpec>,
    /// What has not passed after this has failed; default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// Adapters that must exist on the new base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdaptersSpec {
    /// Which; default active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<AdapterRequirement>,
    /// What a missing one means; default ExcludeModel for BaseModel, Fail for Node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_missing: Option<OnMissing>,
}

/// Which adapters must exist on the new base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdapterRequirement {
    /// Those with recent traffic.
    #[default]
    Active,
    /// All that stable serves.
    All,
    /// None.
    None,
}

/// What an adapter that is missing on the new base means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnMissing {
    /// Requests for it stay on stable.
    ExcludeModel,
    /// The roll-out fails.
    Fail,
}

/// What a changed tokenizer means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenizerChange {
    /// It is said.
    #[default]
    Warn,
    /// The roll-out fails.
    Fail,
    /// Nothing.
    Ignore,
}

/// What the candidate's context length must be to stable's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContextLength {
    /// As long or longer.
    #[default]
    AtLeast,
    /// The same.
    Equal,
    /// Anything.
    Ignore,
}

/// The request that each endpoint must answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSpec {
    /// Its prompt; default `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Its `max_tokens`; 1 to 1024, default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

/// How the candidate's caches are warmed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmUpSpec {
    /// What is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplaySpec>,
    /// When it is warm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WarmUntilSpec>,
    /// After this the roll-out goes on, cold or not; default 20m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
}

/// What is sent to warm the caches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplaySpec {
    /// Where prompts come from; default recent, `none` switches warm-up off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ReplaySource>,
    /// `max_tokens` of each; 1 to 1024, default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

/// Where warm-up prompts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplaySource {
    /// The latest requests, kept in bounded memory and never logged.
    #[default]
    Recent,
    /// Nowhere: no warm-up, and no prompt is kept for it.
    None,
}

/// When the candidate is warm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmUntilSpec {
    /// Its cache-hit ratio as a part of stable's; above 0, at most 1; default 0.8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_hit_ratio: Option<f64>,
}

/// Mirroring before the first step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShadowSpec {
    /// How much is mirrored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<ShadowBudgetSpec>,
    /// `max_tokens` of a copy at most; 1 to 1000000, default 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Which requests; default stratified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<ShadowSample>,
    /// How long before the first step; default 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
}

/// How much is mirrored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShadowBudgetSpec {
    /// Prompt and answer tokens per second; at least 1, default 2000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<u32>,
}

/// Which requests are mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShadowSample {
    /// Each stratum (model, prompt length, stream) alike.
    #[default]
    Stratified,
    /// Any.
    Random,
}

/// One rung of the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepSpec {
    /// The candidate's share: whole percent (`5`), a smaller share (`"0.5%"`), or `parity`.
    pub weight: StepWeight,
    /// The least time at this share; default by the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<String>,
    /// Who must agree before the next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateSpec>,
}

/// Who must agree before the next step; with both, both must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateSpec {
    /// A person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<bool>,
    /// Who may approve: user names, or `group:NAME`; default whoever may write commands.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<String>,
    /// A service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSpec>,
}

/// A service that must agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSpec {
    /// Where to ask, `https://…` or `http://…`.
    pub url: String,
    /// How long it may take; default 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What no answer means; default Hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<GateError>,
}

/// What a service that does not answer means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GateError {
    /// The roll-out holds.
    #[default]
    Hold,
    /// It turns back.
    Rollback,
    /// It goes on as if the service had agreed.
    Promote,
}
