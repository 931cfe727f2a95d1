//! The play: servers, gateway, and each release's weights 0 → 10 → 50 → 100 and back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::Arguments;
use crate::live;
use crate::load::{self, Seen, Told};
use crate::manifests::{self, Release, Weights};
use crate::processes::{End, Gateway, Server, free_port};
use crate::statistics::binomial_probability;
use crate::table::{Line, Table};

/// The candidate's weight in percent, step by step.
const STEPS: [u32; 7] = [0, 10, 50, 100, 50, 10, 0];
/// A share is off when chance gives something as unlikely less often than this.
const ALPHA: f64 = 1e-6;
/// An edited weight must be in force within this (it takes well under a second).
const IN_FORCE: Duration = Duration::from_secs(10);

/// Why the play could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Ctrl-C or SIGTERM.
    #[error("interrupted; everything it started has ended")]
    Interrupted,
    /// This program's own file is not known.
    #[error("cannot tell where this program is: {0}")]
    Program(io::Error),
    /// A child cannot be started.
    #[error("cannot start {0}: {1}")]
    Spawn(&'static str, io::Error),
    /// A child is not ready in time.
    #[error("{0} is not ready after 30 s")]
    NotReady(&'static str),
    /// The gateway ended; its own words.
    #[error("the gateway ended before it was ready:\n{0}")]
    GatewayEnded(String),
    /// No free port.
    #[error("no free port on 127.0.0.1: {0}")]
    Port(io::Error),
    /// A file of the demo's cannot be written.
    #[error("cannot write {0:?}: {1}")]
    File(PathBuf, io::Error),
    /// An edit is not taken up.
    #[error("the gateway does not take up an edited weight within 10 s")]
    NotInForce,
    /// A simulated server cannot be made to fail.
    #[error("cannot break the candidate: {0}")]
    Break(String),
}

/// Everything that runs while the play goes on.
pub(crate) struct Stage {
    pub(crate) gateway: Gateway,
    pub(crate) servers: Vec<Server>,
    pub(crate) address: SocketAddr,
    route: PathBuf,
}

/// Plays all releases; gives what was off.
pub(crate) async fn play(arguments: &Arguments) -> Result<Vec<String>, DemoError> {
    // Held to the end: the folder goes with it.
    let temporary;
    let folder = match &arguments.dir {
        Some(folder) => folder.clone(),
        None => {
            temporary = tempfile::tempdir().map_err(|error| DemoError::File(std::env::temp_dir(), error))?;
            temporary.path().to_owned()
        }
    };
    let (stage, faults) = tokio::select! {
        played = releases(arguments, &folder) => played?,
        // Dropping the play kills its children.
        () = interrupted() => return Err(DemoError::Interrupted),
    };
    if arguments.hold {
        hold(&stage, &folder).await;
    }
    stage.gateway.end().await;
    for server in stage.servers {
        server.end().await;
    }
    Ok(faults)
}

/// Starts everything and goes through all releases.
async fn releases(arguments: &Arguments, folder: &Path) -> Result<(Stage, Vec<String>), DemoError> {
    let stage = set_up(folder).await?;
    println!("manifests in {}", folder.join("manifests").display());
    println!("gateway on http://{}, admin API on http://{}\n", stage.address, stage.gateway.admin);
    let mut table = Table::begin();
    let mut faults = Vec::new();
    for release in Release::ALL {
        for weight in STEPS {
            step(&stage, release, weight, arguments.requests, &mut table, &mut faults).await?;
        }
    }
    live::play(&stage, &mut faults).await?;
    Ok((stage, faults))
}

/// Starts servers and gateway.
async fn set_up(folder: &Path) -> Result<Stage, DemoError> {
    let program = std::env::current_exe().map_err(DemoError::Program)?;
    let adapters = ["travel-helper-v1", "travel-helper-v2"];
    let (qwen, nodes, deepseek) = tokio::try_join!(
        Server::start(&program, "mymodel", &adapters),
        Server::start(&program, "mymodel", &adapters),
        Server::start(&program, "mymodel", &[]),
    )?;
    let manifests = folder.join("manifests");
    std::fs::create_dir_all(&manifests).map_err(|error| DemoError::File(manifests.clone(), error))?;
    let port = free_port()?;
    let servers = [("qwen", qwen.address), ("qwen-new-nodes", nodes.address), ("deepseek", deepseek.address)];
    let route = manifests.join("20-release.yaml");
    let weights = Weights { stable: 100, candidate: 0 };
    for (path, text) in [
        (manifests.join("10-gateway-and-pools.yaml"), manifests::fixed(port, &servers)),
        (route.clone(), manifests::release(Release::Node, weights)),
    ] {
        manifests::write(&path, &text).map_err(|error| DemoError::File(path, error))?;
    }
    let gateway = Gateway::start(&program, &manifests, &folder.join("gateway.log")).await?;
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    Ok(Stage { gateway, servers: vec![qwen, nodes, deepseek], address, route })
}

/// Sets one weight, sends the step's requests, and judges the share.
async fn step(
    stage: &Stage,
    release: Release,
    weight: u32,
    requests: u32,
    table: &mut Table,
    faults: &mut Vec<String>,
) -> Result<(), DemoError> {
    edit(stage, release, Weights { stable: 100_u32.saturating_sub(weight), candidate: weight }).await?;
    let told = match (release, stage.servers.as_slice()) {
        (Release::Node, [_, nodes, _]) => Told::Server(nodes.address),
        (Release::BaseModel, [_, _, deepseek]) => Told::Server(deepseek.address),
        _ => Told::Model("travel-helper-v2".into()),
    };
    let line = Line { release, weight, requests };
    let seen = load::send(stage.address, release.model(), &told, requests, |seen| table.show(line, seen)).await;
    let found = judge(line, &seen);
    table.keep(line, &seen, if found.is_empty() { "right" } else { "OFF" });
    faults.extend(found);
    Ok(())
}

/// Writes the release's manifest and waits until a snapshot made of it is in force.
async fn edit(stage: &Stage, release: Release, weights: Weights) -> Result<(), DemoError> {
    edit_text(stage, &manifests::release(release, weights)).await
}

/// Writes the release's file and waits until a snapshot made of it is in force.
pub(crate) async fn edit_text(stage: &Stage, text: &str) -> Result<(), DemoError> {
    if std::fs::read_to_string(&stage.route).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let before = stage.gateway.generation().await.unwrap_or(0);
    manifests::write(&stage.route, text).map_err(|error| DemoError::File(stage.route.clone(), error))?;
    let started = Instant::now();
    while stage.gateway.generation().await.is_none_or(|generation| generation <= before) {
        if started.elapsed() > IN_FORCE {
            return Err(DemoError::NotInForce);
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// What is off about a step.
fn judge(line: Line, seen: &Seen) -> Vec<String> {
    let place = format!("{}, weight {} %", line.release.title(), line.weight);
    let mut faults: Vec<String> =
        seen.errors.iter().map(|(error, times)| format!("{place}: {times} requests failed: {error}")).collect();
    let share = f64::from(line.weight) / 100.0;
    let probability = binomial_probability(seen.candidate, seen.requests, share);
    if probability < ALPHA {
        faults.push(format!(
            "{place}: {} of {} requests went to the candidate (probability {probability:.1e})",
            seen.candidate, seen.requests
        ));
    }
    faults
}

/// Stays up until Ctrl-C.
async fn hold(stage: &Stage, folder: &Path) {
    println!(
        "\nHeld up. Try:\n  curl http://{}/v1/chat/completions -H 'content-type: application/json' \\\n    -d '{{\"model\": \
         \"travelhelper\", \"messages\": [{{\"role\": \"user\", \"content\": \"hi\"}}]}}'\n  tidegate get httproutes --server http://{}\n\
         Edit {} and look again. Ctrl-C ends it.",
        stage.address,
        stage.gateway.admin,
        folder.join("manifests").join("20-release.yaml").display()
    );
    interrupted().await;
}

/// Ctrl-C or SIGTERM.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, judge};
    use crate::load::Seen;
    use crate::manifests::Release;

    #[test]
    fn a_wrong_share_and_a_failed_request_are_off() {
        let line = Line { release: Release::Node, weight: 10, requests: 400 };
        let mut seen = Seen { requests: 400, candidate: 41, ..Seen::default() };
        assert!(judge(line, &seen).is_empty());
        seen.candidate = 200;
        assert!(judge(line, &seen)[0].contains("200 of 400"));
        seen.candidate = 40;
        seen.errors.insert("status 503".into(), 1);
        assert!(judge(line, &seen)[0].contains("status 503"));
    }
}
