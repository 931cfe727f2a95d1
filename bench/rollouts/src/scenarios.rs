//! The experiments: healthy candidates under hard traffic, and faulty ones.

use tidegate_evidence::{EventGuard, EventMetric, LatencyGuard, LatencyMetric, Policy};

use crate::traffic::{Fault, Spread, Step, Traffic};

/// The ladder of the nulls: 1-5-25-50 %.
pub(crate) const LADDER: [Step; 4] = [(0.01, 2_000), (0.05, 2_000), (0.25, 4_000), (0.5, 4_000)];

/// A healthy candidate in traffic that could make it look bad.
pub(crate) struct Null {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is hard about it.
    pub(crate) traffic: Traffic,
}

/// All nulls, judged by the Node policy with no tolerance at all: the hardest case, for with a tolerance a healthy
/// candidate stands inside the hypothesis instead of on its edge.
pub(crate) fn nulls() -> Vec<Null> {
    let plain = Traffic::PLAIN;
    let sessions = Traffic { turns: 4.0, bad_sessions: true, session_spread: 0.5, ..plain };
    let null = |name, traffic| Null { name, traffic };
    vec![
        null("base-0.05%", Traffic { base: 0.000_5, ..plain }),
        null("base-1%", plain),
        null("base-5%", Traffic { base: 0.05, ..plain }),
        null("shared-bursts", Traffic { bursts: 0.6, ..plain }),
        null("diurnal-wave", Traffic { wave: 0.9, base: 0.02, ..plain }),
        null("cold-cache", Traffic { cold: 200, ..plain }),
        null("sessions-2", Traffic { turns: 2.0, ..sessions }),
        null("sessions-8", Traffic { turns: 8.0, ..sessions }),
        null("few-sessions", Traffic { rps: 1.0, turns: 8.0, ..sessions }),
        null("skewed-prompts", Traffic { skew: 0.9, turns: 4.0, session_spread: 0.8, ..plain }),
        null("heavy-tail", Traffic { spread: Spread::Pareto(1.1), ..plain }),
        null("censored", Traffic { patience: 8.0, ..plain }),
        null(
            "everything",
            Traffic {
                base: 0.02,
                spread: Spread::Pareto(1.5),
                wave: 0.8,
                bursts: 0.5,
                skew: 0.7,
                cold: 100,
                patience: 15.0,
                ..sessions
            },
        ),
    ]
}

/// The Node policy without tolerances, and the breaker as documents have it.
pub(crate) fn strict() -> Policy {
    let mut policy = Policy::node();
    policy.breaker.consecutive = 5;
    for guard in &mut policy.events {
        guard.tolerance = 1.0;
    }
    for guard in &mut policy.latencies {
        guard.tolerance = 0.0;
    }
    policy
}

/// One guard alone, with the whole error budget of 1 % and no tolerance: how the reference numbers were computed.
pub(crate) fn errors_alone() -> Policy {
    let mut policy = Policy::node();
    policy.events = vec![EventGuard { metric: EventMetric::Error, tolerance: 1.0, harm_budget: None }];
    policy.latencies.clear();
    policy
}

/// The same for the time to the first token.
pub(crate) fn ttft_alone(tolerance: f64) -> Policy {
    let mut policy = Policy::node();
    policy.events.clear();
    policy.latencies = vec![LatencyGuard { metric: LatencyMetric::Ttft, tolerance, margin: None }];
    policy
}

/// A faulty candidate, and the most candidate requests that finding it may take (median), where the issue sets one.
pub(crate) struct Faulty {
    /// Its name.
    pub(crate) name: String,
    /// Judged by.
    pub(crate) policy: Policy,
    /// What is wrong.
    pub(crate) fault: Fault,
    /// The traffic.
    pub(crate) traffic: Traffic,
    /// The one step.
    pub(crate) step: Step,
    /// Median candidate requests at most.
    pub(crate) limit: Option<f64>,
}

/// All faults at a share of 10 %.
pub(crate) fn faults() -> Vec<Faulty> {
    let mut all = Vec::new();
    let step = |requests| (0.1, requests);
    for (errors, limit) in [(2.0, None), (3.0, Some(450.0)), (5.0, None), (10.0, None), (100.0, None)] {
        let fault = Fault { errors, ..Fault::NONE };
        for (how, policy, limit) in [("alone", errors_alone(), limit), ("Node", Policy::node(), None)] {
            let name = format!("errors x{errors} ({how})");
            all.push(Faulty { name, policy, fault, traffic: Traffic::PLAIN, step: step(100_000), limit });
        }
    }
    for (ttft, limit) in [(1.1, None), (1.2, Some(120.0)), (1.5, Some(35.0)), (2.0, None)] {
        let fault = Fault { ttft, ..Fault::NONE };
        for (how, policy, limit) in [("alone, no tolerance", ttft_alone(0.0), limit), ("Node", Policy::node(), None)] {
            if ttft < 1.15 && how == "Node" {
                continue;
            }
            let name = format!("ttft x{ttft} ({how})");
            all.push(Faulty { name, policy, fault, traffic: Traffic::PLAIN, step: step(60_000), limit });
        }
    }
    let other = [
        ("tpot x1.3 (Node)", Fault { tpot: 1.3, ..Fault::NONE }),
        ("stalls 10% (Node)", Fault { stalls: 0.1, ..Fault::NONE }),
        ("empty 3% (Node)", Fault { empty: 0.03, ..Fault::NONE }),
        ("errors x5 after half the run (Node)", Fault { errors: 5.0, onset: 0.5, ..Fault::NONE }),
        ("ttft x1.5 after half the run (Node)", Fault { ttft: 1.5, onset: 0.5, ..Fault::NONE }),
    ];
    for (name, fault) in other {
        let (name, policy) = (name.to_owned(), Policy::node());
        all.push(Faulty { name, policy, fault, traffic: Traffic::PLAIN, step: step(60_000), limit: None });
    }
    all
}
