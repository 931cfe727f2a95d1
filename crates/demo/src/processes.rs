//! The children: simulated servers and the gateway. Each is killed and reaped when its handle is dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::play::DemoError;

/// How long a child may take to be ready.
const READY: Duration = Duration::from_secs(30);
/// How long a child may take to end when asked.
const GOODBYE: Duration = Duration::from_secs(5);
/// All children listen here.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One simulated model server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts one that serves `model` and `adapters`, on a free port.
    pub(crate) async fn start(program: &Path, model: &str, adapters: &[&str]) -> Result<Self, DemoError> {
        let mut command = Command::new(program);
        command.args(["sim", "--host", "127.0.0.1", "--port", "0", "--speed", "20", "--served-model-name", model]);
        if !adapters.is_empty() {
            command
                .args(["--max-loras", "2", "--lora-modules"])
                .args(adapters.iter().map(|name| format!("{name}=/adapters/{name}")));
        }
        // Its standard input is a pipe of ours, which closes however this process ends, also when it is killed.
        command.arg("--exit-with-stdin").stdin(Stdio::piped());
        let mut child = spawn(command.stdout(Stdio::piped()), "a simulated server")?;
        let output = child.stdout.take().ok_or(DemoError::NotReady("a simulated server"))?;
        let mut lines = BufReader::new(output).lines();
        let first = timeout(READY, lines.next_line()).await.map_err(|_| DemoError::NotReady("a simulated server"))?;
        let line = first.ok().flatten().ok_or(DemoError::NotReady("a simulated server"))?;
        let address = address_in(&line).ok_or(DemoError::NotReady("a simulated server"))?;
        // Read on, so that the server never blocks on a full pipe; ends with the server.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, address })
    }
}

/// The gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
    pub(crate) admin: SocketAddr,
    log: PathBuf,
}

impl Gateway {
    /// Starts `serve` on a folder of manifests and waits until it is ready. Its own log goes to `log`.
    pub(crate) async fn start(program: &Path, folder: &Path, log: &Path) -> Result<Self, DemoError> {
        let admin = SocketAddr::new(LOOPBACK, free_port()?);
        let errors = std::fs::File::create(log).map_err(|error| DemoError::File(log.into(), error))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("-f").arg(folder).args(["--bind", "127.0.0.1", "--admin", &admin.to_string()]);
        command.arg("--state-dir").arg(log.with_file_name("state")).arg("--no-access-log");
        // As above; behind a demo that is gone nobody waits for a long drain.
        command.args(["--exit-with-stdin", "--drain", "1"]).stdin(Stdio::piped());
        let child = spawn(command.stdout(Stdio::null()).stderr(errors), "the gateway")?;
        let mut gateway = Self { child, admin, log: log.into() };
        gateway.wait_ready().await?;
        Ok(gateway)
    }

    async fn wait_ready(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + READY;
        while Instant::now() < deadline {
            if let Ok(answer) = crate::load::get(self.admin, "/readyz").await
                && answer.status == 200
            {
                return Ok(());
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                return Err(DemoError::GatewayEnded(said));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(DemoError::NotReady("the gateway"))
    }

    /// The number of the snapshot in force.
    pub(crate) async fn generation(&self) -> Option<u64> {
        let answer = crate::load::get(self.admin, "/snapshot").await.ok()?;
        serde_json::from_slice::<serde_json::Value>(&answer.body).ok()?.get("generation")?.as_u64()
    }
}

/// A child that ends with its handle, and is asked before it is killed.
pub(crate) trait End {
    /// The child.
    fn child(&mut self) -> &mut Child;

    /// Kills it and waits for its end.
    async fn end(mut self)
    where
        Self: Sized,
    {
        let _ = self.child().start_kill();
        let _ = timeout(GOODBYE, self.child().wait()).await;
    }
}

impl End for Server {
    fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl End for Gateway {
    fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

fn spawn(command: &mut Command, what: &'static str) -> Result<Child, DemoError> {
    command.kill_on_drop(true).spawn().map_err(|error| DemoError::Spawn(what, error))
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, DemoError> {
    let listener = std::net::TcpListener::bind((LOOPBACK, 0)).map_err(DemoError::Port)?;
    listener.local_addr().map(|address| address.port()).map_err(DemoError::Port)
}

/// The first `IP:port` in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.split_whitespace()
        .map(|word| word.trim_start_matches("http://").trim_end_matches(['/', '.', ',']))
        .find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::address_in;

    #[test]
    fn addresses_are_found_in_lines_for_people() {
        assert_eq!(address_in("ready on http://127.0.0.1:8001/").map(|address| address.port()), Some(8001));
        assert_eq!(address_in("no address here"), None);
    }
}
