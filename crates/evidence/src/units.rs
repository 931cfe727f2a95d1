//! Which units have been counted: exact up to a capacity, and then an exact answer for a sample of all units.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::numeric::mix;

/// What is known of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Met for the first time, and remembered from now on.
    New,
    /// Met before.
    Again,
    /// Not in the sample: nobody knows, so it must not count.
    Outside,
}

/// A set of units in bounded memory that never takes a unit twice. When it is full it halves the share of units that it
/// looks at, by bits of their hash, and forgets those outside: a choice that knows neither arm nor outcome, so tests stay
/// valid and only get slower. Forgetting the oldest would let one session count again and again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Units {
    capacity: u32,
    level: u32,
    held: BTreeSet<u32>,
}

impl Units {
    pub(crate) fn new(capacity: u32) -> Self {
        Self { capacity: capacity.max(1), level: 0, held: BTreeSet::new() }
    }

    /// Takes `unit` in, unless it is known.
    pub(crate) fn take(&mut self, unit: u64) -> Known {
        let mark = mark(unit);
        if !self.within(mark) {
            return Known::Outside;
        }
        if self.held.contains(&mark) {
            return Known::Again;
        }
        while self.held.len() >= self.capacity as usize && self.level < 31 {
            self.level += 1;
            let level = self.level;
            self.held.retain(|held| sampled(*held, level));
        }
        if !self.within(mark) {
            return Known::Outside;
        }
        self.held.insert(mark);
        Known::New
    }

    fn within(&self, mark: u32) -> bool {
        sampled(mark, self.level)
    }
}

fn mark(unit: u64) -> u32 {
    (mix(unit) >> 32) as u32
}

/// Whether the lowest `level` bits are zero.
fn sampled(mark: u32, level: u32) -> bool {
    mark.trailing_zeros() >= level
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_counts_once_however_many_come() {
        let mut units = Units::new(64);
        let mut counted = std::collections::BTreeMap::<u64, u32>::new();
        for round in 0..3 {
            for unit in 0..5_000_u64 {
                if units.take(unit) == Known::New {
                    *counted.entry(unit).or_default() += 1;
                }
            }
            assert!(units.held.len() <= 64, "round {round}: {}", units.held.len());
        }
        assert!(counted.values().all(|times| *times == 1), "a unit counted twice");
        assert!(counted.len() > 100, "the sample goes on taking new units: {}", counted.len());
    }

    #[test]
    fn below_capacity_it_is_exact() {
        let mut units = Units::new(4_096);
        for unit in 0..4_000_u64 {
            assert_eq!(units.take(unit), Known::New);
            assert_eq!(units.take(unit), Known::Again);
        }
    }
}
