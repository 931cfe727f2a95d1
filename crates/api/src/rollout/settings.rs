//! What a roll-out's document comes to: every value read, every default filled in.

use std::time::Duration;

use super::{
    AdapterRequirement, ArmName, ContextLength, FreezeAllow, GateError, Inconclusive, Metric, ObjectRef, OnDrift,
    OnMissing, OnStreams, RolloutType, ShadowSample, Start, StepWeight, TokenizerChange,
};

/// A roll-out's document with its defaults. Shares and percentages are parts per million.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutSettings {
    /// What is released.
    pub kind: RolloutType,
    /// Where the traffic is split.
    pub target: RolloutTarget,
    /// The arm that serves today.
    pub stable: ArmSettings,
    /// The arm to move to.
    pub candidate: ArmSettings,
    /// The candidate's replicas as a multiple of stable's; `None`: learnt.
    pub relative_capacity: Option<f64>,
    /// LoRA: where the adapter lies.
    pub source: Option<String>,
    /// LoRA: load it from `source` on every endpoint.
    pub ensure_loaded: bool,
    /// What an edit of the pair's weights in the manifests does.
    pub on_drift: OnDrift,
    /// Which request goes to which arm.
    pub assignment: AssignmentSettings,
    /// What is looked at before any traffic.
    pub preflight: PreflightSettings,
    /// How caches are warmed; `None`: not at all.
    pub warm_up: Option<WarmUpSettings>,
    /// Mirroring before the first step; `None`: none.
    pub shadow: Option<ShadowSettings>,
    /// 1 to [`super::MOST_STEPS`] steps; shares do not shrink, and the last is the whole.
    pub steps: Vec<StepSettings>,
    /// What is judged.
    pub analysis: AnalysisSettings,
    /// How it turns back.
    pub rollback: RollbackSettings,
    /// An arm is drained after this at the latest.
    pub drain_timeout: Duration,
    /// How long the old arm is kept after the promotion.
    pub min_retention: Duration,
    /// When nothing moves forward.
    pub freeze: Vec<FreezeSettings>,
    /// LoRA: unload stable so long after it is settled; `None`: never.
    pub unload_stable_after: Option<Duration>,
    /// Held wherever it stands.
    pub paused: bool,
    /// Who starts it.
    pub start: Start,
    /// The longest the whole may take up to its promotion; `None`: no limit.
    pub deadline: Option<Duration>,
}

/// Where the traffic is split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutTarget {
    /// Among the backends of a route's rules.
    Route(RouteTarget),
    /// Among the targets of a model's name in a pool.
    Model(ModelTargetSettings),
}

/// A route as target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    /// Name of the HTTPRoute, in the roll-out's namespace.
    pub name: String,
    /// Name of its single rule; `None`: every rule that names stable.
    pub rule: Option<String>,
}

/// A model's name in a pool as target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelTargetSettings {
    /// The name that clients ask for.
    pub model: String,
    /// The pool, in the roll-out's namespace.
    pub pool: ObjectRef,
    /// The object that maps the name, where one is named; its kind is filled in.
    pub rewrite: Option<ObjectRef>,
}

/// One arm of the pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArmSettings {
    /// A pool of the roll-out's namespace.
    Pool {
        /// Its group; `None`: either.
        group: Option<String>,
        /// Its name.
        name: String,
    },
    /// A model or adapter, as the servers call it.
    Model(String),
}

impl ArmSettings {
    /// The pool's or the model's name, as messages have it.
    pub fn name(&self) -> &str {
        match self {
            Self::Pool { name, .. } | Self::Model(name) => name,
        }
    }
}

/// Which request goes to which arm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignmentSettings {
    /// Where the session key is looked for, in this order; empty: each request is drawn for itself.
    pub keys: Vec<SessionKey>,
    /// The first that fits counts.
    pub force: Vec<ForceRule>,
}

/// Where a session key is looked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionKey {
    /// A request header, by its name in lower case.
    Header(String),
    /// `prompt_cache_key` of the body.
    PromptCacheKey,
    /// `user` of the body.
    User,
    /// `conversation` of the body (its id).
    Conversation,
    /// The first messages of the body (model, system and first user message), which stay the same over the turns of a
    /// conversation that the server does not keep.
    FirstMessages,
}

impl SessionKey {
    /// Reads `header:NAME`, `body:prompt_cache_key`, `body:user`, `body:conversation` or `messages:first`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("header:") {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            return (!name.is_empty() && name.bytes().all(plain)).then(|| Self::Header(name.to_ascii_lowercase()));
        }
        Some(match text {
            "body:prompt_cache_key" => Self::PromptCacheKey,
            "body:user" => Self::User,
            "body:conversation" => Self::Conversation,
            "messages:first" => Self::FirstMessages,
            _ => return None,
        })
    }
}

/// A header that forces an arm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForceRule {
    /// Header name in lower case.
    pub header: String,
    /// Its exact value.
    pub value: String,
    /// The arm.
    pub arm: ArmName,
}

/// What is looked at before any traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreflightSettings {
    /// The part of the candidate's endpoints that must be ready, parts per million.
    pub endpoints_ready_ppm: u32,
    /// Both arms serve the same model names.
    pub same_models: bool,
    /// Ask each endpoint itself.
    pub every_endpoint: bool,
    /// LoRA: the adapter's parent is the base that is served.
    pub parent_matches: bool,
    /// LoRA: adapter slots that must be free on each endpoint.
    pub free_lora_slots: u32,
    /// Which adapters must exist on the new base.
    pub require_adapters: AdapterRequirement,
    /// What a missing one means.
    pub on_missing: OnMissing,
    /// What a changed tokenizer means.
    pub tokenizer_change: TokenizerChange,
    /// What the context length must be.
    pub context_length: ContextLength,
    /// Prompt of the probe.
    pub probe_prompt: String,
    /// `max_tokens` of the probe.
    pub probe_max_tokens: u32,
    /// What has not passed after this has failed.
    pub timeout: Duration,
}

/// How caches are warmed.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmUpSettings {
    /// `max_tokens` of each replayed prompt.
    pub max_tokens: u32,
    /// Warm at this part of stable's cache-hit ratio; above 0, at most 1.
    pub cache_hit_ratio: f64,
    /// After this the roll-out goes on, cold or not.
    pub timeout: Duration,
}

/// Mirroring before the first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowSettings {
    /// Tokens per second at most.
    pub tokens_per_second: u32,
    /// `max_tokens` of a copy at most.
    pub max_tokens: u32,
    /// Which requests.
    pub sample: ShadowSample,
    /// How long.
    pub before: Duration,
}

/// One rung of the ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepSettings {
    /// The candidate's share.
    pub weight: StepWeight,
    /// The least time at it.
    pub bake: Duration,
    /// Who must agree before the next step.
    pub gate: Gate,
}

/// Who must agree before the next step; nobody by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// A person: one of these users or `group:NAME`; an empty list means whoever may write commands.
    pub manual: Option<Vec<String>>,
    /// A service.
    pub webhook: Option<WebhookSettings>,
}

/// A service that must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where to ask.
    pub url: String,
    /// How long it may take.
    pub timeout: Duration,
    /// What no answer means.
    pub on_error: GateError,
}

/// What is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct AnalysisSettings {
    /// Chance of turning a healthy candidate back, over all guards.
    pub alpha: f64,
    /// Additional failures that may remain unseen, in parts per million of all traffic.
    pub harm_budget_ppm: u32,
    /// Send what fails on the candidate before its first byte to stable.
    pub shield: bool,
    /// What a step that could not be decided in time does.
    pub on_inconclusive: Inconclusive,
    /// That time.
    pub step_max_duration: Duration,
    /// What turns it back; never empty, each metric once.
    pub guards: Vec<GuardSettings>,
    /// Names of what is reported and never gates.
    pub observe: Vec<String>,
    /// What turns it back at once.
    pub breaker: BreakerSettings,
}

/// One metric that turns the roll-out back.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardSettings {
    /// Which.
    pub metric: Metric,
    /// Events: how many times stable's rate is tolerated; 1.0 for a latency.
    pub r0: f64,
    /// Latencies: how much slower is tolerated, parts per million; 0 for an event.
    pub tolerance_ppm: u32,
    /// Latencies: how much slower it may be for the next step, parts per million; 0 for an event.
    pub margin_ppm: u32,
}

/// What turns the roll-out back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// So many failures in a row.
    pub consecutive_failures: u32,
    /// Or this share of the latest `window` requests, parts per million.
    pub error_share_ppm: u32,
    /// Requests.
    pub window: u32,
}

/// How a roll-out turns back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackSettings {
    /// By itself.
    pub auto: bool,
    /// What stable must have free beyond the pair's load, parts per million of it.
    pub stable_headroom_ppm: u32,
    /// What becomes of the candidate's running streams.
    pub on_streams: OnStreams,
}

/// A time in which nothing moves forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeSettings {
    /// When it begins; passes [`super::is_cron`].
    pub cron: String,
    /// How long it lasts.
    pub duration: Duration,
    /// Time zone of `cron`.
    pub zone: String,
    /// What may happen all the same.
    pub allow: Vec<FreezeAllow>,
}
