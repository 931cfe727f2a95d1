//! Clients that no one here wrote.

use std::process::Command;

use serde_json::json;
use tidegate_harness::ModelServer;

use crate::setup::{BINARY, CHAT, Manifests, chat};

fn alias() -> serde_json::Value {
    json!({"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceModelRewrite", "metadata": {"name": "alias"},
           "spec": {"poolRef": {"name": "pool"}, "rules": [
               {"matches": [{"model": {"value": "alias"}}], "targets": [{"modelRewrite": "m"}]}]}})
}

#[tokio::test]
async fn the_openai_client_works_unchanged() {
    let Some(python) = std::env::var_os("TIDEGATE_TEST_PYTHON") else {
        assert!(std::env::var_os("CI").is_none(), "CI leaves nothing out");
        eprintln!(
            "LEFT OUT: the openai client; name a Python that has it in TIDEGATE_TEST_PYTHON (.ci/run tests makes one)"
        );
        return;
    };
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let mut manifests = Manifests::new(&[("pool", 1, &[&server])]);
    manifests.further.push(alias());
    let setup = manifests.serve().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/chat.py");
    let url = format!("http://{}", setup.address);
    let output = tokio::task::spawn_blocking(move || {
        Command::new(python).arg(script).args([url.as_str(), "alias"]).output().expect("run python")
    })
    .await
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn curl_reads_a_stream() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let setup = Manifests::new(&[("pool", 1, &[&server])]).serve().await;
    let (url, body) = (format!("http://{}{CHAT}", setup.address), chat("m", 4, true).to_string());
    let output = tokio::task::spawn_blocking(move || {
        Command::new("curl")
            .args(["-sS", "-N", "-i", "-H", "content-type: application/json", "-d", &body, &url])
            .output()
            .expect("run curl")
    })
    .await
    .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    assert!(text.contains("text/event-stream") && text.trim_end().ends_with("data: [DONE]"), "{text}");
}
