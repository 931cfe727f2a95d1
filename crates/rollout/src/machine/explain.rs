//! Why it is where it is: the numbers, the formula they went through, and what would change the verdict.

use serde::Serialize;
use tidegate_evidence::{MetricReport, Report, Verdict};

use super::Machine;
use crate::share::Share;
use crate::stage::{HoldReason, Phase, Stage};

/// An answer to "why".
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Where it stands.
    pub phase: Phase,
    /// Where it is by itself.
    pub stage: Stage,
    /// One sentence on why.
    pub summary: String,
    /// What it was decided on.
    pub numbers: Vec<Number>,
    /// What they went through.
    pub formulas: Vec<Formula>,
    /// What would change it, most likely first.
    pub would_change: Vec<String>,
}

/// A number with its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Number {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `%`, `s`, `requests`; empty for a bare number.
    pub unit: &'static str,
    /// What it is held against, where there is such a thing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
}

/// A formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Formula {
    /// Its name.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub says: &'static str,
}

const SAMPLE_RATIO: Formula = Formula {
    name: "sample-ratio test",
    says: "the candidate's part of the sessions is what the weight says, or the evidence that it is not grows past its limit",
};
const ROLL_BACK: Formula = Formula {
    name: "e-process (Ville)",
    says: "a healthy candidate's evidence E ever reaches the limit with a chance of at most alpha; where it does, roll back",
};
const PROMOTE: Formula = Formula {
    name: "harm budget",
    says: "go on when the largest increase still possible, times the next share, is within the budget of all traffic",
};
const PARITY: Formula = Formula {
    name: "capacity",
    says: "offered load × share ≤ ready endpoints × requests/s each; parity is κ·Rc / (κ·Rc + Rs)",
};
const DRAIN: Formula =
    Formula { name: "drain", says: "drained when nothing is in flight on the losing arm, or at the timeout" };
const BAKE: Formula = Formula { name: "bake", says: "the least time at a share, interruptions left out" };

impl Machine {
    /// Why it is where it is.
    pub fn explain(&self) -> Explanation {
        let report = self.judge_report();
        let mut numbers = vec![number("candidate's share", self.weights.candidate.fraction() * 100.0, "%", None)];
        let mut formulas = Vec::new();
        if self.stage.is_exposed() {
            self.explain_step(&report, &mut numbers, &mut formulas);
        }
        if self.interruptions.holds.contains_key(&HoldReason::LoadImbalance)
            || self.interruptions.holds.contains_key(&HoldReason::RollbackCapacity)
        {
            self.explain_capacity(&mut numbers);
            formulas.push(PARITY);
        }
        if let Some(drain) = matches!(self.stage, Stage::Draining | Stage::RollingBack).then_some(self.in_stage()) {
            numbers.push(number("draining for", seconds(drain), "s", Some(seconds(self.plan.drain.timeout))));
            formulas.push(DRAIN);
        }
        Explanation {
            phase: self.phase(),
            stage: self.stage,
            summary: self.summary(),
            numbers,
            formulas,
            would_change: self.would_change(),
        }
    }

    fn explain_step(&self, report: &Report, numbers: &mut Vec<Number>, formulas: &mut Vec<Formula>) {
        if let Some(step) = self.present_step().filter(|_| self.stage.is_progressing()) {
            numbers.push(number("baked", seconds(self.ladder.baked), "s", Some(seconds(step.bake))));
            let longest = self.plan.analysis.step_max.map(seconds);
            numbers.push(number("on this step", seconds(self.ladder.spent), "s", longest));
            formulas.push(BAKE);
        }
        numbers.push(number("sessions seen", report.ratio.units as f64, "", None));
        numbers.push(number("of them on the candidate", report.ratio.observed as f64, "", None));
        numbers.push(number("expected there", report.ratio.expected, "", None));
        numbers.push(number("sample ratio: ln E", report.ratio.ln_e, "", Some(report.ratio.limit)));
        formulas.push(SAMPLE_RATIO);
        for metric in report.metrics.iter().filter(|metric| metric.guard) {
            explain_metric(metric, numbers);
        }
        formulas.push(ROLL_BACK);
        formulas.push(PROMOTE);
    }

    fn explain_capacity(&self, numbers: &mut Vec<Number>) {
        let Some(arms) = self.facts.arms else { return };
        let terms = self.terms();
        let (stable, candidate) = terms.carries(&arms);
        numbers.push(number("stable's ready endpoints", f64::from(arms.stable.ready), "", None));
        numbers.push(number("candidate's ready endpoints", f64::from(arms.candidate.ready), "", None));
        numbers.push(number("κ", terms.ratio(&arms), "", None));
        for (name, value) in [("offered", arms.offered), ("stable carries", stable), ("candidate carries", candidate)] {
            numbers.extend(value.map(|value| number(name, value, "requests/s", None)));
        }
    }

    /// One sentence on why it is where it is.
    pub(super) fn summary(&self) -> String {
        let holds: Vec<&str> = self.interruptions.holds.values().map(|hold| hold.message.as_str()).collect();
        let last = || self.history.back().map(|last| last.message.clone()).unwrap_or_default();
        match self.phase() {
            Phase::Paused => match &self.interruptions.paused {
                Some(by) => format!("paused by {}", by.name),
                None => "spec.paused is true".into(),
            },
            Phase::Frozen => {
                let until = self.interruptions.frozen.map(|freeze| super::status::rfc3339(freeze.until));
                format!("a freeze window holds until {}", until.unwrap_or_default())
            }
            Phase::Held => holds.join("; "),
            Phase::Pending => self.why_pending(),
            Phase::Progressing => {
                let (step, steps) = (self.ladder.step.saturating_add(1), self.plan.steps.len());
                format!("step {step} of {steps} at {}: {:?}", self.ladder.share, self.stage)
            }
            Phase::Settling if self.promotion.settled.is_some() => "settled; the retention runs".into(),
            Phase::Settling => "0/100 is held until the manifests say it".into(),
            _ => last(),
        }
    }

    fn why_pending(&self) -> String {
        let Some(admission) = &self.facts.admission else { return "the document has not been compiled yet".into() };
        if let Some(refusal) = admission.refused.as_ref().or(admission.unresolved.as_ref()) {
            return format!("{}: {}", refusal.reason, refusal.message);
        }
        if self.facts.manifests.is_none() {
            return "the manifests' weights have not been seen yet".into();
        }
        if self.interruptions.frozen.is_some() {
            return "a freeze window holds".into();
        }
        "waits for the command `start`".into()
    }

    /// What would change it.
    fn would_change(&self) -> Vec<String> {
        let mut changes = Vec::new();
        match self.phase() {
            Phase::Pending => changes.push(self.why_pending()),
            Phase::Paused => changes.push("`resume`, or `paused: false` in the document".into()),
            Phase::Frozen => changes.push("the end of the freeze window".into()),
            Phase::Settling if self.promotion.settled.is_none() => {
                changes.push("manifests that give the candidate everything (`emit-patch` prints the change)".into());
                changes.push("`undo` takes the promotion back".into());
            }
            Phase::RolledBack | Phase::Failed => {
                changes.push("`start` tries again; a changed candidate begins anew".into())
            }
            _ => {}
        }
        changes.extend(self.interruptions.holds.values().map(|hold| hold.message.clone()));
        if self.stage.is_progressing() {
            self.step_would_change(&mut changes);
        }
        changes
    }

    fn step_would_change(&self, changes: &mut Vec<String>) {
        match self.stage {
            Stage::Shifting if !self.weights_are_applied() => {
                changes.push("every replica serving by the new weights".into());
            }
            Stage::Baking => {
                let bake = self.present_step().map_or(0, |step| step.bake);
                changes.push(format!("{} s more of baking", bake.saturating_sub(self.ladder.baked) / 1000));
            }
            _ => {}
        }
        let share = self.weights.candidate;
        if share > Share::NONE && share < Share::ALL {
            let stake = self.share_at_stake();
            match self.verdict() {
                Verdict::Promote => changes.push(format!("nothing more: the evidence allows {stake}")),
                Verdict::RollBack(alarm) => changes.push(alarm.detail),
                Verdict::Hold { why, needs_units, eta_seconds } => {
                    changes.push(super::steps::still_missing(&why, needs_units, eta_seconds, stake));
                }
            }
        }
        if self.present_step().is_some_and(|step| step.manual.is_some()) && self.gate.approved.is_none() {
            changes.push("`approve`".into());
        }
        changes.push("`promote` moves on without more evidence, `rollback` turns back".into());
    }
}

fn number(name: impl Into<String>, value: f64, unit: &'static str, limit: Option<f64>) -> Number {
    Number { name: name.into(), value, unit, limit }
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

fn explain_metric(metric: &MetricReport, numbers: &mut Vec<Number>) {
    let word = metric.metric.word();
    numbers.push(number(format!("{word}: ln E"), metric.ln_e, "", Some(metric.ln_e_limit)));
    numbers.push(number(format!("{word}: late onset, ln E"), metric.detector_ln_e, "", Some(metric.detector_limit)));
    for (name, value) in
        [("at least", metric.ratio.lower), ("about", metric.ratio.estimate), ("at most", metric.ratio.upper)]
    {
        numbers.extend(value.map(|value| number(format!("{word}: candidate to stable, {name}"), value, "×", None)));
    }
}
