//! The journal: one line for each input, so that what was decided can be decided again.
//!
//! A line is `<checksum> <length> <json>`: XXH3 of the JSON as 16 hexadecimal digits, its length in bytes, the
//! [`Record`]. Lines are only ever appended; a checkpoint begins a new file. Nothing here touches a disk: the controller
//! writes the bytes ([`Journal`]) and hands them back ([`crate::replay::replay`]).
//!
//! The order that keeps every promise: handle the input; append its line ([`told`]); fsync where an effect
//! [`Effect::needs_sync`]; then carry the effects out.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::effect::{Effect, WeightChange};
use crate::event::{Event, Input, Stamp};
use crate::machine::Machine;
use crate::plan::Plan;

/// The form of records that this version writes and reads.
pub const VERSION: u32 = 1;
/// The longest record that is read: 64 MiB. A checkpoint is far smaller.
pub const LONGEST: usize = 64 << 20;
/// A journal longer than this is worth shortening to a checkpoint ([`Journal::replace`]): 16 MiB, a second to replay.
pub const SHORTEN_AT: u64 = 16 << 20;
/// Hexadecimal digits of a checksum.
const CHECKSUM: usize = 16;

/// Where records are kept. Its methods block; they are called by the controller, never on a request's way.
pub trait Journal {
    /// What can go wrong.
    type Error: std::error::Error;

    /// Adds whole lines at the end. They may still be in memory afterwards.
    fn append(&mut self, lines: &[u8]) -> Result<(), Self::Error>;

    /// Puts everything appended so far on disk.
    fn sync(&mut self) -> Result<(), Self::Error>;

    /// Begins anew with these lines: written beside the old ones, fsynced, then renamed over them. Durable when it
    /// returns; after a crash either all of the old or all of the new is there.
    fn replace(&mut self, lines: &[u8]) -> Result<(), Self::Error>;
}

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Record {
    /// A machine began.
    Opened {
        /// [`VERSION`].
        version: u32,
        /// When.
        at: Stamp,
        /// With this plan.
        plan: Box<Plan>,
    },
    /// The machine was told something.
    Told {
        /// What.
        input: Box<Input>,
        /// How it changed the weights. A replay comes to the same; this is what was lived when it does not.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        decided: Vec<WeightChange>,
    },
    /// All of the machine. What is before it is needed no more.
    Checkpoint {
        /// [`VERSION`].
        version: u32,
        /// The machine.
        machine: Box<Machine>,
    },
}

/// A record that cannot be written so that it can be read again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It does not fit the form.
    #[error("a record of the journal cannot be written: {0}")]
    Form(#[from] serde_json::Error),
    /// It is too long.
    #[error("a record of {0} bytes is longer than {LONGEST}")]
    Length(usize),
}

/// The first line of a new journal; the machine is [`Machine::new`] of the same plan and time.
pub fn opening(plan: &Plan, at: Stamp) -> Result<Vec<u8>, WriteError> {
    let line = line(&Record::Opened { version: VERSION, at, plan: Box::new(plan.clone()) })?;
    read_back(&line)?;
    Ok(line)
}

/// The line of one input and of the weights it changed. Append it before an effect is carried out: it is torn as a
/// whole, or holds as a whole.
pub fn told(input: &Input, effects: &[Effect]) -> Result<Vec<u8>, WriteError> {
    let input = Box::new(input.sound().into_owned());
    let is_document = matches!(input.event, Event::Document(_));
    let changes = effects.iter().filter_map(|effect| match effect {
        Effect::SetWeights(change) => Some(change.clone()),
        _ => None,
    });
    let line = line(&Record::Told { input, decided: changes.collect() })?;
    if is_document {
        // Numbers that JSON cannot hold must be met here, not after the next restart.
        read_back(&line)?;
    }
    Ok(line)
}

/// The line of a checkpoint: the answer to [`Effect::Checkpoint`], and the first line of a shortened journal.
pub fn checkpoint(machine: &Machine) -> Result<Vec<u8>, WriteError> {
    line(&Record::Checkpoint { version: VERSION, machine: Box::new(machine.clone()) })
}

fn line(record: &Record) -> Result<Vec<u8>, WriteError> {
    let json = serde_json::to_vec(record)?;
    if json.len() > LONGEST {
        return Err(WriteError::Length(json.len()));
    }
    Ok(frame(&json))
}

fn read_back(line: &[u8]) -> Result<(), WriteError> {
    let json = split(line).first().map(|found| found.json).unwrap_or_default();
    serde_json::from_slice::<Record>(json)?;
    Ok(())
}

/// Puts checksum and length before a record's JSON, and a newline behind it.
pub fn frame(json: &[u8]) -> Vec<u8> {
    let mut line = format!("{:0CHECKSUM$x} {} ", xxh3_64(json), json.len()).into_bytes();
    line.extend_from_slice(json);
    line.push(b'\n');
    line
}

/// A whole line that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Where it begins.
    pub(crate) at: usize,
    /// Where it ends, its newline included.
    pub(crate) end: usize,
    pub(crate) json: &'a [u8],
}

/// Every whole line whose checksum holds, in order. What lies between them is left out.
pub(crate) fn split(bytes: &[u8]) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        if let Some((json, length)) = read_line(rest) {
            lines.push(Line { at, end: at.saturating_add(length), json });
            at = at.saturating_add(length);
        } else {
            // JSON holds no bare newline: the next line begins behind the next one.
            let Some(newline) = rest.iter().position(|byte| *byte == b'\n') else { break };
            at = at.saturating_add(newline).saturating_add(1);
        }
    }
    lines
}

/// The JSON of the line that the bytes begin with, and the length of the whole line.
fn read_line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (checksum, rest) = bytes.split_at_checked(CHECKSUM)?;
    let checksum = u64::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
    let rest = rest.strip_prefix(b" ")?;
    let digits = rest.iter().take(10).position(|byte| *byte == b' ')?;
    let (length, rest) = rest.split_at_checked(digits)?;
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    let (json, rest) = rest.strip_prefix(b" ")?.split_at_checked(length)?;
    if length > LONGEST || rest.first() != Some(&b'\n') || xxh3_64(json) != checksum {
        return None;
    }
    Some((json, CHECKSUM.checked_add(digits)?.checked_add(length)?.checked_add(3)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again_whatever_stands_around_it() {
        let line = frame(br#"{"a":1}"#);
        assert!(line.starts_with(format!("{:016x} 7 {{", xxh3_64(br#"{"a":1}"#)).as_bytes()));
        let mut bytes = b"half a li\n".to_vec();
        bytes.extend(&line);
        bytes.extend(b"deadbeefdeadbeef 7 {\"a\":1}\n");
        bytes.extend(&line);
        bytes.extend(line.get(..line.len() - 1).expect("a line"));
        let found = split(&bytes);
        assert_eq!(found.iter().map(|line| line.json).collect::<Vec<_>>(), [br#"{"a":1}"#; 2]);
        assert!(found.iter().all(|found| bytes.get(found.at..found.end) == Some(&line)));
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let line = frame(br#"{"input":{"t":{"m":1,"w":2},"e":"tick"}}"#);
        for index in 0..line.len() {
            let mut changed = line.clone();
            if let Some(byte) = changed.get_mut(index) {
                *byte ^= 1;
            }
            // Letter case of a checksum says the same.
            assert_eq!(split(&changed), [], "byte {index}");
        }
    }

    #[test]
    fn a_plan_that_json_cannot_hold_is_refused() {
        let mut plan = Plan::new("serving", "llm", "a", "b");
        assert!(opening(&plan, Stamp::default()).is_ok());
        plan.rollback.stable_headroom = f64::INFINITY;
        assert!(matches!(opening(&plan, Stamp::default()), Err(WriteError::Form(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_split(bytes: Vec<u8>) {
            let _ = split(&bytes);
        }

        #[test]
        fn any_json_comes_back(json in "\\{[^\n]{0,200}\\}", before in "[^\n]{0,40}") {
            let mut bytes = before.clone().into_bytes();
            bytes.push(b'\n');
            bytes.extend(frame(json.as_bytes()));
            let found = split(&bytes);
            proptest::prop_assert_eq!(found.last().map(|line| line.json), Some(json.as_bytes()));
        }
    }
}
