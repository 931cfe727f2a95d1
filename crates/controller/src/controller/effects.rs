//! What a machine decided, carried out.

use serde_json::{Value, json};
use tidegate_rollout::effect::{Arm, Effect, Notification, Transition};
use tidegate_rollout::stage::Phase;

use super::Controller;
use crate::board::written;
use crate::handle::CommandError;
use crate::jobs::{Job, Reporter};
use crate::run::RunId;
use crate::{adapters, clock, gates, preflight, warm_up};

impl Controller {
    /// Carries out effects in their order.
    pub(super) fn carry_out(&mut self, id: RunId, effects: Vec<Effect>) {
        for effect in effects {
            self.is_stale = true;
            self.carry_out_one(id, effect);
        }
    }

    fn carry_out_one(&mut self, id: RunId, effect: Effect) {
        match effect {
            Effect::Transition(transition) => self.write_down(id, &transition),
            Effect::Notify(notification) => self.notify(id, &notification),
            Effect::CommandTaken { id: command, message } => {
                let line = json!({"type": "Command", "id": command, "taken": true, "message": message});
                self.remember(id, line);
                self.answer(id, &command, Ok(json!({"id": command, "message": message})));
            }
            Effect::CommandRefused { id: command, message } => {
                let line = json!({"type": "Command", "id": command, "taken": false, "message": message});
                self.remember(id, line);
                self.answer(id, &command, Err(CommandError::Refused(message)));
            }
            Effect::Successor(plan) => self.succeed(id, *plan),
            Effect::Forget => self.forget(id),
            other => self.act(id, other),
        }
    }

    /// What concerns the data plane, model servers and services.
    fn act(&mut self, id: RunId, effect: Effect) {
        let reporter = Reporter { run: id, events: self.jobs.clone() };
        let fleet = self.options.fleet.clone();
        let Some(run) = self.runs.get_mut(&id) else { return };
        match effect {
            Effect::SetWeights(change) => run.lay(change),
            Effect::Release => run.laid = None,
            Effect::RunPreflight { attempt, checks } => {
                let asked = preflight::Asked {
                    attempt,
                    checks,
                    load: std::mem::take(&mut run.jobs.load_candidate),
                    settings: run.settings.clone(),
                    pools: run.pools.subscribe(),
                };
                run.jobs.preflight = Some(Job::start(preflight::run(asked, fleet, reporter)));
            }
            Effect::StopPreflight => run.jobs.preflight = None,
            Effect::LoadAdapter { arm: Arm::Candidate } => run.jobs.load_candidate = true,
            Effect::LoadAdapter { arm: Arm::Stable } => {}
            Effect::UnloadAdapter { arm } => {
                let model = match arm {
                    Arm::Stable => run.settings.stable.name(),
                    Arm::Candidate => run.settings.candidate.name(),
                };
                let pools = run.pools.borrow().clone();
                if let Some(pool) = pools.candidate.or(pools.stable) {
                    // Not a job of the run: it goes on when the run is forgotten.
                    tokio::spawn(adapters::unload(fleet.endpoints(&pool), model.to_owned()));
                }
            }
            Effect::StartWarmUp(plan) => {
                let (rollout, pools) = (run.key.clone(), run.pools.subscribe());
                let asked = warm_up::Asked { rollout, plan, settings: run.settings.clone(), pools };
                run.jobs.warm_up = Some(Job::start(warm_up::run(asked, fleet, reporter)));
            }
            Effect::StopWarmUp => run.jobs.warm_up = None,
            Effect::CallGate(call) => {
                let about = gates::About::of(&run.key, &run.machine.lock(), &call);
                run.jobs.gate = Some(Job::start(gates::run(call, about, self.notices.signer(), reporter)));
            }
            Effect::CutStreams { arm } => {
                let cut = fleet.cut_streams(&run.key, arm == Arm::Candidate);
                tracing::info!(rollout = %run.key, arm = ?arm, cut, "streams were cut");
            }
            Effect::Checkpoint { id, .. } => run.checkpoint(Some(id), &self.store),
            // The overlay says these by itself.
            Effect::ExcludeModels { .. } | Effect::StartShadow | Effect::StopShadow => {}
            Effect::Transition(_)
            | Effect::Notify(_)
            | Effect::CommandTaken { .. }
            | Effect::CommandRefused { .. }
            | Effect::Successor(_)
            | Effect::Forget => {}
        }
    }

    fn answer(&mut self, id: RunId, command: &str, answer: Result<Value, CommandError>) {
        if let Some(asked) = self.asked.remove(&(id, command.to_owned())) {
            let _ = asked.send(answer);
        }
    }

    fn write_down(&mut self, id: RunId, transition: &Transition) {
        let Some(run) = self.runs.get(&id) else { return };
        tracing::info!(
            rollout = %run.key,
            from = ?transition.from,
            to = ?transition.to,
            reason = transition.reason,
            "{}",
            transition.message
        );
        if transition.to == Phase::RollingBack {
            *run.card.rollbacks.lock().entry(transition.reason.clone()).or_default() += 1;
        }
        let mut line = written(transition);
        if let Some(fields) = line.as_object_mut() {
            fields.insert("at".into(), clock::written(transition.at).into());
            fields.insert("type".into(), "Transition".into());
        }
        self.remember(id, line);
    }

    fn notify(&mut self, id: RunId, notification: &Notification) {
        let Some(run) = self.runs.get(&id) else { return };
        if notification.warning {
            tracing::warn!(rollout = %run.key, kind = ?notification.kind, "{}", notification.message);
        }
        let mut line = written(notification);
        if let Some(fields) = line.as_object_mut() {
            fields.insert("type".into(), "Notification".into());
            fields.insert("namespace".into(), run.key.namespace.clone().into());
            fields.insert("name".into(), run.key.name.clone().into());
            fields.insert("phase".into(), written(&run.machine.lock().phase()));
        }
        let line = self.remember(id, line);
        self.notices.send(line);
    }

    /// Keeps a line of the history, with its time.
    fn remember(&mut self, id: RunId, mut line: Value) -> Value {
        let Some(run) = self.runs.get(&id) else { return line };
        if let Some(fields) = line.as_object_mut() {
            let now = clock::written(self.options.clock.now().wall);
            fields.entry("at").or_insert_with(|| now.into());
            fields.entry("uid").or_insert_with(|| run.machine.lock().plan().uid.clone().into());
        }
        run.card.remember(line.clone());
        let work = crate::store::Work::History { path: run.place.history(), line: line.to_string() };
        if let Err(error) = self.store.ask(work) {
            tracing::warn!(rollout = %run.key, error, "a line of its history is lost");
        }
        line
    }
}
