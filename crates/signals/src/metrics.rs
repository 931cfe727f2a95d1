//! The few gauges of an engine's Prometheus page that are used.
//!
//! Names: vLLM (`vllm:*`, also the older `gpu_cache_usage_perc`), SGLang, TensorRT-LLM; see the model server protocol of
//! the inference extension (proposal 003). With several engines in one server, requests add up and the fullest cache
//! counts.

use tidegate_picker::EngineMetrics;

const RUNNING: [&str; 3] = ["vllm:num_requests_running", "sglang:num_running_reqs", "trtllm_num_requests_running"];
const WAITING: [&str; 3] = ["vllm:num_requests_waiting", "sglang:num_queue_reqs", "trtllm_num_requests_waiting"];
const KV_USAGE: [&str; 4] =
    ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage", "trtllm_kv_cache_utilization"];

/// Reads a metrics page; `None` when it has none of the gauges. One pass, no copy.
pub fn parse_metrics(page: &[u8]) -> Option<EngineMetrics> {
    let text = std::str::from_utf8(page).ok()?;
    let mut metrics = EngineMetrics::default();
    let mut found = false;
    for line in text.lines() {
        let Some((name, value)) = sample(line) else { continue };
        if RUNNING.contains(&name) {
            metrics.running += value;
        } else if WAITING.contains(&name) {
            metrics.waiting += value;
        } else if KV_USAGE.contains(&name) {
            metrics.kv_usage = metrics.kv_usage.max(value);
        } else {
            continue;
        }
        found = true;
    }
    found.then_some(metrics)
}

/// Name and value of a sample line: `name{labels} value` or `name value`.
fn sample(line: &str) -> Option<(&str, f64)> {
    // Cheap first: a page has some thousand lines of which five are wanted.
    if !line.starts_with(['v', 's', 't']) {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(end)?;
    let after_labels = match rest.strip_prefix('{') {
        Some(labels) => labels.get(labels.rfind('}')?.saturating_add(1)..)?,
        None => rest,
    };
    let value = after_labels.split_ascii_whitespace().next()?.parse::<f64>().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::parse_metrics;

    #[test]
    fn vllms_page_is_read() {
        let page = b"# HELP vllm:num_requests_running n\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"my}model\"} 4.0\n\
            vllm:num_requests_waiting{engine=\"0\"} 8.0\n\
            vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 6.0\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.5238095238095238\n";
        let metrics = parse_metrics(page).expect("gauges");
        assert_eq!((metrics.running, metrics.waiting), (4.0, 8.0));
        assert!((metrics.kv_usage - 0.523_809).abs() < 1e-5);
    }

    #[test]
    fn engines_of_one_server_add_up() {
        let page = b"vllm:num_requests_running{engine=\"0\"} 1\nvllm:num_requests_running{engine=\"1\"} 2\n";
        assert_eq!(parse_metrics(page).expect("gauges").running, 3.0);
    }

    #[test]
    fn other_pages_and_broken_values_are_unknown() {
        for page in ["", "<html>", "vllm:num_requests_running NaN", "vllm:num_requests_running{", "up 1"] {
            assert_eq!(parse_metrics(page.as_bytes()), None, "{page}");
        }
        assert_eq!(parse_metrics(b"\xff\xfe"), None);
    }
}
