//! From the document to its settings: defaults per type (study of roll-outs, 4.14 and 5).

use std::time::Duration;

use super::settings::{
    AnalysisSettings, ArmSettings, AssignmentSettings, BreakerSettings, ForceRule, FreezeSettings, Gate, GuardSettings,
    ModelTargetSettings, PreflightSettings, RollbackSettings, RolloutSettings, RolloutTarget, RouteTarget, SessionKey,
    ShadowSettings, StepSettings, WarmUpSettings, WebhookSettings,
};
use super::{
    AnalysisSpec, AssignmentUnit, FreezeAllow, FreezeSpec, GateSpec, GuardSpec, InferenceRolloutSpec, Metric,
    MetricKind, ObjectRef, OnMissing, PreflightSpec, ReplaySource, RolloutType, ShadowSpec, StepSpec, StepWeight,
    WHOLE_SHARE, WarmUpSpec, parse_percent_ppm, parse_points_ppm,
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const PERCENT: u32 = WHOLE_SHARE / 100;

impl InferenceRolloutSpec {
    /// The document with its defaults. Decoding has refused what cannot be read; such a value counts as not said.
    pub fn settings(&self) -> RolloutSettings {
        let kind = self.kind;
        let drain = self.drain.clone().unwrap_or_default();
        let rollback = self.rollback.clone().unwrap_or_default();
        let retention = if kind == RolloutType::Node { HOUR } else { DAY };
        let unload = self.cleanup.as_ref().and_then(|cleanup| cleanup.unload_stable_after.as_deref());
        RolloutSettings {
            kind,
            target: self.target(),
            stable: arm(self.stable.pool_ref.as_ref(), self.stable.model.as_deref()),
            candidate: arm(self.candidate.pool_ref.as_ref(), self.candidate.model.as_deref()),
            relative_capacity: self.candidate.relative_capacity,
            source: self.candidate.source.clone(),
            ensure_loaded: self.candidate.ensure_loaded.unwrap_or(false),
            on_drift: self.weights.as_ref().and_then(|weights| weights.on_drift).unwrap_or_default(),
            assignment: self.assignment(),
            preflight: preflight(kind, &self.preflight.clone().unwrap_or_default()),
            warm_up: warm_up(&self.warmup.clone().unwrap_or_default()),
            shadow: self.shadow.as_ref().map(shadow),
            steps: steps(kind, &self.steps),
            analysis: analysis(kind, &self.analysis.clone().unwrap_or_default()),
            rollback: RollbackSettings {
                auto: rollback.auto.unwrap_or(true),
                stable_headroom_ppm: percent(rollback.stable_headroom.as_deref(), 15 * PERCENT),
                on_streams: rollback.on_streams.unwrap_or_default(),
            },
            drain_timeout: span(drain.timeout.as_deref(), 15 * MINUTE),
            min_retention: span(drain.min_retention.as_deref(), retention),
            freeze: self.freeze.iter().map(freeze).collect(),
            unload_stable_after: unload.and_then(crate::duration::parse_go),
            paused: self.paused.unwrap_or(false),
            start: self.start.unwrap_or_default(),
            deadline: self.deadline.as_deref().and_then(crate::duration::parse_go),
        }
    }

    fn target(&self) -> RolloutTarget {
        if let Some(route) = &self.target.route_ref {
            return RolloutTarget::Route(RouteTarget { name: route.name.clone(), rule: self.target.rule.clone() });
        }
        let rewrite = self.target.rewrite_ref.as_ref().map(|reference| ObjectRef {
            kind: Some(reference.kind.clone().unwrap_or_else(|| "InferenceModelRewrite".into())),
            ..reference.clone()
        });
        RolloutTarget::Model(ModelTargetSettings {
            model: self.target.model.clone().unwrap_or_default(),
            pool: self.target.pool_ref.clone().unwrap_or_default(),
            rewrite,
        })
    }

    fn assignment(&self) -> AssignmentSettings {
        let spec = self.assignment.clone().unwrap_or_default();
        let keys = match (spec.keys.is_empty(), spec.unit.unwrap_or_default()) {
            (_, AssignmentUnit::Request) => Vec::new(),
            (false, _) => spec.keys.iter().filter_map(|key| SessionKey::parse(key)).collect(),
            (true, AssignmentUnit::Conversation) => vec![
                SessionKey::Header("x-session-id".into()),
                SessionKey::PromptCacheKey,
                SessionKey::Conversation,
                SessionKey::User,
            ],
            (true, AssignmentUnit::User) => vec![SessionKey::User],
        };
        let force = spec.force.iter().map(|rule| ForceRule {
            header: rule.header.to_ascii_lowercase(),
            value: rule.value.clone(),
            arm: rule.arm,
        });
        AssignmentSettings { keys, force: force.collect() }
    }
}

fn span(text: Option<&str>, seconds: u64) -> Duration {
    text.and_then(crate::duration::parse_go).unwrap_or(Duration::from_secs(seconds))
}

fn percent(text: Option<&str>, default: u32) -> u32 {
    text.and_then(parse_percent_ppm).unwrap_or(default)
}

fn arm(pool: Option<&ObjectRef>, model: Option<&str>) -> ArmSettings {
    match pool {
        Some(pool) => ArmSettings::Pool { group: pool.group.clone(), name: pool.name.clone() },
        None => ArmSettings::Model(model.unwrap_or_default().to_owned()),
    }
}

fn preflight(kind: RolloutType, spec: &PreflightSpec) -> PreflightSettings {
    let adapters = spec.adapters.clone().unwrap_or_default();
    let probe = spec.probe.clone().unwrap_or_default();
    let on_missing = if kind == RolloutType::BaseModel { OnMissing::ExcludeModel } else { OnMissing::Fail };
    PreflightSettings {
        endpoints_ready_ppm: percent(spec.endpoints_ready.as_deref(), WHOLE_SHARE),
        same_models: spec.same_models.unwrap_or(kind != RolloutType::Lora),
        every_endpoint: spec.every_endpoint.unwrap_or(true),
        parent_matches: spec.parent_matches.unwrap_or(kind == RolloutType::Lora),
        free_lora_slots: spec.free_lora_slots.unwrap_or(u32::from(kind == RolloutType::Lora)),
        require_adapters: adapters.require.unwrap_or_default(),
        on_missing: adapters.on_missing.unwrap_or(on_missing),
        tokenizer_change: spec.tokenizer_change.unwrap_or_default(),
        context_length: spec.context_length.unwrap_or_default(),
        probe_prompt: probe.prompt.unwrap_or_else(|| "ping".into()),
        probe_max_tokens: probe.max_tokens.unwrap_or(1),
        timeout: span(spec.timeout.as_deref(), 10 * MINUTE),
    }
}

fn warm_up(spec: &WarmUpSpec) -> Option<WarmUpSettings> {
    let replay = spec.replay.clone().unwrap_or_default();
    (replay.source.unwrap_or_default() != ReplaySource::None).then(|| WarmUpSettings {
        max_tokens: replay.max_tokens.unwrap_or(1),
        cache_hit_ratio: spec.until.as_ref().and_then(|until| until.cache_hit_ratio).unwrap_or(0.8),
        timeout: span(spec.timeout.as_deref(), 20 * MINUTE),
    })
}

fn shadow(spec: &ShadowSpec) -> ShadowSettings {
    let budget = spec.budget.as_ref().and_then(|budget| budget.tokens_per_second);
    ShadowSettings {
        tokens_per_second: budget.unwrap_or(2000),
        max_tokens: spec.max_tokens.unwrap_or(64),
        sample: spec.sample.unwrap_or_default(),
        before: span(spec.before.as_deref(), 30 * MINUTE),
    }
}

/// The ladder as written, or that of the type.
fn steps(kind: RolloutType, specs: &[StepSpec]) -> Vec<StepSettings> {
    let share = |percent: u32| StepWeight::Share(percent * PERCENT);
    let ladder: &[(StepWeight, u64)] = match kind {
        RolloutType::Node => &[
            (share(1), 10 * MINUTE),
            (share(5), 20 * MINUTE),
            (StepWeight::Parity, 30 * MINUTE),
            (share(50), HOUR),
            (share(100), 2 * HOUR),
        ],
        RolloutType::BaseModel => &[(share(2), HOUR), (share(10), 4 * HOUR), (share(50), 12 * HOUR), (share(100), DAY)],
        RolloutType::Lora => &[(share(10), 15 * MINUTE), (share(50), 30 * MINUTE), (share(100), HOUR)],
    };
    if specs.is_empty() {
        let step = |(weight, bake): &(StepWeight, u64)| StepSettings {
            weight: *weight,
            bake: Duration::from_secs(*bake),
            gate: Gate::default(),
        };
        return ladder.iter().map(step).collect();
    }
    let bake = if kind == RolloutType::BaseModel { HOUR } else { 10 * MINUTE };
    let step = |spec: &StepSpec| StepSettings {
        weight: spec.weight,
        bake: span(spec.bake.as_deref(), bake),
        gate: spec.gate.as_ref().map(gate).unwrap_or_default(),
    };
    specs.iter().map(step).collect()
}

fn gate(spec: &GateSpec) -> Gate {
    Gate {
        manual: spec.manual.unwrap_or(false).then(|| spec.approvers.clone()),
        webhook: spec.webhook.as_ref().map(|webhook| WebhookSettings {
            url: webhook.url.clone(),
            timeout: span(webhook.timeout.as_deref(), MINUTE),
            on_error: webhook.on_error.unwrap_or_default(),
        }),
    }
}

fn analysis(kind: RolloutType, spec: &AnalysisSpec) -> AnalysisSettings {
    let template = spec.template.as_deref().and_then(template_type).unwrap_or(kind);
    let breaker = spec.breaker.clone().unwrap_or_default();
    let step_max = if kind == RolloutType::BaseModel { DAY } else { 6 * HOUR };
    let guards = match spec.guards.is_empty() {
        true => template_guards(template).into_iter().map(|metric| guard(template, metric, None)).collect(),
        false => {
            let read = |spec: &GuardSpec| Some(guard(template, Metric::parse(&spec.metric)?, Some(spec)));
            spec.guards.iter().filter_map(read).collect()
        }
    };
    AnalysisSettings {
        alpha: spec.alpha.unwrap_or(0.01),
        harm_budget_ppm: spec.harm_budget.as_deref().and_then(parse_points_ppm).unwrap_or(PERCENT / 2),
        shield: spec.shield.unwrap_or(true),
        on_inconclusive: spec.on_inconclusive.unwrap_or_default(),
        step_max_duration: span(spec.step_max_duration.as_deref(), step_max),
        guards,
        observe: spec.observe.clone(),
        breaker: BreakerSettings {
            consecutive_failures: breaker.consecutive_failures.unwrap_or(5),
            error_share_ppm: percent(breaker.error_share.as_deref(), 50 * PERCENT),
            window: breaker.window.unwrap_or(10),
        },
    }
}

/// The type whose guards a template has.
pub(crate) fn template_type(name: &str) -> Option<RolloutType> {
    Some(match name {
        "node-default" => RolloutType::Node,
        "basemodel-default" => RolloutType::BaseModel,
        "lora-default" => RolloutType::Lora,
        _ => return None,
    })
}

fn template_guards(kind: RolloutType) -> Vec<Metric> {
    let length = Metric::FinishReason("length".into());
    match kind {
        RolloutType::Node => vec![Metric::Error, Metric::Abort, Metric::Empty, Metric::Ttft, Metric::Tpot],
        RolloutType::BaseModel => vec![
            Metric::Error,
            Metric::Abort,
            Metric::Empty,
            Metric::Ttft,
            Metric::Tpot,
            length,
            Metric::ThinkTagUnbalanced,
            Metric::ToolParseFail,
        ],
        RolloutType::Lora => {
            vec![Metric::Error, Metric::Abort, Metric::Empty, length, Metric::Tpot, Metric::SchemaFail]
        }
    }
}

/// A guard with the bounds of its type where it says none.
fn guard(kind: RolloutType, metric: Metric, spec: Option<&GuardSpec>) -> GuardSettings {
    if metric.kind() == MetricKind::Event {
        let default = match (&metric, kind) {
            (Metric::FinishReason(_), RolloutType::BaseModel) => 1.5,
            _ => 1.1,
        };
        let r0 = spec.and_then(|spec| spec.r0).unwrap_or(default);
        return GuardSettings { metric, r0, tolerance_ppm: 0, margin_ppm: 0 };
    }
    let (tolerance, margin) = match kind {
        RolloutType::Node => (10, 15),
        RolloutType::BaseModel => (15, 25),
        RolloutType::Lora => (5, 10),
    };
    GuardSettings {
        metric,
        r0: 1.0,
        tolerance_ppm: percent(spec.and_then(|spec| spec.tolerance.as_deref()), tolerance * PERCENT),
        margin_ppm: percent(spec.and_then(|spec| spec.margin.as_deref()), margin * PERCENT),
    }
}

fn freeze(spec: &FreezeSpec) -> FreezeSettings {
    FreezeSettings {
        cron: spec.cron.clone(),
        duration: span(Some(&spec.duration), HOUR),
        zone: spec.tz.clone().unwrap_or_else(|| "UTC".into()),
        allow: spec.allow.clone().unwrap_or_else(|| vec![FreezeAllow::Rollback]),
    }
}
