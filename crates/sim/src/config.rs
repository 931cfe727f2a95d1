//! What a simulated server is: names, limits, speed and costs.

use std::time::Duration;

use crate::Faults;

/// What work costs, in seconds of the simulated accelerator.
///
/// The defaults are a public calibration of decode and prefill (vllm-project/router, `docs/program_scheduling.md`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Of every step.
    pub step: f64,
    /// Of every request that decodes in the step.
    pub per_request: f64,
    /// Of every token that a decoding request attends to.
    pub per_context_token: f64,
    /// Of every prompt token that is computed (1 / the prefill rate).
    pub per_prompt_token: f64,
    /// Attention's part of a prompt: of every computed token and every token before it, twice counted
    /// (`quadratic · ((from + n)² − from²)`).
    pub prompt_quadratic: f64,
    /// Of every step in which any adapter takes part, for each adapter.
    pub per_adapter: f64,
    /// Of an adapter's way from disk to the device.
    pub adapter_from_disk: f64,
    /// Of an adapter's way from the host's memory to the device.
    pub adapter_from_host: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            step: 0.0106,
            per_request: 0.000_419,
            per_context_token: 1.42e-7,
            per_prompt_token: 57.0e-6,
            prompt_quadratic: 4.41e-9,
            per_adapter: 0.0,
            adapter_from_disk: 0.3,
            adapter_from_host: 0.02,
        }
    }
}

/// The engine's limits and costs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Requests in one step at most (`--max-num-seqs`).
    pub max_num_seqs: usize,
    /// Tokens in one step at most (`--max-num-batched-tokens`).
    pub max_num_batched_tokens: usize,
    /// Waiting requests at most; more are refused (`--max-num-queued-reqs`).
    pub max_num_queued_reqs: Option<usize>,
    /// Tokens of a block (`--block-size`).
    pub block_size: usize,
    /// KV blocks (`--num-gpu-blocks-override`), one of which is never used.
    pub blocks: usize,
    /// Adapters in one step at most (`--max-loras`).
    pub max_loras: usize,
    /// Adapters in the host's memory (`--max-cpu-loras`).
    pub max_cpu_loras: usize,
    /// Whether prompts are looked up in the prefix cache (`--no-enable-prefix-caching` turns it off).
    pub prefix_caching: bool,
    /// What work costs.
    pub costs: Costs,
    /// Steps take up to this share longer or shorter, at random. 0 to 0.9.
    pub jitter: f64,
    /// For everything random.
    pub seed: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_num_seqs: 256,
            max_num_batched_tokens: 8192,
            max_num_queued_reqs: None,
            block_size: 16,
            blocks: 19_209,
            max_loras: 1,
            max_cpu_loras: 0,
            prefix_caching: true,
            costs: Costs::default(),
            jitter: 0.0,
            seed: 0,
        }
    }
}

/// A simulated server.
#[derive(Clone, Debug)]
pub struct Config {
    /// What `root` says in `/v1/models` (`--model`).
    pub model: String,
    /// Names of the base model; the first is the one that answers and metrics name (`--served-model-name`).
    pub served_model_names: Vec<String>,
    /// Adapters: name and path (`--lora-modules`).
    pub adapters: Vec<(String, String)>,
    /// Paths that can be loaded at run time; any path but those that begin with `missing` or `no-such` when `None`.
    pub known_paths: Option<Vec<String>>,
    /// Tokens of prompt and answer together at most (`--max-model-len`).
    pub max_model_len: usize,
    /// Limits and costs.
    pub engine: EngineConfig,
    /// Simulated seconds in one second.
    pub speed: f64,
    /// Wall time until the port opens.
    pub startup_delay: Duration,
    /// How long SIGTERM leaves requests to finish; zero does what vLLM does by default (see [`crate::Stop`]).
    pub shutdown_timeout: Duration,
    /// `x-sim-server` of every answer; the server's address when `None`.
    pub name: Option<String>,
    /// Whether answers say how many prompt tokens were cached (`--enable-prompt-tokens-details`).
    pub prompt_tokens_details: bool,
    /// Whether `x-request-id` is in the answer's head (`--enable-request-id-headers`).
    pub request_id_headers: bool,
    /// Whether `/load` counts (`--enable-server-load-tracking`).
    pub load_tracking: bool,
    /// Faults from the start.
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: "simulated".into(),
            served_model_names: Vec::new(),
            adapters: Vec::new(),
            known_paths: None,
            max_model_len: 32_768,
            engine: EngineConfig::default(),
            speed: 1.0,
            startup_delay: Duration::ZERO,
            shutdown_timeout: Duration::ZERO,
            name: None,
            prompt_tokens_details: false,
            request_id_headers: false,
            load_tracking: false,
            faults: Faults::default(),
        }
    }
}

/// A configuration that no server can have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Outside its range.
    #[error("{field}: {found} is not allowed; use {allowed}")]
    Range {
        /// Which.
        field: &'static str,
        /// What was given.
        found: f64,
        /// What may be given.
        allowed: &'static str,
    },
    /// One request of full length must fit, else it would never end.
    #[error(
        "{blocks} KV blocks of {block_size} tokens (one is never used) hold less than max-model-len {max_model_len}: use more blocks or a smaller max-model-len"
    )]
    KvTooSmall {
        /// Blocks.
        blocks: usize,
        /// Tokens of each.
        block_size: usize,
        /// Tokens of one request at most.
        max_model_len: usize,
    },
    /// A fault that makes no sense.
    #[error(transparent)]
    Fault(#[from] crate::FaultError),
}

impl Config {
    /// The name that answers and metrics give the base model.
    pub fn base(&self) -> &str {
        self.served_model_names.first().map_or(self.model.as_str(), String::as_str)
    }

    /// Refuses what no server can be.
    ///
    /// # Errors
    /// Names the field, what was found, and what to do.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let range = |field, found: f64, good: bool, allowed| {
            if good { Ok(()) } else { Err(ConfigError::Range { field, found, allowed }) }
        };
        let engine = &self.engine;
        range("speed", self.speed, self.speed.is_finite() && self.speed > 0.0, "a number above 0")?;
        range("jitter", engine.jitter, (0.0..=0.9).contains(&engine.jitter), "0 to 0.9")?;
        for (field, count) in [
            ("max-num-seqs", engine.max_num_seqs),
            ("max-num-batched-tokens", engine.max_num_batched_tokens),
            ("block-size", engine.block_size),
            ("max-loras", engine.max_loras),
            ("max-model-len", self.max_model_len.saturating_sub(1)),
        ] {
            range(field, count as f64, count > 0, "a larger number")?;
        }
        if engine.blocks.saturating_sub(1).saturating_mul(engine.block_size) < self.max_model_len {
            return Err(ConfigError::KvTooSmall {
                blocks: engine.blocks,
                block_size: engine.block_size,
                max_model_len: self.max_model_len,
            });
        }
        let costs = engine.costs;
        for (field, cost) in [
            ("step cost", costs.step),
            ("cost per request", costs.per_request),
            ("cost per context token", costs.per_context_token),
            ("cost per prompt token", costs.per_prompt_token),
            ("quadratic prompt cost", costs.prompt_quadratic),
            ("cost per adapter", costs.per_adapter),
            ("adapter load time", costs.adapter_from_disk),
            ("adapter swap time", costs.adapter_from_host),
        ] {
            range(field, cost, cost.is_finite() && (0.0..=3600.0).contains(&cost), "0 to 3600 seconds")?;
        }
        self.faults.validate()?;
        Ok(())
    }
}
