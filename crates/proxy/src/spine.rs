//! The spine: every stage of a request, once, in order.
//!
//! guard → route → read → assign → rewrite → forward → respond → observe. A request loads the table once and reads it
//! from start to end; reloads meanwhile do not touch it.

use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderValue, Request, Response, request};
use http_body::Body as _;
use hyper::body::Incoming;
use tidegate_api::rollout::ArmName;
use tidegate_routing::Matched;
use tidegate_routing::snapshot::Rule;
use tidegate_telemetry::Reason;

use crate::assign::{self, Asking, Assigned, Paired};
use crate::connection::Connection;
use crate::error::Refusal;
use crate::forward::{ForwardBody, ForwardError, Forwarded, Forwarding, forward};
use crate::guard::Guarded;
use crate::observe::Record;
use crate::read::ReadBody;
use crate::respond::{AnswerBody, Plan};
use crate::shield::{self, Shielding};
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
        let way = Way { listener, matched: &matched, authority: &guarded.authority, read: &read };
        let (forwarded, assigned) = if read.kept && assigned.pairs().any(Paired::is_shielded) {
            self.shielded(&way, assigned).await?
        } else {
            (self.send(&way, &assigned, false).await.map_err(|failure| self.refuse(failure))?, assigned)
        };
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
        self.record.observation.session = assign::session(&self.head.headers).is_some();
        let asking = Asking { headers: &self.head.headers, read };
        let assigned = assign::assign(&self.table.active, rule, asking)?;
        self.record.assigned(&assigned, read);
        for paired in assigned.pairs().filter(|paired| paired.pair.keeps_prompts && read.model.is_some()) {
            self.connection.shared.recent.keep(&paired.pair.label, self.head.uri.path(), &read.bytes);
        }
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
        let shadows = assigned.pairs().any(|paired| paired.pair.shadow.is_some());
        if !(shadows || mirror::is_wanted(matched.rule)) {
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
        let shared = &self.connection.shared;
        shared.mirrors.send(&self.table.active, self.connection, &original);
        shared.shadows.send(&self.table.active, self.connection, &original, assigned);
    }

    /// The candidate's answer, or stable's in its place.
    async fn shielded(
        &mut self,
        way: &Way<'a, '_>,
        assigned: Assigned<'a>,
    ) -> Result<(Forwarded, Assigned<'a>), Refusal> {
        let as_it_came = self.head.clone();
        let outcome = match self.send(way, &assigned, true).await {
            Err(Failure::Refused(refusal)) => return Err(refusal),
            Err(Failure::Forward(error)) => Err(error),
            Ok(forwarded) => Ok(forwarded),
        };
        if let Shielding::AskStable { doubted } = shield::look(&outcome) {
            let asking = Asking { headers: &as_it_came.headers, read: way.read };
            let stable = assign::assign_to(&self.table.active, way.matched.rule, &assigned, asking, ArmName::Stable);
            if let Some(stable) = stable.filter(|stable| stable.arm.filters.redirect.is_none()) {
                drop(outcome);
                self.head = as_it_came;
                self.record.sent_to_stable(&stable, doubted);
                let forwarded = self.send(way, &stable, false).await.map_err(|failure| self.refuse(failure))?;
                return Ok((forwarded, stable));
            }
        }
        match outcome {
            Ok(forwarded) => Ok((forwarded, assigned)),
            Err(error) => Err(self.refuse(Failure::Forward(error))),
        }
    }

    /// Rewrites a request for its arm, and gets the beginning of its answer.
    async fn send(&mut self, way: &Way<'a, '_>, assigned: &Assigned<'a>, once: bool) -> Result<Forwarded, Failure> {
        let body = self.rewrite(way, assigned).map_err(Failure::Refused)?;
        self.forward(way, assigned, body, once).await.map_err(Failure::Forward)
    }

    /// The head and the body as the endpoint is to get them.
    fn rewrite(&mut self, way: &Way<'a, '_>, assigned: &Assigned<'_>) -> Result<(CameFrom, ForwardBody), Refusal> {
        let (rule, read) = (way.matched.rule, way.read);
        let filters = [&rule.filters, &assigned.arm.filters];
        let prefix_length = way.matched.prefix_length;
        let came_from = rewrite::head(&mut self.head, filters, prefix_length, way.authority.clone(), self.connection);
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
        way: &Way<'a, '_>,
        assigned: &Assigned<'_>,
        (came_from, body): (CameFrom, ForwardBody),
        once: bool,
    ) -> Result<Forwarded, ForwardError> {
        let (head, ()) = Request::new(()).into_parts();
        let rule = way.matched.rule;
        forward(Forwarding {
            pool: assigned.pool,
            rule,
            budget: &way.listener.budget,
            head: std::mem::replace(&mut self.head, head),
            came_from,
            body,
            model: assigned.target.map(|target| &**target).or(way.read.model.as_deref()),
            stream: way.read.stream,
            deadline: rule.limits.total.map(|limit| self.record.started + limit),
            once,
        })
        .await
    }

    /// What the client is told of a failure.
    fn refuse(&mut self, failure: Failure) -> Refusal {
        match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Forward(ForwardError { reason, message, endpoint, retries, retry_after }) => {
                self.record.observation.endpoint = endpoint;
                self.record.observation.retries = retries;
                Refusal { retry_after, ..Refusal::new(reason, message) }
            }
        }
    }
}

/// What the stages behind the assignment have in common, whichever arm is asked.
struct Way<'a, 'w> {
    listener: &'a TableListener,
    matched: &'w Matched<'a>,
    authority: &'w HeaderValue,
    read: &'w ReadBody,
}

/// Why there is no answer to pass on.
enum Failure {
    /// The gateway refuses the request.
    Refused(Refusal),
    /// No endpoint answered.
    Forward(ForwardError),
}

fn admin_refusal() -> Refusal {
    Refusal::new(
        Reason::AdminPath,
        "this path administers a model server and is not served through the gateway; ask the server itself, or open \
         the path with the annotation tidegate.dev/allow-paths",
    )
}

#[cfg(test)]
mod rollout_tests;
#[cfg(test)]
mod tests;
