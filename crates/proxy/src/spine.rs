//! The spine: every stage of a request, once, in order.
//!
//! guard → route → read → assign → rewrite → forward → respond → observe. A request loads the table once and reads it
//! from start to end; reloads meanwhile do not touch it.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response, request};
use http_body::Body as _;
use hyper::body::Incoming;
use tidegate_routing::Matched;
use tidegate_routing::snapshot::Rule;
use tidegate_telemetry::Reason;

use crate::assign::{self, Assigned};
use crate::connection::Connection;
use crate::error::Refusal;
use crate::forward::{ForwardBody, ForwardError, Forwarded, Forwarding, forward};
use crate::guard::Guarded;
use crate::observe::Record;
use crate::read::ReadBody;
use crate::respond::{AnswerBody, Plan};
use crate::table::{Routed, Table, TableListener};
use crate::upstream::CameFrom;
use crate::{admin_path, guard, mirror, models, read, redirect, respond, rewrite};

/// Serves one request, from its head to the beginning of its answer; the answer's body does the rest.
pub(crate) async fn serve_request(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    let table = connection.shared.table.load_full();
    let (head, body) = request.into_parts();
    let mut record = Record::begin(connection.clone(), &head);
    let mut exchange = Exchange { connection: &connection, table: &table, record: &mut record, head, body: Some(body) };
    Ok(match exchange.run().await {
        Ok(Outcome::Forwarded(forwarded, plan)) => respond::pass_on(*forwarded, plan, record),
        Ok(Outcome::Answered(response)) => respond::own(response, record, None),
        Err(refusal) => {
            // A client that was too slow, or left, is not waited for.
            if !refusal.close {
                read::discard(&exchange.head.headers, &mut exchange.body).await;
            }
            let reason = refusal.reason;
            respond::own(refusal.into_response(), record, Some(reason))
        }
    })
}

/// How a request that is not refused goes on.
enum Outcome<'a> {
    /// With an endpoint's answer.
    Forwarded(Box<Forwarded>, Plan<'a>),
    /// With an answer of the gateway's own.
    Answered(Response<bytes::Bytes>),
}

/// One request on its way.
struct Exchange<'a, 'r> {
    connection: &'r Connection,
    table: &'a Table,
    record: &'r mut Record,
    head: request::Parts,
    body: Option<Incoming>,
}

impl<'a> Exchange<'a, '_> {
    async fn run(&mut self) -> Result<Outcome<'a>, Refusal> {
        self.record.observation.request_id = guard::clean(&mut self.head);
        let guarded = guard::admit(&self.head)?;
        let (listener, matched) = self.route(&guarded)?;
        let rule: &'a Rule = matched.rule;
        self.guard_path(rule)?;
        if let Some(redirect) = &rule.filters.redirect {
            return Ok(Outcome::Answered(redirect::answer(redirect, self.request_line(&guarded, &matched))));
        }
        if rule.inference
            && models::is_asked(&self.head)
            && let Some(answer) = models::answer(&self.table.active, &listener.listener.router, &rule.route)
        {
            return Ok(Outcome::Answered(answer));
        }
        let read = self.read(rule).await?;
        let assigned = self.assign(rule, &read)?;
        if let Some(redirect) = &assigned.arm.filters.redirect {
            return Ok(Outcome::Answered(redirect::answer(redirect, self.request_line(&guarded, &matched))));
        }
        self.mirror(listener, &matched, &assigned, &guarded, &read);
        let body = self.rewrite(rule, &assigned, &matched, guarded, &read)?;
        let forwarded = self.forward(listener, rule, &assigned, body, &read).await?;
        let put_back = assigned.arm.answer_requested_model && assigned.target.is_some();
        let plan = Plan {
            filters: [&rule.filters, &assigned.arm.filters],
            model: read
                .model
                .as_deref()
                .filter(|requested| put_back && Some(*requested) != assigned.target.map(|target| &**target))
                .map(str::to_owned),
            idle: rule.limits.idle,
            deadline: rule.limits.total.map(|limit| self.record.started + limit),
        };
        Ok(Outcome::Forwarded(Box::new(forwarded), plan))
    }

    /// The rule that takes the request.
    fn route(&mut self, guarded: &Guarded) -> Result<(&'a TableListener, Matched<'a>), Refusal> {
        let socket = self.table.socket(self.connection.socket).ok_or_else(|| {
            Refusal::new(Reason::NoRoute, "this listener is no longer configured; connect anew").closing()
        })?;
        let host = guarded.host();
        let routed = socket.route(&host, self.connection.server_name.as_deref(), &self.head);
        let observation = &mut self.record.observation;
        let mut met = |table: &TableListener| {
            observation.listener = table.listener.label.clone();
            observation.logged = table.listener.access_log;
        };
        match routed {
            Routed::Found(table, matched) => {
                met(table);
                observation.route = Some(matched.rule.route_label.clone());
                observation.rule = Some(matched.rule.index);
                Ok((table, matched))
            }
            Routed::NoRule(table) => {
                met(table);
                Err(Refusal::new(
                    Reason::NoRoute,
                    format!("no route for {} {}", self.head.method, self.head.uri.path()),
                ))
            }
            Routed::Misdirected(table) => {
                met(table);
                Err(Refusal::new(Reason::Misdirected, "this connection's TLS handshake was for another host").closing())
            }
            Routed::NoListener => {
                if let Some(table) = socket.listeners.first() {
                    met(table);
                }
                Err(Refusal::new(Reason::NoRoute, format!("no listener for host {host:?}")))
            }
        }
    }

    /// Refuses operators' paths, as the client wrote them.
    fn guard_path(&self, rule: &Rule) -> Result<(), Refusal> {
        if rule.inference && admin_path::is_refused(self.head.uri.path(), &rule.allow_paths) {
            return Err(admin_refusal());
        }
        Ok(())
    }

    /// What a redirect is made from.
    fn request_line<'r>(&'r self, guarded: &'r Guarded, matched: &Matched<'_>) -> redirect::RequestLine<'r> {
        redirect::RequestLine {
            uri: &self.head.uri,
            authority: guarded.authority.to_str().unwrap_or_default(),
            tls: self.connection.tls,
            port: self.connection.port,
            prefix_length: matched.prefix_length,
        }
    }

    /// The body and its model; on rules without an InferencePool the body is left where it is.
    async fn read(&mut self, rule: &Rule) -> Result<ReadBody, Refusal> {
        let started = self.record.started;
        let read = if rule.inference {
            read::read(&self.head, &mut self.body, &rule.limits, started).await?
        } else if mirror::is_wanted(rule) {
            read::keep(&self.head, &mut self.body, &rule.limits, started).await?
        } else {
            return Ok(ReadBody::default());
        };
        let observation = &mut self.record.observation;
        observation.bytes_in = read.bytes.len() as u64;
        observation.stream = read.stream;
        observation.requested_model.clone_from(&read.model);
        Ok(read)
    }

    /// The arm and the target model.
    fn assign(&mut self, rule: &'a Rule, read: &ReadBody) -> Result<Assigned<'a>, Refusal> {
        let session = assign::session(&self.head.headers);
        self.record.observation.session = session.is_some();
        let assigned = assign::assign(&self.table.active, rule, read.model.as_deref(), session)?;
        let observation = &mut self.record.observation;
        observation.arm = Some(assigned.arm.label.clone());
        observation.target_model = assigned.target.cloned().or_else(|| observation.requested_model.clone());
        observation.redistributed.clone_from(&assigned.redistributed);
        Ok(assigned)
    }

    /// Copies for other backends.
    fn mirror(
        &self,
        listener: &TableListener,
        matched: &Matched<'_>,
        assigned: &Assigned<'_>,
        guarded: &Guarded,
        read: &ReadBody,
    ) {
        if !mirror::is_wanted(matched.rule) {
            return;
        }
        let original = mirror::Original {
            rule: matched.rule,
            arm_filters: &assigned.arm.filters,
            prefix_length: matched.prefix_length,
            head: &self.head,
            authority: &guarded.authority,
            read,
            budget: &listener.budget,
        };
        self.connection.shared.mirrors.send(&self.table.active, self.connection, &original);
    }

    /// The head and the body as the endpoint is to get them.
    fn rewrite(
        &mut self,
        rule: &Rule,
        assigned: &Assigned<'_>,
        matched: &Matched<'_>,
        guarded: Guarded,
        read: &ReadBody,
    ) -> Result<(CameFrom, ForwardBody), Refusal> {
        let filters = [&rule.filters, &assigned.arm.filters];
        let came_from =
            rewrite::head(&mut self.head, filters, matched.prefix_length, guarded.authority, self.connection);
        // A prefix that was cut off may have hidden an operators' path.
        if filters.iter().any(|filters| filters.rewrite.is_some()) {
            self.guard_path(rule)?;
        }
        if read.kept {
            return Ok((came_from, rewrite::body(read, assigned.target.map(|target| &**target))));
        }
        read::check_length(&self.head.headers, &rule.limits)?;
        let length = read::content_length(&self.head.headers);
        self.record.observation.bytes_in = length.unwrap_or_default();
        let body = match self.body.take().filter(|body| !body.is_end_stream()) {
            Some(body) => ForwardBody::Streaming { body, limit: rule.limits.body_bytes, length },
            None => ForwardBody::Empty,
        };
        Ok((came_from, body))
    }

    /// The answer of an endpoint.
    async fn forward(
        &mut self,
        listener: &TableListener,
        rule: &Rule,
        assigned: &Assigned<'_>,
        (came_from, body): (CameFrom, ForwardBody),
        read: &ReadBody,
    ) -> Result<Forwarded, Refusal> {
        let (head, ()) = Request::new(()).into_parts();
        let forwarding = Forwarding {
            pool: assigned.pool,
            rule,
            budget: &listener.budget,
            head: std::mem::replace(&mut self.head, head),
            came_from,
            body,
            model: assigned.target.map(|target| &**target).or(read.model.as_deref()),
            stream: read.stream,
            deadline: rule.limits.total.map(|limit| self.record.started + limit),
        };
        forward(forwarding).await.map_err(|error| {
            let ForwardError { reason, message, endpoint, retries, retry_after } = error;
            self.record.observation.endpoint = endpoint;
            self.record.observation.retries = retries;
            Refusal { retry_after, ..Refusal::new(reason, message) }
        })
    }
}

fn admin_refusal() -> Refusal {
    Refusal::new(
        Reason::AdminPath,
        "this path administers a model server and is not served through the gateway; ask the server itself, or open \
         the path with the annotation tidegate.dev/allow-paths",
    )
}

#[cfg(test)]
mod tests;
