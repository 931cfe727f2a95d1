//! Manifests edited under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidegate_harness::{Client, ModelServer, within_binomial};

use crate::setup::{BINARY, CHAT, Manifests, chat};

/// Weights edited 200 times while 64 connections send streams: none fails, none is cut, and the share follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_edits_under_streams_lose_nothing() {
    let stable = ModelServer::start(BINARY, "m", &[], &["--max-num-seqs", "128"]);
    let candidate = ModelServer::start(BINARY, "m", &[], &["--max-num-seqs", "128"]);
    let mut manifests = Manifests::new(&[("stable", 100, &[&stable]), ("candidate", 0, &[&candidate])]);
    let setup = manifests.serve().await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let streams: Vec<_> = (0..64)
        .map(|_| {
            let (stop, answered, address) = (stop.clone(), answered.clone(), setup.address);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer =
                        Client::new().try_post(address, CHAT, &chat("m", 24, true)).await.expect("whole answer");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let events = answer.events();
                    assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "cut: {events:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for edit in 0..200_u32 {
        let weight = edit % 101;
        manifests.pools[0].1 = 100 - weight;
        manifests.pools[1].1 = weight;
        setup.write(&manifests);
        // Every fourth edit is awaited; the others fall together as they would under a hasty editor.
        if edit % 4 == 3 {
            wait_weight(&setup, weight).await;
        }
    }
    manifests.pools[0].1 = 30;
    manifests.pools[1].1 = 70;
    setup.write(&manifests);
    wait_weight(&setup, 70).await;
    let before = candidate.metric("vllm:prompt_tokens_total").await;
    let probes = 400_u64;
    let mut hits = 0;
    for _ in 0..probes {
        let answer = Client::new().post(setup.address, CHAT, &chat("m", 1, false)).await;
        assert_eq!(answer.status, 200);
        hits += u64::from(answer.headers["x-sim-server"].to_str().unwrap() == candidate.address.to_string());
    }
    assert!(within_binomial(hits, probes, 0.7, 1e-6), "{hits} of {probes} after the last edit");
    assert!(candidate.metric("vllm:prompt_tokens_total").await > before);
    stop.store(true, Ordering::Relaxed);
    for stream in streams {
        stream.await.expect("no stream failed");
    }
    assert!(answered.load(Ordering::Relaxed) > 64, "the load was real");
}

async fn wait_weight(setup: &crate::setup::Setup, weight: u32) {
    setup
        .gateway
        .wait_snapshot("the edited weight", |snapshot| {
            let text = snapshot.to_string();
            text.contains(&format!("\"weight\":{weight}")) && text.contains(&format!("\"weight\":{}", 100 - weight))
        })
        .await;
}

/// A broken document gets a condition; it, in its last good version, and all others serve on.
#[tokio::test]
async fn a_broken_edit_loses_nothing() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let manifests = Manifests::new(&[("pool", 1, &[&server])]);
    let setup = manifests.serve().await;
    let broken = manifests.text().replace("\"backendRefs\":[", "\"backendRefs\":[7,");
    tidegate_harness::gateway::write_atomically(&setup.file(), &broken);
    let started = tokio::time::Instant::now();
    loop {
        let route = setup.gateway.objects("httproute", Some("route")).await.remove(0);
        if route["status"].to_string().contains("backendRefs[0]") {
            break;
        }
        assert!(started.elapsed() < tidegate_harness::gateway::PATIENCE, "no condition names the field: {route:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(Client::new().post(setup.address, CHAT, &chat("m", 1, false)).await.status, 200);
    // Not YAML at all, and then nothing at all.
    for text in ["{", ""] {
        std::fs::write(setup.file(), text).unwrap();
        let started = tokio::time::Instant::now();
        loop {
            let pool = setup.gateway.objects("inferencepool", Some("pool")).await;
            let said = pool.first().map(|pool| pool["status"].to_string()).unwrap_or_default();
            if said.contains("last good") {
                break;
            }
            assert!(started.elapsed() < tidegate_harness::gateway::PATIENCE, "nothing says that it is stale: {said}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(Client::new().post(setup.address, CHAT, &chat("m", 1, false)).await.status, 200);
    }
}
