//! `tidegate serve`: manifests from files and folders, served.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tidegate_admin::{AdminListener, AdminState, ObjectStore, Port, Token};
use tidegate_controller::{Clock, Controller, NotifyTo, Signer};
use tidegate_files::FileSource;
use tidegate_picker::LeastRequests;
use tidegate_proxy::upstream::{HealthSettings, watch_health};
use tidegate_proxy::{Proxy, ProxyOptions};
use tidegate_routing::{Environment, Intake};
use tidegate_signals::Poller;
use tidegate_telemetry::{KnownModels, Telemetry};
use tokio::sync::{mpsc, watch};

use crate::control::{Control, Readiness, Said};
use crate::evidence_bridge;
use crate::rollout_api::{self, Adapter};
use crate::rollouts::LiveFleet;
use crate::runtimes::Runtimes;
use crate::view;

/// How long the access log's last lines may take after the last request.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Arguments of `tidegate serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Manifests: files or folders (recursively), YAML or JSON; can be given several times.
    #[arg(short = 'f', long = "filename", required = true, value_name = "PATH")]
    pub(crate) filename: Vec<PathBuf>,
    /// Namespace of documents that name none.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Interface that listeners bind to.
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub(crate) bind: IpAddr,
    /// Address that stands in for a Gateway that routes name and nobody describes.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of the admin API.
    #[arg(long, default_value = "127.0.0.1:15000", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    /// Address of a read-only port with /healthz, /readyz and /metrics alone.
    #[arg(long, value_name = "ADDR")]
    pub(crate) probe_bind: Option<SocketAddr>,
    /// Folder for what must outlive the process (the admin token, roll-outs); `$XDG_STATE_HOME/tidegate` or
    /// `~/.local/state/tidegate` when absent.
    #[arg(long, value_name = "PATH")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Where notifications of roll-outs are sent (POST of JSON), `http://` or `https://`.
    #[arg(long, value_name = "URL")]
    pub(crate) notify: Option<http::Uri>,
    /// A file whose text signs notifications and calls to gates: header `x-tidegate-signature-256`, HMAC-SHA256 of the body.
    #[arg(long, value_name = "PATH", requires = "notify")]
    pub(crate) notify_secret: Option<PathBuf>,
    /// Threads of the data plane; one a core when absent.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// How long running requests may take after SIGTERM, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) drain: u64,
    /// Write no access log.
    #[arg(long)]
    pub(crate) no_access_log: bool,
    /// End when standard input ends: for a parent that must leave nothing running, however it ends.
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

/// Runs until SIGTERM or Ctrl-C.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    start_log();
    let options = tidegate_files::Options { default_namespace: arguments.namespace.clone() };
    let source = match FileSource::open(&arguments.filename, options) {
        Ok(source) => source,
        Err(error) => {
            eprintln!("tidegate serve: {error}");
            return ExitCode::from(2);
        }
    };
    match serve(arguments, source) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate serve: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Arguments, source: FileSource) -> anyhow::Result<()> {
    let runtimes = Runtimes::start(arguments.workers).context("cannot start the runtimes")?;
    let known_models = Arc::new(KnownModels::default());
    let telemetry = Telemetry::start(tidegate_telemetry::Options {
        access_log: (!arguments.no_access_log).then(|| Box::new(std::io::stdout()) as Box<dyn std::io::Write + Send>),
        models: known_models.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    })
    .context("cannot start the recorder")?;
    let proxy = Proxy::new(ProxyOptions {
        sink: telemetry.clone(),
        picker: Arc::new(LeastRequests),
        runtime: runtimes.data.handle().clone(),
    });
    let live = proxy.clone();
    telemetry.set_live(move || view::gauges(&live));
    let outcome = runtimes.control.block_on(control(&arguments, source, &runtimes, &proxy, &telemetry, known_models));
    runtimes.data.shutdown_timeout(Duration::from_secs(1));
    telemetry.shutdown(LAST_LINES);
    runtimes.control.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Everything on the control runtime: admin API, control loop, signals; then the drain.
async fn control(
    arguments: &Arguments,
    source: FileSource,
    runtimes: &Runtimes,
    proxy: &Arc<Proxy>,
    telemetry: &Arc<Telemetry>,
    known_models: Arc<KnownModels>,
) -> anyhow::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let readiness = Arc::new(watch::Sender::new(Readiness::Starting));
    let (reload, reloads) = mpsc::channel(1);
    let objects = Arc::new(ObjectStore::default());
    let clock = Clock::since(tokio::time::Instant::now());
    let (controller, ways) = Controller::open(tidegate_controller::Options {
        state_dir: state_dir(arguments)?,
        fleet: Arc::new(LiveFleet(proxy.clone())),
        clock,
        notify: notify_to(arguments)?,
    })
    .context("cannot start the controller of roll-outs")?;
    let mut state = admin_state(arguments, proxy, telemetry, &objects, readiness.subscribe(), reload)?;
    let (metrics, rollouts) = (telemetry.clone(), ways.handle.clone());
    state.metrics = Arc::new(move || rollout_api::with_metrics(metrics.render(), &rollouts));
    state.rollouts = Some(Arc::new(Adapter(ways.handle.clone())));
    let mut ports = vec![(Port::Admin, arguments.admin)];
    ports.extend(arguments.probe_bind.map(|address| (Port::Probe, address)));
    for (port, address) in ports {
        let listener = AdminListener::bind(port, address).await?;
        tracing::info!(address = %listener.address(), "{}", if matches!(port, Port::Admin) { "admin API" } else { "probes" });
        let mut stopped = stopped.clone();
        tokio::spawn(listener.serve(state.clone(), async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }));
    }
    let control = Control {
        data: runtimes.data.handle().clone(),
        proxy: proxy.clone(),
        telemetry: telemetry.clone(),
        known_models,
        objects,
        poller: Poller::new(tokio::runtime::Handle::current()),
        intake: Intake::default(),
        environment: environment(arguments),
        said: Said::default(),
        admitted: Vec::new(),
        link: ways.link,
        rollouts: ways.handle,
    };
    let watched = proxy.clone();
    let health = tokio::spawn(watch_health(move || watched.active(), HealthSettings::default()));
    if let Some(events) = telemetry.pair_events() {
        tokio::spawn(evidence_bridge::carry(events, clock, ways.evidence));
    }
    let (end_control, control_ended) = watch::channel(false);
    let controller = tokio::spawn(controller.run(stopped.clone()));
    let control = tokio::spawn(control.run(source, readiness.clone(), reloads, control_ended));
    tokio::select! {
        end = wait_for_end() => end?,
        () = stdin_end(), if arguments.exit_with_stdin => {}
    }
    tracing::info!(seconds = arguments.drain, "draining: no new connections, running requests finish");
    readiness.send_replace(Readiness::Draining);
    end_control.send_replace(true);
    let _ = control.await;
    let (proxy, grace) = (proxy.clone(), Duration::from_secs(arguments.drain));
    let drained = runtimes.data.spawn(async move { proxy.shutdown(grace).await });
    tokio::select! {
        _ = drained => {}
        again = wait_for_end() => again?,
    }
    health.abort();
    stop.send_replace(true);
    // What was observed until now is on disk when this ends.
    let _ = controller.await;
    Ok(())
}

/// The gateway's own log goes to stderr; `RUST_LOG` chooses what, `info` when it says nothing.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // Fails only where a log was started before, which then goes on.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).try_init();
}

fn environment(arguments: &Arguments) -> Environment {
    let mut environment =
        Environment { generation: 0, bind: arguments.bind, listen: arguments.listen, ..Default::default() };
    if !arguments.bind.is_unspecified() {
        environment.usable_addresses = vec![arguments.bind];
    }
    environment
}

fn admin_state(
    arguments: &Arguments,
    proxy: &Arc<Proxy>,
    telemetry: &Arc<Telemetry>,
    objects: &Arc<ObjectStore>,
    readiness: watch::Receiver<Readiness>,
    reload: mpsc::Sender<()>,
) -> anyhow::Result<AdminState> {
    let folder = state_dir(arguments)?;
    let (table, metrics) = (proxy.clone(), telemetry.clone());
    Ok(AdminState {
        objects: objects.clone(),
        snapshot: Arc::new(move || view::snapshot(&table.active())),
        metrics: Arc::new(move || metrics.render()),
        ready: Arc::new(move || match *readiness.borrow() {
            Readiness::Starting => Err("no snapshot is in force yet".into()),
            Readiness::Ready => Ok(()),
            Readiness::Draining => Err("shutting down".into()),
        }),
        reload: Arc::new(move || match reload.try_send(()) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(())) => Ok(serde_json::json!({"reload": "asked for"})),
            Err(mpsc::error::TrySendError::Closed(())) => Err("shutting down".into()),
        }),
        rollouts: None,
        token: Arc::new(Token::load_or_create(&folder)?),
    })
}

fn state_dir(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let folder = arguments.state_dir.clone().or_else(default_state_dir);
    folder.ok_or_else(|| anyhow!("no home folder is known: name one with --state-dir"))
}

fn notify_to(arguments: &Arguments) -> anyhow::Result<Option<NotifyTo>> {
    let Some(url) = arguments.notify.clone() else { return Ok(None) };
    let secret = match &arguments.notify_secret {
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("--notify-secret {}", path.display()))?;
            Some(Signer::new(text.trim_ascii()))
        }
        None => None,
    };
    Ok(Some(NotifyTo { url, secret }))
}

pub(super) fn default_state_dir() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))
        .map(|base| base.join("tidegate"))
}

/// The end of standard input.
async fn stdin_end() {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread, because a blocked read of stdin would hold the runtime's shutdown up; it ends with the process.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// SIGTERM or Ctrl-C.
async fn wait_for_end() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
