//! Carries what the data plane observed of roll-outs' pairs to the controller, in the judge's words.
//!
//! Between the telemetry's queue and the controller's. Holds no rule about what is good or bad.

use tidegate_controller::{Clock, Evidence};
use tidegate_evidence::{Arm, Arrival, EventMetric, Events, Sample, Stratum};
use tidegate_rollout::event::Observation;
use tidegate_telemetry::{PairArrival, PairEnd, PairEvent, PairEvents, PairOutcome, ShadowOutcome};
use tokio::sync::mpsc;

/// Events carried at once.
const MOST: usize = 1024;
/// Bytes of a request's body that are counted as one token: prompts are compared within coarse classes of size alone.
const BYTES_A_TOKEN: u64 = 4;

/// Carries events until the telemetry or the controller ends.
pub(crate) async fn carry(mut events: PairEvents, clock: Clock, evidence: mpsc::Sender<Evidence>) {
    let mut came = Vec::with_capacity(MOST);
    while let Some(lost) = events.next(&mut came, MOST).await {
        if lost > 0 && evidence.send(Evidence::Lost(lost)).await.is_err() {
            return;
        }
        for event in came.drain(..) {
            if evidence.send(told(event, clock)).await.is_err() {
                return;
            }
        }
    }
}

fn told(event: PairEvent, clock: Clock) -> Evidence {
    let (uid, observation) = match event {
        PairEvent::Shadowed { uid, outcome } => {
            let (failed, misshapen) = (outcome == ShadowOutcome::Failed, outcome == ShadowOutcome::Misshapen);
            return Evidence::Shadowed { uid, failed, misshapen };
        }
        PairEvent::Arrived(arrived) => {
            let arrival = arrival(&arrived, clock);
            (arrived.uid, Observation::Arrived(arrival))
        }
        PairEvent::FirstToken { uid, request, ttft } => {
            (uid, Observation::FirstToken { request, ttft: ttft.as_secs_f64() })
        }
        PairEvent::Ended(end) => {
            let sample = sample(&end, clock);
            (end.arrival.uid, Observation::Ended(sample))
        }
    };
    Evidence::Observed { uid, observation }
}

fn arrival(arrived: &PairArrival, clock: Clock) -> Arrival {
    Arrival {
        request: arrived.request,
        at_ms: clock.at(arrived.at),
        arm: if arrived.candidate { Arm::Candidate } else { Arm::Stable },
        share: f64::from(arrived.share_ppm) / 1e6,
        unit: arrived.unit,
        keyed: arrived.keyed,
        forced: arrived.forced,
        // A candidate gets a share only once it is as warm as the roll-out lets it become; what is forced to it before
        // is no evidence.
        warm: true,
        stratum: Stratum {
            model: arrived.model,
            prompt: Stratum::prompt_class(arrived.body_bytes / BYTES_A_TOKEN),
            stream: arrived.stream,
            max_tokens: Stratum::output_class(arrived.max_tokens),
        },
    }
}

fn sample(end: &PairEnd, clock: Clock) -> Sample {
    let outcome = match end.outcome {
        PairOutcome::Answered => None,
        PairOutcome::Empty => Some(EventMetric::Empty),
        PairOutcome::Error => Some(EventMetric::Error),
        PairOutcome::Aborted => Some(EventMetric::UpstreamAbort),
        PairOutcome::RequestFault => Some(EventMetric::RequestFault),
        PairOutcome::ClientLeft => Some(EventMetric::ClientCancel),
    };
    let finish = end.finish_length.then_some(EventMetric::FinishLength);
    let content = [
        end.content.tool_call.then_some(EventMetric::ToolParseFail),
        end.content.json.then_some(EventMetric::SchemaFail),
        end.content.think_tag.then_some(EventMetric::ThinkTagUnbalanced),
    ];
    let refusal = end.filtered.then_some(EventMetric::Refusal);
    // What the second attempt did says nothing about the arm of the first.
    let first = !end.first_attempt_failed;
    let events: Events = [outcome, finish, refusal].into_iter().chain(content).flatten().filter(|_| first).collect();
    Sample {
        arrival: arrival(&end.arrival, clock),
        end_ms: clock.at(end.at),
        events,
        first_attempt_failed: end.first_attempt_failed,
        rescued: end.rescued,
        ttft: end.ttft.map(|time| time.as_secs_f64()),
        tpot: end.tpot.map(|time| time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_failure_that_stable_made_good_counts_against_the_candidate_alone() {
        let zero = Instant::now();
        let arrival = PairArrival {
            uid: "u".into(),
            request: 7,
            at: zero + Duration::from_millis(5),
            candidate: true,
            share_ppm: 100_000,
            unit: 9,
            keyed: true,
            forced: false,
            model: 1,
            body_bytes: 4 * 600,
            stream: true,
            max_tokens: Some(100),
        };
        let end = PairEnd {
            arrival,
            at: zero + Duration::from_millis(25),
            outcome: PairOutcome::Answered,
            first_attempt_failed: true,
            rescued: true,
            finish_length: true,
            filtered: false,
            content: Default::default(),
            ttft: None,
            tpot: None,
        };
        let sample = sample(&end, Clock::since(zero));
        assert!(sample.rescued && sample.outcome().contains(EventMetric::Error));
        assert!(sample.events.is_empty(), "{:?}", sample.events);
        assert_eq!((sample.arrival.at_ms, sample.end_ms, sample.arrival.arm), (5, 25, Arm::Candidate));
        assert_eq!((sample.arrival.stratum.prompt, sample.arrival.stratum.max_tokens), (2, 2));
        let own = PairEnd { first_attempt_failed: false, outcome: PairOutcome::Aborted, ..end };
        let sample = super::sample(&own, Clock::since(zero));
        assert!(
            sample.events.contains(EventMetric::UpstreamAbort) && sample.events.contains(EventMetric::FinishLength)
        );
    }
}
