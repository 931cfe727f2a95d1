//! What the controller asks of services and tells them: over real sockets, signed, and again until it is taken.

use parking_lot::Mutex;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::play::{Fake, Play, Stage, document, request};
use super::*;
use crate::notices::{SIGNATURE, Signer};

/// One request as a service got it.
#[derive(Clone, Debug)]
struct Got {
    signature: String,
    body: Value,
    signed_right: bool,
}

/// A service that answers by `answer` of the number of the request (from 0) and its body.
async fn service(answer: impl Fn(usize, &Value) -> (u16, String) + Send + 'static) -> (String, Arc<Mutex<Vec<Got>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook?to=people", listener.local_addr().expect("its address"));
    let got = Arc::new(Mutex::new(Vec::<Got>::new()));
    let kept = got.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (head, body) = request(&mut stream).await;
            assert!(head.starts_with("post /hook?to=people http/1.1"), "{head}");
            let signature =
                head.lines().find_map(|line| line.strip_prefix(&format!("{SIGNATURE}: "))).unwrap_or_default();
            let signed_right = signature == Signer::new(b"a secret").sign(body.as_bytes());
            let body: Value = serde_json::from_str(&body).expect("JSON");
            let (status, answer) = answer(kept.lock().len(), &body);
            kept.lock().push(Got { signature: signature.to_owned(), body, signed_right });
            let text =
                format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len());
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, got)
}

#[tokio::test]
async fn people_are_told_in_order_signed_and_again_until_it_is_taken() {
    let state = tempfile::tempdir().expect("a folder");
    // The first two tries fail, as a service does that is being started.
    let (url, got) = service(|number, _| (if number < 2 { 503 } else { 204 }, String::new())).await;
    let notify = NotifyTo { url: url.parse().expect("a URL"), secret: Some(Signer::new(b"a secret")) };
    let stage = Stage { notify: Some(notify), ..Stage::with(document(Value::Null)) };
    let mut play = Play::on(state.path(), Fake::alike().await, stage);
    play.until(Some(500_000)).await;
    let kinds = || {
        let got = got.lock();
        got.iter().map(|got| got.body["kind"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    while !kinds().iter().any(|kind| kind == "WeightChanged") {
        play.until_status("time", |_| true).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(&kinds()[..3], ["RolloutStarted", "RolloutStarted", "RolloutStarted"], "the third try is taken");
    for got in got.lock().iter() {
        assert!(got.signed_right, "{}: {}", got.signature, got.body);
        assert_eq!((got.body["namespace"].as_str(), got.body["name"].as_str()), (Some("serving"), Some("to-new")));
        assert!(got.body["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{}", got.body);
    }
    play.kill().await;
}

/// A step of nothing to compare, and one more behind its gate.
fn gated(url: &str, further: Value) -> Stage {
    let mut gate = json!({"url": url, "timeout": "1h"});
    for (field, value) in further.as_object().into_iter().flatten() {
        gate[field] = value.clone();
    }
    let spec = json!({"steps": [
        {"weight": 0, "bake": "0s", "gate": {"webhook": gate}}, {"weight": 50, "bake": "1h"}, {"weight": 100},
    ]});
    Stage::with(document(spec))
}

#[tokio::test]
async fn a_gate_is_asked_until_it_has_decided() {
    let state = tempfile::tempdir().expect("a folder");
    let (url, got) = service(|number, _| match number {
        0 => (202, String::new()),
        _ => (200, json!({"pass": true}).to_string()),
    })
    .await;
    let mut play = Play::on(state.path(), Fake::alike().await, gated(&url, json!({})));
    play.until(Some(500_000)).await;
    let asked = got.lock().clone();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let first = &asked[0].body;
    assert_eq!((&first["step"], &first["candidate"]), (&json!(0), &json!("llm-new")), "{first}");
    assert_eq!(first["call"], asked[1].body["call"], "the same question");
    play.kill().await;
}

#[tokio::test]
async fn a_gate_that_refuses_turns_back_with_its_words() {
    let state = tempfile::tempdir().expect("a folder");
    let refuse = |_, _: &Value| (200, json!({"pass": false, "message": "answers are shorter"}).to_string());
    let (url, _) = service(refuse).await;
    let play = Play::on(state.path(), Fake::alike().await, gated(&url, json!({})));
    let status = play.until_status("a roll-back", |status| status["phase"] == "RolledBack").await;
    assert!(status["history"].to_string().contains("answers are shorter"), "{status:#}");
    assert_eq!(play.highest(), 0, "nobody met it");
    play.kill().await;
}

#[tokio::test]
async fn a_gate_that_is_not_there_holds() {
    let state = tempfile::tempdir().expect("a folder");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
    let stage = gated(&format!("http://{gone}/hook?to=people"), json!({"timeout": "1s", "onError": "Hold"}));
    let play = Play::on(state.path(), Fake::alike().await, stage);
    let status = play.until_status("a hold", |status| status["phase"] == "Held").await;
    assert_eq!(status["holds"][0]["reason"], "Gate", "{status:#}");
    play.kill().await;
}
