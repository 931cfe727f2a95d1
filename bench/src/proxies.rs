//! How each proxy is started, each with one worker thread, in front of the same server.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::backend::SERVED;
use crate::load::REQUESTED;
use crate::process::{Process, first_line, free_address};

/// What stands between the load and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: the load's own floor.
    Direct,
    /// [`crate::bare`].
    Bare,
    /// HAProxy from the distribution.
    HaProxy,
    /// `tidegate serve` with everything on.
    Tidegate,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Direct => "none (direct)",
            Self::Bare => "bare hyper",
            Self::HaProxy => "HAProxy",
            Self::Tidegate => "tidegate",
        })
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// `None` where nothing stands between.
    pub(crate) process: Option<Process>,
    /// Which model the server must be asked for.
    pub(crate) models: &'static [&'static str],
}

/// Where the servers listen: the same process, once for each arm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backends {
    pub(crate) first: SocketAddr,
    pub(crate) second: SocketAddr,
}

impl Proxy {
    pub(crate) fn direct(backends: Backends) -> Self {
        Self { kind: Kind::Direct, address: backends.first, process: None, models: &[REQUESTED] }
    }

    pub(crate) fn bare(own: &Path, backends: Backends) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(own);
        command.args(["bare", "--listen", &address.to_string(), "--backend", &backends.first.to_string()]);
        Ok(Self { kind: Kind::Bare, address, process: Some(Process::start(&mut command)?), models: &[REQUESTED] })
    }

    pub(crate) fn haproxy(folder: &Path, backends: Backends) -> anyhow::Result<Self> {
        let address = free_address()?;
        let file = folder.join("haproxy.cfg");
        let (first, second) = (backends.first, backends.second);
        std::fs::write(
            &file,
            format!(
                "global\n  nbthread 1\n  maxconn 4096\n\
                 defaults\n  mode http\n  option http-keep-alive\n  option http-no-delay\n  http-reuse always\n  \
                 timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
                 frontend clients\n  bind {address}\n  default_backend servers\n\
                 backend servers\n  server first {first} weight 90\n  server second {second} weight 10\n"
            ),
        )?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let process =
            Process::start(&mut command).context("HAProxy is measured too: install it, or give --without-haproxy")?;
        Ok(Self { kind: Kind::HaProxy, address, process: Some(process), models: &[REQUESTED] })
    }

    /// Everything on: the body scanned, two arms, the model rewritten in both, access log and metrics.
    pub(crate) fn tidegate(binary: &Path, folder: &Path, backends: Backends) -> anyhow::Result<Self> {
        let address = free_address()?;
        let file = folder.join("manifests.yaml");
        std::fs::write(&file, manifests(address, backends))?;
        let mut command = Command::new(binary);
        command
            .args(["serve", "--workers", "1", "--bind", "127.0.0.1"])
            .args(["--admin", &free_address()?.to_string()])
            .arg("--state-dir")
            .arg(folder.join("state"))
            .arg("-f")
            .arg(&file);
        let process = Process::start(&mut command)?;
        Ok(Self { kind: Kind::Tidegate, address, process: Some(process), models: &SERVED })
    }

    /// Waits until it serves, and checks that the server is asked for the model that it must be asked for.
    ///
    /// # Errors
    /// When it does not serve, or passes on another name.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let seen = crate::load::model_seen(self.address).await?;
        ensure!(self.models.contains(&seen.as_str()), "{} asked for {seen:?}, not one of {:?}", self.kind, self.models);
        Ok(())
    }
}

fn manifests(address: SocketAddr, backends: Backends) -> String {
    let [first, second] = SERVED;
    let mut text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: tidegate}}\n\
         spec: {{controllerName: tidegate.dev/gateway-controller}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: bench}}\n\
         spec: {{gatewayClassName: tidegate, listeners: [{{name: http, protocol: HTTP, port: {port}}}]}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: bench}}\nspec:\n  \
         parentRefs: [{{name: bench}}]\n  rules:\n  - matches: [{{path: {{type: PathPrefix, value: /v1}}}}]\n    backendRefs:\n    \
         - {{group: inference.networking.k8s.io, kind: InferencePool, name: arm-a, weight: 90}}\n    \
         - {{group: inference.networking.k8s.io, kind: InferencePool, name: arm-b, weight: 10}}\n",
        port = address.port()
    );
    for (arm, server) in [("arm-a", backends.first), ("arm-b", backends.second)] {
        text += &format!(
            "---\napiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {{name: {arm}}}\n\
             spec: {{selector: {{matchLabels: {{arm: {arm}}}}}, targetPorts: [{{number: {port}}}]}}\n---\n\
             apiVersion: tidegate.dev/v1alpha1\nkind: ModelServer\nmetadata: {{name: {arm}, labels: {{arm: {arm}}}}}\n\
             spec: {{address: \"{server}\"}}\n---\n\
             apiVersion: llm-d.ai/v1alpha2\nkind: InferenceModelRewrite\nmetadata: {{name: {arm}}}\n\
             spec: {{poolRef: {{name: {arm}}}, rules: [{{matches: [{{model: {{type: Exact, value: {REQUESTED}}}}}], \
             targets: [{{modelRewrite: {first}, weight: 90}}, {{modelRewrite: {second}, weight: 10}}]}}]}}\n",
            port = server.port()
        );
    }
    text
}

/// What was measured: one line for each program and for the machine.
pub(crate) fn versions(tidegate: Option<&PathBuf>, haproxy: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(binary) = tidegate {
        lines.push(first_line(Command::new(binary).arg("--version")));
    }
    if haproxy {
        lines.push(first_line(Command::new("haproxy").arg("-v")));
    }
    lines.push(first_line(Command::new("rustc").arg("--version")));
    lines.push(first_line(Command::new("uname").args(["-srm"])));
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = processors.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    lines.push(format!("{} × {count}", named.unwrap_or("unknown processor")));
    lines
}
