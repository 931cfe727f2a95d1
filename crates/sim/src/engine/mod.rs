//! The engine: one step loop that all requests share, as a state machine without I/O and without a clock.
//!
//! A step has a budget of tokens. Requests that run go first (a token each, or the rest of their prompt), then waiting
//! ones are taken in, their prompts cut to what is left. A step's time grows with its batch, with the context of those
//! that decode, and with the prompt tokens it computes. When the KV cache is full, the youngest request loses its
//! blocks and is computed again later.

mod adapters;
mod blocks;
mod request;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

pub(crate) use self::request::{Id, Submission};
pub(crate) use self::stats::{Histogram, Stats};
use self::{adapters::Adapters, blocks::Blocks, request::Request};
use crate::config::EngineConfig;
use crate::tokens::Token;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Of itself.
    Stop,
    /// At its limit of tokens.
    Length,
}

/// A token for a request.
#[derive(Clone, Debug)]
pub(crate) struct Produced {
    pub(crate) id: Id,
    pub(crate) token: Token,
    /// With the last one.
    pub(crate) finish: Option<Finish>,
    /// Prompt tokens that were found in the prefix cache.
    pub(crate) cached: usize,
}

/// What a step did.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// How long it takes, in simulated seconds; its tokens are there when it ends.
    pub(crate) seconds: f64,
    pub(crate) produced: Vec<Produced>,
}

/// Too many requests wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// What the gauges show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Gauges {
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    /// Those of `waiting` whose adapter has no slot.
    pub(crate) deferred: usize,
    pub(crate) kv_usage: f64,
    /// Adapters of requests that have begun, in the order in which they did.
    pub(crate) adapters: Vec<String>,
}

/// The engine of one server.
#[derive(Debug)]
pub(crate) struct Engine {
    config: EngineConfig,
    blocks: Blocks,
    adapters: Adapters,
    requests: HashMap<Id, Request>,
    running: Vec<Id>,
    waiting: VecDeque<Id>,
    active_adapters: Vec<String>,
    deferred: usize,
    next_id: Id,
    /// Simulated seconds of work so far.
    clock: f64,
    random: fastrand::Rng,
    pub(crate) stats: Stats,
}

impl Engine {
    /// An idle engine. `max_model_len` only shapes histograms.
    pub(crate) fn new(config: EngineConfig, max_model_len: usize) -> Self {
        Self {
            blocks: Blocks::new(config.blocks),
            adapters: Adapters::new(config.max_loras, config.max_cpu_loras),
            requests: HashMap::new(),
            running: Vec::new(),
            waiting: VecDeque::new(),
            active_adapters: Vec::new(),
            deferred: 0,
            next_id: 0,
            clock: 0.0,
            random: fastrand::Rng::with_seed(config.seed),
            stats: Stats::new(max_model_len),
            config,
        }
    }

    /// Takes a request into the queue.
    pub(crate) fn submit(&mut self, submission: Submission) -> Result<Id, Busy> {
        if self.config.max_num_queued_reqs.is_some_and(|most| self.waiting.len() >= most) {
            self.stats.rejected = self.stats.rejected.saturating_add(1);
            return Err(Busy);
        }
        let id = self.next_id;
        self.next_id = self.next_id.saturating_add(1);
        self.requests.insert(id, Request::new(submission, self.clock));
        self.waiting.push_back(id);
        Ok(id)
    }

    /// Ends a request whose client left.
    pub(crate) fn abort(&mut self, id: Id) {
        self.waiting.retain(|other| *other != id);
        self.running.retain(|other| *other != id);
        if let Some(request) = self.requests.remove(&id) {
            self.blocks.release(&request.blocks);
        }
        self.note_adapters();
    }

    /// Whether nothing runs or waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// What the gauges show now.
    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            running: self.running.len(),
            waiting: self.waiting.len(),
            deferred: self.deferred.min(self.waiting.len()),
            kv_usage: self.blocks.usage(),
            adapters: self.active_adapters.clone(),
        }
    }

    /// Forgets an adapter that was unloaded or replaced.
    pub(crate) fn forget_adapter(&mut self, name: &str) {
        self.adapters.forget(name);
    }

    /// Forgets the prefix cache, but for blocks in use.
    pub(crate) fn reset_prefix_cache(&mut self) {
        self.blocks.forget();
    }

    /// One step. Takes no time and does nothing when idle.
    pub(crate) fn step(&mut self) -> Step {
        if self.is_idle() {
            return Step::default();
        }
        let mut budget = self.config.max_num_batched_tokens;
        let mut scheduled = Vec::with_capacity(self.running.len().saturating_add(1));
        let preempted = self.schedule_running(&mut budget, &mut scheduled);
        let mut loading = 0.0;
        self.deferred = 0;
        if !preempted {
            loading = self.admit(&mut budget, &mut scheduled);
        }
        let seconds = self.time_of(&scheduled) + loading;
        self.clock += seconds;
        self.stats.iteration_tokens.observe(scheduled.iter().map(|(_, tokens)| *tokens as f64).sum());
        let mut produced = Vec::with_capacity(scheduled.len());
        for (id, tokens) in scheduled {
            produced.extend(self.advance(id, tokens));
        }
        self.note_adapters();
        Step { seconds, produced }
    }

    /// Schedules those that run; whether any had to give way.
    fn schedule_running(&mut self, budget: &mut usize, scheduled: &mut Vec<(Id, usize)>) -> bool {
        let mut preempted = false;
        let mut index = 0;
        while *budget > 0
            && let Some(id) = self.running.get(index).copied()
        {
            let tokens = self.requests.get(&id).map_or(0, Request::outstanding).min(*budget);
            if self.grow(id, tokens) {
                scheduled.push((id, tokens));
                *budget = budget.saturating_sub(tokens);
                index = index.saturating_add(1);
                continue;
            }
            preempted = true;
            let Some(youngest) = self.running.pop() else { break };
            self.preempt(youngest);
        }
        preempted
    }

    /// Gives `id` the blocks for `tokens` more; changes nothing when there are not enough.
    fn grow(&mut self, id: Id, tokens: usize) -> bool {
        let Some(request) = self.requests.get_mut(&id) else { return false };
        let wanted = request.computed.saturating_add(tokens).div_ceil(self.config.block_size);
        let missing = wanted.saturating_sub(request.blocks.len());
        if missing > self.blocks.free() {
            return false;
        }
        for _ in 0..missing {
            request.blocks.extend(self.blocks.take());
        }
        true
    }

    fn preempt(&mut self, id: Id) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        self.blocks.release(&std::mem::take(&mut request.blocks));
        request.computed = 0;
        request.preemptions = request.preemptions.saturating_add(1);
        self.stats.preemptions = self.stats.preemptions.saturating_add(1);
        self.waiting.push_front(id);
    }

    /// Takes waiting requests in; what loading their adapters costs.
    fn admit(&mut self, budget: &mut usize, scheduled: &mut Vec<(Id, usize)>) -> f64 {
        let mut active: Vec<String> = Vec::new();
        for id in &self.running {
            note(&mut active, self.requests.get(id).and_then(|request| request.adapter.as_deref()));
        }
        let (mut loading, mut passed_over) = (0.0, VecDeque::new());
        while self.running.len() < self.config.max_num_seqs
            && *budget > 0
            && let Some(id) = self.waiting.pop_front()
        {
            let adapter = self.requests.get(&id).and_then(|request| request.adapter.clone());
            if adapter.as_deref().is_some_and(|name| !self.adapters.fits(name, &active)) {
                self.deferred = self.deferred.saturating_add(1);
                passed_over.push_back(id);
                continue;
            }
            let Some(tokens) = self.begin(id, *budget) else {
                self.waiting.push_front(id);
                break;
            };
            if let Some(name) = &adapter {
                note(&mut active, Some(name));
                let costs = self.config.costs;
                loading += self.adapters.activate(name, &active, costs.adapter_from_disk, costs.adapter_from_host);
            }
            self.running.push(id);
            scheduled.push((id, tokens));
            *budget = budget.saturating_sub(tokens);
        }
        while let Some(id) = passed_over.pop_back() {
            self.waiting.push_front(id);
        }
        loading
    }

    /// Gives a waiting request its cached prefix and the blocks for its first chunk; how many tokens that has.
    fn begin(&mut self, id: Id, budget: usize) -> Option<usize> {
        let size = self.config.block_size;
        let request = self.requests.get_mut(&id)?;
        request.hash_until(request.tokens.len(), size);
        // The last token is always computed: its outcome is the next one.
        let most = request.tokens.len().saturating_sub(1) / size;
        let known = request.hashes.get(..most).unwrap_or_default();
        let hits = if self.config.prefix_caching { self.blocks.hits(known) } else { 0 };
        let prefix = known.get(..hits).unwrap_or_default();
        let cached = hits.saturating_mul(size);
        let tokens = request.tokens.len().saturating_sub(cached).min(budget);
        let fresh = cached.saturating_add(tokens).div_ceil(size).saturating_sub(hits);
        if fresh.saturating_add(self.blocks.idle_among(prefix)) > self.blocks.free() {
            return None;
        }
        for hash in prefix {
            request.blocks.extend(self.blocks.share(*hash));
        }
        for _ in 0..fresh {
            request.blocks.extend(self.blocks.take());
        }
        request.computed = cached;
        if request.begun.is_none() {
            request.begun = Some(self.clock);
            request.cached = cached;
            let prompt = request.prompt as u64;
            self.stats.prefix_queries = self.stats.prefix_queries.saturating_add(prompt);
            self.stats.prefix_hits = self.stats.prefix_hits.saturating_add(cached as u64);
        }
        Some(tokens)
    }

    /// How long a step with these requests and tokens takes.
    fn time_of(&mut self, scheduled: &[(Id, usize)]) -> f64 {
        let costs = self.config.costs;
        let mut seconds = costs.step;
        let mut adapters = Vec::new();
        for (id, tokens) in scheduled {
            let Some(request) = self.requests.get(id) else { continue };
            note(&mut adapters, request.adapter.as_deref());
            if request.decodes() {
                seconds += costs.per_request + costs.per_context_token * request.computed as f64;
            } else {
                let (from, tokens) = (request.computed as f64, *tokens as f64);
                let until = from + tokens;
                seconds += costs.per_prompt_token * tokens + costs.prompt_quadratic * (until * until - from * from);
            }
        }
        seconds += costs.per_adapter * adapters.len() as f64;
        seconds * (1.0 + self.config.jitter * (2.0 * self.random.f64() - 1.0))
    }

    /// Counts `tokens` of `id` as computed; its next token, if that were the last ones outstanding.
    fn advance(&mut self, id: Id, tokens: usize) -> Option<Produced> {
        let size = self.config.block_size;
        let request = self.requests.get_mut(&id)?;
        let before = request.computed / size;
        request.computed = request.computed.saturating_add(tokens);
        let full = request.computed / size;
        if self.config.prefix_caching && full > before {
            request.hash_until(request.computed, size);
            for (block, hash) in request.blocks.iter().zip(&request.hashes).take(full).skip(before) {
                self.blocks.fill(*block, *hash);
            }
        }
        if request.outstanding() > 0 {
            return None;
        }
        let token = request.produce();
        let finish = request.finish();
        self.stats.token(request, self.clock);
        let produced = Produced { id, token, finish, cached: request.cached };
        if let Some(finish) = finish {
            self.running.retain(|other| *other != id);
            if let Some(request) = self.requests.remove(&id) {
                self.blocks.release(&request.blocks);
                self.stats.finished(&request, finish, self.clock);
            }
        }
        Some(produced)
    }

    /// Keeps the list of adapters with requests that have begun, in the order of their beginning.
    fn note_adapters(&mut self) {
        let mut begun: Vec<(Id, &str)> = self
            .requests
            .iter()
            .filter(|(_, request)| request.begun.is_some())
            .filter_map(|(id, request)| Some((*id, request.adapter.as_deref()?)))
            .collect();
        begun.sort_unstable();
        self.active_adapters.retain(|name| begun.iter().any(|(_, other)| other == name));
        for (_, name) in begun {
            note(&mut self.active_adapters, Some(name));
        }
    }
}

/// Adds a name once.
fn note(names: &mut Vec<String>, name: Option<&str>) {
    if let Some(name) = name
        && !names.iter().any(|other| other == name)
    {
        names.push(name.to_owned());
    }
}
