//! What people ask for. Each command is taken once, by its id; what does not fit the moment is refused with what to do
//! instead, and changes nothing.

use super::{Machine, Push, TAKEN, Why, notify};
use crate::effect::{Effect, NotificationKind};
use crate::event::{Actor, Command, Verb};
use crate::jury::Jury;
use crate::stage::{HoldReason, Phase, Stage};

impl Machine {
    pub(super) fn command(&mut self, command: &Command, effects: &mut Vec<Effect>) {
        if self.taken.contains(&command.id) {
            return;
        }
        if self.taken.len() >= TAKEN {
            self.taken.pop_front();
        }
        self.taken.push_back(command.id.clone());
        let by = &command.writer;
        let answer = match &command.verb {
            Verb::Start => self.start(by, effects),
            Verb::Pause => self.pause(by, effects),
            Verb::Resume => self.resume(by, effects),
            Verb::Approve => self.approve(by, effects),
            Verb::PromoteStep => self.push(false, by),
            Verb::PromoteFull => self.push(true, by),
            Verb::Rollback { reason, cut_streams } => self.roll_back(reason, *cut_streams, by, effects),
            Verb::Undo => self.undo(by, effects),
        };
        let id = command.id.clone();
        effects.push(match answer {
            Ok(message) => Effect::CommandTaken { id, message },
            Err(message) => Effect::CommandRefused { id, message },
        });
    }

    fn start(&mut self, by: &Actor, effects: &mut Vec<Effect>) -> Result<String, String> {
        match self.stage {
            Stage::Pending if self.phase() == Phase::Paused => Err("it is paused; `resume` it first".into()),
            Stage::Pending => {
                self.facts.start = true;
                Ok("it starts".into())
            }
            Stage::Failed | Stage::RolledBack => {
                self.enter(Stage::Pending, Why::new("StartedAgain", "started again by command").by(by), effects);
                self.facts.start = true;
                Ok("it starts again, with its evidence from the start".into())
            }
            _ => Err(format!(
                "it is {:?}; `start` is for a roll-out that waits, failed or was rolled back",
                self.phase()
            )),
        }
    }

    fn pause(&mut self, by: &Actor, effects: &mut Vec<Effect>) -> Result<String, String> {
        if !self.stage.moves_forward() && self.stage != Stage::Pending {
            return Err(format!("it is {:?}; nothing moves forward that could be paused", self.phase()));
        }
        if self.interruptions.paused.is_some() {
            return Ok("it is paused already".into());
        }
        let from = self.phase();
        self.interruptions.paused = Some(by.clone());
        self.guard = None;
        self.push = None;
        if from != self.phase() {
            self.record(from, Why::new("Paused", "paused by command").by(by), effects);
        }
        notify(NotificationKind::Paused, format!("paused by {}", by.name), effects);
        Ok("it stands still; the candidate keeps its share".into())
    }

    fn resume(&mut self, by: &Actor, effects: &mut Vec<Effect>) -> Result<String, String> {
        let from = self.phase();
        let was_paused = self.interruptions.paused.take().is_some();
        if was_paused {
            if from != self.phase() {
                self.record(from, Why::new("Resumed", "resumed by command").by(by), effects);
            }
            notify(NotificationKind::Resumed, format!("resumed by {}", by.name), effects);
        } else if self.plan.paused && (self.stage.moves_forward() || self.stage == Stage::Pending) {
            return Err("the document says `paused: true`; change it there".into());
        }
        let accepted = self.accept_holds(by, effects);
        match (was_paused, accepted) {
            (_, true) => Ok("what held it is accepted".into()),
            (true, false) => Ok("it goes on".into()),
            (false, false) => Err(self.nothing_to_resume()),
        }
    }

    fn nothing_to_resume(&self) -> String {
        let holds: Vec<&str> = self.interruptions.holds.keys().map(|reason| reason.word()).collect();
        if holds.is_empty() {
            format!("it is {:?}; nothing holds it", self.phase())
        } else {
            format!("{} ends by itself, or with `promote` or `rollback`", holds.join(", "))
        }
    }

    /// Accepts every hold that a person can accept; whether there was one.
    fn accept_holds(&mut self, by: &Actor, effects: &mut Vec<Effect>) -> bool {
        let acceptable: Vec<HoldReason> =
            self.interruptions.holds.keys().copied().filter(|reason| is_acceptable(*reason)).collect();
        let message = format!("accepted by {}", by.name);
        for reason in &acceptable {
            self.release(*reason, &message, effects);
            match reason {
                HoldReason::DriftDetected => self.facts.baseline = self.facts.manifests,
                HoldReason::Gate => self.gate.call = None,
                HoldReason::Deadline => {
                    if let Some(started) = self.started.as_mut() {
                        started.deadline_waived = true;
                    }
                }
                HoldReason::Alarm => {
                    self.alarm = None;
                    self.jury = Jury::new(self.plan.analysis.policy.clone());
                    self.begin_step_anew(effects);
                }
                HoldReason::CandidateEmpty | HoldReason::EvidenceLoss | HoldReason::WeightMismatch => {
                    self.begin_step_anew(effects)
                }
                _ => {}
            }
        }
        !acceptable.is_empty()
    }

    fn may_approve(&self, by: &Actor) -> Result<(), String> {
        let Some(gate) = self.present_step().and_then(|step| step.manual.as_ref()) else { return Ok(()) };
        let is_named = gate.approvers.iter().any(|approver| match approver.strip_prefix("group:") {
            Some(group) => by.groups.contains(group),
            None => *approver == by.name,
        });
        if gate.approvers.is_empty() || is_named {
            return Ok(());
        }
        Err(format!("{} is none of the step's approvers: {}", by.name, gate.approvers.join(", ")))
    }

    fn approve(&mut self, by: &Actor, effects: &mut Vec<Effect>) -> Result<String, String> {
        let asks = self.present_step().is_some_and(|step| step.manual.is_some());
        if !self.stage.is_progressing() || !asks {
            return Err(format!("it is {:?}; no step waits for approval", self.phase()));
        }
        self.may_approve(by)?;
        if self.gate.approved.is_none() {
            self.gate.approved = Some(by.clone());
            let step = self.ladder.step.saturating_add(1);
            notify(NotificationKind::Approved, format!("step {step} approved by {}", by.name), effects);
        }
        Ok("approved; it goes on when its bake and its evidence allow it".into())
    }

    fn push(&mut self, full: bool, by: &Actor) -> Result<String, String> {
        let fits = self.stage.is_progressing() || matches!(self.stage, Stage::Warming | Stage::Shadowing);
        if !fits {
            return Err(format!("it is {:?}; there is no step to promote", self.phase()));
        }
        if self.interruptions.paused.is_some() || self.plan.paused {
            return Err("it is paused; `resume` it first".into());
        }
        if self.interruptions.frozen.is_some() {
            return Err("a freeze window holds; wait for its end".into());
        }
        self.may_approve(by)?;
        self.push = Some(Push { full, by: by.clone() });
        let held: Vec<&str> = self
            .interruptions
            .holds
            .keys()
            .filter(|reason| !reason.keeps_clock())
            .map(|reason| reason.word())
            .collect();
        if held.is_empty() {
            return Ok("it moves on without waiting for bake, evidence and webhook".into());
        }
        Ok(format!("it moves on as soon as this ends: {}", held.join(", ")))
    }

    fn roll_back(&mut self, reason: &str, cut: bool, by: &Actor, effects: &mut Vec<Effect>) -> Result<String, String> {
        if !self.stage.moves_forward() && !self.stage.is_exposed() {
            let instead = if self.stage == Stage::Completed { "; `undo` takes a promotion back" } else { "" };
            return Err(format!("it is {:?}; there is nothing to roll back{instead}", self.phase()));
        }
        let message = if reason.is_empty() { "rolled back by command" } else { reason };
        self.turn_back(Why::new("Commanded", message).by(by), cut, effects);
        Ok("stable serves everything".into())
    }

    fn undo(&mut self, by: &Actor, effects: &mut Vec<Effect>) -> Result<String, String> {
        if !matches!(self.stage, Stage::Draining | Stage::Settling | Stage::Completed) {
            return Err(format!(
                "it is {:?}; `undo` is for a promotion, `rollback` for what comes before",
                self.phase()
            ));
        }
        if self.promotion.unloaded {
            return Err(format!("{} was unloaded; load it, and roll it out", self.plan.stable));
        }
        if self.facts.arms.is_some_and(|arms| arms.stable.ready == 0) {
            return Err(format!("{} has no ready endpoint; start some first", self.plan.stable));
        }
        self.weights.exposed = true;
        self.turn_back(Why::new("Undone", "the promotion is taken back").by(by), false, effects);
        Ok("stable serves everything".into())
    }
}

/// A person can accept it; the others end when their cause does.
fn is_acceptable(reason: HoldReason) -> bool {
    matches!(
        reason,
        HoldReason::DriftDetected
            | HoldReason::EvidenceLoss
            | HoldReason::WeightMismatch
            | HoldReason::CandidateEmpty
            | HoldReason::Alarm
            | HoldReason::Gate
            | HoldReason::Deadline
    )
}
