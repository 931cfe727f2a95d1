//! What finished requests say for or against a candidate.
//!
//! The data plane tells the [`Judge`] of every request when it arrives and when it has ended; the roll-out's state
//! machine asks it for a [`Verdict`]. Every test in here holds at every look (anytime-valid), so it may be asked at any
//! time and as often as one likes. Nothing here does I/O, reads a clock or draws random numbers: the same samples give
//! the same verdict, to the last bit, also across [`Judge::checkpoint`] and [`Judge::restore`].
//!
//! `docs/statistics.md` says what the methods are, what they assume and what they cannot see.

mod arm_of_event;
mod blocks;
mod bounds;
mod breaker;
mod judge;
mod latency;
mod numeric;
mod policy;
mod quantiles;
mod sample;
mod sample_ratio;
mod step;
mod units;
mod verdict;
mod wealth;

pub mod plan;

pub use bounds::MeanBounds;
pub use judge::{Checkpoint, Judge};
pub use policy::{Breaker, EventGuard, LatencyGuard, Policy, RATIO_GRID, TILT_GRID};
pub use sample::{Arm, Arrival, EventMetric, Events, LatencyMetric, Sample, Stratum};
pub use verdict::{
    Alarm, ArmCounts, Formula, Interval, Metric, MetricReport, QuantileReport, RatioReport, Report, Verdict, Why,
};

#[cfg(test)]
mod tests;
