//! Gates: a service that must agree before the next step.
//!
//! It is sent a POST with the roll-out, the step and the judge's word. 2xx agrees, unless its JSON says `"pass": false`
//! (it refuses) or `"pass": null` (not decided yet, as 202 says too: it is asked again). 403, 409, 412 and 422 refuse.
//! Without an answer it is asked again until the gate's timeout.

use std::time::Duration;

use http::Uri;
use serde_json::{Value, json};
use tidegate_api::ObjectKey;
use tidegate_rollout::Machine;
use tidegate_rollout::effect::GateCall;
use tidegate_rollout::event::{Event, GateAnswer, GateResult};
use tokio::time::{Instant, sleep};

use crate::client::{self, Answer};
use crate::jobs::Reporter;
use crate::notices::{Signer, headers};

/// One answer takes no longer; a service that thinks longer answers 202.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What the service is told.
#[derive(Clone, Debug)]
pub(crate) struct About(Value);

impl About {
    /// What a machine says at the moment of the call.
    pub(crate) fn of(key: &ObjectKey, machine: &Machine, call: &GateCall) -> Self {
        let plan = machine.plan();
        Self(json!({
            "namespace": key.namespace,
            "name": key.name,
            "uid": plan.uid,
            "call": call.call,
            "step": call.step,
            "steps": plan.steps.len(),
            "candidatePercent": call.candidate.percent(),
            "stable": plan.stable,
            "candidate": plan.candidate,
            "judge": crate::verdict::verdict(machine),
        }))
    }
}

/// What an answer means; none: ask again.
fn read(answer: &Answer) -> Option<GateAnswer> {
    let body = answer.json();
    let message = |fallback: String| {
        let said = body.as_ref().and_then(|body| body.get("message")?.as_str().map(str::to_owned));
        said.unwrap_or(fallback)
    };
    match answer.status {
        202 => None,
        200..300 => match body.as_ref().and_then(|body| body.get("pass")) {
            Some(Value::Bool(false)) => Some(GateAnswer::Fail { message: message("the gate refused".into()) }),
            Some(Value::Null) => None,
            _ => Some(GateAnswer::Pass),
        },
        403 | 409 | 412 | 422 => Some(GateAnswer::Fail { message: message(answer.says()) }),
        408 | 425 | 429 | 500..600 => None,
        _ => Some(GateAnswer::Error { message: answer.says() }),
    }
}

/// Asks until there is an answer, or the time is over (which the machine sees by itself).
pub(crate) async fn run(call: GateCall, about: About, signer: Option<Signer>, reporter: Reporter) {
    let answer = ask(&call, &about, signer.as_ref()).await;
    reporter.tell(Event::Gate(GateResult { call: call.call, answer })).await;
}

async fn ask(call: &GateCall, about: &About, signer: Option<&Signer>) -> GateAnswer {
    let uri: Uri = match call.gate.url.parse() {
        Ok(uri) => uri,
        Err(error) => return GateAnswer::Error { message: format!("{}: {error}", call.gate.url) },
    };
    let body = about.0.to_string();
    let end = Instant::now() + Duration::from_millis(call.gate.timeout);
    let mut pause = FIRST_PAUSE;
    let mut last = "no answer yet".to_owned();
    while Instant::now() < end {
        let patience = PATIENCE.min(end.saturating_duration_since(Instant::now()));
        last = match client::post_to(&uri, headers(signer, body.as_bytes()), body.clone().into(), patience).await {
            Ok(answer) => match read(&answer) {
                Some(answer) => return answer,
                None => answer.says(),
            },
            Err(error) => error.to_string(),
        };
        sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
    GateAnswer::Error { message: format!("{} did not decide in time: {last}", call.gate.url) }
}
