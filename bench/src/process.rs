//! Child processes, and the CPU time that one has used.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

/// A process that ends with this value.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it; what it prints goes nowhere, what it complains of goes to our stderr.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let named = format!("{command:?}");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {named}"))?;
        Ok(Self { child })
    }

    /// CPU time of all its threads so far (`/proc/PID/stat`, in steps of 10 ms).
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<CpuTime> {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        // The command's name, in brackets, may hold spaces and brackets.
        let (_, fields) = stat.rsplit_once(')').context("no process name")?;
        let mut ticks = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
        let (Some(user), Some(system)) = (ticks.next(), ticks.next()) else {
            anyhow::bail!("{path} has too few fields");
        };
        Ok(CpuTime { user: Duration::from_millis(user? * 10), system: Duration::from_millis(system? * 10) })
    }
}

/// CPU time, in the program and in the kernel on its behalf. The sum is exact; the kernel estimates the parts by sampling.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl CpuTime {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address on this machine that nothing listens on at this moment.
///
/// # Errors
/// When there is none.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The first line that a command prints, for a table of versions.
pub(crate) fn first_line(command: &mut Command) -> String {
    let output = command.stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}
