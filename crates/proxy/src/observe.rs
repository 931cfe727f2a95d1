//! Observe: the record of one request, given to the sink exactly once, however the request ends.
//!
//! Last stage of the flow. A [`Record`] is begun with the request and moves into its answer's body; dropping it
//! anywhere in between means that the client left.

use std::sync::Arc;

use http::{Method, request};
use tidegate_api::rollout::ArmName;
use tidegate_telemetry::observation::http_method;
use tidegate_telemetry::{EndedBy, Observation, Reason};
use tokio::time::Instant;

use crate::assign::Assigned;
use crate::connection::Connection;
use crate::cuts::Cutter;
use crate::evidence::Evidence;
use crate::read::ReadBody;

/// What is known of a request so far.
pub(crate) struct Record {
    /// When its head was complete.
    pub(crate) started: Instant,
    /// What will be handed over.
    pub(crate) observation: Observation,
    /// What the judges of roll-outs are told of it.
    pub(crate) evidence: Evidence,
    connection: Arc<Connection>,
}

impl Record {
    /// Begins a request's record.
    pub(crate) fn begin(connection: Arc<Connection>, head: &request::Parts) -> Box<Self> {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        connection.clock.request_began(head.version);
        connection.shared.sink.began();
        Box::new(Self {
            started: Instant::now(),
            observation: Observation {
                started_micros: u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX),
                method: method(&head.method),
                path: head.uri.path().to_owned(),
                ended_by: EndedBy::Client,
                ..Observation::default()
            },
            evidence: Evidence::default(),
            connection,
        })
    }

    /// The arm is chosen.
    pub(crate) fn assigned(&mut self, assigned: &Assigned<'_>, read: &ReadBody) {
        let observation = &mut self.observation;
        observation.arm = Some(assigned.arm.label.clone());
        observation.target_model = assigned.target.cloned().or_else(|| observation.requested_model.clone());
        observation.redistributed.clone_from(&assigned.redistributed);
        observation.rollout =
            assigned.pairs().next().map(|paired| (paired.pair.label.clone(), paired.arm == ArmName::Candidate));
        observation.session |= assigned.pairs().any(|paired| paired.session.is_some());
        let shared = &self.connection.shared;
        self.evidence.arrived(assigned, read, self.started, &shared.numbers, &*shared.sink);
    }

    /// The candidate failed; stable is asked in its place.
    pub(crate) fn sent_to_stable(&mut self, assigned: &Assigned<'_>, doubted: bool) {
        let observation = &mut self.observation;
        observation.shielded = true;
        observation.arm = Some(assigned.arm.label.clone());
        observation.target_model = assigned.target.cloned().or_else(|| observation.requested_model.clone());
        self.evidence.sent_to_stable(doubted);
    }

    /// The first byte of the answer that is passed on came.
    pub(crate) fn first_byte(&self) {
        self.evidence.first_byte(&self.observation, &*self.connection.shared.sink);
    }

    /// What tells that the answer is to be cut, for one of a roll-out's pair.
    pub(crate) fn cutter(&self) -> Option<Cutter> {
        let (rollout, candidate) = self.observation.rollout.as_ref()?;
        let candidate = *candidate && !self.observation.shielded;
        Some(self.connection.shared.cuts.hold(rollout, candidate))
    }

    /// An answer of the gateway's own will be sent.
    pub(crate) fn answered_here(&mut self, status: u16, reason: Option<Reason>) {
        self.observation.status = status;
        self.observation.reason = reason;
        self.observation.ended_by = EndedBy::Gateway;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut observation = std::mem::take(&mut self.observation);
        observation.duration = now.saturating_duration_since(self.started);
        if observation.ended_by == EndedBy::Client && observation.reason.is_none() {
            observation.reason = Some(Reason::ClientLeft);
        }
        self.connection.clock.request_ended(now);
        self.evidence.ended(&observation, now, &*self.connection.shared.sink);
        self.connection.shared.sink.observe(observation);
    }
}

fn method(method: &Method) -> http_method::Method {
    match *method {
        Method::GET => http_method::Method::Get,
        Method::HEAD => http_method::Method::Head,
        Method::POST => http_method::Method::Post,
        Method::PUT => http_method::Method::Put,
        Method::PATCH => http_method::Method::Patch,
        Method::DELETE => http_method::Method::Delete,
        Method::OPTIONS => http_method::Method::Options,
        _ => http_method::Method::Other,
    }
}
