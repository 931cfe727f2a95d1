//! The handles of one combination of labels, kept together.
//!
//! Looking a series up in each of a dozen families would hash the same few names a dozen times a request; here they
//! are hashed once, and not at all for what came not long ago. A handle is made at its first use, so that a scrape shows no series that never happened.

use std::sync::Arc;

use foldhash::HashMap;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::families::{
    ArmLabels, BytesLabels, DurationLabels, EndedLabels, EndpointRequestLabels, Families, FinishLabels, ModelLabels,
    Name, RedistributedLabels, RequestLabels, TokenLabels,
};
use crate::recent::Recent;
use crate::{EndedBy, KnownModels, Observation, Reason};

/// Combinations whose handles are kept; beyond it all are forgotten (the series themselves stay) and gathered anew.
const KEPT: usize = 8_192;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    listener: Arc<str>,
    route: Name,
    arm: Name,
    model: Name,
    target_model: Name,
    endpoint: Name,
    status: u16,
    reason: Option<Reason>,
}

/// A handle made at its first use.
#[derive(Debug)]
struct Lazy<M>(Option<M>);

impl<M> Default for Lazy<M> {
    fn default() -> Self {
        Self(None)
    }
}

impl<M> Lazy<M> {
    fn get(&mut self, make: impl FnOnce() -> M) -> &M {
        self.0.get_or_insert_with(make)
    }
}

#[derive(Debug, Default)]
struct Series {
    requests: Lazy<Counter>,
    duration: Lazy<Histogram>,
    first_token: Lazy<Histogram>,
    gap_mean: Lazy<Histogram>,
    gap_max: Lazy<Histogram>,
    prompt: Lazy<Counter>,
    completion: Lazy<Counter>,
    estimated: Lazy<Counter>,
    cached: Lazy<Counter>,
    bytes_in: Lazy<Counter>,
    bytes_out: Lazy<Counter>,
    completed: Lazy<Counter>,
    endpoint: Lazy<Counter>,
    /// By finish reason; there are few.
    finished: Vec<(&'static str, Counter)>,
}

/// Handles by combination of labels.
#[derive(Debug, Default)]
pub(super) struct SeriesCache {
    /// Places in `series`.
    kept: HashMap<Key, usize>,
    series: Vec<(Key, Series)>,
    /// Places of what came last, found without a hash of any name.
    recent: Recent<usize>,
    /// Of the model names that `recent` was worked out by.
    generation: u64,
}

impl SeriesCache {
    /// Counts one request in every family it belongs to.
    pub(super) fn record(&mut self, families: &Families, models: &KnownModels, observation: &Observation) {
        let generation = models.generation();
        if self.generation != generation {
            self.generation = generation;
            self.recent.clear();
        }
        let place = match self.recent.get(observation) {
            Some(place) => *place,
            None => self.place(models, observation),
        };
        if let Some((key, series)) = self.series.get_mut(place) {
            record_rare(families, key, observation);
            series.record(families, key, observation);
        }
    }

    /// Where the request's handles are, made where they are new.
    fn place(&mut self, models: &KnownModels, observation: &Observation) -> usize {
        let key = Key {
            listener: observation.listener.clone(),
            route: observation.route.clone(),
            arm: observation.arm.clone(),
            model: observation.requested_model.as_deref().map(|model| models.label(model)),
            target_model: observation.target_model.as_deref().map(|model| models.label(model)),
            endpoint: observation.endpoint.clone(),
            status: observation.status,
            reason: observation.reason,
        };
        let known = self.kept.get(&key).copied();
        let place = known.unwrap_or_else(|| {
            if self.series.len() >= KEPT {
                self.kept.clear();
                self.series.clear();
                self.recent.clear();
            }
            let place = self.series.len();
            self.kept.insert(key.clone(), place);
            self.series.push((key, Series::default()));
            place
        });
        self.recent.keep(observation, place);
        place
    }
}

impl Series {
    fn record(&mut self, families: &Families, key: &Key, observation: &Observation) {
        self.count(families, key, observation);
        self.measure(families, key, observation);
    }

    fn count(&mut self, families: &Families, key: &Key, observation: &Observation) {
        self.requests.get(|| families.requests.get_or_create_owned(&request_labels(key))).inc();
        if let Some(endpoint) = &key.endpoint {
            let labels =
                || EndpointRequestLabels { arm: key.arm.clone(), endpoint: endpoint.clone(), class: class(key.status) };
            self.endpoint.get(|| families.endpoint_requests.get_or_create_owned(&labels())).inc();
        }
        if observation.ended_by == EndedBy::Completion {
            self.completed.get(|| ended(families, key, EndedBy::Completion)).inc();
        }
        let bytes = |direction| {
            let labels = BytesLabels {
                listener: key.listener.clone(),
                route: key.route.clone(),
                arm: key.arm.clone(),
                direction,
            };
            families.bytes.get_or_create_owned(&labels)
        };
        self.bytes_in.get(|| bytes("in")).inc_by(observation.bytes_in);
        self.bytes_out.get(|| bytes("out")).inc_by(observation.bytes_out);
        if let Some(reason) = &observation.finish_reason {
            self.finished(families, key, finish_word(reason)).inc();
        }
        let tokens = observation.tokens;
        if let Some(prompt) = tokens.prompt {
            self.prompt.get(|| token_counter(families, key, "prompt", false)).inc_by(prompt);
        }
        if let Some(cached) = tokens.cached {
            self.cached.get(|| token_counter(families, key, "cached", false)).inc_by(cached);
        }
        if let Some(completion) = tokens.completion {
            let counter = if tokens.estimated { &mut self.estimated } else { &mut self.completion };
            counter.get(|| token_counter(families, key, "completion", tokens.estimated)).inc_by(completion);
        }
    }

    fn finished(&mut self, families: &Families, key: &Key, finish_reason: &'static str) -> Counter {
        if let Some((_, counter)) = self.finished.iter().find(|(reason, _)| *reason == finish_reason) {
            return counter.clone();
        }
        let counter = families.finished.get_or_create_owned(&FinishLabels {
            route: key.route.clone(),
            arm: key.arm.clone(),
            target_model: key.target_model.clone(),
            finish_reason,
        });
        self.finished.push((finish_reason, counter.clone()));
        counter
    }

    fn measure(&mut self, families: &Families, key: &Key, observation: &Observation) {
        let duration = || DurationLabels {
            route: key.route.clone(),
            arm: key.arm.clone(),
            target_model: key.target_model.clone(),
            class: class(key.status),
        };
        self.duration
            .get(|| families.duration.get_or_create_owned(&duration()))
            .observe(observation.duration.as_secs_f64());
        let answered = observation.stream && (200..400).contains(&observation.status);
        if !answered {
            return;
        }
        if let Some(first) = observation.ttft {
            self.first_token
                .get(|| families.first_token.get_or_create_owned(&model_labels(key)))
                .observe(first.as_secs_f64());
        }
        if let Some(mean) = observation.gap_mean {
            self.gap_mean.get(|| families.gap_mean.get_or_create_owned(&model_labels(key))).observe(mean.as_secs_f64());
        }
        if let Some(longest) = observation.gap_max {
            self.gap_max
                .get(|| families.gap_max.get_or_create_owned(&model_labels(key)))
                .observe(longest.as_secs_f64());
        }
    }
}

/// What few requests have: not worth a kept handle.
fn record_rare(families: &Families, key: &Key, observation: &Observation) {
    if observation.ended_by != EndedBy::Completion {
        ended(families, key, observation.ended_by).inc();
    }
    if observation.retries > 0 {
        let labels = ArmLabels { route: key.route.clone(), arm: key.arm.clone() };
        families.retries.get_or_create(&labels).inc_by(u64::from(observation.retries));
    }
    if observation.reason == Some(Reason::ErrorEvent) {
        families.error_events.get_or_create(&model_labels(key)).inc();
    }
    if let Some(redistribution) = &observation.redistributed {
        let labels = RedistributedLabels {
            route: key.route.clone(),
            arm: redistribution.from.clone(),
            reason: redistribution.reason.word(),
        };
        families.redistributed.get_or_create(&labels).inc();
    }
}

fn ended(families: &Families, key: &Key, by: EndedBy) -> Counter {
    let ended_by = by.word();
    families.ended.get_or_create_owned(&EndedLabels { route: key.route.clone(), arm: key.arm.clone(), ended_by })
}

fn token_counter(families: &Families, key: &Key, kind: &'static str, estimated: bool) -> Counter {
    families.tokens.get_or_create_owned(&TokenLabels {
        route: key.route.clone(),
        arm: key.arm.clone(),
        target_model: key.target_model.clone(),
        kind,
        estimated: if estimated { "true" } else { "false" },
    })
}

fn model_labels(key: &Key) -> ModelLabels {
    ModelLabels { route: key.route.clone(), arm: key.arm.clone(), target_model: key.target_model.clone() }
}

fn request_labels(key: &Key) -> RequestLabels {
    RequestLabels {
        listener: key.listener.clone(),
        route: key.route.clone(),
        arm: key.arm.clone(),
        model: key.model.clone(),
        target_model: key.target_model.clone(),
        class: class(key.status),
        // A server may make up statuses; those outside the standard's classes share one label.
        code: if key.status == 0 || (100..600).contains(&key.status) {
            key.status.to_string().into()
        } else {
            crate::models::OTHER.into()
        },
        reason: key.reason.map_or("", Reason::word),
    }
}

/// `2xx` and so on; `none` for no status at all.
fn class(status: u16) -> &'static str {
    match status {
        0 => "none",
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => crate::models::OTHER,
    }
}

/// The finish reasons that engines are known to give; a server's own words are no labels.
fn finish_word(reason: &str) -> &'static str {
    match reason {
        "stop" => "stop",
        "length" => "length",
        "tool_calls" => "tool_calls",
        "function_call" => "function_call",
        "content_filter" => "content_filter",
        "abort" => "abort",
        "error" => "error",
        "repetition" => "repetition",
        _ => crate::models::OTHER,
    }
}
