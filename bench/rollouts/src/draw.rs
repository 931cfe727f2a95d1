//! Seeded draws from the distributions that traffic is made of.

/// A seeded stream of draws. Runs differ by seed only, so every one can be repeated alone.
pub(crate) struct Draw(fastrand::Rng);

impl Draw {
    /// The stream of run `run` of an experiment.
    pub(crate) fn of(seed: u64, run: u64) -> Self {
        Self(fastrand::Rng::with_seed(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ run.wrapping_mul(0xd134_2543_de82_ef95),
        ))
    }

    /// 0..1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0.f64()
    }

    /// 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Whether something of chance `p` happens.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.0.f64() < p
    }

    /// Exponential with this mean.
    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.0.f64()).ln()
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.0.f64()).cos()
    }

    /// 1, 2, 3, ... with this mean.
    pub(crate) fn geometric(&mut self, mean: f64) -> u32 {
        let mut count = 1;
        while count < 1_000 && self.0.f64() > 1.0 / mean {
            count += 1;
        }
        count
    }
}
