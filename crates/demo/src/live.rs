//! The last act: two roll-outs that run themselves. One completes; the candidate of the other breaks, and it turns back.
//!
//! Nobody edits a weight here: manifests are written once to begin, and once to settle what was promoted.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::DemoError;
use crate::load::{self, Told};
use crate::manifests::{self, Release, Weights};
use crate::play::{Stage, edit_text};

/// Neither roll-out may take longer; both take some seconds on two cores.
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests between two looks at the roll-out.
const BATCH: u32 = 32;

/// What became of one roll-out.
struct Outcome {
    phase: String,
    message: String,
    requests: u32,
    failed: u32,
}

/// Plays both; adds what was off.
pub(crate) async fn play(stage: &Stage, faults: &mut Vec<String>) -> Result<(), DemoError> {
    let Some(new_nodes) = stage.servers.get(1).map(|server| server.address) else { return Ok(()) };
    println!("\nNow the same new nodes with an InferenceRollout: nobody edits a weight.");
    begin(stage, "new-nodes").await?;
    let outcome = follow(stage, "new-nodes", new_nodes, "Settling", None).await?;
    if let Some(fault) = outcome.fault("new-nodes", "Settling") {
        faults.push(fault);
        return Ok(());
    }
    let settled = manifests::release(Release::Node, Weights { stable: 0, candidate: 100 });
    edit_text(stage, &format!("{settled}{}", manifests::rollout("new-nodes"))).await?;
    let outcome = follow(stage, "new-nodes", new_nodes, "Completed", None).await?;
    faults.extend(outcome.fault("new-nodes", "Completed"));

    println!(
        "\nAnd once more, with nodes that answer every request with 500 as soon as half of the clients are theirs."
    );
    begin(stage, "bad-nodes").await?;
    let outcome = follow(stage, "bad-nodes", new_nodes, "RolledBack", Some(50)).await?;
    faults.extend(outcome.fault("bad-nodes", "RolledBack"));
    Ok(())
}

async fn begin(stage: &Stage, name: &str) -> Result<(), DemoError> {
    let route = manifests::release(Release::Node, Weights { stable: 100, candidate: 0 });
    edit_text(stage, &format!("{route}{}", manifests::rollout(name))).await
}

/// Sends requests until the roll-out has come to `end` or cannot any more. Breaks the candidate once it has the share
/// `broken_at`.
async fn follow(
    stage: &Stage,
    name: &str,
    candidate: SocketAddr,
    end: &str,
    mut broken_at: Option<u64>,
) -> Result<Outcome, DemoError> {
    let started = Instant::now();
    let mut outcome = Outcome { phase: String::new(), message: String::new(), requests: 0, failed: 0 };
    let mut last = String::new();
    loop {
        let seen = load::send(stage.address, Release::Node.model(), &Told::Server(candidate), BATCH, |_| {}).await;
        outcome.requests = outcome.requests.saturating_add(seen.requests);
        outcome.failed = outcome.failed.saturating_add(seen.errors.values().sum());
        let status = status(stage, name).await;
        let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let share = status.pointer("/effectiveWeights/candidate").and_then(Value::as_u64).unwrap_or(0);
        (outcome.phase, outcome.message) = (text("/phase"), text("/message"));
        let said = format!("{:<12} {share:>3} %", outcome.phase);
        if said != last {
            let here = 100.0 * f64::from(seen.candidate) / f64::from(seen.requests.max(1));
            println!("    {said}   {here:>3.0} % of the last {BATCH} answers came from the candidate");
            last = said;
            if outcome.phase == "RollingBack" {
                println!("    {}", outcome.message);
            }
        }
        if broken_at.is_some_and(|at| share >= at) {
            broken_at = None;
            let broken = load::post(candidate, "/sim/faults", r#"{"error_rate": 1.0}"#).await;
            broken.map_err(|error| DemoError::Break(error.to_string()))?;
        }
        let is_over = ["Settling", "Completed", "RolledBack", "Failed"].contains(&outcome.phase.as_str());
        let is_settled = outcome.phase == "Settling" && end == "Completed";
        if (is_over && !is_settled) || started.elapsed() > PATIENCE {
            println!("    {} requests, {} failed for their clients", outcome.requests, outcome.failed);
            return Ok(outcome);
        }
    }
}

async fn status(stage: &Stage, name: &str) -> Value {
    let answer = load::get(stage.gateway.admin, &format!("/rollouts/default/{name}")).await;
    let object: Value = answer.ok().and_then(|answer| serde_json::from_slice(&answer.body).ok()).unwrap_or_default();
    object.get("status").cloned().unwrap_or_default()
}

impl Outcome {
    /// What is off.
    fn fault(&self, name: &str, end: &str) -> Option<String> {
        if self.phase != end {
            return Some(format!("the roll-out {name} is {}, not {end}: {}", self.phase, self.message));
        }
        (self.failed > 0).then(|| format!("the roll-out {name}: {} requests failed for their clients", self.failed))
    }
}
