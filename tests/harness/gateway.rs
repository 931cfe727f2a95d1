//! One running `tidegate serve`.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use crate::{Answer, Client, loopback};

/// How long any event is awaited; ten times what it should take at most.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How to start a gateway.
#[derive(Debug, Default)]
pub struct GatewayOptions {
    /// `-f` paths.
    pub filename: Vec<PathBuf>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A running gateway; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    binary: String,
    arguments: Vec<std::ffi::OsString>,
    child: Child,
    /// The address its listeners bind to.
    pub bind: IpAddr,
    /// Its admin API.
    pub admin: SocketAddr,
    /// Where it keeps its state (the admin token).
    pub state: tempfile::TempDir,
    errors: Arc<Mutex<Vec<String>>>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Starts `binary serve` and waits until it is ready.
    pub async fn start(binary: &str, options: GatewayOptions) -> Self {
        let gateway = Self::launch(binary, options);
        gateway.wait_ready().await;
        gateway
    }

    /// Starts `binary serve` without waiting.
    pub fn launch(binary: &str, options: GatewayOptions) -> Self {
        let bind = loopback::address();
        let admin = SocketAddr::new(bind, loopback::free_port(bind));
        let state = tempfile::tempdir().expect("a state folder");
        let mut command = Command::new(binary);
        command.arg("serve");
        for path in &options.filename {
            command.arg("-f").arg(path);
        }
        command
            .args(["--bind", &bind.to_string(), "--admin", &admin.to_string(), "--workers", "2"])
            .arg("--state-dir")
            .arg(state.path())
            .args(&options.arguments);
        let arguments = command.get_args().map(ToOwned::to_owned).collect();
        let (errors, log) = (Arc::default(), Arc::default());
        let child = run(command, &errors, &log);
        Self { binary: binary.to_owned(), arguments, child, bind, admin, state, errors, log }
    }

    /// Kills it with SIGKILL and waits for its end; its state stays.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with the same arguments and the same state, and waits until it is ready.
    pub async fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments);
        self.child = run(command, &self.errors, &self.log);
        self.wait_ready().await;
    }

    /// Waits until `/readyz` says 200.
    pub async fn wait_ready(&self) {
        let started = Instant::now();
        loop {
            if let Ok(answer) = Client::new().try_get(self.admin, "/readyz").await
                && answer.status == 200
            {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "the gateway is not ready:\n{}", self.errors().join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks the admin API.
    pub async fn admin_get(&self, path: &str) -> Answer {
        Client::new().get(self.admin, path).await
    }

    /// The active snapshot.
    pub async fn snapshot(&self) -> Value {
        self.admin_get("/snapshot").await.json()
    }

    /// Objects of one kind, by name if given.
    pub async fn objects(&self, kind: &str, name: Option<&str>) -> Vec<Value> {
        let query = name.map(|name| format!("&name={name}")).unwrap_or_default();
        let answer = self.admin_get(&format!("/objects?kind={kind}{query}")).await.json();
        answer["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until `check` holds for the active snapshot.
    pub async fn wait_snapshot(&self, what: &str, check: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let snapshot = self.snapshot().await;
            if check(&snapshot) {
                return snapshot;
            }
            assert!(started.elapsed() < PATIENCE, "never came: {what}; last snapshot {snapshot:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every endpoint of every inference pool has told its models.
    pub async fn wait_models(&self) {
        self.wait_snapshot("all endpoints' models", |snapshot| {
            let empty = Vec::new();
            let pools = snapshot["pools"].as_array().unwrap_or(&empty);
            pools.iter().filter(|pool| pool["kind"] == "Inference").all(|pool| {
                pool["endpoints"].as_array().unwrap_or(&empty).iter().all(|endpoint| endpoint["models"].is_array())
            })
        })
        .await;
    }

    /// What it wrote to stderr so far.
    pub fn errors(&self) -> Vec<String> {
        self.errors.lock().clone()
    }

    /// Its access log so far, a JSON object a line.
    pub fn access_log(&self) -> Vec<Value> {
        self.log.lock().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until `count` access-log lines satisfy `check`.
    pub async fn wait_log(&self, count: usize, check: impl Fn(&Value) -> bool) -> Vec<Value> {
        let started = Instant::now();
        loop {
            let lines: Vec<Value> = self.access_log().into_iter().filter(|line| check(line)).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(started.elapsed() < PATIENCE, "{} of {count} log lines came: {lines:?}", lines.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by name, `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end and gives the exit code.
    pub async fn wait_exit(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the gateway does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway's stderr\n{}", self.errors().join("\n"));
        }
    }
}

/// Sends a signal by name to a process.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("run kill");
    assert!(status.success(), "kill -{name} {pid}");
}

/// Writes a file as editors and `kubectl`-like tools do: beside it, then renamed over it.
pub fn write_atomically(path: &Path, text: &str) {
    let beside = path.with_extension("tmp~");
    std::fs::write(&beside, text).expect("write beside");
    std::fs::rename(&beside, path).expect("rename over");
}

fn run(mut command: Command, errors: &Arc<Mutex<Vec<String>>>, log: &Arc<Mutex<Vec<String>>>) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start the gateway");
    collect(child.stderr.take().expect("stderr"), errors);
    collect(child.stdout.take().expect("stdout"), log);
    child
}

fn collect(stream: impl std::io::Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let kept = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            kept.lock().push(line);
        }
    });
}
