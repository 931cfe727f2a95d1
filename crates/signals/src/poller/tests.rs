//! The poller against small servers on real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate_picker::{EndpointState, PoolState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{PollTarget, Poller};

/// A server that lists `model`, and closes each connection while `broken`.
async fn server(broken: Arc<AtomicBool>) -> Arc<str> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if broken.load(Ordering::SeqCst) {
                continue;
            }
            tokio::spawn(async move {
                let mut head = [0; 4096];
                loop {
                    let length = stream.read(&mut head).await?;
                    if length == 0 {
                        return std::io::Result::Ok(());
                    }
                    let body = if head.starts_with(b"GET /v1/models") {
                        r#"{"data":[{"id":"model","parent":null}]}"#
                    } else {
                        "vllm:num_requests_running{engine=\"0\"} 3.0\n"
                    };
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await?;
                }
            });
        }
    });
    address.into()
}

async fn until(mut check: impl FnMut() -> bool) {
    let patience = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while !check() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    patience.await.expect("it never came");
}

fn target(pool: &Arc<PoolState>) -> PollTarget {
    PollTarget { state: pool.endpoints[0].clone(), pool: Arc::downgrade(pool), metrics_path: "/metrics".into() }
}

#[tokio::test]
async fn models_and_gauges_are_learned_and_survive_a_failure() {
    let broken = Arc::new(AtomicBool::new(false));
    let state = Arc::new(EndpointState::new(server(broken.clone()).await));
    let pool = Arc::new(PoolState::new(vec![state.clone()]));
    assert_eq!(pool.serves("model"), None);
    let mut poller = Poller::new(tokio::runtime::Handle::current());
    poller.set_targets(vec![target(&pool)]);
    until(|| pool.serves("model") == Some(true) && state.metrics().is_some()).await;
    assert_eq!(pool.serves("other"), Some(false));
    assert_eq!(state.metrics().unwrap().running, 3.0);
    // A new snapshot's pool is told too, although the endpoint's list is as it was.
    let next = Arc::new(PoolState::new(vec![state.clone()]));
    poller.set_targets(vec![target(&next)]);
    assert_eq!(next.serves("model"), Some(true));
    broken.store(true, Ordering::SeqCst);
    assert_eq!(next.serves("model"), Some(true));
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_stays_unknown_and_a_removed_one_is_left_alone() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = Arc::new(EndpointState::new(server(broken.clone()).await));
    let pool = Arc::new(PoolState::new(vec![state.clone()]));
    let mut poller = Poller::new(tokio::runtime::Handle::current());
    poller.set_targets(vec![target(&pool)]);
    tokio::task::yield_now().await;
    assert_eq!(pool.serves("model"), None);
    let handle = poller.tasks.values().next().unwrap().handle.abort_handle();
    poller.set_targets(Vec::new());
    until(|| handle.is_finished()).await;
    poller.set_targets(vec![target(&pool)]);
    broken.store(false, Ordering::SeqCst);
    until(|| pool.serves("model") == Some(true)).await;
}
