//! What the machine is told. Every one of these, with its time, goes into the journal; nothing else reaches the machine.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use tidegate_evidence::{Arrival, Sample};

use crate::capacity::Arms;
use crate::plan::{Check, Plan};

/// When something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds on the gateway's monotonic clock: its zero is any moment of this run. What goes backwards counts as
    /// standing still.
    #[serde(rename = "m")]
    pub monotonic: u64,
    /// Milliseconds since 1970 UTC: for calendars, for people, and for the time a gateway was down.
    #[serde(rename = "w")]
    pub wall: i64,
}

/// One line of the story: what, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// When.
    #[serde(rename = "t")]
    pub at: Stamp,
    /// What.
    #[serde(rename = "e")]
    pub event: Event,
}

impl Input {
    /// The same input without numbers that are none. The journal could not hold them, and no decision may rest on them:
    /// unknown they were, unknown they are.
    pub fn sound(&self) -> Cow<'_, Self> {
        let with = |event| Cow::Owned(Self { at: self.at, event });
        match &self.event {
            Event::Observed(observations) if !observations.iter().all(Observation::is_sound) => {
                with(Event::Observed(observations.iter().copied().filter(Observation::is_sound).collect()))
            }
            Event::WarmUp(seen) if !(seen.candidate_hit_ratio.is_finite() && seen.stable_hit_ratio.is_finite()) => {
                with(Event::Tick)
            }
            Event::Arms(arms) if *arms != arms.sound() => with(Event::Arms(arms.sound())),
            _ => Cow::Borrowed(self),
        }
    }
}

impl Observation {
    fn is_sound(&self) -> bool {
        let time = |time: Option<f64>| time.is_none_or(f64::is_finite);
        match self {
            Self::Arrived(arrival) => arrival.share.is_finite(),
            Self::FirstToken { ttft, .. } => ttft.is_finite(),
            Self::Ended(sample) => sample.arrival.share.is_finite() && time(sample.ttft) && time(sample.tpot),
        }
    }
}

/// What can happen to a roll-out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    /// The document appeared or changed.
    Document(Box<Plan>),
    /// The document is gone.
    Deleted,
    /// Whether the document may act, as compiling found.
    Admission(Admission),
    /// What the manifests themselves say of the pair.
    Manifests(PairWeights),
    /// Somebody wants something.
    Command(Command),
    /// A preflight check has an answer.
    Preflight(CheckResult),
    /// How warm the candidate is.
    WarmUp(WarmUpProgress),
    /// What mirroring found.
    Shadow(ShadowProgress),
    /// What was observed of requests, in the order it happened. The journal is smaller when a few are told at once; the
    /// breaker is as fast as they come.
    Observed(Vec<Observation>),
    /// Time passed. Once a second is often enough; nothing but time depends on it.
    Tick,
    /// A gate webhook answered, or did not.
    Gate(GateResult),
    /// Ready endpoints and capacity of both arms.
    Arms(Arms),
    /// What still runs on each arm.
    InFlight(InFlight),
    /// Every replica serves by these weights.
    WeightsApplied {
        /// The epoch of the [`crate::effect::WeightChange`].
        epoch: u64,
    },
    /// Observations were dropped before they reached the judge.
    EvidenceLost {
        /// How many.
        count: u64,
    },
    /// A checkpoint that was asked for is on disk: written, fsynced, renamed.
    CheckpointDurable {
        /// The number of the [`crate::effect::Effect::Checkpoint`].
        id: u64,
    },
    /// The gateway started anew and read its journal. The monotonic clock of this stamp is a new one.
    Restarted {
        /// The journal was damaged before its end: evidence may be missing.
        damaged: bool,
    },
}

/// What was observed of a request. Its times are those of the gateway's monotonic clock, as in [`Stamp::monotonic`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Observation {
    /// Its arm was chosen.
    Arrived(Arrival),
    /// Its first token came.
    FirstToken {
        /// The request's number.
        request: u64,
        /// Seconds since its arrival.
        ttft: f64,
    },
    /// It ended.
    Ended(Sample),
}

/// Whether the document may act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admission {
    /// Why it is not accepted (`Conflict`, `Invalid`): reason and sentence; none: it is.
    pub refused: Option<Refusal>,
    /// What it refers to and is not there; none: all is.
    pub unresolved: Option<Refusal>,
}

/// A reason and the sentence that goes with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// CamelCase word.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

/// The pair's weights as the manifests write them, in their own unit; none: no entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairWeights {
    /// Stable's weight.
    pub stable: Option<u32>,
    /// The candidate's weight.
    pub candidate: Option<u32>,
}

impl PairWeights {
    /// Whether the manifests say what a promotion says: the candidate alone. A target that cannot weigh 0 says it by
    /// having no entry for stable.
    pub fn says_promoted(&self) -> bool {
        self.candidate.is_some_and(|weight| weight > 0) && self.stable.is_none_or(|weight| weight == 0)
    }

    /// Whether the manifests say what a roll-back says: stable alone.
    pub fn says_stable(self) -> bool {
        self.stable.is_some_and(|weight| weight > 0) && self.candidate.is_none_or(|weight| weight == 0)
    }
}

/// Who acted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user, or a field manager's name.
    pub name: String,
    /// The user's groups, where they are known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<String>,
}

impl Actor {
    /// An actor of no known group.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), groups: BTreeSet::new() }
    }
}

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Taken once: a second command of the same id changes nothing.
    pub id: String,
    /// Who wrote it.
    pub writer: Actor,
    /// What.
    pub verb: Verb,
}

/// The verbs of `tidegate rollout` that change something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Leave Pending, or try again after Failed or RolledBack.
    Start,
    /// Stand still.
    Pause,
    /// Go on, and accept what held the roll-out.
    Resume,
    /// Open the step's manual gate.
    Approve,
    /// Go to the next step without waiting for bake, evidence or webhook.
    PromoteStep,
    /// Go to the last step, likewise.
    PromoteFull,
    /// Turn back.
    Rollback {
        /// Why, for the record.
        #[serde(default)]
        reason: String,
        /// Cut the candidate's streams whatever the document says.
        #[serde(default)]
        cut_streams: bool,
    },
    /// Take a promotion back.
    Undo,
}

impl Verb {
    /// The words that annotations and the admin API take, for messages.
    pub const WORDS: [&'static str; 9] =
        ["start", "pause", "resume", "approve", "promote", "promote-full", "rollback", "rollback-cut", "undo"];

    /// Reads a word: `promote` goes to the next step, `promote-full` to the last, `rollback-cut` cuts the candidate's
    /// streams.
    pub fn parse(word: &str) -> Option<Self> {
        let back = |cut_streams| Self::Rollback { reason: String::new(), cut_streams };
        Some(match word {
            "start" => Self::Start,
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "approve" => Self::Approve,
            "promote" => Self::PromoteStep,
            "promote-full" => Self::PromoteFull,
            "rollback" => back(false),
            "rollback-cut" => back(true),
            "undo" => Self::Undo,
            _ => return None,
        })
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The attempt it belongs to ([`crate::effect::Effect::RunPreflight`]); results of earlier attempts are dropped.
    pub attempt: u32,
    /// Which check.
    pub check: Check,
    /// What it found.
    pub outcome: CheckOutcome,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckOutcome {
    /// All is well.
    Passed,
    /// All is well once these models stay on stable.
    PassedWithout {
        /// Names of the models.
        models: BTreeSet<String>,
    },
    /// Not yet, but it may still come.
    Waiting(Refusal),
    /// It will not come.
    Failed(Refusal),
}

/// How warm the candidate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmUpProgress {
    /// The candidate's prefix cache hit ratio, 0 to 1.
    pub candidate_hit_ratio: f64,
    /// Stable's.
    pub stable_hit_ratio: f64,
    /// Prompts replayed so far.
    pub replayed: u64,
    /// Nothing is left to replay.
    pub exhausted: bool,
}

/// What mirroring found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowProgress {
    /// Requests mirrored.
    pub mirrored: u64,
    /// Answers that failed.
    pub failed: u64,
    /// Answers of another shape than stable's.
    pub misshapen: u64,
}

/// What a gate answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateResult {
    /// The number of the [`crate::effect::GateCall`]; answers to other calls are dropped.
    pub call: u64,
    /// What it answered.
    pub answer: GateAnswer,
}

/// What a gate answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GateAnswer {
    /// Go on.
    Pass,
    /// Do not.
    Fail {
        /// Its words.
        message: String,
    },
    /// No answer that could be read.
    Error {
        /// What went wrong.
        message: String,
    },
}

/// What still runs on each arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// On stable.
    pub stable: Running,
    /// On the candidate.
    pub candidate: Running,
}

/// What still runs on one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Requests and streams that have not ended.
    pub count: u64,
    /// Age of the oldest, in milliseconds; 0 where there is none.
    pub oldest: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_a_verb_of_its_own() {
        let verbs: Vec<Verb> = Verb::WORDS.iter().filter_map(|word| Verb::parse(word)).collect();
        assert_eq!(verbs.len(), Verb::WORDS.len());
        for (index, verb) in verbs.iter().enumerate() {
            assert!(!verbs.iter().skip(index + 1).any(|other| other == verb), "{verb:?}");
        }
        assert_eq!(Verb::parse("Promote"), None);
    }
}
