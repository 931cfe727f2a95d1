//! The judge's word for others: an Argo web metric or a Flagger webhook that moves weights by itself.

use serde_json::{Value, json};
use tidegate_evidence::Verdict;
use tidegate_rollout::Machine;
use tidegate_rollout::stage::{Phase, Stage};

use crate::board::written;

/// `verdict`: `pass`, `hold` or `fail`; `message` in a sentence; `lnE`, `ratio` and `eta` of the guard that decides, and
/// all of them in `evidence`.
pub(crate) fn verdict(machine: &Machine) -> Value {
    let status = machine.status();
    let (word, message) = word(machine, &status.message);
    let guards = status.evidence.iter().filter(|line| line.guard);
    let worst = guards.max_by(|one, other| (one.ln_e - one.ln_e_limit).total_cmp(&(other.ln_e - other.ln_e_limit)));
    json!({
        "verdict": word,
        "message": message,
        "phase": status.phase,
        "stepIndex": status.step_index,
        "metric": worst.map(|line| line.metric.clone()),
        "lnE": worst.map(|line| line.ln_e),
        "lnELimit": worst.map(|line| line.ln_e_limit),
        "ratio": worst.map(|line| written(&line.ratio)),
        "eta": status.evidence.iter().filter_map(|line| line.eta).max(),
        "evidence": status.evidence,
    })
}

/// `pass`, `hold` or `fail`.
pub(crate) fn word_of(machine: &Machine) -> &'static str {
    word(machine, "").0
}

fn word(machine: &Machine, message: &str) -> (&'static str, String) {
    match machine.stage() {
        Stage::Completed | Stage::Draining | Stage::Settling | Stage::Promoting => return ("pass", message.into()),
        Stage::RollingBack | Stage::RolledBack | Stage::Failed | Stage::Superseded => return ("fail", message.into()),
        _ => {}
    }
    if matches!(machine.phase(), Phase::Paused | Phase::Frozen) || !machine.stage().is_exposed() {
        return ("hold", message.into());
    }
    match machine.verdict() {
        Verdict::Promote => ("pass", "every promotion margin of the next share is certified".into()),
        Verdict::RollBack(alarm) => ("fail", format!("{} ({})", alarm.detail, alarm.formula.name())),
        Verdict::Hold { .. } => ("hold", message.into()),
    }
}
