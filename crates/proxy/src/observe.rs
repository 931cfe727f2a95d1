//! Observe: the record of one request, given to the sink exactly once, however the request ends.
//!
//! Last stage of the flow. A [`Record`] is begun with the request and moves into its answer's body; dropping it
//! anywhere in between means that the client left.

use std::sync::Arc;

use http::{Method, request};
use tidegate_telemetry::observation::http_method;
use tidegate_telemetry::{EndedBy, Observation, Reason};
use tokio::time::Instant;

use crate::connection::Connection;

/// What is known of a request so far.
pub(crate) struct Record {
    /// When its head was complete.
    pub(crate) started: Instant,
    /// What will be handed over.
    pub(crate) observation: Observation,
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
            connection,
        })
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
