//! What the engine counts. All times are simulated seconds.

use super::Finish;
use super::request::Request;

/// A histogram.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    pub(crate) bounds: Vec<f64>,
    /// One for each bound, and one for what is above them all; not cumulative.
    pub(crate) counts: Vec<u64>,
    pub(crate) sum: f64,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new(bounds: &[f64]) -> Self {
        Self { bounds: bounds.to_vec(), counts: vec![0; bounds.len().saturating_add(1)], sum: 0.0 }
    }

    /// With bounds 1, 2, 5, 10, 20, 50 … up to `most`.
    fn one_two_five(most: usize) -> Self {
        let mut bounds = Vec::new();
        let mut decade = 1.0;
        while decade <= most as f64 {
            bounds
                .extend([1.0, 2.0, 5.0].map(|digit| digit * decade).into_iter().filter(|bound| *bound <= most as f64));
            decade *= 10.0;
        }
        Self::new(&bounds)
    }

    /// Counts one value.
    pub(crate) fn observe(&mut self, value: f64) {
        let place = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(1);
        }
        self.sum += value;
    }
}

const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const TOKEN_GAP: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const PHASE: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];
const STEP_TOKENS: &[f64] = &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

/// Everything that is counted.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    pub(crate) prompt_tokens: u64,
    pub(crate) generation_tokens: u64,
    pub(crate) prefix_queries: u64,
    pub(crate) prefix_hits: u64,
    pub(crate) preemptions: u64,
    pub(crate) rejected: u64,
    pub(crate) finished_stop: u64,
    pub(crate) finished_length: u64,
    pub(crate) iteration_tokens: Histogram,
    pub(crate) first_token: Histogram,
    pub(crate) token_gap: Histogram,
    pub(crate) time_per_token: Histogram,
    pub(crate) whole: Histogram,
    pub(crate) queue: Histogram,
    pub(crate) inference: Histogram,
    pub(crate) prefill: Histogram,
    pub(crate) decode: Histogram,
    pub(crate) prompt: Histogram,
    pub(crate) generated: Histogram,
    pub(crate) max_tokens: Histogram,
    pub(crate) choices: Histogram,
    pub(crate) preempted: Histogram,
    pub(crate) computed: Histogram,
}

impl Stats {
    pub(crate) fn new(max_model_len: usize) -> Self {
        let tokens = Histogram::one_two_five(max_model_len);
        let phase = Histogram::new(PHASE);
        Self {
            prompt_tokens: 0,
            generation_tokens: 0,
            prefix_queries: 0,
            prefix_hits: 0,
            preemptions: 0,
            rejected: 0,
            finished_stop: 0,
            finished_length: 0,
            iteration_tokens: Histogram::new(STEP_TOKENS),
            first_token: Histogram::new(FIRST_TOKEN),
            token_gap: Histogram::new(TOKEN_GAP),
            time_per_token: Histogram::new(TOKEN_GAP),
            whole: phase.clone(),
            queue: phase.clone(),
            inference: phase.clone(),
            prefill: phase.clone(),
            decode: phase,
            prompt: tokens.clone(),
            generated: tokens.clone(),
            max_tokens: tokens.clone(),
            choices: Histogram::new(&[1.0, 2.0, 5.0, 10.0, 20.0]),
            preempted: Histogram::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0]),
            computed: tokens,
        }
    }

    /// A request produced a token.
    pub(crate) fn token(&mut self, request: &mut Request, now: f64) {
        self.generation_tokens = self.generation_tokens.saturating_add(1);
        if request.first_token.is_none() {
            request.first_token = Some(now);
            self.prompt_tokens = self.prompt_tokens.saturating_add(request.prompt as u64);
            self.first_token.observe(now - request.arrived);
        } else {
            self.token_gap.observe(now - request.last_token);
        }
        request.last_token = now;
    }

    /// A request ended well.
    pub(crate) fn finished(&mut self, request: &Request, finish: Finish, now: f64) {
        match finish {
            Finish::Stop => self.finished_stop = self.finished_stop.saturating_add(1),
            Finish::Length => self.finished_length = self.finished_length.saturating_add(1),
        }
        let begun = request.begun.unwrap_or(request.arrived);
        let first = request.first_token.unwrap_or(now);
        self.whole.observe(now - request.arrived);
        self.queue.observe(begun - request.arrived);
        self.inference.observe(now - begun);
        self.prefill.observe(first - begun);
        self.decode.observe(now - first);
        let gaps = request.generated().saturating_sub(1);
        self.time_per_token.observe(if gaps == 0 { 0.0 } else { (now - first) / gaps as f64 });
        self.prompt.observe(request.prompt as f64);
        self.generated.observe(request.generated() as f64);
        self.max_tokens.observe(request.max_tokens as f64);
        self.choices.observe(1.0);
        self.preempted.observe(f64::from(request.preemptions));
        self.computed.observe(request.prompt.saturating_sub(request.cached) as f64);
    }
}
