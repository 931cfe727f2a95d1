//! The watch over endpoints: probes that bring ejected ones back and find dead engines.
//!
//! Runs beside the data plane, on connections of its own. A model server whose engine has stopped still says that it is
//! healthy and idle, so an engine that is silent is asked for one token.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, header};
use tidegate_routing::snapshot::PoolKind;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Upstream;
use super::connections::{ConnectionLimits, connect, send};
use super::health::{Check, Probing};
use super::outgoing::{CameFrom, Outgoing, OutgoingBody};
use crate::active::{Active, ActivePool};

/// When endpoints are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Between two looks at all endpoints.
    pub tick: Duration,
    /// From an ejection to the first probe; doubles with each further one.
    pub probe_first: Duration,
    /// Longest time between two probes.
    pub probe_longest: Duration,
    /// To the answer of `GET /health`, or to a connection.
    pub probe_answer: Duration,
    /// Without a byte, requests under way, until an engine is asked for a token.
    pub silence: Duration,
    /// To the answer with that token.
    pub token_answer: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(250),
            probe_first: Duration::from_secs(1),
            probe_longest: Duration::from_secs(4),
            probe_answer: Duration::from_secs(2),
            silence: Duration::from_secs(30),
            token_answer: Duration::from_secs(10),
        }
    }
}

/// Watches the endpoints of whatever is active. Never returns; dropping it ends its probes.
pub async fn watch_health(active: impl Fn() -> Arc<Active> + Send + 'static, settings: HealthSettings) {
    let mut probes = JoinSet::new();
    let mut tick = interval(settings.tick.max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        while probes.try_join_next().is_some() {}
        let active = active();
        let now = Instant::now();
        for pool in &active.pools {
            for (index, upstream) in pool.upstreams.iter().enumerate() {
                upstream.connections.sweep();
                let inference = pool.pool.kind == PoolKind::Inference;
                if let Some((check, probing)) = upstream.due(now, inference, &settings) {
                    probes.spawn(probe(pool.clone(), index, upstream.clone(), check, settings, probing));
                }
            }
        }
    }
}

async fn probe(
    pool: Arc<ActivePool>,
    index: usize,
    upstream: Arc<Upstream>,
    check: Check,
    settings: HealthSettings,
    _probing: Probing,
) {
    let answered = match check {
        Check::Return => timeout(settings.probe_answer, is_there(&upstream, pool.pool.kind)).await,
        // Any answer shows that the server is not stuck; only a token shows that a dead engine lives again.
        Check::Alive => timeout(settings.token_answer, token(&upstream, |_| true)).await,
        Check::Revived => timeout(settings.token_answer, token(&upstream, |status| status.is_success())).await,
    };
    upstream.probed(&pool, index, check, answered.unwrap_or(false));
}

async fn is_there(upstream: &Upstream, kind: PoolKind) -> bool {
    match kind {
        PoolKind::Service => connect(&upstream.key).await.is_ok(),
        PoolKind::Inference => {
            let request =
                Request::get("/health").header(header::HOST, &*upstream.key.address).body(OutgoingBody::Empty);
            ask(upstream, request, |status| status == http::StatusCode::OK).await
        }
    }
}

async fn token(upstream: &Upstream, good: impl Fn(http::StatusCode) -> bool) -> bool {
    let mut body = serde_json::json!({"prompt": "ping", "max_tokens": 1});
    // A base model where one is known: an adapter may have to be loaded first. Without a name a server takes its own.
    if let Some(models) = upstream.state.models()
        && let Some(card) = models.iter().find(|card| card.parent.is_none()).or_else(|| models.first())
        && let Some(fields) = body.as_object_mut()
    {
        fields.insert("model".into(), card.id.clone().into());
    }
    let request = Request::post("/v1/completions")
        .header(header::HOST, &*upstream.key.address)
        .header(header::CONTENT_TYPE, "application/json")
        .body(OutgoingBody::Kept(vec![body.to_string().into()]));
    ask(upstream, request, good).await
}

/// Asks on a connection of its own, which is closed behind the answer's head.
async fn ask(
    upstream: &Upstream,
    request: http::Result<Request<OutgoingBody>>,
    good: impl Fn(http::StatusCode) -> bool,
) -> bool {
    let Ok(request) = request else { return false };
    let apart = Arc::new(upstream.apart());
    let limits = ConnectionLimits { connect: None, idle: Some(Duration::ZERO) };
    let (head, body) = request.into_parts();
    send(&apart, &mut Outgoing::new(head, CameFrom::default(), body), limits)
        .await
        .is_ok_and(|(head, _)| good(head.status))
}
