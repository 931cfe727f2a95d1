//! What this crate's tests share: a sink that keeps what it is given, endpoints that are functions, a client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate_api::{ObjectKey, inference::AppProtocol};
use tidegate_picker::LeastRequests;
use tidegate_routing::snapshot::{
    Arm, ArmTarget, Endpoint, Filters, Limits, Listener, ModelTable, PickerSource, Pool, PoolIndex, PoolKind,
    RetryBudget, RetryPolicy, Rule, Socket, SocketProtocol,
};
use tidegate_routing::{Router, Snapshot, Split};
use tidegate_telemetry::{Observation, ObservationSink, PairEnd, PairEvent};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::{Proxy, ProxyOptions};

/// Longest wait for anything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps observations.
#[derive(Default)]
pub(crate) struct Kept {
    seen: Mutex<Vec<Observation>>,
    pairs: Mutex<Vec<PairEvent>>,
    more: Notify,
}

impl ObservationSink for Kept {
    fn observe(&self, observation: Observation) {
        self.seen.lock().push(observation);
        self.more.notify_waiters();
    }

    fn pair(&self, event: PairEvent) {
        self.pairs.lock().push(event);
    }
}

impl Kept {
    /// What was told of pairs; whole for every request whose observation came.
    pub(crate) fn pairs(&self) -> Vec<PairEvent> {
        self.pairs.lock().clone()
    }

    /// The ends among it.
    pub(crate) fn ends(&self) -> Vec<PairEnd> {
        let ends = self.pairs().into_iter().filter_map(|event| match event {
            PairEvent::Ended(end) => Some(*end),
            _ => None,
        });
        ends.collect()
    }

    /// Waits for `count` observations and takes them.
    pub(crate) async fn take(&self, count: usize) -> Vec<Observation> {
        let waiting = async {
            loop {
                let more = self.more.notified();
                {
                    let mut seen = self.seen.lock();
                    if seen.len() >= count {
                        return std::mem::take(&mut *seen);
                    }
                }
                more.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("observations")
    }
}

pub(crate) type TestBody = BoxBody<Bytes, Infallible>;

/// A body in one piece.
pub(crate) fn full(text: impl Into<Bytes>) -> TestBody {
    Full::new(text.into()).boxed()
}

/// An endpoint that answers by a function.
pub(crate) async fn endpoint<F, R>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<TestBody>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(answer(request).await) }
                });
                let _ended =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// An endpoint that tells what it got: `x-endpoint`, the request line and headers as text, then the body.
pub(crate) async fn echo(name: &'static str) -> SocketAddr {
    endpoint(move |request| async move {
        let (head, body) = request.into_parts();
        let mut text = format!("{} {}\n", head.method, head.uri);
        for (name, value) in &head.headers {
            text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        }
        text.push('\n');
        let body = body.collect().await.unwrap().to_bytes();
        text.push_str(&String::from_utf8_lossy(&body));
        let mut response = Response::new(full(text));
        response.headers_mut().insert("x-endpoint", name.parse().unwrap());
        response
    })
    .await
}

/// A pool of endpoints.
pub(crate) fn pool(name: &str, endpoints: &[SocketAddr]) -> Pool {
    Pool {
        key: Arc::new(ObjectKey::new("inference.networking.k8s.io", "InferencePool", "default", name)),
        label: format!("default/{name}").into(),
        kind: PoolKind::Inference,
        protocol: AppProtocol::Http,
        endpoints: endpoints
            .iter()
            .map(|address| Endpoint {
                address: address.to_string().into(),
                name: format!("default/{name}-{}", address.port()).into(),
                metrics_path: "/metrics".into(),
                engine: "vllm".into(),
            })
            .collect(),
        models: ModelTable::default(),
        picker: PickerSource::BuiltIn,
    }
}

/// An arm to a pool.
pub(crate) fn arm(pool: usize, weight: u32) -> Arm {
    Arm {
        label: format!("default/pool-{pool}").into(),
        weight,
        target: ArmTarget::Pool(PoolIndex(pool)),
        filters: Filters::default(),
        redistribute_when_empty: false,
        answer_requested_model: false,
    }
}

/// A rule over arms, for every path.
pub(crate) fn rule(arms: Vec<Arm>) -> Rule {
    let names: Vec<(&str, u32)> = arms.iter().map(|arm| (&*arm.label, arm.weight)).collect();
    Rule {
        route: Arc::new(ObjectKey::new("gateway.networking.k8s.io", "HTTPRoute", "default", "route")),
        route_label: "default/route".into(),
        index: 0,
        name: None,
        filters: Filters::default(),
        split: Split::new("route/0", &names),
        pair: None,
        arms,
        limits: Limits::default(),
        attempt_timeout: None,
        retry: RetryPolicy::default(),
        inference: true,
        model_aware: true,
        allow_paths: Vec::new(),
    }
}

/// Rules of the listeners of tests, by label: a request takes the first.
static RULES: Mutex<Vec<Labelled>> = Mutex::new(Vec::new());

type Labelled = (Arc<str>, Vec<Arc<Rule>>);

fn register(name: &str, rules: Vec<Rule>) -> Arc<str> {
    let mut all = RULES.lock();
    let label: Arc<str> = format!("default/gateway/{name}-{}", all.len()).into();
    all.push((label.clone(), rules.into_iter().map(Arc::new).collect()));
    label
}

/// The rules of a listener.
pub(crate) fn rules_of(label: &str) -> Vec<Arc<Rule>> {
    RULES.lock().iter().find(|(known, _)| **known == *label).map(|(_, rules)| rules.clone()).unwrap_or_default()
}

/// A listener for a hostname with one rule that takes everything.
pub(crate) fn listener(name: &str, rules: Vec<Rule>) -> Listener {
    Listener {
        gateway: Arc::new(ObjectKey::new("gateway.networking.k8s.io", "Gateway", "default", "gateway")),
        name: name.into(),
        label: register(name, rules),
        hostname: None,
        certificates: Vec::new(),
        limits: Limits::default(),
        retry_budget: RetryBudget::default(),
        access_log: true,
        router: Router::default(),
    }
}

/// A snapshot with one plain socket on a free port.
pub(crate) fn snapshot(pools: Vec<Pool>, rules: Vec<Rule>) -> Snapshot {
    Snapshot {
        generation: 1,
        sockets: vec![Socket {
            address: "127.0.0.1:0".parse().unwrap(),
            protocol: SocketProtocol::Http,
            listeners: vec![Arc::new(listener("http", rules))],
        }],
        pools: pools.into_iter().map(Arc::new).collect(),
    }
}

/// A running data plane with one socket.
pub(crate) struct Running {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) kept: Arc<Kept>,
    pub(crate) address: SocketAddr,
}

/// Starts a data plane.
pub(crate) async fn run(snapshot: Snapshot) -> Running {
    let kept = Arc::new(Kept::default());
    let proxy =
        Proxy::new(ProxyOptions { sink: kept.clone(), picker: Arc::new(LeastRequests), runtime: Handle::current() });
    let bound = proxy.apply(Arc::new(snapshot)).await;
    let address = *bound[0].result.as_ref().unwrap();
    Running { proxy, kept, address }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["error"]["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// The header lines that [`echo`] tells, by name.
    pub(crate) fn told(&self) -> HashMap<String, String> {
        self.text()
            .split("\n\n")
            .next()
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

/// Sends a request on a connection of its own and gives the answer's beginning.
pub(crate) async fn begin(address: SocketAddr, request: Request<TestBody>) -> hyper::Result<Response<Incoming>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    tokio::time::timeout(PATIENCE, sender.send_request(request)).await.expect("an answer")
}

/// Sends a request and reads its answer.
pub(crate) async fn send(address: SocketAddr, request: Request<TestBody>) -> Answer {
    let (head, body) = begin(address, request).await.unwrap().into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("an end").unwrap().to_bytes();
    Answer { status: head.status, headers: head.headers, body }
}

/// A POST of JSON.
pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<TestBody> {
    Request::post(path).header("host", "test").header("content-type", "application/json").body(full(body)).unwrap()
}

/// A GET.
pub(crate) fn get(path: &str) -> Request<TestBody> {
    Request::get(path).header("host", "test").body(full("")).unwrap()
}

/// Pools with their living state, without sockets.
pub(crate) fn activated(pools: Vec<Pool>) -> crate::active::Active {
    let picker: Arc<dyn tidegate_picker::Picker> = Arc::new(LeastRequests);
    let upstreams = crate::active::Upstreams::new(Arc::new(Kept::default()));
    upstreams.activate(Arc::new(snapshot(pools, vec![])), &picker)
}

/// An address where nobody listens; it stays taken to the end of the process, so that no other test gets it.
pub(crate) fn nobody() -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// An endpoint that reads the beginning of a request and closes the connection.
pub(crate) async fn breaks_off() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _read = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 1024]).await;
        }
    });
    address
}
