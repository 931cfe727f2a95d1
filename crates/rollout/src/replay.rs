//! From the bytes of a journal back to the machine that wrote them.
//!
//! The last line may be torn: its effects were never carried out, so it is as if it had not happened. A line that is
//! broken *before* whole ones is damage: the replay goes on behind it, says so, and never ends with a larger share for the
//! candidate than the journal says was set.

use crate::effect::{Effect, WeightChange};
use crate::event::Event;
use crate::journal::{Line, Record, VERSION, split};
use crate::machine::Machine;

/// What a journal came to.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The machine as it was. Tell it [`Event::Restarted`] with [`Replayed::is_damaged`], and carry out what it says.
    pub machine: Machine,
    /// Lines that were read.
    pub records: usize,
    /// Where the last whole line ends: cut the file here before appending.
    pub end: usize,
    /// Bytes behind it, of a line that was torn.
    pub torn: usize,
    /// Why evidence may be missing; empty: it is not.
    pub damage: Vec<Damage>,
    /// What the last input decided. It may not have been carried out; it does no harm twice.
    pub last: Vec<Effect>,
}

/// Something that is wrong with a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Bytes before a whole line that are none.
    #[error("the bytes from {from} to {to} are no record")]
    Bytes {
        /// Where it begins.
        from: usize,
        /// Where it ends.
        to: usize,
    },
    /// A whole line that says nothing this version understands.
    #[error("the record at byte {at} cannot be read: {error}")]
    Record {
        /// Where it begins.
        at: usize,
        /// What is wrong with it.
        error: String,
    },
    /// The replay came to other weights than were set: by damage, or because a newer version decides otherwise.
    #[error("the journal says the candidate had {lived}, the replay says {replayed}; the smaller counts")]
    Diverged {
        /// What the journal says.
        lived: crate::share::Share,
        /// What the replay came to.
        replayed: crate::share::Share,
    },
}

/// A journal that holds no machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Neither an opening nor a checkpoint.
    #[error("the journal holds no beginning and no checkpoint; remove it to let the roll-out begin anew")]
    NoMachine,
    /// Written by a newer version.
    #[error("the journal has version {0}, this is {VERSION}; use the version that wrote it")]
    Version(u32),
}

impl Replayed {
    /// Whether evidence may be missing.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }

    /// What to tell the machine first.
    pub fn restarted(&self) -> Event {
        Event::Restarted { damaged: self.is_damaged() }
    }
}

/// The machine of a journal, from its last checkpoint that can be read.
pub fn replay(bytes: &[u8]) -> Result<Replayed, ReplayError> {
    let lines = split(bytes);
    let mut damage = Vec::new();
    let begin = lines.iter().enumerate().rev().find_map(|(index, line)| {
        if !line.json.starts_with(br#"{"checkpoint":"#) {
            return None;
        }
        match serde_json::from_slice::<Record>(line.json) {
            Ok(_) => Some(index),
            Err(error) => {
                damage.push(Damage::Record { at: line.at, error: error.to_string() });
                None
            }
        }
    });
    follow(bytes, lines.get(begin.unwrap_or(0)..).unwrap_or_default(), damage)
}

/// The machine of a journal, from its very beginning: what [`replay`] must agree with.
pub fn replay_from_start(bytes: &[u8]) -> Result<Replayed, ReplayError> {
    let lines = split(bytes);
    let lines: Vec<Line<'_>> = lines
        .into_iter()
        .enumerate()
        .filter(|(index, line)| *index == 0 || !line.json.starts_with(br#"{"checkpoint":"#))
        .map(|(_, line)| line)
        .collect();
    follow(bytes, &lines, Vec::new())
}

/// Tells a machine what the lines say.
struct Follower {
    machine: Option<Machine>,
    lived: Option<WeightChange>,
    last: Vec<Effect>,
    damage: Vec<Damage>,
}

fn follow(bytes: &[u8], lines: &[Line<'_>], damage: Vec<Damage>) -> Result<Replayed, ReplayError> {
    let mut follower = Follower { machine: None, lived: None, last: Vec::new(), damage };
    let whole = split(bytes);
    let mut end = lines.first().map_or(0, |line| line.at);
    for line in whole {
        if line.at < end {
            continue;
        }
        if line.at > end {
            follower.damage.push(Damage::Bytes { from: end, to: line.at });
        }
        end = line.end;
    }
    for line in lines {
        match serde_json::from_slice::<Record>(line.json) {
            Ok(record) => follower.take(record)?,
            Err(error) => follower.damage.push(Damage::Record { at: line.at, error: error.to_string() }),
        }
    }
    let Some(mut machine) = follower.machine else { return Err(ReplayError::NoMachine) };
    if let Some(lived) = follower.lived {
        let replayed = machine.effective_share().unwrap_or_default();
        if machine.fall_back_to(&lived) {
            follower.damage.push(Damage::Diverged { lived: lived.candidate, replayed });
        }
    }
    Ok(Replayed {
        machine,
        records: lines.len(),
        end,
        torn: bytes.len().saturating_sub(end),
        damage: follower.damage,
        last: follower.last,
    })
}

impl Follower {
    fn take(&mut self, record: Record) -> Result<(), ReplayError> {
        match record {
            Record::Opened { version, .. } | Record::Checkpoint { version, .. } if version > VERSION => {
                return Err(ReplayError::Version(version));
            }
            Record::Opened { at, plan, .. } => {
                self.machine = Some(Machine::new(*plan, at));
                self.lived = None;
            }
            Record::Checkpoint { machine, .. } => {
                self.machine = Some(*machine);
                self.lived = None;
            }
            Record::Told { input, decided } => {
                if let Some(machine) = self.machine.as_mut() {
                    self.last = machine.handle(&input);
                }
                self.lived = decided.into_iter().next_back().or(self.lived.take());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
