//! Warm-up: the candidate's endpoints get prompts before clients come, until their prefix caches answer like stable's.
//!
//! The data plane keeps no prompts yet, so each endpoint gets the probe of the document once, which compiles kernels and
//! loads adapters; then there is nothing left to replay, and the roll-out goes on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidegate_api::rollout::{ArmSettings, RolloutSettings};
use tidegate_rollout::event::{Event, WarmUpProgress};
use tidegate_rollout::plan::WarmUpPlan;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client;
use crate::fleet::{Endpoint, Fleet};
use crate::jobs::Reporter;
use crate::run::Pools;

/// A first request after the start of an engine can take a minute.
const PATIENCE: Duration = Duration::from_secs(120);
const METRICS: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(2);

/// What is to be warmed.
pub(crate) struct Asked {
    pub(crate) plan: WarmUpPlan,
    pub(crate) settings: Arc<RolloutSettings>,
    pub(crate) pools: watch::Receiver<Pools>,
}

/// Warms until the plan's time is over, or nothing is left to do.
pub(crate) async fn run(mut asked: Asked, fleet: Arc<dyn Fleet>, reporter: Reporter) {
    let end = Instant::now() + Duration::from_millis(asked.plan.timeout);
    let known = asked.pools.wait_for(|pools| pools.candidate.is_some()).await.map(|pools| pools.clone());
    let Ok(Pools { stable, candidate: Some(candidate) }) = known else { return };
    let mut left: Vec<Endpoint> = fleet.endpoints(&candidate);
    let mut replayed = 0_u64;
    while !left.is_empty() && Instant::now() < end {
        let mut calls = JoinSet::new();
        for endpoint in left.drain(..) {
            let body = probe(&asked.settings, &endpoint);
            calls.spawn(async move {
                let answer = client::post(&endpoint.address, "/v1/completions", &body, PATIENCE).await;
                (endpoint, answer.is_ok_and(|answer| answer.status < 500))
            });
        }
        while let Some(Ok((endpoint, is_answered))) = calls.join_next().await {
            if is_answered {
                replayed = replayed.saturating_add(1);
            } else {
                left.push(endpoint);
            }
        }
        if !left.is_empty() {
            sleep(PAUSE).await;
        }
    }
    let stable = stable.map(|pool| fleet.endpoints(&pool)).unwrap_or_default();
    let progress = WarmUpProgress {
        candidate_hit_ratio: hit_ratio(&fleet.endpoints(&candidate)).await,
        stable_hit_ratio: hit_ratio(&stable).await,
        replayed,
        exhausted: left.is_empty(),
    };
    reporter.tell(Event::WarmUp(progress)).await;
}

fn probe(settings: &RolloutSettings, endpoint: &Endpoint) -> serde_json::Value {
    let max_tokens = settings.warm_up.as_ref().map_or(1, |warm_up| warm_up.max_tokens);
    let mut body = json!({"prompt": settings.preflight.probe_prompt, "max_tokens": max_tokens});
    let model = match &settings.candidate {
        ArmSettings::Model(name) => Some(name.clone()),
        ArmSettings::Pool { .. } => endpoint.models.as_ref().and_then(|models| models.first().cloned()),
    };
    if let (Some(model), Some(fields)) = (model, body.as_object_mut()) {
        fields.insert("model".into(), model.into());
    }
    body
}

/// Tokens found in the prefix caches of endpoints, of all that were looked up; 0 where none were.
async fn hit_ratio(endpoints: &[Endpoint]) -> f64 {
    let mut calls = JoinSet::new();
    for endpoint in endpoints {
        let address = endpoint.address.clone();
        calls.spawn(async move { client::get(&address, "/metrics", METRICS).await });
    }
    let (mut queries, mut hits) = (0.0, 0.0);
    while let Some(answer) = calls.join_next().await {
        let Ok(Ok(answer)) = answer else { continue };
        let page = String::from_utf8_lossy(&answer.body).into_owned();
        queries += sum(&page, "vllm:prefix_cache_queries_total");
        hits += sum(&page, "vllm:prefix_cache_hits_total");
    }
    if queries > 0.0 { hits / queries } else { 0.0 }
}

/// The sum of a family's samples.
fn sum(page: &str, family: &str) -> f64 {
    let samples = page.lines().filter_map(|line| line.strip_prefix(family).filter(|rest| rest.starts_with(['{', ' '])));
    samples.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).filter(|value| value.is_finite()).sum()
}
