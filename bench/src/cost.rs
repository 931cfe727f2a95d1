//! The run: every proxy in turn, in several rounds, so that what else the machine does meets all of them alike.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;

use crate::load::{chat, drive};
use crate::process::{CpuTime, Process, free_address};
use crate::proxies::{Backends, Kind, Proxy, versions};
use crate::table::{Cell, Row, print};

/// Arguments of `cost`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; in each, every proxy is measured once with each prompt.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Connections that send at once while CPU time is read.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests a round with the small prompt (256 bytes).
    #[arg(long, default_value_t = 20_000)]
    small: usize,
    /// Requests a round with the large prompt (64 KiB).
    #[arg(long, default_value_t = 6_000)]
    large: usize,
    /// Requests a round over one connection, for the latency.
    #[arg(long, default_value_t = 1_000)]
    single: usize,
    /// The `tidegate` binary; built from this workspace when absent.
    #[arg(long, value_name = "PATH")]
    tidegate: Option<PathBuf>,
    /// Leave the gateway out.
    #[arg(long)]
    without_tidegate: bool,
    /// Leave HAProxy out.
    #[arg(long)]
    without_haproxy: bool,
}

struct Prompt {
    name: &'static str,
    body: Bytes,
    requests: usize,
}

/// Measures and prints.
///
/// # Errors
/// When a proxy cannot be started, passes on the wrong model, or leaves a request unanswered.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    ensure!(arguments.rounds > 0 && arguments.connections > 0, "--rounds and --connections begin at 1");
    let folder = tempfile::tempdir()?;
    let own = std::env::current_exe()?;
    let backends = Backends { first: free_address()?, second: free_address()? };
    let mut command = Command::new(&own);
    command.args(["backend", "--listen", &backends.first.to_string(), "--listen", &backends.second.to_string()]);
    let _server = Process::start(&mut command)?;

    let tidegate = if arguments.without_tidegate { None } else { Some(binary(&arguments, &own)?) };
    let mut proxies = vec![Proxy::direct(backends), Proxy::bare(&own, backends)?];
    if !arguments.without_haproxy {
        proxies.push(Proxy::haproxy(folder.path(), backends)?);
    }
    if let Some(binary) = &tidegate {
        proxies.push(Proxy::tidegate(binary, folder.path(), backends)?);
    }
    for proxy in &proxies {
        proxy.ready().await?;
    }
    for line in versions(tidegate.as_ref(), !arguments.without_haproxy) {
        println!("{line}");
    }
    println!(
        "{} rounds, {} connections; latency over one connection, {} requests a round",
        arguments.rounds, arguments.connections, arguments.single
    );
    for prompt in [
        Prompt { name: "256 B prompt", body: chat(256), requests: arguments.small },
        Prompt { name: "64 KiB prompt", body: chat(64 * 1024), requests: arguments.large },
    ] {
        measure(&proxies, &prompt, &arguments).await?;
    }
    Ok(())
}

async fn measure(proxies: &[Proxy], prompt: &Prompt, arguments: &Arguments) -> anyhow::Result<()> {
    let mut rows: Vec<Row> = proxies.iter().map(|proxy| Row::new(proxy.kind)).collect();
    for round in 0..arguments.rounds {
        // Each round begins with another proxy, so that none is always the first after a pause.
        for offset in 0..proxies.len() {
            let index = (round + offset) % proxies.len();
            let (Some(proxy), Some(row)) = (proxies.get(index), rows.get_mut(index)) else { continue };
            let cell =
                once(proxy, prompt, arguments).await.with_context(|| format!("{}, {}", proxy.kind, prompt.name))?;
            row.cells.push(cell);
        }
        eprintln!("{}: round {} of {}", prompt.name, round + 1, arguments.rounds);
    }
    println!("\n{} ({} bytes a body, {} requests a round)", prompt.name, prompt.body.len(), prompt.requests);
    print(&rows, Kind::Bare);
    Ok(())
}

async fn once(proxy: &Proxy, prompt: &Prompt, arguments: &Arguments) -> anyhow::Result<Cell> {
    // Connections, pools and caches warm up outside the measured part.
    drive(proxy.address, arguments.connections, arguments.connections * 20, &prompt.body).await?;
    let before = cpu_time(proxy)?;
    drive(proxy.address, arguments.connections, prompt.requests, &prompt.body).await?;
    let used = cpu_time(proxy)?.since(before);
    let times = drive(proxy.address, 1, arguments.single, &prompt.body).await?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / prompt.requests.max(1) as f64;
    Ok(Cell { user_microseconds: each(used.user), system_microseconds: each(used.system), times })
}

fn cpu_time(proxy: &Proxy) -> anyhow::Result<CpuTime> {
    proxy.process.as_ref().map_or(Ok(CpuTime::default()), Process::cpu_time)
}

/// The gateway's binary beside our own, built now so that it is this workspace's state.
fn binary(arguments: &Arguments, own: &Path) -> anyhow::Result<PathBuf> {
    if let Some(path) = &arguments.tidegate {
        return Ok(path.clone());
    }
    let folder = own.parent().context("this program stands in no folder")?;
    // Both are built alike: the folder has the profile's name.
    let profile = folder.file_name().context("this program stands in no folder with a name")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "-p", "tidegate", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .arg("--profile")
        .arg(profile)
        .status()
        .context("cannot run cargo; name a binary with --tidegate")?;
    ensure!(built.success(), "the gateway could not be built");
    Ok(folder.join("tidegate"))
}
