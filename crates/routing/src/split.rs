//! Split: a weighted choice among arms.
//!
//! Without a session key the choice is random per request, as the Gateway API asks (a smooth round robin would fail
//! its conformance test). With one it is a stable hash: two arms are a threshold on `u = XXH3(seed, key)`, more are
//! weighted rendezvous, so that editing weights only moves sessions towards the arm that grew.

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
    // (the routing author fills this in)
    weights: Vec<u32>,
}

impl Split {
    /// A split over arms with stable names and weights. `seed` is the identity of the split (route and rule, or pool
    /// and model), the same on every replica and after every restart. An arm's name, not its position, decides which
    /// sessions it gets.
    pub fn new(seed: &str, arms: &[(&str, u32)]) -> Self {
        let _ = seed;
        Self { weights: arms.iter().map(|(_, weight)| *weight).collect() }
    }

    /// The chosen arm; `None` when every arm that is not masked has weight 0. Bit `i` of `masked` takes arm `i` out
    /// of the choice, and its share goes to the others in proportion to their weights.
    pub fn choose(&self, draw: Draw<'_>, masked: u32) -> Option<usize> {
        let _ = (draw, masked);
        self.weights.iter().position(|weight| *weight > 0)
    }
}
