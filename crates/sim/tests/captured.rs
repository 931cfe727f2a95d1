//! The simulated server's answers beside those of a real vLLM (`shared/vllm/captured`): status, head and the shape of
//! the JSON; errors word for word.

#![expect(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on says so")]

#[expect(dead_code, reason = "shared with the faults, which use more of it")]
#[cfg(test)]
mod wire;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;
use tidegate_sim::{Config, EngineConfig, Faults};
use wire::{Answer, captured, get, post, send, start};

/// The folder of captures, where it is present.
fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("TIDEGATE_SHARED")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into(), PathBuf::from);
    let folder = shared.join("vllm/captured");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("LEFT OUT: comparison with a real vLLM's answers; {} is not there", folder.display());
    None
}

fn real(folder: &std::path::Path, file: &str) -> Answer {
    Answer::read(&std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")))
}

/// Keys in their order, with the types of their values.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{key}:{}", shape(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
    }
}

/// A body's shape; of a stream that of each event, where equal ones in a row count as one.
fn body_shape(answer: &Answer) -> String {
    if answer.body.starts_with("data: ") {
        let mut shapes: Vec<String> = answer
            .events()
            .iter()
            .map(|event| serde_json::from_str(event).map_or_else(|_| event.clone(), |value: Value| shape(&value)))
            .collect();
        shapes.dedup();
        return shapes.join("\n");
    }
    serde_json::from_str(&answer.body).map_or_else(|_| answer.body.clone(), |value: Value| shape(&value))
}

fn compare(file: &str, real: &Answer, ours: &Answer) {
    assert_eq!(ours.status, real.status, "{file}");
    // Ours alone: the server's name, and that the test wants no second request on its connection.
    let names = |answer: &Answer| -> Vec<String> {
        let ours_alone = |name: &str| name == "x-sim-server" || name == "connection";
        answer.headers.iter().map(|(name, _)| name.clone()).filter(|name| !ours_alone(name)).collect()
    };
    assert_eq!(names(ours).iter().collect::<BTreeSet<_>>(), names(real).iter().collect::<BTreeSet<_>>(), "{file}");
    for (name, value) in &real.headers {
        if !matches!(name.as_str(), "date" | "content-length" | "x-request-id") {
            assert_eq!(ours.header(name), Some(value.as_str()), "{file}: {name}");
        }
    }
    let is_error = real.body.starts_with("{\"error\"") || real.body.starts_with("data: {\"error\"");
    if is_error || real.body.starts_with("{\"detail\"") {
        assert_eq!(ours.body.trim_end(), real.body.trim_end(), "{file}");
    } else {
        assert_eq!(body_shape(ours), body_shape(real), "{file}");
    }
}

const WHO: &str = r#""messages":[{"role":"user","content":"who are you?"}]"#;
const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn chats_completions_and_errors() {
    let Some(folder) = folder() else { return };
    let server = start(captured()).await;
    let long =
        format!(r#""max_tokens":5,"messages":[{{"role":"user","content":"{}"}}]"#, "the old harbour ".repeat(300));
    let usage = r#""stream":true,"stream_options":{"include_usage":true}"#;
    let each = r#""stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}"#;
    let completion = r#""model":"travel-helper-v2","prompt":"the old","temperature":0,"max_tokens":4"#;
    for (file, path, body) in [
        ("chat-base.http", CHAT, format!(r#"{{"model":"mymodel","temperature":0,"max_tokens":12,{WHO}}}"#)),
        ("chat-v1.http", CHAT, format!(r#"{{"model":"travel-helper-v1","temperature":0,"max_tokens":12,{WHO}}}"#)),
        ("chat-v2.http", CHAT, format!(r#"{{"model":"travel-helper-v2","temperature":0,"max_tokens":12,{WHO}}}"#)),
        ("chat-no-model-field.http", CHAT, format!(r#"{{"temperature":0,"max_tokens":4,{WHO}}}"#)),
        ("stream-base.http", CHAT, format!(r#"{{"model":"mymodel","max_tokens":6,"stream":true,{WHO}}}"#)),
        ("stream-v1-usage.http", CHAT, format!(r#"{{"model":"travel-helper-v1","max_tokens":6,{usage},{WHO}}}"#)),
        ("stream-continuous-usage.http", CHAT, format!(r#"{{"model":"mymodel","max_tokens":3,{each},{WHO}}}"#)),
        ("completions-v2.http", "/v1/completions", format!("{{{completion}}}")),
        ("completions-stream-v2.http", "/v1/completions", format!("{{{completion},{usage}}}")),
        ("error-unknown-model.http", CHAT, format!(r#"{{"model":"nope",{WHO}}}"#)),
        ("error-unknown-model-stream.http", CHAT, format!(r#"{{"model":"nope","stream":true,{WHO}}}"#)),
        ("error-bad-json.http", CHAT, r#"{"model":"#.to_owned()),
        ("error-no-messages.http", CHAT, r#"{"model":"mymodel"}"#.to_owned()),
        ("error-max-tokens.http", CHAT, format!(r#"{{"model":"mymodel","max_tokens":5000,{WHO}}}"#)),
        ("error-prompt-too-long.http", CHAT, format!(r#"{{"model":"mymodel",{long}}}"#)),
        ("error-prompt-too-long-stream.http", CHAT, format!(r#"{{"model":"mymodel","stream":true,{long}}}"#)),
    ] {
        compare(file, &real(&folder, file), &post(server.address(), path, &body).await);
    }
    for (file, path) in [
        ("models.http", "/v1/models"),
        ("health.http", "/health"),
        ("version.http", "/version"),
        ("load.http", "/load"),
        ("error-method.http", CHAT),
        ("error-path.http", "/nope"),
    ] {
        compare(file, &real(&folder, file), &get(server.address(), path).await);
    }
    let plain = send(server.address(), "POST", CHAT, &[("content-type", "text/plain")], "{}").await;
    compare("error-content-type.http", &real(&folder, "error-content-type.http"), &plain);
    for (file, format) in [("chat-load-header.http", "JSON"), ("chat-load-header-text.http", "TEXT")] {
        let headers = [("content-type", "application/json"), ("endpoint-load-metrics-format", format)];
        let body = format!(r#"{{"model":"mymodel","max_tokens":4,{WHO}}}"#);
        compare(file, &real(&folder, file), &send(server.address(), "POST", CHAT, &headers, &body).await);
    }
}

#[tokio::test]
async fn adapters_come_and_go() {
    let Some(folder) = folder() else { return };
    let server = start(captured()).await;
    let third = r#"{"lora_name":"travel-helper-v3","lora_path":"travel-helper-v2"}"#;
    let (load, unload) = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter");
    let chat = |tokens: &str| format!(r#"{{"model":"travel-helper-v3",{tokens}{WHO}}}"#);
    for (file, path, body) in [
        ("lora-load.http", load, third.to_owned()),
        ("models-after-load.http", "", String::new()),
        ("chat-v3.http", CHAT, chat(r#""max_tokens":12,"#)),
        ("lora-load-again.http", load, third.to_owned()),
        ("lora-load-missing.http", load, r#"{"lora_name":"x","lora_path":"no-such-folder"}"#.to_owned()),
        ("lora-unload.http", unload, r#"{"lora_name":"travel-helper-v3"}"#.to_owned()),
        ("lora-unload-unknown.http", unload, r#"{"lora_name":"x"}"#.to_owned()),
        ("error-unloaded-adapter.http", CHAT, chat("")),
    ] {
        let ours = match path {
            "" => get(server.address(), "/v1/models").await,
            path => post(server.address(), path, &body).await,
        };
        compare(file, &real(&folder, file), &ours);
    }
}

#[tokio::test]
async fn refusals_and_bad_ends() {
    let Some(folder) = folder() else { return };
    let chat = format!(r#"{{"model":"mymodel","max_tokens":4,{WHO}}}"#);
    let stream = format!(r#"{{"model":"mymodel","max_tokens":4,"stream":true,{WHO}}}"#);
    let server = start(Config { request_id_headers: true, ..captured() }).await;
    server.set_faults(Faults { refuse_in_stream_rate: 1.0, ..Faults::default() }).unwrap();
    let file = "error-busy-inside-200-stream.http";
    compare(file, &real(&folder, file), &post(server.address(), CHAT, &stream).await);
    let server = start(captured()).await;
    server.set_faults(Faults { overload_rate: 1.0, ..Faults::default() }).unwrap();
    compare("error-busy-503.http", &real(&folder, "error-busy-503.http"), &post(server.address(), CHAT, &chat).await);
    server.set_faults(Faults { draining: true, ..Faults::default() }).unwrap();
    for (file, body) in [("error-draining-500.http", &chat), ("error-draining-stream.http", &stream)] {
        compare(file, &real(&folder, file), &post(server.address(), CHAT, body).await);
    }
    let file = "health-while-draining.http";
    compare(file, &real(&folder, file), &get(server.address(), "/health").await);
}

/// Families with their types, and each sample's name with the names of its labels.
fn families(page: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let ours_never = |name: &str| name.starts_with("python_") || name.starts_with("process_");
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter(|line| !ours_never(line));
    let samples = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty() && !ours_never(line));
    let labels = samples.map(|line| {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let names: Vec<&str> = rest.split("=\"").filter_map(|part| part.rsplit(['"', ',', '{']).next()).collect();
        let names = &names[..names.len() - 1];
        format!("{name} {}", names.join(","))
    });
    (types.map(str::to_owned).collect(), labels.collect())
}

#[tokio::test]
async fn metrics_have_the_same_families_and_labels() {
    let Some(folder) = folder() else { return };
    let server = start(captured()).await;
    let page = get(server.address(), "/metrics").await;
    let head = Answer::read(&std::fs::read_to_string(folder.join("metrics-headers.txt")).unwrap());
    for (name, value) in &head.headers {
        if !matches!(name.as_str(), "date" | "content-length") {
            assert_eq!(page.header(name), Some(value.as_str()));
        }
    }
    assert!(!page.body.contains("vllm:lora_requests_info{"), "not before the first request (trap 1)");
    post(server.address(), CHAT, &format!(r#"{{"model":"travel-helper-v1","max_tokens":4,{WHO}}}"#)).await;
    get(server.address(), "/v1/models").await;
    let page = get(server.address(), "/metrics").await.body;
    let real = std::fs::read_to_string(folder.join("metrics-after.txt")).unwrap();
    let ((our_types, our_samples), (types, samples)) = (families(&page), families(&real));
    assert_eq!(our_types, types);
    assert_eq!(our_samples, samples);
}

/// Trap 7: of twelve at the same instant, those beyond the queue's two are refused.
#[tokio::test]
async fn a_burst_beyond_the_queue_is_refused_inside_its_streams() {
    let engine = EngineConfig { max_num_queued_reqs: Some(2), ..captured().engine };
    let server = start(Config { engine, speed: 1.0, ..captured() }).await;
    let body = format!(r#"{{"model":"mymodel","max_tokens":40,"stream":true,{WHO}}}"#);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (address, body) = (server.address(), body.clone());
        tasks.spawn(async move { post(address, CHAT, &body).await });
    }
    let answers = tasks.join_all().await;
    let refused = answers.iter().filter(|answer| answer.body.contains("currently busy")).count();
    assert!((1..=10).contains(&refused), "{refused}");
    assert!(answers.iter().any(|answer| answer.code() == 200 && answer.events().len() > 40), "some are served");
    assert_eq!(get(server.address(), "/metrics").await.body.matches("reason=\"max_num_queued_reqs\"").count(), 2);
}
