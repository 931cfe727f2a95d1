//! Forward over real sockets: endpoints that refuse, break off, stall, and answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tidegate_routing::snapshot::{RetryBudget, RetryPolicy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::active::Active;
use crate::testing::{PATIENCE, activated, arm, echo, endpoint, full, nobody, pool, rule};

/// An endpoint that answers every connection with the same bytes and closes it; counts connections.
async fn scripted(answer: &'static str) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0; 4096];
            let _request = stream.read(&mut buffer).await;
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, count)
}

/// An endpoint that takes requests and never answers.
async fn silent() -> SocketAddr {
    endpoint(|_| std::future::pending()).await
}

/// One request's setting: a pool whose first endpoint is picked first.
struct Setting {
    active: Active,
    rule: Rule,
    budget: Arc<BudgetState>,
    life: Duration,
}

impl Setting {
    fn new(endpoints: &[SocketAddr]) -> Self {
        Self {
            active: activated(vec![pool("a", endpoints)]),
            rule: rule(vec![arm(0, 1)]),
            budget: Arc::default(),
            life: PATIENCE,
        }
    }

    /// Sends with all but the first endpoint busy, so that the first is picked first.
    async fn send(&self) -> Result<Forwarded, ForwardError> {
        let pool = &self.active.pools[0];
        let _busy: Vec<_> = (1..pool.upstreams.len())
            .map(|_| pool.picker.pick(&pool.state, &PickRequest { model: None, tried: &[0], random: 1 }).unwrap())
            .collect();
        self.send_body(ForwardBody::Buffered(vec!["hel".into(), "lo".into()])).await
    }

    async fn send_body(&self, body: ForwardBody) -> Result<Forwarded, ForwardError> {
        let (head, ()) = Request::post("/v1/completions").header("host", "test").body(()).unwrap().into_parts();
        let forwarding = Forwarding {
            pool: &self.active.pools[0],
            rule: &self.rule,
            budget: &self.budget,
            head,
            came_from: crate::upstream::CameFrom::default(),
            body,
            model: None,
            stream: false,
            deadline: Some(Instant::now() + self.life),
            once: false,
        };
        tokio::time::timeout(PATIENCE * 2, forward(forwarding)).await.expect("an outcome")
    }
}

/// The whole body of an answer; what it held is given back.
async fn text(mut forwarded: Forwarded) -> String {
    let mut bytes = forwarded.first.to_vec();
    if let Some(body) = forwarded.body.take() {
        bytes.extend_from_slice(&body.all().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

const GONE: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 54\r\n\r\n\
                    {\"m\":\"cannot schedule new futures after shutdown\"}1234";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
const REFUSED_STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n\
                              data: {\"error\": {\"message\": \"full\", \"code\": 503}}\n\ndata: [DONE]\n\n";
const OTHER_500: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 4\r\n\r\noops";

#[tokio::test]
async fn an_answer_passes_and_its_connection_is_used_again() {
    let setting = Setting::new(&[echo("a").await]);
    for round in 0..3 {
        let forwarded = setting.send().await.unwrap();
        assert_eq!(forwarded.head.status, StatusCode::OK);
        assert_eq!((forwarded.retries, setting.budget.active.load(Ordering::Relaxed)), (0, 1));
        let upstream = forwarded.upstream.clone();
        assert_eq!(upstream.state.in_flight(), 1);
        let text = text(forwarded).await;
        assert!(text.ends_with("\n\nhello"), "{text}");
        assert_eq!((upstream.state.in_flight(), upstream.connections.kept()), (0, 1), "round {round}");
    }
    assert_eq!(setting.budget.active.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_another_endpoint_can_do_better_goes_there() {
    for refusing in [
        nobody(),
        scripted("").await.0,
        scripted(GONE).await.0,
        scripted(BUSY).await.0,
        scripted(REFUSED_STREAM).await.0,
        scripted("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"half").await.0,
        scripted("no http\r\n\r\n").await.0,
    ] {
        let setting = Setting::new(&[refusing, echo("b").await]);
        let forwarded = setting.send().await.unwrap();
        assert_eq!((forwarded.retries, forwarded.reservation.index), (1, 1));
        assert!(text(forwarded).await.ends_with("\n\nhello"));
        assert_eq!(setting.active.pools[0].upstreams[0].state.in_flight(), 0);
        assert_eq!(setting.budget.retrying.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn an_error_of_its_own_passes() {
    for (answer, status, expected) in [
        (OTHER_500, 500, "oops"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx", 404, "x"),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"error\": {\"code\": 400}}\n\n",
            200,
            "data: {\"error\": {\"code\": 400}}\n\n",
        ),
    ] {
        let setting = Setting::new(&[scripted(answer).await.0, echo("b").await]);
        let forwarded = setting.send().await.unwrap();
        assert_eq!((forwarded.retries, forwarded.head.status.as_u16()), (0, status));
        assert_eq!(text(forwarded).await, expected);
    }
}

#[tokio::test]
async fn the_rules_own_codes_are_tried_elsewhere() {
    let mut setting = Setting::new(&[scripted(OTHER_500).await.0, echo("b").await]);
    setting.rule.retry.codes = vec![500];
    assert_eq!(setting.send().await.unwrap().retries, 1);
}

#[tokio::test]
async fn a_refusal_without_an_alternative_passes_as_it_came() {
    let (busy, asked) = scripted(BUSY).await;
    let setting = Setting::new(&[busy]);
    let forwarded = setting.send().await.unwrap();
    assert_eq!((forwarded.head.status.as_u16(), forwarded.retries), (503, 0));
    assert_eq!(text(forwarded).await, "busy");
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    let (stream, _) = scripted(REFUSED_STREAM).await;
    let forwarded = Setting::new(&[stream]).send().await.unwrap();
    assert_eq!(forwarded.head.status, 200);
    assert!(text(forwarded).await.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_refusal_passes_where_the_alternatives_fail() {
    let setting = Setting::new(&[scripted(BUSY).await.0, nobody()]);
    let forwarded = setting.send().await.unwrap();
    assert_eq!(forwarded.head.status, 503);
    assert!(forwarded.retries >= 1);
    assert_eq!(text(forwarded).await, "busy");
}

#[tokio::test]
async fn attempts_end() {
    let (resets, asked) = scripted("").await;
    let error = Setting::new(&[resets]).send().await.unwrap_err();
    assert_eq!((error.reason, error.retries), (Reason::UpstreamReset, 1));
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    let nobody = nobody();
    let error = Setting::new(&[nobody]).send().await.unwrap_err();
    assert_eq!((error.reason, error.retries), (Reason::ConnectFailed, 2));
    assert_eq!(error.endpoint.as_deref(), Some(&*nobody.to_string()));
    assert!(!error.message.contains(&nobody.port().to_string()));

    let mut setting = Setting::new(&[scripted(BUSY).await.0, echo("b").await]);
    setting.rule.retry = RetryPolicy { attempts: 0, connection_attempts: 0, ..RetryPolicy::default() };
    assert_eq!(setting.send().await.unwrap().head.status, 503);
}

#[tokio::test]
async fn retries_stay_in_their_budget() {
    let mut setting = Setting::new(&[scripted(BUSY).await.0, echo("b").await]);
    let bounds = RetryBudget { percent: 0, minimum: 0 };
    setting.budget = Arc::new(BudgetState { bounds, ..BudgetState::default() });
    let forwarded = setting.send().await.unwrap();
    assert_eq!((forwarded.head.status.as_u16(), forwarded.retries), (503, 0));
}

#[tokio::test]
async fn nobody_to_ask_is_said() {
    let error = Setting::new(&[]).send().await.unwrap_err();
    assert_eq!(error.reason, Reason::NoEndpoint);
    assert!(error.message.contains("default/a"), "{}", error.message);
    let mut unavailable = pool("a", &[]);
    unavailable.picker = PickerSource::Unavailable("asks a picker".into());
    let setting = Setting { active: activated(vec![unavailable]), ..Setting::new(&[]) };
    let error = setting.send().await.unwrap_err();
    assert_eq!((error.reason, &*error.message), (Reason::PickerUnavailable, "asks a picker"));
}

#[tokio::test]
async fn a_slow_first_byte_is_tried_elsewhere_once() {
    let limit = Some(Duration::from_secs(1));
    let mut elsewhere = Setting::new(&[silent().await, echo("b").await]);
    elsewhere.rule.limits.first_byte = limit;
    let mut alone = Setting::new(&[silent().await]);
    alone.rule.limits.first_byte = limit;
    let mut backend = Setting::new(&[silent().await]);
    backend.rule.attempt_timeout = limit;
    let total = Setting { life: Duration::from_secs(1), ..Setting::new(&[silent().await, silent().await]) };
    let (elsewhere, alone, backend, total) = tokio::join!(elsewhere.send(), alone.send(), backend.send(), total.send());
    assert_eq!(elsewhere.unwrap().retries, 1);
    let alone = alone.unwrap_err();
    assert_eq!((alone.reason, alone.retries), (Reason::UpstreamTimeout, 0));
    assert_eq!(backend.unwrap_err().reason, Reason::UpstreamTimeout);
    assert_eq!(total.unwrap_err().reason, Reason::TotalTimeout);
}

#[tokio::test]
async fn a_connection_that_the_endpoint_closed_is_passed_over() {
    // Answers one request per connection, saying nothing of closing, as a server at its keep-alive limit does.
    let (once, asked) = scripted("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let mut setting = Setting::new(&[once]);
    setting.rule.retry = RetryPolicy { attempts: 1, connection_attempts: 0, ..RetryPolicy::default() };
    for count in 1..=5 {
        let forwarded = setting.send().await.unwrap();
        assert_eq!(text(forwarded).await, "ok");
        assert!(asked.load(Ordering::SeqCst) >= count);
    }
}

#[tokio::test]
async fn an_answer_that_is_dropped_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let setting = Setting::new(&[listener.local_addr().unwrap()]);
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let _request = stream.read(&mut buffer).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbeginning").await.unwrap();
        // The end of the stream, and nothing else, is what the server sees next.
        tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("closed").unwrap_or(0)
    };
    let client = async {
        let forwarded = setting.send().await.unwrap();
        assert!(!forwarded.complete);
        drop(forwarded);
    };
    let (left, ()) = tokio::join!(server, client);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn http2_endpoints_share_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicU32::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let text = format!("{authority} {}", String::from_utf8_lossy(&body));
                Ok::<_, std::convert::Infallible>(Response::new(full(text)))
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
            );
        }
    });
    let mut pool = pool("a", &[address]);
    pool.protocol = tidegate_api::inference::AppProtocol::H2c;
    let setting = Setting { active: activated(vec![pool]), ..Setting::new(&[]) };
    let (first, second, third) = tokio::join!(setting.send(), setting.send(), setting.send());
    for forwarded in [first, second, third] {
        assert_eq!(text(forwarded.unwrap()).await, "test hello");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
