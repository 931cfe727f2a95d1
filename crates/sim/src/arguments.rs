//! `tidegate sim`: flags as vLLM names them, where it has them.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, Costs, EngineConfig};
use crate::faults::Faults;
use crate::server::{Server, Stop};

/// Arguments of `tidegate sim`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// Port; 0 takes a free one. The address is printed when the server is ready.
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// What the base model is made from; its name as well, unless --served-model-name is given.
    #[arg(long, default_value = "simulated", value_name = "NAME")]
    pub model: String,
    /// Names of the base model, the first of which answers give.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub served_model_name: Vec<String>,
    /// LoRA adapters.
    #[arg(long, num_args = 1.., value_name = "NAME=PATH", value_parser = pair)]
    pub lora_modules: Vec<(String, String)>,
    /// Paths that can be loaded at run time. Without it any path that does not begin with "missing" or "no-such".
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub lora_paths: Vec<String>,
    /// Adapters in one step at most.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub max_loras: usize,
    /// Adapters in the host's memory; --max-loras when less.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_cpu_loras: usize,
    /// Tokens of prompt and answer together at most. Without it 32768, or as many as the KV blocks hold.
    #[arg(long, value_name = "N")]
    pub max_model_len: Option<usize>,
    /// Requests in one step at most.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub max_num_seqs: usize,
    /// Tokens in one step at most.
    #[arg(long, default_value_t = 8192, value_name = "N")]
    pub max_num_batched_tokens: usize,
    /// Waiting requests at most; more are refused.
    #[arg(long, value_name = "N")]
    pub max_num_queued_reqs: Option<usize>,
    /// Tokens of a KV block.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub block_size: usize,
    /// KV blocks.
    #[arg(long, default_value_t = 19_209, value_name = "N")]
    pub num_gpu_blocks_override: usize,
    /// Look no prompt up in the prefix cache.
    #[arg(long)]
    pub no_enable_prefix_caching: bool,
    /// Say how many prompt tokens were cached.
    #[arg(long)]
    pub enable_prompt_tokens_details: bool,
    /// Give x-request-id back in the head.
    #[arg(long)]
    pub enable_request_id_headers: bool,
    /// Count requests in /load.
    #[arg(long)]
    pub enable_server_load_tracking: bool,
    /// Seconds that SIGTERM leaves requests to finish. 0: the port closes and open streams fall silent.
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS", value_parser = seconds)]
    pub shutdown_timeout: f64,
    /// For everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Simulated seconds in one second.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub speed: f64,
    /// Steps take up to this share longer or shorter.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub jitter: f64,
    /// Seconds until the port opens.
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS", value_parser = seconds)]
    pub startup_delay: f64,
    /// Milliseconds of every step.
    #[arg(long, value_name = "MS")]
    pub step_ms: Option<f64>,
    /// Milliseconds of every decoding request in a step.
    #[arg(long, value_name = "MS")]
    pub request_ms: Option<f64>,
    /// Nanoseconds of every token that a decoding request attends to.
    #[arg(long, value_name = "NS")]
    pub context_token_ns: Option<f64>,
    /// Prompt tokens computed in a second, attention apart.
    #[arg(long, value_name = "N")]
    pub prefill_rate: Option<f64>,
    /// Seconds for an adapter's way from disk to the device.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub lora_load_time: Option<f64>,
    /// x-sim-server of every answer; the address without it.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A fault from the start, such as error_rate=0.1; also POST /sim/faults while it runs.
    #[arg(long, num_args = 1.., value_name = "FAULT=VALUE", value_parser = pair)]
    pub fault: Vec<(String, String)>,
    /// End when standard input does: a parent that dies leaves no server behind.
    #[arg(long)]
    pub exit_with_stdin: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected 0 to 86400 seconds".into()),
    }
}

impl Arguments {
    /// The server that these flags describe.
    ///
    /// # Errors
    /// Names the fault that is none.
    pub fn config(&self) -> Result<Config, crate::FaultError> {
        let faults: Map<String, Value> = self
            .fault
            .iter()
            .map(|(name, value)| (name.clone(), serde_json::from_str(value).unwrap_or_else(|_| value.as_str().into())))
            .collect();
        let mut costs = Costs::default();
        for (cost, given) in [
            (&mut costs.step, self.step_ms.map(|ms| ms / 1e3)),
            (&mut costs.per_request, self.request_ms.map(|ms| ms / 1e3)),
            (&mut costs.per_context_token, self.context_token_ns.map(|ns| ns / 1e9)),
            (&mut costs.per_prompt_token, self.prefill_rate.map(|rate| 1.0 / rate)),
            (&mut costs.adapter_from_disk, self.lora_load_time),
        ] {
            *cost = given.unwrap_or(*cost);
        }
        let room = self.num_gpu_blocks_override.saturating_sub(1).saturating_mul(self.block_size);
        Ok(Config {
            model: self.model.clone(),
            served_model_names: self.served_model_name.clone(),
            adapters: self.lora_modules.clone(),
            known_paths: (!self.lora_paths.is_empty()).then(|| self.lora_paths.clone()),
            max_model_len: self.max_model_len.unwrap_or_else(|| room.clamp(2, 32_768)),
            engine: EngineConfig {
                max_num_seqs: self.max_num_seqs,
                max_num_batched_tokens: self.max_num_batched_tokens,
                max_num_queued_reqs: self.max_num_queued_reqs,
                block_size: self.block_size,
                blocks: self.num_gpu_blocks_override,
                max_loras: self.max_loras,
                max_cpu_loras: self.max_cpu_loras,
                prefix_caching: !self.no_enable_prefix_caching,
                costs,
                jitter: self.jitter,
                seed: self.seed,
            },
            speed: self.speed,
            startup_delay: Duration::try_from_secs_f64(self.startup_delay).unwrap_or_default(),
            shutdown_timeout: Duration::try_from_secs_f64(self.shutdown_timeout).unwrap_or_default(),
            name: self.name.clone(),
            prompt_tokens_details: self.enable_prompt_tokens_details,
            request_id_headers: self.enable_request_id_headers,
            load_tracking: self.enable_server_load_tracking,
            faults: Faults::default().changed(&Value::Object(faults))?,
        })
    }
}

/// Runs a server until SIGTERM or Ctrl-C, or until its engine dies. Prints `listening on http://ADDRESS` when ready.
/// 2 for a wrong configuration, 1 when it cannot listen or its engine died.
pub async fn run(arguments: Arguments) -> ExitCode {
    let config = match arguments.config().map_err(|error| error.to_string()).and_then(|config| {
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("sim: {error}");
            return ExitCode::from(2);
        }
    };
    let place = (arguments.host, arguments.port);
    let started = async { Server::start(config, TcpListener::bind(place).await?).await };
    let (mut server, mut terminate) = match (started.await, signal(SignalKind::terminate())) {
        (Ok(server), Ok(terminate)) => (server, terminate),
        (Err(error), _) => return failed(&format!("cannot serve on {}:{}: {error}", place.0, place.1)),
        (_, Err(error)) => return failed(&format!("cannot wait for SIGTERM: {error}")),
    };
    // A reader that is gone does not keep the server from serving.
    let _ = writeln!(std::io::stdout(), "listening on http://{}", server.address());
    let input = watch_input(arguments.exit_with_stdin);
    tokio::select! {
        died = server.ended() => return if died { failed("the engine died") } else { ExitCode::SUCCESS },
        _ = tokio::signal::ctrl_c() => server.stop(Stop::Instant).await,
        () = input_ended(input.clone()) => server.stop(Stop::Instant).await,
        _ = terminate.recv() => {
            tokio::select! {
                () = server.stop(Stop::Graceful) => {}
                _ = tokio::signal::ctrl_c() => {}
                () = input_ended(input) => {}
            }
        }
    }
    ExitCode::SUCCESS
}

fn failed(why: &str) -> ExitCode {
    eprintln!("sim: {why}");
    ExitCode::FAILURE
}

/// A watch on standard input, on a thread of its own: a read that never ends must not keep the process from ending.
fn watch_input(wanted: bool) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    if wanted {
        std::thread::spawn(move || {
            // An error ends it as the end does.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            sender.send_replace(true);
        });
    }
    receiver
}

async fn input_ended(mut input: watch::Receiver<bool>) {
    if input.wait_for(|ended| *ended).await.is_err() {
        std::future::pending().await
    }
}
