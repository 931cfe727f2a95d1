//! Paths of model servers that only operators may reach.
//!
//! Part of the guard. A path is compared in the form in which a careless server would read it: percent-decoded as
//! often as it goes, without doubled slashes and dot segments, in lower case.

use std::borrow::Cow;

/// Paths that are administrative as they stand, lower case. Sources: vLLM 0.32 `entrypoints/`, SGLang
/// `http_server.py`, TensorRT-LLM `serve/openai_server.py`.
const PATHS: &[&str] = &[
    "/abort_request",
    "/abort_requests",
    "/collective_rpc",
    "/configure_logging",
    "/continue_generation",
    "/flush_cache",
    "/freeze_gc",
    "/get_internal_state",
    "/get_server_info",
    "/inference/v1/abort_requests",
    "/is_paused",
    "/is_scaling_elastic_ep",
    "/is_sleeping",
    "/kv_cache_events",
    "/kv_event_sources",
    "/load",
    "/pause",
    "/pause_generation",
    "/perf_metrics",
    "/prometheus",
    "/release_memory",
    "/resume",
    "/resume_memory",
    "/scale_elastic_ep",
    "/server_info",
    "/set_internal_state",
    "/set_trace_level",
    "/shutdown",
    "/sleep",
    "/slow_down",
    "/start_profile",
    "/stop_profile",
    "/wake_up",
];

/// Administrative with everything below them.
const TREES: &[&str] = &[
    "/debug",
    "/hicache",
    "/metrics",
    "/prometheus",
    "/start_profile",
    "/stop_profile",
    "/v2/logging",
    "/v2/repository",
    "/v2/trace",
];

/// Administrative whatever follows in the segment.
const STEMS: &[&str] = &[
    "/clear_hicache",
    "/destroy_weights",
    "/dump_expert",
    "/finish_weight",
    "/get_weights",
    "/get_remote_instance",
    "/init_weight",
    "/release_memory_occupation",
    "/reset_",
    "/resume_memory_occupation",
    "/start_expert",
    "/start_weight",
    "/stop_expert",
    "/update_weight",
];

/// How often a path is decoded at most; what is still encoded then is refused.
const ROUNDS: usize = 8;

/// What nearly every request asks for. None of them is administrative, as they stand, under any rule below.
const USUAL: [&str; 5] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/models"];

/// Whether a path may not go through. `allowed` are paths that the route opens, already normalised; those that load or
/// unload adapters are never opened.
pub(crate) fn is_refused(path: &str, allowed: &[String]) -> bool {
    if USUAL.contains(&path) {
        return false;
    }
    let Some(path) = normalised(path) else { return true };
    if path.rsplit('/').next().is_some_and(|segment| segment.contains("_lora_adapter")) {
        return true;
    }
    is_administrative(&path) && !allowed.iter().any(|open| open.eq_ignore_ascii_case(&path))
}

fn is_administrative(path: &str) -> bool {
    PATHS.binary_search(&path).is_ok()
        || TREES
            .iter()
            .any(|tree| path.strip_prefix(tree).is_some_and(|below| below.is_empty() || below.starts_with('/')))
        || STEMS.iter().any(|stem| path.starts_with(stem))
}

/// The path as a server may read it; `None` when it is encoded deeper than anything sensible.
fn normalised(path: &str) -> Option<Cow<'_, str>> {
    let plain = !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';') || byte.is_ascii_uppercase())
        && !path.contains("//")
        && !path.contains("/.")
        && (path.len() <= 1 || !path.ends_with('/'));
    if plain {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = path.as_bytes().to_vec();
    for _ in 0..ROUNDS {
        if !bytes.contains(&b'%') {
            break;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&bytes).collect();
        if decoded == bytes {
            break;
        }
        bytes = decoded;
    }
    let again: Vec<u8> = percent_encoding::percent_decode(&bytes).collect();
    if again != bytes {
        return None;
    }
    bytes.make_ascii_lowercase();
    let text = String::from_utf8_lossy(&bytes);
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split(['/', '\\']) {
        // Parameters of a segment (`;v=1`) are dropped by some servers.
        match segment.split(';').next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    Some(Cow::Owned(format!("/{}", segments.join("/"))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(PATHS.is_sorted());
    }

    #[test]
    fn usual_paths_are_what_the_rules_would_let_through() {
        for path in USUAL {
            assert!(normalised(path).is_some_and(|same| same == path && !is_administrative(&same)), "{path}");
            assert!(!path.contains("_lora_adapter"));
        }
    }

    #[test]
    fn administrative_paths_are_refused_however_they_are_written() {
        for path in [
            "/v1/load_lora_adapter",
            "/v1/unload_lora_adapter",
            "/load_lora_adapter",
            "/load_lora_adapter_from_tensors",
            "/metrics",
            "/metrics/",
            "/metrics/x",
            "/METRICS",
            "//metrics",
            "/./metrics",
            "/v1/../metrics",
            "/v1/%2e%2e/metrics",
            "/v1%2f..%2fmetrics",
            "/%6detrics",
            "/%256detrics",
            "/%25256detrics",
            "/a/..%5cmetrics",
            "/metrics;v=1",
            "/load",
            "/sleep",
            "/wake_up",
            "/reset_prefix_cache",
            "/reset_mm_cache",
            "/collective_rpc",
            "/inference/v1/abort_requests",
            "/kv_event_sources",
            "/server_info",
            "/start_profile",
            "/update_weights_from_disk",
            "/v2/repository/models/x/load",
            "/debug/pprof",
        ] {
            assert!(is_refused(path, &[]), "{path}");
        }
    }

    #[test]
    fn what_clients_use_is_not() {
        for path in [
            "/",
            "",
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "/v1/models",
            "/v1/models/load",
            "/health",
            "/ping",
            "/version",
            "/tokenize",
            "/generate",
            "/v1/metrics-of-mine",
            "/metricsx",
            "/loads",
            "/v1/files/..%2f",
            "/a%20b",
        ] {
            assert!(!is_refused(path, &[]), "{path}");
        }
    }

    #[test]
    fn a_route_opens_paths_but_never_those_of_adapters() {
        let allowed = vec!["/metrics".to_owned(), "/v1/load_lora_adapter".to_owned()];
        assert!(!is_refused("/metrics", &allowed));
        assert!(!is_refused("//metrics/", &allowed));
        assert!(is_refused("/metrics/x", &allowed));
        assert!(is_refused("/load", &allowed));
        assert!(is_refused("/v1/load_lora_adapter", &allowed));
    }

    #[test]
    fn a_path_encoded_without_end_is_refused() {
        let mut path = "/metrics".to_owned();
        for _ in 0..20 {
            path = path.replace('%', "%25").replace("/m", "/%6d");
        }
        assert!(is_refused(&path, &[]));
    }

    proptest! {
        #[test]
        fn no_encoding_gets_past(path in prop::sample::select(PATHS), at in 0_usize..40, depth in 1_usize..6) {
            let mut text = path.to_owned();
            let at = 1 + at % (text.len() - 1);
            let byte = text.as_bytes()[at];
            let mut code = format!("%{byte:02x}");
            for _ in 1..depth {
                code = code.replace('%', "%25");
            }
            text.replace_range(at..=at, &code);
            prop_assert!(is_refused(&text, &[]), "{}", text);
        }

        #[test]
        fn any_text_is_judged(path in "\\PC*") {
            is_refused(&path, &[]);
        }
    }
}
