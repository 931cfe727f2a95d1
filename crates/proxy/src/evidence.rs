//! Evidence: what the judges of roll-outs are told of a request whose arm a pair decided.
//!
//! Stands beside the observation, in the request's record: an arrival when the arm is chosen, the first token, and the
//! end exactly once, however the request ends. It speaks of the first attempt: what another endpoint or the other arm
//! did afterwards says nothing about the arm that was drawn. Must not hold a text of the request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tidegate_api::rollout::ArmName;
use tidegate_body::answer::{AnswerKind, AskedFor, ContentCheck, ContentFaults};
use tidegate_telemetry::{
    EndedBy, Observation, ObservationSink, PairArrival, PairContent, PairEnd, PairEvent, PairOutcome, Reason,
};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::assign::{Assigned, Paired};
use crate::read::ReadBody;

/// Numbers requests that fall on pairs.
#[derive(Debug)]
pub(crate) struct Numbers(AtomicU64);

impl Numbers {
    /// Numbers that those of an earlier process, which a journal may hold, hardly are among.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(fastrand::u64(..)))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// What is known so far. Empty, and without cost, for requests that no pair decided.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// One for each pair: a rule's arms and a pool's models may each be in a roll-out.
    arrivals: Vec<PairArrival>,
    /// The first attempt was sent again to stable.
    shield: Shield,
    /// The answer had no output; unknown for most kinds.
    pub(crate) empty: bool,
    /// The answer was not what its head said.
    pub(crate) malformed: bool,
    /// Looks at the content that passes.
    content: Option<ContentCheck>,
    asked: AskedFor,
}

/// What became of a first attempt on a candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shield {
    /// It stands.
    #[default]
    Unused,
    /// It failed whatever stable says.
    Failed,
    /// It was answered as a request would be that is at fault itself: it failed if stable answers.
    Doubted,
}

impl Evidence {
    /// The arm is chosen.
    pub(crate) fn arrived(
        &mut self,
        assigned: &Assigned<'_>,
        read: &ReadBody,
        at: Instant,
        numbers: &Numbers,
        sink: &dyn ObservationSink,
    ) {
        for paired in assigned.pairs() {
            let arrival = arrival(paired, read, at, numbers.next());
            sink.pair(PairEvent::Arrived(arrival.clone()));
            self.arrivals.push(arrival);
            self.asked = read.fields.asked;
        }
    }

    /// An answer begins that will pass.
    pub(crate) fn begins(&mut self, kind: AnswerKind) {
        if !self.arrivals.is_empty() {
            self.content = Some(ContentCheck::new(kind, self.asked));
        }
    }

    /// Bytes of it came.
    pub(crate) fn passed(&mut self, bytes: &[u8]) {
        if let Some(content) = &mut self.content {
            content.push(bytes);
        }
    }

    /// The candidate failed, and stable is asked. `doubted`: its answer may be the request's fault.
    pub(crate) fn sent_to_stable(&mut self, doubted: bool) {
        self.shield = if doubted { Shield::Doubted } else { Shield::Failed };
    }

    /// An answer's first byte came.
    pub(crate) fn first_byte(&self, observation: &Observation, sink: &dyn ObservationSink) {
        let Some(ttft) = self.own_ttft(observation) else { return };
        for arrival in &self.arrivals {
            sink.pair(PairEvent::FirstToken { uid: arrival.uid.clone(), request: arrival.request, ttft });
        }
    }

    /// The request ended.
    pub(crate) fn ended(&mut self, observation: &Observation, at: Instant, sink: &dyn ObservationSink) {
        if self.arrivals.is_empty() {
            return;
        }
        let is_cut_short = observation.finish_reason.as_deref() == Some("length");
        let content = self.content(!is_cut_short && observation.ended_by == EndedBy::Completion);
        for arrival in std::mem::take(&mut self.arrivals) {
            let ttft = self.own_ttft(observation);
            let finish = observation.finish_reason.as_deref();
            let outcome = self.outcome(observation);
            let answered = matches!(outcome, PairOutcome::Answered | PairOutcome::Empty);
            let first_attempt_failed = match self.shield {
                Shield::Unused => observation.retries > 0,
                Shield::Failed => true,
                Shield::Doubted => answered,
            };
            sink.pair(PairEvent::Ended(Box::new(PairEnd {
                arrival,
                at,
                outcome,
                first_attempt_failed,
                rescued: self.shield != Shield::Unused && answered,
                finish_length: finish == Some("length"),
                filtered: finish == Some("content_filter"),
                content,
                ttft,
                tpot: observation.gap_mean.filter(|_| ttft.is_some() && outcome == PairOutcome::Answered),
            })));
        }
    }

    /// What is wrong with the content of a whole answer of the first attempt.
    fn content(&mut self, is_whole: bool) -> PairContent {
        let Some(check) = self.content.take().filter(|_| is_whole && self.shield == Shield::Unused) else {
            return PairContent::default();
        };
        let ContentFaults { tool_call, json, think_tag } = check.finish();
        PairContent { tool_call, json, think_tag }
    }

    /// Time to the first byte, where the first attempt gave it and it was no error.
    fn own_ttft(&self, observation: &Observation) -> Option<Duration> {
        let own = self.shield == Shield::Unused && observation.retries == 0;
        observation.ttft.filter(|_| own && (200..400).contains(&observation.status))
    }

    fn outcome(&self, observation: &Observation) -> PairOutcome {
        let is_clients = observation.ended_by == EndedBy::Client;
        match observation.reason {
            Some(Reason::ErrorEvent) => PairOutcome::Error,
            Some(Reason::UpstreamAborted | Reason::IdleTimeout) => PairOutcome::Aborted,
            Some(Reason::TotalTimeout) if observation.status == 200 => PairOutcome::Aborted,
            // Who leaves in the middle of an answer got one so far.
            _ if is_clients && observation.ttft.is_none() => PairOutcome::ClientLeft,
            _ if observation.status >= 500 => PairOutcome::Error,
            _ if observation.status >= 400 => PairOutcome::RequestFault,
            _ if is_clients => PairOutcome::Answered,
            _ if self.malformed => PairOutcome::Error,
            _ if self.empty => PairOutcome::Empty,
            _ => PairOutcome::Answered,
        }
    }
}

/// Whether a status says that the request is at fault, or that this server lacks what others have: a model, a key.
pub(crate) fn is_doubtful(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND)
}

fn arrival(paired: &Paired<'_>, read: &ReadBody, at: Instant, request: u64) -> PairArrival {
    PairArrival {
        uid: paired.pair.uid.clone(),
        request,
        at,
        candidate: paired.arm == ArmName::Candidate,
        share_ppm: paired.pair.candidate_share_ppm,
        unit: paired.session.unwrap_or(request),
        keyed: paired.session.is_some(),
        forced: paired.forced,
        model: read.model.as_deref().map_or(0, |model| xxh3_64(model.as_bytes())),
        body_bytes: read.bytes.len() as u64,
        stream: read.stream,
        max_tokens: read.fields.max_tokens,
    }
}
