//! Warm-up: the candidate's endpoints get prompts before clients come, until their prefix caches answer like stable's.
//!
//! Each endpoint first gets the probe of the document, which compiles kernels and loads adapters, then the prompts that
//! came lately, for answers of a token or so. Prompts pass through memory alone and are never logged.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_api::ObjectKey;
use tidegate_api::rollout::{ArmSettings, RolloutSettings};
use tidegate_rollout::event::{Event, WarmUpProgress};
use tidegate_rollout::plan::WarmUpPlan;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_64;

use crate::client;
use crate::fleet::{Endpoint, Fleet};
use crate::jobs::Reporter;
use crate::run::Pools;

/// A first request after the start of an engine can take a minute.
const PATIENCE: Duration = Duration::from_secs(120);
const METRICS: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(2);
/// Prompts between two looks at the caches.
const AT_ONCE: usize = 16;

/// What is to be warmed.
pub(crate) struct Asked {
    pub(crate) rollout: ObjectKey,
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
    let mut replays = Replays { asked: &asked, fleet: &*fleet, seen: HashSet::new() };
    loop {
        let endpoints = fleet.endpoints(&candidate);
        let fresh = replays.next();
        let exhausted = fresh.is_empty();
        for prompt in fresh {
            if Instant::now() >= end {
                break;
            }
            replayed = replayed.saturating_add(replay(&endpoints, &prompt).await);
        }
        let progress = WarmUpProgress {
            candidate_hit_ratio: hit_ratio(&endpoints).await,
            stable_hit_ratio: hit_ratio(&stable).await,
            replayed,
            exhausted: left.is_empty() && exhausted,
        };
        reporter.tell(Event::WarmUp(progress)).await;
        // The machine ends this job once it is as warm as asked.
        if exhausted || Instant::now() >= end {
            return;
        }
    }
}

/// Prompts that were not replayed yet.
struct Replays<'a> {
    asked: &'a Asked,
    fleet: &'a dyn Fleet,
    seen: HashSet<u64>,
}

impl Replays<'_> {
    /// Those that came since the last call, ready to be sent; at most [`AT_ONCE`].
    fn next(&mut self) -> Vec<(String, Value)> {
        let settings = &self.asked.settings;
        let Some(warm_up) = &settings.warm_up else { return Vec::new() };
        let model = match &settings.candidate {
            ArmSettings::Model(name) => Some(name.as_str()),
            ArmSettings::Pool { .. } => None,
        };
        let prompts = self.fleet.recent_prompts(&self.asked.rollout).into_iter();
        let fresh = prompts.filter(|prompt| self.seen.insert(xxh3_64(&prompt.body)));
        fresh
            .take(AT_ONCE)
            .filter_map(|prompt| Some((prompt.path, quick(&prompt.body, model, warm_up.max_tokens)?)))
            .collect()
    }
}

/// The same prompt, for a short answer in one piece.
fn quick(body: &[u8], model: Option<&str>, max_tokens: u32) -> Option<Value> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let fields = body.as_object_mut()?;
    for name in ["max_completion_tokens", "max_output_tokens", "stream", "stream_options", "n", "best_of"] {
        fields.remove(name);
    }
    let bound = if fields.contains_key("input") { "max_output_tokens" } else { "max_tokens" };
    fields.insert(bound.into(), max_tokens.into());
    if let Some(model) = model {
        fields.insert("model".into(), model.into());
    }
    Some(body)
}

/// Sends a prompt to every endpoint; how many answered.
async fn replay(endpoints: &[Endpoint], (path, body): &(String, Value)) -> u64 {
    let mut calls = JoinSet::new();
    for endpoint in endpoints {
        let (address, path, body) = (endpoint.address.clone(), path.clone(), body.clone());
        calls.spawn(async move {
            client::post(&address, &path, &body, PATIENCE).await.is_ok_and(|answer| answer.status < 300)
        });
    }
    calls.join_all().await.into_iter().filter(|answered| *answered).count() as u64
}

fn probe(settings: &RolloutSettings, endpoint: &Endpoint) -> Value {
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
