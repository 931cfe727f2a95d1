use std::io::{Read, Write};
use std::net::TcpListener;

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// Answers one request with `body`; gives the request's first line.
fn answer_once(status: &'static str, body: Value) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut seen = Vec::new();
        let mut buffer = [0; 1024];
        while !seen.windows(4).any(|window| window == b"\r\n\r\n") {
            let length = socket.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..length]);
        }
        let body = body.to_string();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        socket.write_all(format!("{head}{body}").as_bytes()).unwrap();
        String::from_utf8(seen).unwrap().lines().next().unwrap().to_owned()
    });
    (url, thread)
}

fn ask(words: &[&str], items: Value) -> (Result<Answer, Failure>, String) {
    let (url, thread) = answer_once("200 OK", json!({"items": items}));
    let words = ["get"].iter().chain(words).copied().chain(["--server", &url]);
    let arguments = Line::try_parse_from(words).map(|line| line.arguments).unwrap();
    (get(&arguments), thread.join().unwrap())
}

fn gateway() -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "default"},
        "spec": {"gatewayClassName": "tidegate"},
        "status": {
            "addresses": [{"type": "IPAddress", "value": "127.0.0.1"}],
            "conditions": [{"type": "Programmed", "status": "True"}],
        },
    })
}

#[test]
fn a_table_as_kubectl_prints_it() {
    let (answer, request) = ask(&["gtw"], json!([gateway()]));
    assert_eq!(
        answer.unwrap().text,
        "NAME   CLASS      ADDRESS     PROGRAMMED   AGE\ng      tidegate   127.0.0.1   True         <unknown>\n"
    );
    assert_eq!(request, "GET /objects?kind=Gateway&namespace=default HTTP/1.1");
    let (answer, request) = ask(&["Gateways.gateway.networking.k8s.io", "-A"], json!([gateway()]));
    assert!(answer.unwrap().text.starts_with("NAMESPACE   NAME   CLASS"));
    assert_eq!(request, "GET /objects?kind=Gateway HTTP/1.1");
}

#[test]
fn one_object_is_itself_and_several_are_a_list() {
    let (answer, request) = ask(&["gateway/g", "-o", "jsonpath={.status.addresses[0].value}"], json!([gateway()]));
    assert_eq!(answer.unwrap().text, "127.0.0.1");
    assert_eq!(request, "GET /objects?kind=Gateway&namespace=default&name=g HTTP/1.1");
    let (answer, _) = ask(&["gateway", "g", "-o", "json"], json!([gateway()]));
    assert_eq!(serde_json::from_str::<Value>(&answer.unwrap().text).unwrap(), gateway());
    let (answer, _) = ask(&["gateway", "-o", "json"], json!([gateway()]));
    let list: Value = serde_json::from_str(&answer.unwrap().text).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]), (&json!("List"), &gateway()));
    let (answer, _) = ask(&["gateway", "-o", "yaml"], json!([gateway()]));
    assert!(answer.unwrap().text.contains("kind: List"));
}

#[test]
fn a_named_group_leaves_the_other_out() {
    let pool =
        |group: &str| json!({"apiVersion": format!("{group}/v1"), "kind": "InferencePool", "metadata": {"name": "p"}});
    let both = json!([pool("inference.networking.k8s.io"), pool("inference.networking.x-k8s.io")]);
    let (answer, _) = ask(&["inferencepool.inference.networking.x-k8s.io/p", "-o", "json"], both.clone());
    assert!(answer.unwrap().text.contains("\"inference.networking.x-k8s.io/v1\""));
    let (answer, _) = ask(&["infpool/p", "-o", "json"], both);
    assert!(answer.unwrap().text.contains("\"List\""));
}

#[test]
fn what_is_not_there() {
    let (answer, _) = ask(&["httproute/x"], json!([]));
    let failure = answer.unwrap_err();
    assert_eq!(failure.code, 1);
    assert_eq!(failure.message, "Error from server (NotFound): httproutes.gateway.networking.k8s.io \"x\" not found");
    let (answer, _) = ask(&["httproute"], json!([]));
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), answer.note.as_deref()), ("", Some("No resources found in default namespace.")));
}

#[test]
fn wrong_usage_and_a_gateway_that_is_not_there() {
    let failure = |words: &[&str]| {
        let line = Line::try_parse_from(["get"].iter().chain(words)).unwrap();
        get(&line.arguments).unwrap_err()
    };
    let unknown = failure(&["carrots"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.message.contains("carrots is not known; known are gatewayclasses, gateways"),
        "{}",
        unknown.message
    );
    assert_eq!(failure(&["gateway/a", "b"]).code, 2);
    assert_eq!(failure(&["gateway/"]).code, 2);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = failure(&["gateway", "--server", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(refused.code, 1);
    assert!(refused.message.contains("--server URL names another address"), "{}", refused.message);
}

#[test]
fn ages_are_shortened() {
    let created = "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let object = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}});
    for (seconds, expected) in [
        (5, "5s"),
        (150, "2m30s"),
        (120, "2m"),
        (3600, "60m"),
        (4 * 3600 + 60, "4h1m"),
        (30 * 3600, "30h"),
        (3 * 86_400, "3d"),
        (100 * 86_400, "100d"),
        (800 * 86_400, "2y70d"),
        (-5, "0s"),
    ] {
        let now = jiff::Timestamp::from_second(created.as_second() + seconds).unwrap();
        assert_eq!(columns::age(&object, now), expected, "{seconds}");
    }
}
