//! Split: a weighted choice among arms.
//!
//! Without a session key the choice is random per request, as the Gateway API asks (a smooth round robin would fail
//! its conformance test). With one it is weighted rendezvous over a stable hash of session and arm, for two arms as
//! for more: editing weights only moves sessions towards the arm that grew, and neither the order of the arms nor an
//! arm of weight 0 beside them moves any. (A threshold for two arms would move sessions when a third is written down.)

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Where a choice comes from.
#[derive(Clone, Copy, Debug)]
pub enum Draw<'a> {
    /// 64 uniform random bits from the caller.
    Random(u64),
    /// A session key: the same key gives the same arm while the weights stand.
    Session(&'a [u8]),
}

/// A compiled weighted choice; arms are named by position, 0 to 31 can be masked out.
#[derive(Debug, Default)]
pub struct Split {
    /// Hash of the split's identity: sessions fall differently in different splits.
    seed: u64,
    arms: Vec<SplitArm>,
}

#[derive(Debug)]
struct SplitArm {
    weight: u32,
    /// Hash of the arm's name: what decides which sessions it gets.
    name: u64,
}

impl Split {
    /// A split over arms with stable names and weights. `seed` is the identity of the split (route and rule, or pool
    /// and model), the same on every replica and after every restart. An arm's name, not its position, decides which
    /// sessions it gets.
    pub fn new(seed: &str, arms: &[(&str, u32)]) -> Self {
        let seed = xxh3_64_with_seed(seed.as_bytes(), 0);
        let mut seen: HashMap<&str, u64> = HashMap::new();
        let arms = arms
            .iter()
            .map(|(name, weight)| {
                let times = seen.entry(name).and_modify(|times| *times += 1).or_default();
                // A name that comes again draws anew, so that its shares add up.
                SplitArm { weight: *weight, name: xxh3_64_with_seed(name.as_bytes(), seed.wrapping_add(*times)) }
            })
            .collect();
        Self { seed, arms }
    }

    /// The chosen arm; `None` when every arm that is not masked has weight 0. Bit `i` of `masked` takes arm `i` out
    /// of the choice, and its share goes to the others in proportion to their weights.
    pub fn choose(&self, draw: Draw<'_>, masked: u32) -> Option<usize> {
        match draw {
            Draw::Random(bits) => self.by_position(bits, masked),
            Draw::Session(key) => self.by_rendezvous(xxh3_64_with_seed(key, self.seed), masked),
        }
    }

    /// The arms that can be chosen.
    fn open(&self, masked: u32) -> impl Iterator<Item = (usize, &SplitArm)> {
        let is_masked = move |index: usize| index < 32 && masked & (1_u32 << index) != 0;
        self.arms.iter().enumerate().filter(move |(index, arm)| arm.weight > 0 && !is_masked(*index))
    }

    /// The arm whose part of the line from 0 to 2^64 holds `bits`. The error of a share is below 2^-44.
    fn by_position(&self, bits: u64, masked: u32) -> Option<usize> {
        let total: u64 = self.open(masked).map(|(_, arm)| u64::from(arm.weight)).sum();
        let mut point = (u128::from(bits) * u128::from(total)) >> 64;
        for (index, arm) in self.open(masked) {
            match point.checked_sub(u128::from(arm.weight)) {
                Some(beyond) => point = beyond,
                None => return Some(index),
            }
        }
        None
    }

    /// Weighted rendezvous (Schindelhauer and Schomaker 2005; the logarithmic form): the arm with the smallest
    /// `-ln(u) / weight`, `u` a uniform hash of arm and key.
    fn by_rendezvous(&self, hash: u64, masked: u32) -> Option<usize> {
        self.open(masked)
            .map(|(index, arm)| {
                let bits = xxh3_64_with_seed(&hash.to_le_bytes(), arm.name) >> 11;
                // 53 bits, moved off 0, whose logarithm is infinite.
                #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
                let uniform = (bits as f64 + 0.5) / 9_007_199_254_740_992.0;
                (index, arm.name, -uniform.ln() / f64::from(arm.weight))
            })
            .min_by(|one, other| one.2.total_cmp(&other.2).then(one.1.cmp(&other.1)))
            .map(|(index, _, _)| index)
    }
}

#[cfg(test)]
mod tests;
