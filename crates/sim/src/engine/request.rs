//! One request inside the engine.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Finish;
use super::blocks::BlockId;
use crate::tokens::{self, Token};

/// A request's number in its engine.
pub(crate) type Id = u64;

/// What a request asks of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) prompt: Vec<Token>,
    pub(crate) adapter: Option<String>,
    /// Where the answer's tokens come from.
    pub(crate) seed: u64,
    /// At most so many tokens (at least 1).
    pub(crate) max_tokens: usize,
    /// The answer ends of itself after so many.
    pub(crate) natural_length: Option<usize>,
}

/// A request's state.
#[derive(Debug)]
pub(crate) struct Request {
    /// The prompt, then what was produced.
    pub(crate) tokens: Vec<Token>,
    /// How many of them are the prompt.
    pub(crate) prompt: usize,
    /// How many of them are in the KV cache.
    pub(crate) computed: usize,
    pub(crate) blocks: Vec<BlockId>,
    /// Of each full block, with all before it.
    pub(crate) hashes: Vec<u64>,
    pub(crate) adapter: Option<String>,
    seed: u64,
    pub(crate) max_tokens: usize,
    natural_length: Option<usize>,
    pub(crate) cached: usize,
    pub(crate) preemptions: u32,
    pub(crate) arrived: f64,
    pub(crate) begun: Option<f64>,
    pub(crate) first_token: Option<f64>,
    pub(crate) last_token: f64,
}

impl Request {
    pub(crate) fn new(submission: Submission, now: f64) -> Self {
        // A prompt without tokens still has something to compute.
        let mut tokens = submission.prompt;
        if tokens.is_empty() {
            tokens.push(0);
        }
        Self {
            prompt: tokens.len(),
            tokens,
            computed: 0,
            blocks: Vec::new(),
            hashes: Vec::new(),
            adapter: submission.adapter,
            seed: submission.seed,
            max_tokens: submission.max_tokens.max(1),
            natural_length: submission.natural_length,
            cached: 0,
            preemptions: 0,
            arrived: now,
            begun: None,
            first_token: None,
            last_token: now,
        }
    }

    /// Tokens that are not in the KV cache yet.
    pub(crate) fn outstanding(&self) -> usize {
        self.tokens.len().saturating_sub(self.computed)
    }

    /// How many tokens it has produced.
    pub(crate) fn generated(&self) -> usize {
        self.tokens.len().saturating_sub(self.prompt)
    }

    /// Whether its next step is one token upon its own last one.
    pub(crate) fn decodes(&self) -> bool {
        self.generated() > 0 && self.outstanding() == 1
    }

    /// Its next token.
    pub(crate) fn produce(&mut self) -> Token {
        let token = tokens::generated(self.seed, self.generated());
        self.tokens.push(token);
        token
    }

    /// Whether that was the last one.
    pub(crate) fn finish(&self) -> Option<Finish> {
        let generated = self.generated();
        if self.natural_length.is_some_and(|length| generated >= length) {
            return Some(Finish::Stop);
        }
        (generated >= self.max_tokens).then_some(Finish::Length)
    }

    /// Hashes the full blocks among the first `until` tokens.
    pub(crate) fn hash_until(&mut self, until: usize, size: usize) {
        let root = || xxh3_64_with_seed(self.adapter.as_deref().unwrap_or_default().as_bytes(), 7);
        let mut parent = self.hashes.last().copied().unwrap_or_else(root);
        let done = self.hashes.len().saturating_mul(size);
        let bytes_of = |chunk: &[Token]| chunk.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<_>>();
        for chunk in self.tokens.get(done..until).unwrap_or_default().chunks_exact(size) {
            parent = xxh3_64_with_seed(&bytes_of(chunk), parent);
            self.hashes.push(parent);
        }
    }
}
