//! One simulated model server, as a process of its own (so that it can be killed, stopped and terminated).

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::gateway::signal;
use crate::{Client, loopback};

/// A running `tidegate sim`; killed when dropped.
#[derive(Debug)]
pub struct ModelServer {
    binary: String,
    arguments: Vec<String>,
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl ModelServer {
    /// Starts one on an address of its own with port 8000, serving `model` and `adapters`, 20 × faster than real.
    pub fn start(binary: &str, model: &str, adapters: &[&str], further: &[&str]) -> Self {
        Self::start_at(binary, loopback::address(), model, adapters, further)
    }

    /// The same on an address of the caller's.
    pub fn start_at(binary: &str, ip: IpAddr, model: &str, adapters: &[&str], further: &[&str]) -> Self {
        let mut arguments: Vec<String> =
            ["sim", "--host", &ip.to_string(), "--port", "8000", "--served-model-name", model]
                .map(str::to_owned)
                .to_vec();
        if !adapters.is_empty() {
            arguments.push("--lora-modules".into());
            arguments.extend(adapters.iter().map(|name| format!("{name}=/adapters/{name}")));
        }
        if !further.contains(&"--speed") {
            arguments.extend(["--speed", "20"].map(str::to_owned));
        }
        arguments.extend(further.iter().map(|argument| (*argument).to_owned()));
        let child = launch(binary, &arguments);
        Self { binary: binary.into(), arguments, child, address: SocketAddr::new(ip, 8000) }
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with the same arguments.
    pub fn restart(&mut self) {
        self.kill();
        self.child = launch(&self.binary, &self.arguments);
    }

    /// Injects faults (`POST /sim/faults`).
    pub async fn faults(&self, faults: &Value) {
        let answer = Client::new().post(self.address, "/sim/faults", faults).await;
        assert_eq!(answer.status, 200, "faults refused: {}", answer.text());
    }

    /// One number of its metrics page.
    pub async fn metric(&self, name: &str) -> f64 {
        let page = Client::new().get(self.address, "/metrics").await.text();
        page.lines()
            .find(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']))
            .and_then(|line| line.rsplit(' ').next())
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no metric {name} in\n{page}"))
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts the process and waits for the line it prints when it is ready.
fn launch(binary: &str, arguments: &[String]) -> Child {
    let mut child = Command::new(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("start a simulated server");
    let mut first = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("stdout"));
    output.read_line(&mut first).expect("its first line");
    assert!(!first.is_empty(), "a simulated server ended at once: {arguments:?}");
    std::thread::spawn(move || output.lines().map_while(Result::ok).for_each(drop));
    child
}
