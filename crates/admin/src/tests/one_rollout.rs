//! The paths of roll-outs, before a process that has one.

use serde_json::Value;
use tokio::sync::watch;

use super::*;

pub(super) struct Fake {
    changes: watch::Sender<u64>,
}

impl Default for Fake {
    fn default() -> Self {
        Self { changes: watch::Sender::new(7) }
    }
}

fn rollout() -> Value {
    json!({"metadata": {"namespace": "serving", "name": "new-nodes"}, "status": {"phase": "Progressing"}})
}

impl Rollouts for Fake {
    fn list(&self) -> Vec<Value> {
        vec![rollout()]
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Value> {
        ((namespace, name) == ("serving", "new-nodes")).then(rollout)
    }

    fn view(&self, namespace: &str, name: &str, view: RolloutView) -> Option<Value> {
        self.get(namespace, name).map(|_| match view {
            RolloutView::Verdict => json!({"verdict": "hold", "lnE": 0.5}),
            other => json!({"view": format!("{other:?}")}),
        })
    }

    fn command<'a>(&'a self, namespace: &'a str, name: &'a str, command: Value) -> CommandAnswer<'a> {
        Box::pin(async move {
            if self.get(namespace, name).is_none() {
                return Err(CommandRefusal::NotFound(format!("there is no InferenceRollout {namespace}/{name}")));
            }
            self.changes.send_modify(|count| *count += 1);
            match command.get("verb").and_then(Value::as_str) {
                Some("pause") => Ok(json!({"message": "paused"})),
                Some("approve") => Err(CommandRefusal::Conflict("no gate waits".into())),
                Some("late") => Err(CommandRefusal::Unavailable("nobody answers".into())),
                _ => Err(CommandRefusal::Invalid("no such verb".into())),
            }
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Running {
    async fn command(&self, path: &str, with_token: bool, body: &str) -> Answer {
        let token = if with_token { format!("authorization: Bearer {}\r\n", self.token) } else { String::new() };
        let (address, length) = (self.address, body.len());
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\n{token}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
        .await
    }
}

#[tokio::test]
async fn rollouts_are_shown_without_a_token() {
    let running = Running::start(Port::Admin).await;
    assert!(running.get("/rollouts").await.2.contains("new-nodes"));
    assert_eq!(running.get("/rollouts?namespace=other").await.2, r#"{"items":[]}"#);
    assert!(running.get("/rollouts/serving/new-nodes").await.2.contains("Progressing"));
    for (path, view) in [("explain", "Explain"), ("history", "History"), ("plan", "Plan")] {
        let body = running.get(&format!("/rollouts/serving/new-nodes/{path}")).await.2;
        assert_eq!(body, format!(r#"{{"view":"{view}"}}"#));
    }
    let Answer(status, _, body) = running.get("/rollouts/serving/old").await;
    assert!(status == 404 && body.contains("serving/old"), "{status} {body}");
    let Answer(status, _, body) = running.get("/rollouts/serving/new-nodes/colour").await;
    assert!(status == 404 && body.contains("colour"), "{status} {body}");
}

#[tokio::test]
async fn commands_need_the_token_and_say_why_not() {
    let running = Running::start(Port::Admin).await;
    let path = "/rollouts/serving/new-nodes/commands";
    assert_eq!(running.command(path, false, r#"{"verb": "pause", "id": "1"}"#).await.0, 401);
    let Answer(status, _, body) = running.command(path, true, r#"{"verb": "pause", "id": "1"}"#).await;
    assert_eq!((status, body.as_str()), (200, r#"{"message":"paused"}"#));
    for (verb, expected) in [("approve", 409), ("late", 503), ("dance", 400)] {
        assert_eq!(running.command(path, true, &json!({"verb": verb}).to_string()).await.0, expected, "{verb}");
    }
    assert_eq!(running.command(path, true, "pause").await.0, 400);
    assert_eq!(running.command("/rollouts/serving/old/commands", true, "{}").await.0, 404);
    assert_eq!(running.get(path).await.0, 405);
}

#[tokio::test]
async fn a_watch_ends_with_the_next_change() {
    let running = Running::start(Port::Admin).await;
    let path = "/rollouts/serving/new-nodes/watch";
    assert!(running.get(path).await.2.contains(r#""generation":7"#));
    assert!(running.get(&format!("{path}?generation=3")).await.2.contains(r#""generation":7"#));
    let (watched, _) = tokio::join!(
        running.get("/rollouts/serving/new-nodes/watch?generation=7"),
        running.command("/rollouts/serving/new-nodes/commands", true, r#"{"verb": "pause", "id": "1"}"#)
    );
    assert!(watched.2.contains(r#""generation":8"#), "{}", watched.2);
    assert_eq!(running.get(&format!("{path}?generation=x")).await.0, 400);
}

#[tokio::test]
async fn others_read_the_verdict_on_both_ports() {
    for port in [Port::Admin, Port::Probe] {
        let running = Running::start(port).await;
        let path = "/v1/rollouts/serving/new-nodes/verdict";
        let Answer(status, _, body) = running.get(path).await;
        assert!(status == 200 && body.contains(r#""verdict":"hold""#), "{status} {body}");
        let flagger = r#"{"name": "podinfo", "phase": "Progressing"}"#;
        assert_eq!(running.command(path, false, flagger).await.0, 409, "a webhook goes by the status");
        assert_eq!(running.command(&format!("{path}?when=pass,hold"), false, flagger).await.0, 200);
        assert_eq!(running.command(&format!("{path}?when=fail"), false, "").await.0, 409);
        assert_eq!(running.get(&format!("{path}?when=maybe")).await.0, 400);
        assert_eq!(running.get("/v1/rollouts/serving/old/verdict").await.0, 404);
    }
    let probe = Running::start(Port::Probe).await;
    assert_eq!(probe.get("/rollouts").await.0, 404);
}
