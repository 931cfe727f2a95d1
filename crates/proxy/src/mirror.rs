//! Mirror: copies of a request to other backends, answers dropped (HTTPRoute `requestMirror`).
//!
//! A copy never holds up the request it is made from, and is left out when too many are under way.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, request};
use tidegate_routing::snapshot::{Filters, Mirror, Rule};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tracing::debug;

use crate::active::{Active, ActivePool};
use crate::connection::Connection;
use crate::forward::{BudgetState, ForwardBody, Forwarding, forward};
use crate::read::ReadBody;
use crate::upstream::CameFrom;
use crate::{assign, rewrite};

/// Copies under way at most.
const AT_ONCE: usize = 1024;
/// Longest life of a copy where the rule's own limit is longer.
const LIFE: Duration = Duration::from_secs(600);

/// All copies under way.
pub(crate) struct Mirrors {
    permits: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

/// A request to be copied.
pub(crate) struct Original<'a> {
    pub(crate) rule: &'a Arc<Rule>,
    /// The arm's filters.
    pub(crate) arm_filters: &'a Filters,
    pub(crate) prefix_length: usize,
    /// As it came from the guard.
    pub(crate) head: &'a request::Parts,
    pub(crate) authority: &'a HeaderValue,
    pub(crate) read: &'a ReadBody,
    pub(crate) budget: &'a Arc<BudgetState>,
}

/// One copy, ready to go.
struct Copy {
    pool: Arc<ActivePool>,
    rule: Arc<Rule>,
    budget: Arc<BudgetState>,
    head: request::Parts,
    came_from: CameFrom,
    body: ForwardBody,
    model: Option<String>,
    stream: bool,
}

/// Whether some request of a rule may be copied: then its body has to be kept.
pub(crate) fn is_wanted(rule: &Rule) -> bool {
    !rule.filters.mirrors.is_empty() || rule.arms.iter().any(|arm| !arm.filters.mirrors.is_empty())
}

impl Mirrors {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)), stop: watch::Sender::new(false) }
    }

    /// Sends the copies that the rule and the arm ask for.
    pub(crate) fn send(&self, active: &Active, connection: &Connection, original: &Original<'_>) {
        let nothing = Filters::default();
        for (mirrors, arm_filters) in
            [(&original.rule.filters.mirrors, &nothing), (&original.arm_filters.mirrors, original.arm_filters)]
        {
            for mirror in mirrors.iter().filter(|mirror| is_drawn(mirror)) {
                let Some(pool) = active.pools.get(mirror.pool.0).filter(|pool| !pool.pool.endpoints.is_empty()) else {
                    continue;
                };
                self.spawn(copy(pool, arm_filters, connection, original).run());
            }
        }
    }

    /// Runs a copy, if not too many are under way.
    pub(crate) fn spawn(&self, copy: impl Future<Output = ()> + Send + 'static) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            debug!("a mirrored request is left out: too many are under way");
            return;
        };
        let mut stop = self.stop.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = copy => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            drop(permit);
        });
    }

    /// Ends all copies.
    pub(crate) async fn shutdown(&self) {
        self.stop.send_replace(true);
        // All permits are here when no copy is left.
        let _all = self.permits.acquire_many(u32::try_from(AT_ONCE).unwrap_or(u32::MAX)).await;
    }
}

/// How long a copy of a rule's request may live.
pub(crate) fn life_of(rule: &Rule) -> Duration {
    rule.limits.total.map_or(LIFE, |total| total.min(LIFE))
}

fn is_drawn(mirror: &Mirror) -> bool {
    mirror.numerator >= mirror.denominator || fastrand::u32(..mirror.denominator.max(1)) < mirror.numerator
}

fn copy(pool: &Arc<ActivePool>, arm_filters: &Filters, connection: &Connection, original: &Original<'_>) -> Copy {
    let mut head = original.head.clone();
    let filters = [&original.rule.filters, arm_filters];
    let came_from = rewrite::head(&mut head, filters, original.prefix_length, original.authority.clone(), connection);
    let asked = original.read.model.as_deref();
    let asking = assign::Asking { headers: &original.head.headers, read: original.read };
    let rule = pool.pool.models.rule(asked);
    let target = rule.and_then(|rule| assign::target(pool, rule, asking).0).map(|target| &**target);
    Copy {
        pool: pool.clone(),
        rule: original.rule.clone(),
        budget: original.budget.clone(),
        body: rewrite::body(original.read, target),
        head,
        came_from,
        model: target.or(asked).map(str::to_owned),
        stream: original.read.stream,
    }
}

impl Copy {
    async fn run(self) {
        let deadline = Instant::now() + life_of(&self.rule);
        let forwarding = Forwarding {
            pool: &self.pool,
            rule: &self.rule,
            budget: &self.budget,
            head: self.head,
            came_from: self.came_from,
            body: self.body,
            model: self.model.as_deref(),
            stream: self.stream,
            deadline: Some(deadline),
            once: false,
        };
        let whole = async {
            match forward(forwarding).await {
                // To the end: a server that is left alone stops generating, and would not be tried as it will be used.
                Ok(mut forwarded) => {
                    if let Some(body) = &mut forwarded.body {
                        while let Some(Ok(_)) = body.frame().await {}
                    }
                }
                Err(error) => {
                    debug!(pool = %self.pool.pool.label, reason = error.reason.word(), "a mirrored request failed")
                }
            }
        };
        if tokio::time::timeout_at(deadline, whole).await.is_err() {
            debug!(pool = %self.pool.pool.label, "a mirrored request was ended at its limit");
        }
    }
}
