//! Access log: one JSON line per finished request.
//!
//! [`LineWriter`] turns observations into lines, [`output`] carries them to stdout. Both run on the telemetry's own
//! threads. Never in a line: prompts, answers, Authorization, cookies, query strings; an observation does not hold
//! them. Texts that come from outside (request id, path, model, finish reason) are escaped by JSON and cut to a length
//! that keeps a line small.

mod output;

use std::time::Duration;

use serde::Serialize;

pub(crate) use output::LogOutput;

use crate::Observation;

/// Longest text from outside in a line, in bytes.
const LONGEST_TEXT: usize = 256;
/// Longest path in a line, in bytes.
const LONGEST_PATH: usize = 1_024;

/// A line; absent fields are unknown or do not apply.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    request_id: &'a str,
    listener: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    method: &'static str,
    path: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    ended_by: &'static str,
    stream: bool,
    session: bool,
    retries: u32,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_mean_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap_max_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    tokens_estimated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    redistributed_from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redistribution_reason: Option<&'static str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Writes lines; keeps the text of the running second, since most lines share it.
#[derive(Debug, Default)]
pub(crate) struct LineWriter {
    second: Option<(i64, String)>,
}

impl LineWriter {
    /// Appends the line of one request, with its line feed, to `out`.
    pub(crate) fn write(&mut self, observation: &Observation, out: &mut Vec<u8>) {
        let time = self.time(observation.started_micros);
        let line = Line {
            time: &time,
            request_id: cut(&observation.request_id, LONGEST_TEXT),
            listener: &observation.listener,
            route: observation.route.as_deref(),
            rule: observation.rule,
            arm: observation.arm.as_deref(),
            model: observation.requested_model.as_deref().map(|model| cut(model, LONGEST_TEXT)),
            target_model: observation.target_model.as_deref().map(|model| cut(model, LONGEST_TEXT)),
            endpoint: observation.endpoint.as_deref(),
            method: observation.method.word(),
            path: cut(without_query(&observation.path), LONGEST_PATH),
            status: observation.status,
            reason: observation.reason.map(crate::Reason::word),
            ended_by: observation.ended_by.word(),
            stream: observation.stream,
            session: observation.session,
            retries: observation.retries,
            duration_ms: milliseconds(observation.duration),
            ttft_ms: observation.ttft.map(milliseconds),
            gap_mean_ms: observation.gap_mean.map(milliseconds),
            gap_max_ms: observation.gap_max.map(milliseconds),
            prompt_tokens: observation.tokens.prompt,
            completion_tokens: observation.tokens.completion,
            cached_tokens: observation.tokens.cached,
            tokens_estimated: observation.tokens.estimated,
            finish_reason: observation.finish_reason.as_deref().map(|reason| cut(reason, LONGEST_TEXT)),
            bytes_in: observation.bytes_in,
            bytes_out: observation.bytes_out,
            redistributed_from: observation.redistributed.as_ref().map(|given| &*given.from),
            redistribution_reason: observation.redistributed.as_ref().map(|given| given.reason.word()),
        };
        let before = out.len();
        if serde_json::to_writer(&mut *out, &line).is_ok() {
            out.push(b'\n');
        } else {
            out.truncate(before);
        }
    }

    /// RFC 3339 in UTC with microseconds.
    fn time(&mut self, micros: u64) -> String {
        let micros = i64::try_from(micros).unwrap_or(0);
        let second = micros.div_euclid(1_000_000);
        if self.second.as_ref().is_none_or(|(kept, _)| *kept != second) {
            let text = jiff::Timestamp::from_second(second).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S");
            self.second = Some((second, text.to_string()));
        }
        let text = self.second.as_ref().map_or("", |(_, text)| text);
        format!("{text}.{:06}Z", micros.rem_euclid(1_000_000))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// The longest beginning of at most `most` bytes that ends between two characters.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests;
