//! The metrics page: vLLM's families, labels and order of labels, with the help in our own words. Left out are the
//! families of the Python interpreter and of its process, which this server has none of.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::engine::{Gauges, Histogram, Stats};
use crate::shared::Shared;

/// Finished exchanges by handler, method and status class.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    counts: BTreeMap<(String, String, String), u64>,
    durations: BTreeMap<(String, String), Histogram>,
    fine: Option<Histogram>,
    requests: BTreeMap<String, (u64, u64)>,
    responses: BTreeMap<String, (u64, u64)>,
}

/// Upper bounds of the page's only histogram over all exchanges.
const FINE: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0,
];

impl Exchanges {
    /// Counts one exchange.
    pub(crate) fn count(&mut self, handler: &str, method: &str, status: u16, seconds: f64, sizes: (u64, u64)) {
        let class = format!("{}xx", status / 100);
        *self.counts.entry((handler.into(), method.into(), class)).or_default() += 1;
        let coarse = || Histogram::new(&[0.1, 0.5, 1.0]);
        self.durations.entry((handler.into(), method.into())).or_insert_with(coarse).observe(seconds);
        self.fine.get_or_insert_with(|| Histogram::new(FINE)).observe(seconds);
        for (table, size) in [(&mut self.requests, sizes.0), (&mut self.responses, sizes.1)] {
            let entry = table.entry(handler.into()).or_default();
            *entry = (entry.0.saturating_add(1), entry.1.saturating_add(size));
        }
    }
}

struct Page {
    text: String,
    since: f64,
}

/// A number as Python writes floats.
fn number(value: f64) -> String {
    if !(1e9..1e16).contains(&value) {
        return format!("{value:?}");
    }
    let written = format!("{value:e}");
    match written.split_once('e') {
        Some((digits, exponent)) => format!("{digits}e+{exponent:0>2}"),
        None => written,
    }
}

fn bound(value: f64) -> String {
    format!("{value:?}")
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        let _ = if labels.is_empty() {
            writeln!(self.text, "{name} {}", number(value))
        } else {
            writeln!(self.text, "{name}{{{labels}}} {}", number(value))
        };
    }

    fn gauge(&mut self, name: &str, help: &str, samples: &[(String, f64)]) {
        self.family(name, "gauge", help);
        for (labels, value) in samples {
            self.sample(name, labels, *value);
        }
    }

    fn created(&mut self, name: &str, help: &str, labels: &[String]) {
        let samples: Vec<(String, f64)> = labels.iter().map(|labels| (labels.clone(), self.since)).collect();
        self.gauge(&format!("{name}_created"), help, &samples);
    }

    fn counter(&mut self, name: &str, help: &str, samples: &[(String, f64)]) {
        let total = format!("{name}_total");
        self.family(&total, "counter", help);
        for (labels, value) in samples {
            self.sample(&total, labels, *value);
        }
        self.created(name, help, &samples.iter().map(|(labels, _)| labels.clone()).collect::<Vec<_>>());
    }

    /// Buckets carry `le` where the alphabet puts it.
    fn histogram(&mut self, name: &str, help: &str, series: &[(&str, &str, &Histogram)]) {
        self.family(name, "histogram", help);
        for (before, after, histogram) in series {
            let join =
                |parts: &[&str]| parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(",");
            let mut sum = 0_u64;
            let bounds = histogram.bounds.iter().map(|value| bound(*value)).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(&histogram.counts) {
                sum = sum.saturating_add(*count);
                let le = format!("le=\"{bound}\"");
                self.sample(&format!("{name}_bucket"), &join(&[before, &le, after]), sum as f64);
            }
            let labels = join(&[before, after]);
            self.sample(&format!("{name}_count"), &labels, sum as f64);
            self.sample(&format!("{name}_sum"), &labels, histogram.sum);
        }
        let labels: Vec<String> = series
            .iter()
            .map(|(before, after, _)| {
                [*before, *after].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(",")
            })
            .collect();
        self.created(name, help, &labels);
    }
}

/// A label's value as the exposition format wants it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The page.
pub(crate) fn page(shared: &Shared) -> String {
    let stats = shared.core.lock().engine.stats.clone();
    let mut page = Page { text: String::with_capacity(32 * 1024), since: shared.since };
    let model = format!("model_name=\"{}\"", escape(shared.config.base()));
    let published = shared.published.lock();
    gauges(&mut page, &published.gauges, &model);
    counters(&mut page, &stats, &model);
    histograms(&mut page, &stats, &model);
    if !published.adapters.is_empty() {
        let samples: Vec<(String, f64)> = published
            .adapters
            .iter()
            .map(|(names, time)| {
                let (names, most) = (escape(names), shared.config.engine.max_loras);
                let labels =
                    format!("max_lora=\"{most}\",running_lora_adapters=\"{names}\",waiting_lora_adapters=\"{names}\"");
                (labels, *time)
            })
            .collect();
        page.gauge("vllm:lora_requests_info", "Adapters of begun requests; the value is when.", &samples);
    }
    drop(published);
    cache_config(&mut page, shared);
    exchanges(&mut page, &shared.exchanges.lock());
    page.text
}

fn gauges(page: &mut Page, gauges: &Gauges, model: &str) {
    let all = format!("engine=\"0\",{model}");
    let one = |value: f64| vec![(all.clone(), value)];
    for what in ["flops", "read_bytes", "write_bytes"] {
        page.counter(&format!("vllm:estimated_{what}_per_gpu"), "Not estimated here.", &one(0.0));
    }
    page.gauge("vllm:num_requests_running", "Requests in the batch.", &one(gauges.running as f64));
    page.gauge("vllm:num_requests_waiting", "Requests in the queue.", &one(gauges.waiting as f64));
    let reason = |name: &str, value: usize| (format!("{all},reason=\"{name}\""), value as f64);
    let capacity = gauges.waiting.saturating_sub(gauges.deferred);
    page.gauge(
        "vllm:num_requests_waiting_by_reason",
        "Requests in the queue, by what they wait for.",
        &[reason("capacity", capacity), reason("deferred", gauges.deferred)],
    );
    let state = |name: &str, value: f64| (format!("{all},sleep_state=\"{name}\""), value);
    page.gauge(
        "vllm:engine_sleep_state",
        "Whether the engine is awake.",
        &[state("awake", 1.0), state("weights_offloaded", 0.0), state("discard_all", 0.0)],
    );
    page.gauge("vllm:kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.", &one(gauges.kv_usage));
}

fn counters(page: &mut Page, stats: &Stats, model: &str) {
    let all = format!("engine=\"0\",{model}");
    let one = |value: u64| vec![(all.clone(), value as f64)];
    page.counter("vllm:prefix_cache_queries", "Prompt tokens looked up.", &one(stats.prefix_queries));
    page.counter("vllm:prefix_cache_hits", "Prompt tokens found.", &one(stats.prefix_hits));
    page.counter("vllm:external_prefix_cache_queries", "No external cache here.", &one(0));
    page.counter("vllm:external_prefix_cache_hits", "No external cache here.", &one(0));
    page.counter("vllm:mm_cache_queries", "No media here.", &one(0));
    page.counter("vllm:mm_cache_hits", "No media here.", &one(0));
    page.counter("vllm:num_preemptions", "Requests that lost their blocks.", &one(stats.preemptions));
    page.counter("vllm:prompt_tokens", "Prompt tokens.", &one(stats.prompt_tokens));
    let by = |names: &[(&str, u64)]| -> Vec<(String, f64)> {
        names.iter().map(|(name, value)| (format!("{all},source=\"{name}\""), *value as f64)).collect()
    };
    let computed = stats.prompt_tokens.saturating_sub(stats.prefix_hits);
    page.counter(
        "vllm:prompt_tokens_by_source",
        "Prompt tokens by where their KV came from.",
        &by(&[("local_compute", computed), ("local_cache_hit", stats.prefix_hits), ("external_kv_transfer", 0)]),
    );
    page.counter("vllm:prompt_tokens_cached", "Prompt tokens found.", &one(stats.prefix_hits));
    let hits = stats.prefix_hits;
    page.counter(
        "vllm:prompt_tokens_cached_by_source",
        "Prompt tokens found, by tier.",
        &by(&[("device", hits), ("host", 0), ("p2p", 0), ("disk", 0), ("external_unspecified", 0)]),
    );
    page.counter("vllm:generation_tokens", "Tokens produced.", &one(stats.generation_tokens));
    let finished: Vec<(String, f64)> = [
        ("stop", stats.finished_stop),
        ("length", stats.finished_length),
        // Stays 0 even when clients leave, as in vLLM.
        ("abort", 0),
        ("error", 0),
        ("repetition", 0),
    ]
    .iter()
    .map(|(reason, value)| (format!("engine=\"0\",finished_reason=\"{reason}\",{model}"), *value as f64))
    .collect();
    page.counter("vllm:request_success", "Requests that ended, by how.", &finished);
    let rejected = |reason: &str, value: u64| (format!("{model},reason=\"{reason}\""), value as f64);
    page.counter(
        "vllm:admission_rejections",
        "Requests refused for a full queue.",
        &[rejected("max_num_queued_reqs", stats.rejected), rejected("max_num_queued_tokens", 0)],
    );
}

fn histograms(page: &mut Page, stats: &Stats, model: &str) {
    for (name, help, histogram) in [
        ("request_prompt_tokens", "Prompt tokens of a request.", &stats.prompt),
        ("request_generation_tokens", "Tokens produced for a request.", &stats.generated),
        ("iteration_tokens_total", "Tokens of a step.", &stats.iteration_tokens),
        ("request_max_num_generation_tokens", "Most tokens of a choice.", &stats.generated),
        ("request_params_n", "Choices asked for.", &stats.choices),
        ("request_params_max_tokens", "Limit asked for.", &stats.max_tokens),
        ("time_to_first_token_seconds", "Arrival to first token (simulated).", &stats.first_token),
        ("inter_token_latency_seconds", "Between tokens (simulated).", &stats.token_gap),
        ("request_time_per_output_token_seconds", "Mean gap of a request (simulated).", &stats.time_per_token),
        ("e2e_request_latency_seconds", "Arrival to end (simulated).", &stats.whole),
        ("request_queue_time_seconds", "In the queue (simulated).", &stats.queue),
        ("request_inference_time_seconds", "Out of the queue to end (simulated).", &stats.inference),
        ("request_prefill_time_seconds", "Out of the queue to first token (simulated).", &stats.prefill),
        ("request_decode_time_seconds", "First token to end (simulated).", &stats.decode),
        ("request_num_preemptions", "Times a request lost its blocks.", &stats.preempted),
        ("request_prefill_kv_computed_tokens", "Prompt tokens computed.", &stats.computed),
    ] {
        page.histogram(&format!("vllm:{name}"), help, &[("engine=\"0\"", model, histogram)]);
    }
}

fn cache_config(page: &mut Page, shared: &Shared) {
    let (engine, max_len) = (&shared.config.engine, shared.config.max_model_len);
    let size = engine.block_size.saturating_mul(engine.blocks);
    let labels = format!(
        "_block_size_resolved=\"True\",block_size=\"{0}\",cache_dtype=\"auto\",cache_hit_alignment_tokens=\"None\",effective_attention_block_size=\"{0}\",enable_mamba_shared_prefix_checkpoint=\"False\",enable_prefix_caching=\"{1}\",engine=\"0\",gpu_memory_utilization=\"0.92\",hash_block_size=\"None\",is_attention_free=\"False\",kv_cache_dtype_skip_layers=\"[]\",kv_cache_layout=\"None\",kv_cache_max_concurrency=\"{2:?}\",kv_cache_memory_bytes=\"None\",kv_cache_size_tokens=\"{3}\",kv_offloading_backend=\"native\",kv_offloading_size=\"None\",kv_sharing_fast_prefill=\"False\",mamba_block_size=\"None\",mamba_cache_dtype=\"auto\",mamba_cache_mode=\"none\",mamba_page_size_padded=\"None\",mamba_ssm_cache_dtype=\"auto\",num_cpu_blocks=\"None\",num_gpu_blocks=\"{4}\",num_gpu_blocks_override=\"{4}\",prefix_cache_retention_interval=\"0\",prefix_caching_hash_algo=\"xxh3\",prefix_match_unit=\"None\",replayssm_buffer_len=\"16\",skip_page_size_padded=\"None\",sliding_window=\"None\",swa_bounded_replay=\"True\",use_kda_recoverssm=\"False\",use_replayssm=\"False\",user_specified_block_size=\"True\"",
        engine.block_size,
        if engine.prefix_caching { "True" } else { "False" },
        size as f64 / max_len.max(1) as f64,
        size,
        engine.blocks,
    );
    page.gauge("vllm:cache_config_info", "The KV cache's settings.", &[(labels, 1.0)]);
}

fn exchanges(page: &mut Page, exchanges: &Exchanges) {
    let counts: Vec<(String, f64)> = exchanges
        .counts
        .iter()
        .map(|((handler, method, status), count)| {
            (format!("handler=\"{handler}\",method=\"{method}\",status=\"{status}\""), *count as f64)
        })
        .collect();
    page.counter("http_requests", "Exchanges by handler, method and status.", &counts);
    for (name, help, table) in [
        ("http_request_size_bytes", "Bytes of requests.", &exchanges.requests),
        ("http_response_size_bytes", "Bytes of answers.", &exchanges.responses),
    ] {
        page.family(name, "summary", help);
        let labels: Vec<String> = table.keys().map(|handler| format!("handler=\"{handler}\"")).collect();
        for (labels, (count, sum)) in labels.iter().zip(table.values()) {
            page.sample(&format!("{name}_count"), labels, *count as f64);
            page.sample(&format!("{name}_sum"), labels, *sum as f64);
        }
        page.created(name, help, &labels);
    }
    let empty = Histogram::new(FINE);
    let fine = exchanges.fine.as_ref().unwrap_or(&empty);
    page.histogram("http_request_duration_highr_seconds", "Seconds of all exchanges.", &[("", "", fine)]);
    let labels: Vec<(String, String)> = exchanges
        .durations
        .keys()
        .map(|(handler, method)| (format!("handler=\"{handler}\""), format!("method=\"{method}\"")))
        .collect();
    let series: Vec<(&str, &str, &Histogram)> = labels
        .iter()
        .zip(exchanges.durations.values())
        .map(|((before, after), histogram)| (before.as_str(), after.as_str(), histogram))
        .collect();
    page.histogram("http_request_duration_seconds", "Seconds of exchanges by handler.", &series);
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_written_as_python_does() {
        assert_eq!(super::number(0.0), "0.0");
        assert_eq!(super::number(2485.0), "2485.0");
        assert_eq!(super::number(1_795_334_268.5), "1.7953342685e+09");
    }
}
