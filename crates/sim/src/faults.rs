//! What can be made to go wrong, from the start or while the server runs. Each rate is the share of requests, drawn
//! with the server's seed.

use serde::{Deserialize, Serialize};

/// Faults; all off by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Answered with 500.
    pub error_rate: f64,
    /// Answered with the 503 of an overloaded server.
    pub overload_rate: f64,
    /// Streams refused inside their 200 answer (others: 503).
    pub refuse_in_stream_rate: f64,
    /// Whose first token comes late, by `stall_seconds`.
    pub stall_rate: f64,
    /// Wall seconds of a stall.
    pub stall_seconds: f64,
    /// Streams that fall silent after `silence_after` chunks and stay open.
    pub silence_rate: f64,
    /// Chunks before the silence.
    pub silence_after: u32,
    /// Streams whose connection is reset after `reset_after` chunks.
    pub reset_mid_stream_rate: f64,
    /// Chunks before the reset.
    pub reset_after: u32,
    /// Answers with half of their tokens.
    pub truncated_rate: f64,
    /// Answers without any text.
    pub empty_rate: f64,
    /// Answers whose JSON is cut in two.
    pub malformed_rate: f64,
    /// Everything takes so many times longer.
    pub latency_factor: f64,
    /// For so many wall seconds after this is set (or after the start) steps take longer, at first
    /// `slow_start_factor` times, then less and less.
    pub slow_start_seconds: f64,
    /// See `slow_start_seconds`.
    pub slow_start_factor: f64,
    /// The port is closed; connections that are open stay.
    pub refuse_connections: bool,
    /// The engine stands still: health is good, metrics are frozen, no request is answered.
    pub engine_stopped: bool,
    /// The engine dies: streams get an error event, health is 503, then the server ends.
    pub engine_killed: bool,
    /// Health is good and new requests get the 500 of a server that is going away.
    pub draining: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            error_rate: 0.0,
            overload_rate: 0.0,
            refuse_in_stream_rate: 0.0,
            stall_rate: 0.0,
            stall_seconds: 5.0,
            silence_rate: 0.0,
            silence_after: 2,
            reset_mid_stream_rate: 0.0,
            reset_after: 2,
            truncated_rate: 0.0,
            empty_rate: 0.0,
            malformed_rate: 0.0,
            latency_factor: 1.0,
            slow_start_seconds: 0.0,
            slow_start_factor: 10.0,
            refuse_connections: false,
            engine_stopped: false,
            engine_killed: false,
            draining: false,
        }
    }
}

/// A fault that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// Outside its range.
    #[error("fault {field}: {found} is not allowed; use {allowed}")]
    Range {
        /// Which.
        field: &'static str,
        /// What was given.
        found: f64,
        /// What may be given.
        allowed: &'static str,
    },
    /// Not a fault, or of the wrong type.
    #[error("faults: {0}")]
    Shape(String),
}

impl Faults {
    /// These faults with those that `changes` (a JSON object) names put in their place.
    ///
    /// # Errors
    /// When `changes` is no object, names what is no fault, or gives it a wrong type or range.
    pub fn changed(&self, changes: &serde_json::Value) -> Result<Self, FaultError> {
        let shape = |error: serde_json::Error| FaultError::Shape(error.to_string());
        let mut whole = serde_json::to_value(self).map_err(shape)?;
        let (Some(whole_fields), Some(fields)) = (whole.as_object_mut(), changes.as_object()) else {
            return Err(FaultError::Shape("expected a JSON object of faults".into()));
        };
        for (field, value) in fields {
            whole_fields.insert(field.clone(), value.clone());
        }
        let changed: Self = serde_json::from_value(whole).map_err(shape)?;
        changed.validate()?;
        Ok(changed)
    }

    /// Refuses rates outside 0 to 1 and negative times.
    ///
    /// # Errors
    /// Names the fault.
    pub fn validate(&self) -> Result<(), FaultError> {
        for (field, found) in [
            ("error_rate", self.error_rate),
            ("overload_rate", self.overload_rate),
            ("refuse_in_stream_rate", self.refuse_in_stream_rate),
            ("stall_rate", self.stall_rate),
            ("silence_rate", self.silence_rate),
            ("reset_mid_stream_rate", self.reset_mid_stream_rate),
            ("truncated_rate", self.truncated_rate),
            ("empty_rate", self.empty_rate),
            ("malformed_rate", self.malformed_rate),
        ] {
            if !(0.0..=1.0).contains(&found) {
                return Err(FaultError::Range { field, found, allowed: "0 to 1" });
            }
        }
        for (field, found) in [("stall_seconds", self.stall_seconds), ("slow_start_seconds", self.slow_start_seconds)] {
            if !(0.0..=86_400.0).contains(&found) {
                return Err(FaultError::Range { field, found, allowed: "0 to 86400" });
            }
        }
        for (field, found) in [("latency_factor", self.latency_factor), ("slow_start_factor", self.slow_start_factor)] {
            if !(0.01..=10_000.0).contains(&found) {
                return Err(FaultError::Range { field, found, allowed: "0.01 to 10000" });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Faults;

    #[test]
    fn only_what_is_named_changes() {
        let faults = Faults::default().changed(&json!({"error_rate": 0.5})).unwrap();
        let faults = faults.changed(&json!({"draining": true})).unwrap();
        assert!(faults.draining && faults.error_rate == 0.5);
        for bad in [json!({"error_rate": 2.0}), json!({"nope": 1}), json!({"draining": "yes"}), json!([])] {
            assert!(faults.changed(&bad).is_err(), "{bad}");
        }
    }
}
