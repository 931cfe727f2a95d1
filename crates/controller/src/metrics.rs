//! Roll-outs on the Prometheus page, in OpenMetrics text.
//!
//! Written at the moment of a scrape from the board, so that a roll-out that is gone leaves no series behind. Label
//! values are names of objects and fixed words; nothing that a client sends becomes one.

use std::fmt::{Display, Write};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tidegate_rollout::machine::Status;

use crate::board::Card;

/// The metric families: name without its prefix, type and help.
const FAMILIES: [(&str, &str, &str); 19] = [
    ("phase", "gauge", "1 for the phase that the roll-out is in"),
    ("step", "gauge", "The step that it is on, from 1; 0 before the first"),
    ("steps", "gauge", "How many steps there are"),
    ("held", "gauge", "1 for each reason that holds it"),
    ("weight", "gauge", "Part of the pair's share that an arm is to have, 0 to 1"),
    ("share", "gauge", "Part that the candidate really got within the step, by what is counted, 0 to 1"),
    ("config_epoch", "gauge", "The newest weights by their number, given out (decided) and served by (applied)"),
    ("verdict", "gauge", "1 for what the judge says: pass, hold or fail"),
    ("evidence_log", "gauge", "Natural logarithm of the evidence against the candidate"),
    ("evidence_log_limit", "gauge", "Where that evidence turns the roll-out back"),
    ("ratio", "gauge", "Candidate to stable, with its 95 % bounds"),
    ("eta_seconds", "gauge", "Until the next share would be certified, at the present traffic"),
    ("trials", "gauge", "Requests that were judged within the step"),
    ("inflight", "gauge", "Requests and streams of the pair that have not ended"),
    ("oldest_stream_seconds", "gauge", "Age of the oldest of them"),
    ("requests", "counter", "Requests of the pair that have ended, since the gateway's start"),
    ("shielded", "counter", "Of these, what failed on the candidate and was answered by stable"),
    ("evidence_dropped", "counter", "Observations that never reached the judge, since the roll-out's document"),
    ("rollbacks", "counter", "How often it turned back, by reason, since the gateway's start"),
];

/// One sample: labels behind the roll-out's own, and the value.
type Sample = (Vec<(&'static str, String)>, f64);

/// All roll-outs as text, without the end mark of a page.
pub(crate) fn render(cards: &[((String, String), Arc<Card>)], now: u64) -> String {
    let all: Vec<(String, Vec<(&'static str, Sample)>)> = cards
        .iter()
        .map(|((namespace, name), card)| {
            let own = format!("namespace=\"{}\",rollout=\"{}\"", escaped(namespace), escaped(name));
            (own, samples(card, now))
        })
        .collect();
    let mut page = String::new();
    for (family, kind, help) in FAMILIES {
        let mut lines = String::new();
        let ending = if kind == "counter" { "_total" } else { "" };
        for (own, samples) in &all {
            for (_, (labels, value)) in samples.iter().filter(|(of, _)| *of == family) {
                let labels: String = labels.iter().fold(String::new(), |mut text, (label, value)| {
                    // Writing to a string cannot fail.
                    let _ = write!(text, ",{label}=\"{}\"", escaped(value));
                    text
                });
                let _ = writeln!(lines, "tidegate_rollout_{family}{ending}{{{own}{labels}}} {value}");
            }
        }
        if !lines.is_empty() {
            let _ = write!(
                page,
                "# HELP tidegate_rollout_{family} {help}.\n# TYPE tidegate_rollout_{family} {kind}\n{lines}"
            );
        }
    }
    page
}

fn samples(card: &Card, now: u64) -> Vec<(&'static str, Sample)> {
    let machine = card.machine.lock();
    let status = machine.status();
    let (decided, applied) = machine.epochs();
    let verdict = crate::verdict::word_of(&machine);
    drop(machine);
    let mut samples: Vec<(&'static str, Sample)> = Vec::new();
    let mut add = |family: &'static str, labels: &[(&'static str, &dyn Display)], value: f64| {
        let labels = labels.iter().map(|(label, value)| (*label, value.to_string())).collect();
        samples.push((family, (labels, value)));
    };
    add("phase", &[("phase", &word(&status.phase))], 1.0);
    add("step", &[], status.step_index.map_or(0.0, |step| step as f64 + 1.0));
    add("steps", &[], status.steps as f64);
    for hold in &status.holds {
        add("held", &[("reason", &word(&hold.reason))], 1.0);
    }
    if let Some(weights) = &status.effective_weights {
        let part = |percent: &serde_json::Number| percent.as_f64().unwrap_or_default() / 100.0;
        add("weight", &[("arm", &"stable")], part(&weights.stable));
        add("weight", &[("arm", &"candidate")], part(&weights.candidate));
    }
    add("config_epoch", &[("state", &"decided")], decided as f64);
    add("config_epoch", &[("state", &"applied")], applied as f64);
    add("verdict", &[("verdict", &verdict)], 1.0);
    let shares = [("request", status.observed_share.requests), ("session", status.observed_share.sessions)];
    for (by, percent) in shares.into_iter().filter_map(|(by, percent)| Some((by, percent?))) {
        add("share", &[("by", &by)], percent / 100.0);
    }
    judged(&status, &mut add);
    let (running, [stable, candidate], shielded) = {
        let flight = card.flight.lock();
        (flight.now(now), flight.ended(), flight.shielded)
    };
    for (arm, running) in [("stable", running.stable), ("candidate", running.candidate)] {
        add("inflight", &[("arm", &arm)], running.count as f64);
        add("oldest_stream_seconds", &[("arm", &arm)], running.oldest as f64 / 1000.0);
    }
    for (arm, count) in [("stable", stable), ("candidate", candidate)] {
        add("requests", &[("arm", &arm)], count as f64);
    }
    add("shielded", &[], shielded as f64);
    add("evidence_dropped", &[], status.lost_observations as f64);
    for (reason, count) in card.rollbacks.lock().iter() {
        add("rollbacks", &[("reason", reason)], *count as f64);
    }
    samples
}

/// What is known of each metric.
fn judged(status: &Status, add: &mut impl FnMut(&'static str, &[(&'static str, &dyn Display)], f64)) {
    for line in &status.evidence {
        let metric = line.metric.as_str();
        for (arm, trials) in [("stable", line.stable.step_trials), ("candidate", line.candidate.step_trials)] {
            add("trials", &[("metric", &metric), ("arm", &arm)], trials as f64);
        }
        if !line.guard {
            continue;
        }
        add("evidence_log", &[("metric", &metric)], line.ln_e);
        add("evidence_log_limit", &[("metric", &metric)], line.ln_e_limit);
        let bounds = [("lower", line.ratio.lower), ("estimate", line.ratio.estimate), ("upper", line.ratio.upper)];
        for (bound, ratio) in bounds.into_iter().filter_map(|(bound, ratio)| Some((bound, ratio?))) {
            add("ratio", &[("metric", &metric), ("bound", &bound)], ratio);
        }
        if let Some(seconds) = line.eta {
            add("eta_seconds", &[("metric", &metric)], seconds as f64);
        }
    }
}

/// The word that a value is written as.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
