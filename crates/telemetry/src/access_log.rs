//! Access log: one JSON line per finished request.
//!
//! [`LineWriter`] turns observations into lines, [`output`] carries them to stdout. Both run on the telemetry's own
//! threads. Never in a line: prompts, answers, Authorization, cookies, query strings; an observation does not hold
//! them. Texts that come from outside (request id, path, model, finish reason) are escaped by JSON and cut to a length
//! that keeps a line small.

mod output;

use std::time::Duration;

pub(crate) use output::LogOutput;

use crate::Observation;
use crate::recent::Recent;

/// Longest text from outside in a line, in bytes.
const LONGEST_TEXT: usize = 256;
/// Longest path in a line, in bytes.
const LONGEST_PATH: usize = 1_024;

/// Writes lines; keeps what most lines share: the text of the running second, and the names of where requests went.
#[derive(Debug, Default)]
pub(crate) struct LineWriter {
    second: Option<(i64, String)>,
    names: Recent<Box<[u8]>>,
}

impl LineWriter {
    /// Appends the line of one request, with its line feed, to `out`. Absent fields are unknown or do not apply.
    pub(crate) fn write(&mut self, observation: &Observation, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        self.time(observation.started_micros, out);
        out.push(b'"');
        let mut line = Line { out };
        line.text(",\"request_id\":", cut(&observation.request_id, LONGEST_TEXT));
        match self.names.get(observation) {
            Some(names) => line.out.extend_from_slice(names),
            None => {
                let begin = line.out.len();
                line.names(observation);
                self.names.keep(observation, line.out.get(begin..).unwrap_or_default().into());
            }
        }
        line.word(",\"method\":", observation.method.word());
        line.text(",\"path\":", cut(without_query(&observation.path), LONGEST_PATH));
        line.number(",\"status\":", observation.status.into());
        line.maybe_word(",\"reason\":", observation.reason.map(crate::Reason::word));
        line.word(",\"ended_by\":", observation.ended_by.word());
        line.truth(",\"stream\":", observation.stream);
        line.truth(",\"session\":", observation.session);
        line.number(",\"retries\":", observation.retries.into());
        line.milliseconds(",\"duration_ms\":", Some(observation.duration));
        line.milliseconds(",\"ttft_ms\":", observation.ttft);
        line.milliseconds(",\"gap_mean_ms\":", observation.gap_mean);
        line.milliseconds(",\"gap_max_ms\":", observation.gap_max);
        line.maybe_number(",\"prompt_tokens\":", observation.tokens.prompt);
        line.maybe_number(",\"completion_tokens\":", observation.tokens.completion);
        line.maybe_number(",\"cached_tokens\":", observation.tokens.cached);
        if observation.tokens.estimated {
            line.truth(",\"tokens_estimated\":", true);
        }
        line.maybe_text(",\"finish_reason\":", observation.finish_reason.as_deref());
        line.number(",\"bytes_in\":", observation.bytes_in);
        line.number(",\"bytes_out\":", observation.bytes_out);
        if let Some(given) = &observation.redistributed {
            line.text(",\"redistributed_from\":", &given.from);
            line.word(",\"redistribution_reason\":", given.reason.word());
        }
        if let Some((rollout, candidate)) = &observation.rollout {
            line.text(",\"rollout\":", rollout);
            line.word(",\"rollout_arm\":", if *candidate { "candidate" } else { "stable" });
            line.truth(",\"shielded\":", observation.shielded);
        }
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339 in UTC with microseconds.
    fn time(&mut self, micros: u64, out: &mut Vec<u8>) {
        let micros = i64::try_from(micros).unwrap_or(0);
        let second = micros.div_euclid(1_000_000);
        if self.second.as_ref().is_none_or(|(kept, _)| *kept != second) {
            let text = jiff::Timestamp::from_second(second).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%S");
            self.second = Some((second, text.to_string()));
        }
        out.extend_from_slice(self.second.as_ref().map_or("", |(_, text)| text).as_bytes());
        out.push(b'.');
        // The leading 1 keeps the zeros.
        let padded = micros.rem_euclid(1_000_000).unsigned_abs() + 1_000_000;
        out.extend_from_slice(itoa::Buffer::new().format(padded).as_bytes().get(1..).unwrap_or_default());
        out.push(b'Z');
    }
}

/// A line that is being written. Keys come with the punctuation around them: a general serializer escapes each of them
/// anew for each request.
struct Line<'a> {
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    /// The listener, the model, and where the request went.
    fn names(&mut self, observation: &Observation) {
        self.text(",\"listener\":", &observation.listener);
        self.maybe_text(",\"route\":", observation.route.as_deref());
        self.maybe_number(",\"rule\":", observation.rule.map(|rule| rule as u64));
        self.maybe_text(",\"arm\":", observation.arm.as_deref());
        self.maybe_text(",\"model\":", observation.requested_model.as_deref());
        self.maybe_text(",\"target_model\":", observation.target_model.as_deref());
        self.maybe_text(",\"endpoint\":", observation.endpoint.as_deref());
    }

    /// A word of ours, which needs no escapes.
    fn word(&mut self, key: &'static str, word: &'static str) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
    }

    fn maybe_word(&mut self, key: &'static str, word: Option<&'static str>) {
        if let Some(word) = word {
            self.word(key, word);
        }
    }

    fn text(&mut self, key: &'static str, text: &str) {
        self.out.extend_from_slice(key.as_bytes());
        // Without an early end, so that the compiler looks at many bytes at once.
        let odd = text.bytes().fold(false, |odd, byte| odd | (byte < b' ') | (byte == b'"') | (byte == b'\\'));
        if !odd {
            self.out.push(b'"');
            self.out.extend_from_slice(text.as_bytes());
            self.out.push(b'"');
        } else if serde_json::to_writer(&mut *self.out, text).is_err() {
            self.out.extend_from_slice(b"null");
        }
    }

    fn maybe_text(&mut self, key: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, cut(text, LONGEST_TEXT));
        }
    }

    fn number(&mut self, key: &'static str, number: u64) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn maybe_number(&mut self, key: &'static str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(key, number);
        }
    }

    fn truth(&mut self, key: &'static str, truth: bool) {
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(if truth { b"true" } else { b"false" });
    }

    /// Milliseconds with three decimals, to the nearest microsecond.
    fn milliseconds(&mut self, key: &'static str, duration: Option<Duration>) {
        let Some(duration) = duration else { return };
        let micros = u64::try_from((duration.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX);
        self.number(key, micros / 1_000);
        self.out.push(b'.');
        // The leading 1 keeps the zeros.
        let decimals = micros % 1_000 + 1_000;
        self.out.extend_from_slice(itoa::Buffer::new().format(decimals).as_bytes().get(1..).unwrap_or_default());
    }
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
