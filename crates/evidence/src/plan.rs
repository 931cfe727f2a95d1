//! How long the judge will need: what `rollout plan` prints before anything starts.

use serde::{Deserialize, Serialize};

/// What a decision costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Units on the candidate until then, expected.
    pub candidate_units: u64,
    /// Units on both arms.
    pub units: u64,
}

impl Cost {
    /// Seconds until then at so many units a second over both arms; `None` without traffic.
    pub fn seconds(&self, units_per_second: f64) -> Option<f64> {
        (units_per_second > 0.0).then(|| self.units as f64 / units_per_second)
    }
}
