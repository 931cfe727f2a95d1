//! From a roll-out's document, as it was read and filled in, to the plan of its machine.

use std::time::Duration;

use tidegate_api::rollout::{
    AdapterRequirement, AnalysisSettings, ContextLength, FreezeAllow, FreezeSettings, GateError as SpecGateError,
    GuardSettings, Inconclusive as SpecInconclusive, Metric, OnDrift, OnStreams as SpecOnStreams, PreflightSettings,
    RolloutSettings, RolloutType, Start as SpecStart, StepSettings, StepWeight as SpecWeight, TokenizerChange,
};
use tidegate_evidence::{Breaker, EventGuard, EventMetric, LatencyGuard, LatencyMetric, Policy};

use crate::freeze::{FreezeError, FreezeWindow};
use crate::plan::{
    AdapterPlan, AnalysisPlan, Check, DrainPlan, DriftPolicy, GateError, Inconclusive, ManualGate, OnStreams, Plan,
    PreflightPlan, ReleaseKind, RollbackPlan, ShadowPlan, Start, Step, StepWeight, WarmUpPlan, WebhookGate,
};
use crate::share::Share;

/// Which document a plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// `metadata.uid`; none from files: then the uid is [`crate::uid::of_release`].
    pub uid: Option<&'a str>,
    /// `metadata.generation`, 0 where there is none.
    pub generation: i64,
}

/// A value that is well formed and still cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A freeze window.
    #[error("spec.freeze[{index}]: {error}")]
    Freeze {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        error: FreezeError,
    },
    /// A guard on something that no observation tells.
    #[error("spec.analysis.guards[{index}].metric: `{metric}` is not observed; of the finish reasons only `length` is")]
    Guard {
        /// Which, from 0.
        index: usize,
        /// As written.
        metric: String,
    },
}

impl Plan {
    /// The plan of a document.
    pub fn from_settings(origin: Origin<'_>, settings: &RolloutSettings) -> Result<Self, PlanError> {
        let (stable, candidate) = (settings.stable.name(), settings.candidate.name());
        let mut plan = Self::new(origin.namespace, origin.name, stable, candidate);
        if let Some(uid) = origin.uid {
            // A changed arm is another release in a cluster too, where the object keeps its uid.
            plan.uid = crate::uid::of_release(uid, "", stable, candidate);
        }
        plan.generation = origin.generation;
        plan.kind = match settings.kind {
            RolloutType::Node => ReleaseKind::Node,
            RolloutType::BaseModel => ReleaseKind::BaseModel,
            RolloutType::Lora => ReleaseKind::Lora,
        };
        plan.start = match settings.start {
            SpecStart::Auto => Start::Automatic,
            SpecStart::Manual => Start::Manual,
        };
        plan.paused = settings.paused;
        plan.steps = settings.steps.iter().map(step).collect();
        plan.preflight = preflight(settings.kind, settings.ensure_loaded, &settings.preflight);
        plan.warm_up = settings.warm_up.as_ref().map(|warm_up| WarmUpPlan {
            cache_hit_ratio: warm_up.cache_hit_ratio,
            timeout: milliseconds(warm_up.timeout),
        });
        plan.shadow = settings.shadow.as_ref().map(|shadow| ShadowPlan { before: milliseconds(shadow.before) });
        plan.analysis = analysis(settings.kind, &settings.analysis)?;
        plan.rollback = RollbackPlan {
            auto: settings.rollback.auto,
            stable_headroom: fraction(settings.rollback.stable_headroom_ppm),
            on_streams: match settings.rollback.on_streams {
                SpecOnStreams::Finish => OnStreams::Finish,
                SpecOnStreams::Cut => OnStreams::Cut,
            },
        };
        plan.drain = DrainPlan {
            timeout: milliseconds(settings.drain_timeout),
            min_retention: milliseconds(settings.min_retention),
        };
        plan.freeze = settings.freeze.iter().enumerate().map(freeze).collect::<Result<_, _>>()?;
        plan.drift = match settings.on_drift {
            OnDrift::Hold => DriftPolicy::Hold,
            OnDrift::Adopt => DriftPolicy::Adopt,
            OnDrift::Ignore => DriftPolicy::Ignore,
        };
        plan.deadline = settings.deadline.map(milliseconds);
        plan.relative_capacity = settings.relative_capacity;
        plan.adapters = (settings.kind == RolloutType::Lora).then(|| AdapterPlan {
            ensure_loaded: settings.ensure_loaded,
            unload_stable_after: settings.unload_stable_after.map(milliseconds),
        });
        Ok(plan)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn fraction(parts_per_million: u32) -> f64 {
    f64::from(parts_per_million) / 1e6
}

fn step(settings: &StepSettings) -> Step {
    Step {
        weight: match settings.weight {
            SpecWeight::Share(parts) => StepWeight::Share(Share::from_ppm(parts)),
            SpecWeight::Parity => StepWeight::Parity,
        },
        bake: milliseconds(settings.bake),
        manual: settings.gate.manual.clone().map(|approvers| ManualGate { approvers }),
        webhook: settings.gate.webhook.as_ref().map(|webhook| WebhookGate {
            url: webhook.url.clone(),
            timeout: milliseconds(webhook.timeout),
            on_error: match webhook.on_error {
                SpecGateError::Hold => GateError::Hold,
                SpecGateError::Rollback => GateError::Rollback,
                SpecGateError::Promote => GateError::Promote,
            },
        }),
    }
}

/// The checks that a document asks for. An adapter runs on the engine that serves already: its context, its tokenizer and
/// its answers' shape are the engine's.
fn preflight(kind: RolloutType, ensure_loaded: bool, settings: &PreflightSettings) -> PreflightPlan {
    let is_adapter = kind == RolloutType::Lora;
    let asked = [
        (true, Check::EndpointsReady),
        (settings.same_models, Check::SameModels),
        (!is_adapter && settings.require_adapters != AdapterRequirement::None, Check::Adapters),
        (is_adapter && ensure_loaded, Check::AdapterLoaded),
        (is_adapter, Check::AdapterPresent),
        (is_adapter && settings.parent_matches, Check::ParentMatches),
        (is_adapter && settings.free_lora_slots > 0, Check::FreeSlots),
        (settings.probe_max_tokens > 0, Check::Probe),
        (!is_adapter && settings.context_length != ContextLength::Ignore, Check::ContextLength),
        (!is_adapter && settings.tokenizer_change == TokenizerChange::Fail, Check::Tokenizer),
        (!is_adapter, Check::ResponseShape),
    ];
    let checks = asked.into_iter().filter(|(asked, _)| *asked).map(|(_, check)| check).collect();
    PreflightPlan { checks, timeout: milliseconds(settings.timeout) }
}

fn freeze((index, settings): (usize, &FreezeSettings)) -> Result<FreezeWindow, PlanError> {
    let refuse = |error| PlanError::Freeze { index, error };
    Ok(FreezeWindow {
        cron: settings.cron.parse().map_err(refuse)?,
        duration: milliseconds(settings.duration),
        zone: settings.zone.parse().map_err(refuse)?,
        allow_rollback: settings.allow.contains(&FreezeAllow::Rollback),
    })
}

fn analysis(kind: RolloutType, settings: &AnalysisSettings) -> Result<AnalysisPlan, PlanError> {
    let mut policy = match kind {
        RolloutType::Node => Policy::node(),
        RolloutType::BaseModel => Policy::base_model(),
        RolloutType::Lora => Policy::lora(),
    };
    let budget = fraction(settings.harm_budget_ppm);
    let defaults = std::mem::take(&mut policy.events);
    policy.latencies.clear();
    policy.alpha = settings.alpha;
    for (index, guard) in settings.guards.iter().enumerate() {
        if let Some(metric) = latency_metric(&guard.metric) {
            policy.latencies.push(latency_guard(metric, guard));
            continue;
        }
        let Some(metric) = event_metric(&guard.metric) else {
            return Err(PlanError::Guard { index, metric: guard.metric.to_string() });
        };
        // Some events of a type have a budget of their own, or none: they are expected to move.
        let own = defaults.iter().find(|default| default.metric == metric && default.harm_budget != Some(0.005));
        let harm_budget = own.map_or(Some(budget), |default| default.harm_budget);
        policy.events.push(EventGuard { metric, tolerance: guard.r0, harm_budget });
    }
    for name in &settings.observe {
        let Some(metric) = Metric::parse(name).as_ref().and_then(event_metric) else { continue };
        if !policy.observed.contains(&metric) {
            policy.observed.push(metric);
        }
    }
    let guarded: Vec<EventMetric> = policy.events.iter().map(|guard| guard.metric).collect();
    policy.observed.retain(|metric| !guarded.contains(metric));
    let breaker = settings.breaker;
    let failures = (u64::from(breaker.window) * u64::from(breaker.error_share_ppm)).div_ceil(1_000_000);
    policy.breaker = Breaker {
        window: breaker.window,
        failures: u32::try_from(failures).unwrap_or(breaker.window).max(1),
        consecutive: breaker.consecutive_failures,
        ..policy.breaker
    };
    Ok(AnalysisPlan {
        policy,
        on_inconclusive: match settings.on_inconclusive {
            SpecInconclusive::Hold => Inconclusive::Hold,
            SpecInconclusive::Promote => Inconclusive::Promote,
            SpecInconclusive::Rollback => Inconclusive::Rollback,
        },
        step_max: Some(milliseconds(settings.step_max_duration)),
    })
}

fn latency_guard(metric: LatencyMetric, guard: &GuardSettings) -> LatencyGuard {
    LatencyGuard { metric, tolerance: fraction(guard.tolerance_ppm), margin: Some(fraction(guard.margin_ppm)) }
}

fn latency_metric(metric: &Metric) -> Option<LatencyMetric> {
    match metric {
        Metric::Ttft => Some(LatencyMetric::Ttft),
        Metric::Tpot => Some(LatencyMetric::Tpot),
        _ => None,
    }
}

fn event_metric(metric: &Metric) -> Option<EventMetric> {
    Some(match metric {
        Metric::Error => EventMetric::Error,
        Metric::Abort => EventMetric::UpstreamAbort,
        Metric::Empty => EventMetric::Empty,
        Metric::Refusal => EventMetric::Refusal,
        Metric::FinishReason(reason) if reason == "length" => EventMetric::FinishLength,
        Metric::ThinkTagUnbalanced => EventMetric::ThinkTagUnbalanced,
        Metric::ToolParseFail => EventMetric::ToolParseFail,
        Metric::SchemaFail => EventMetric::SchemaFail,
        Metric::FinishReason(_) | Metric::Ttft | Metric::Tpot => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_api::rollout::InferenceRolloutSpec;

    use super::*;

    const ORIGIN: Origin<'_> = Origin { namespace: "serving", name: "llm-to-h200", uid: None, generation: 3 };

    fn plan(spec: serde_json::Value) -> Result<Plan, PlanError> {
        let spec: InferenceRolloutSpec = serde_json::from_value(spec).expect("a spec of the right shape");
        Plan::from_settings(ORIGIN, &spec.settings())
    }

    fn node() -> serde_json::Value {
        json!({
            "type": "Node",
            "target": {"routeRef": {"kind": "HTTPRoute", "name": "routes-to-llm"}},
            "stable": {"poolRef": {"name": "llm"}},
            "candidate": {"poolRef": {"name": "llm-new"}, "relativeCapacity": 1.7},
            "steps": [
                {"weight": 1, "bake": "10m"},
                {"weight": "parity", "bake": "30m", "gate": {"manual": true, "approvers": ["group:ml"]}},
                {"weight": 100, "bake": "2h"},
            ],
            "freeze": [{"cron": "0 18 * * 5", "duration": "62h", "tz": "Europe/Berlin", "allow": ["Rollback"]}],
        })
    }

    #[test]
    fn a_node_release_keeps_what_its_document_says() {
        let plan = plan(node()).expect("a plan");
        assert_eq!(plan.uid, crate::uid::of_release("serving", "llm-to-h200", "llm", "llm-new"));
        assert_eq!((plan.generation, plan.relative_capacity), (3, Some(1.7)));
        let shares: Vec<StepWeight> = plan.steps.iter().map(|step| step.weight).collect();
        assert_eq!(
            shares,
            [StepWeight::Share(Share::from_percent(1)), StepWeight::Parity, StepWeight::Share(Share::ALL)]
        );
        assert_eq!(plan.steps.first().map(|step| step.bake), Some(600_000));
        assert_eq!(
            plan.steps.get(1).and_then(|step| step.manual.clone()).map(|gate| gate.approvers),
            Some(vec!["group:ml".to_owned()])
        );
        assert!(plan.freeze.iter().all(|window| window.allow_rollback && window.duration == 62 * 3_600_000));
        assert!(plan.preflight.checks.contains(&Check::SameModels));
        assert!(!plan.preflight.checks.contains(&Check::AdapterPresent));
        assert_eq!(plan.adapters, None);
        let guards: Vec<EventMetric> = plan.analysis.policy.events.iter().map(|guard| guard.metric).collect();
        let expected: Vec<EventMetric> = Policy::node().events.iter().map(|guard| guard.metric).collect();
        assert_eq!(guards, expected, "the defaults of the document are those of the judge");
        assert_eq!(plan.analysis.policy.latencies, Policy::node().latencies);
    }

    #[test]
    fn every_type_defaults_to_the_judges_own_guards() {
        let arms = [("Node", Policy::node()), ("BaseModel", Policy::base_model())];
        for (kind, expected) in arms {
            let mut spec = node();
            spec["type"] = json!(kind);
            let policy = plan(spec).expect("a plan").analysis.policy;
            assert_eq!(policy.latencies, expected.latencies, "{kind}");
            let words = |policy: &Policy| {
                let mut words: Vec<&str> = policy.events.iter().map(|guard| guard.metric.word()).collect();
                words.sort_unstable();
                words.join(" ")
            };
            assert_eq!(words(&policy), words(&expected), "{kind}");
        }
    }

    #[test]
    fn an_adapter_is_checked_on_its_own_base() {
        let plan = plan(json!({
            "type": "LoRA",
            "target": {"model": "travelhelper", "poolRef": {"name": "mymodel-pool-v1"}},
            "stable": {"model": "travel-helper-v1"},
            "candidate": {"model": "travel-helper-v2", "source": "s3://adapters/travel/v2", "ensureLoaded": true},
            "steps": [{"weight": 100}],
            "cleanup": {"unloadStableAfter": "24h"},
        }))
        .expect("a plan");
        let expected = [
            Check::EndpointsReady,
            Check::AdapterLoaded,
            Check::AdapterPresent,
            Check::ParentMatches,
            Check::FreeSlots,
            Check::Probe,
        ];
        assert_eq!(plan.preflight.checks, expected);
        let adapters = AdapterPlan { ensure_loaded: true, unload_stable_after: Some(24 * 3_600_000) };
        assert_eq!(plan.adapters, Some(adapters));
    }

    #[test]
    fn says_which_field_it_cannot_follow() {
        let mut spec = node();
        spec["freeze"][0]["tz"] = json!("Europe/Atlantis");
        let said = plan(spec).expect_err("no such zone").to_string();
        assert!(said.starts_with("spec.freeze[0]: `Europe/Atlantis` is no zone"), "{said}");
        let mut spec = node();
        spec["analysis"] = json!({"guards": [{"metric": "error"}, {"metric": "finish_reason:stop"}]});
        let said = plan(spec).expect_err("not observed").to_string();
        assert!(said.starts_with("spec.analysis.guards[1].metric: `finish_reason:stop`"), "{said}");
    }
}
