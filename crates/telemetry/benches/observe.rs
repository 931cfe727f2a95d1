//! What telemetry costs a request: handing an observation over (on the data plane's thread), and counting it (on the
//! recorder's). `cargo bench -p tidegate-telemetry`

use std::sync::Arc;
use std::time::Duration;

use tidegate_telemetry::metrics::Metrics;
use tidegate_telemetry::observation::Tokens;
use tidegate_telemetry::{KnownModels, Observation, ObservationSink, Options, Telemetry};

fn main() {
    divan::main();
}

fn observation() -> Observation {
    Observation {
        request_id: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".into(),
        listener: "default/gateway/http".into(),
        route: Some("default/route".into()),
        rule: Some(0),
        arm: Some("default/stable".into()),
        requested_model: Some("chat".into()),
        target_model: Some("chat-v1".into()),
        endpoint: Some("127.0.0.1:8001".into()),
        path: "/v1/chat/completions".into(),
        status: 200,
        stream: true,
        ttft: Some(Duration::from_millis(30)),
        duration: Duration::from_secs(3),
        gap_mean: Some(Duration::from_millis(12)),
        gap_max: Some(Duration::from_millis(90)),
        tokens: Tokens { prompt: Some(100), completion: Some(20), cached: Some(64), estimated: false },
        finish_reason: Some("stop".into()),
        bytes_in: 500,
        bytes_out: 9_000,
        logged: true,
        ..Observation::default()
    }
}

fn models() -> Arc<KnownModels> {
    let models = KnownModels::default();
    models.set(["chat", "chat-v1"]);
    Arc::new(models)
}

/// The data plane's part. The queue is larger than all samples together, so that none is dropped.
#[divan::bench(sample_count = 200, sample_size = 500)]
fn hand_over(bencher: divan::Bencher<'_, '_>) {
    let options = Options { models: models(), queue: 1 << 18, ..Options::default() };
    let Ok(telemetry) = Telemetry::start(options) else { return };
    bencher.with_inputs(observation).bench_values(|observation| telemetry.observe(observation));
    telemetry.shutdown(Duration::from_secs(5));
}

/// The recorder's part, without the access log.
#[divan::bench(sample_count = 200, sample_size = 500)]
fn count(bencher: divan::Bencher<'_, '_>) {
    let metrics = Metrics::new(models(), "");
    bencher.with_inputs(observation).bench_refs(|observation| metrics.record(observation));
}
