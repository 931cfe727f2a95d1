//! Thousands of simulated roll-outs through the production judge: how often a healthy candidate is turned back, and how
//! long a faulty one lasts. Every number comes from a seed and can be repeated.

mod draw;
mod rivals;
mod scenarios;
mod tally;
mod traffic;

use std::collections::BTreeMap;

use clap::{Parser, Subcommand};

use crate::draw::Draw;
use crate::rivals::{Argo, Fixed, Kayenta, Rival, Series};
use crate::scenarios::{Faulty, LADDER, Null};
use crate::tally::{clopper_pearson_upper, quantile};
use crate::traffic::{Fault, Outcome, Run, Traffic};
use tidegate_evidence::{Arm, Policy};

/// Simulated roll-outs through the production judge.
#[derive(Parser)]
struct Arguments {
    /// Seed of all runs.
    #[arg(long, default_value_t = 20_261_123, global = true)]
    seed: u64,
    /// Runs of each experiment.
    #[arg(long, default_value_t = 200, global = true)]
    runs: u64,
    /// Only experiments whose name holds this.
    #[arg(long, default_value = "", global = true)]
    only: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Healthy candidates: how many are turned back.
    Nulls,
    /// Faulty candidates: after how many requests they are turned back.
    Delays,
    /// The same traffic judged by others.
    Rivals,
    /// Candidates just too bad to be promoted: how many are.
    Promotions,
}

fn main() {
    let arguments = Arguments::parse();
    let (seed, runs) = (arguments.seed, arguments.runs);
    println!("seed {seed}, {runs} runs of each");
    match arguments.what {
        What::Nulls => {
            println!(
                "| null | turned back | of | share | upper 95 % | weight doubted | by |\n|---|---|---|---|---|---|---|"
            );
            for null in scenarios::nulls().iter().filter(|null| null.name.contains(&arguments.only)) {
                println!("{}", Found::of(null, &scenarios::strict(), seed, runs).row(null.name));
            }
        }
        What::Delays => {
            println!(
                "| fault | found | candidate requests median (p90) | all requests median | seconds median (p90) | limit | by |\n\
                 |---|---|---|---|---|---|---|"
            );
            for faulty in scenarios::faults().iter().filter(|faulty| faulty.name.contains(&arguments.only)) {
                println!("{}", delays(faulty, seed, runs));
            }
        }
        What::Rivals => compare(seed, runs, &arguments.only),
        What::Promotions => promotions(seed, runs),
    }
}

/// What the runs of a null came to.
struct Found {
    runs: u64,
    turned_back: u64,
    doubted: u64,
    by: BTreeMap<String, u64>,
}

impl Found {
    fn of(null: &Null, policy: &Policy, seed: u64, runs: u64) -> Self {
        let mut found = Self { runs, turned_back: 0, doubted: 0, by: BTreeMap::new() };
        for run in 0..runs {
            let outcome =
                Run::new(&null.traffic, &Fault::NONE, policy.clone(), Draw::of(seed, run))
                    .play(&LADDER, None, |_| false);
            found.doubted += u64::from(outcome.mismatch);
            if let Some(by) = by(&outcome) {
                found.turned_back += 1;
                *found.by.entry(by).or_default() += 1;
            }
        }
        found
    }

    fn upper(&self) -> f64 {
        clopper_pearson_upper(self.turned_back, self.runs)
    }

    fn row(&self, name: &str) -> String {
        let share = 100.0 * self.turned_back as f64 / self.runs as f64;
        format!(
            "| {name} | {} | {} | {share:.2} % | {:.2} % | {} | {:?} |",
            self.turned_back,
            self.runs,
            100.0 * self.upper(),
            self.doubted,
            self.by
        )
    }
}

fn by(outcome: &Outcome) -> Option<String> {
    let alarm = outcome.alarm.as_ref()?;
    Some(format!("{} {}", alarm.metric.map_or("", |metric| metric.word()), alarm.formula.name()))
}

fn delays(faulty: &Faulty, seed: u64, runs: u64) -> String {
    let (mut candidates, mut all, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
    let mut formulas = BTreeMap::<String, u64>::new();
    for run in 0..runs {
        let run = Run::new(&faulty.traffic, &faulty.fault, faulty.policy.clone(), Draw::of(seed, run));
        let outcome = run.play(&[faulty.step], None, |_| false);
        if let Some(by) = by(&outcome) {
            candidates.push(outcome.candidate as f64);
            all.push(outcome.requests as f64);
            seconds.push(outcome.seconds);
            *formulas.entry(by).or_default() += 1;
        }
    }
    let found = candidates.len();
    // Runs that were not found count as longer than all that were.
    for values in [&mut candidates, &mut all, &mut seconds] {
        values.resize(runs as usize, f64::INFINITY);
    }
    let of = |values: &mut Vec<f64>, p| quantile(values, p).unwrap_or(f64::NAN);
    format!(
        "| {} | {found}/{runs} | {:.0} ({:.0}) | {:.0} | {:.0} ({:.0}) | {} | {formulas:?} |",
        faulty.name,
        of(&mut candidates, 0.5),
        of(&mut candidates, 0.9),
        of(&mut all, 0.5),
        of(&mut seconds, 0.5),
        of(&mut seconds, 0.9),
        faulty.limit.map_or(String::new(), |limit| format!("<= {limit}")),
    )
}

/// Plays one run before all rivals at once: after how many finished candidate requests each rolls back.
fn before_rivals(fault: &Fault, draw: Draw, rivals: &mut [Box<dyn Rival>]) -> Vec<Option<f64>> {
    let mut policy = Policy::node();
    policy.events.clear();
    policy.latencies.clear();
    policy.breaker.enabled = false;
    let mut found = vec![None; rivals.len()];
    let mut candidates = 0.0;
    Run::new(&Traffic::PLAIN, fault, policy, draw).play(&[(0.1, COMPARED)], None, |seen| {
        candidates += f64::from(u8::from(seen.arm == Arm::Candidate));
        for (found, rival) in found.iter_mut().zip(rivals.iter_mut()).filter(|(found, _)| found.is_none()) {
            *found = rival.observe(seen).then_some(candidates);
        }
        found.iter().all(Option::is_some)
    });
    found
}

/// Requests of a comparison: 100 minutes at 20 a second.
const COMPARED: u64 = 120_000;

fn compare(seed: u64, runs: u64, only: &str) {
    let faults = [
        (Series::Errors, "healthy", Fault::NONE),
        (Series::Errors, "errors x2", Fault { errors: 2.0, ..Fault::NONE }),
        (Series::Errors, "errors x3", Fault { errors: 3.0, ..Fault::NONE }),
        (Series::Errors, "errors x10", Fault { errors: 10.0, ..Fault::NONE }),
        (Series::Ttft, "healthy", Fault::NONE),
        (Series::Ttft, "ttft x1.2", Fault { ttft: 1.2, ..Fault::NONE }),
        (Series::Ttft, "ttft x1.5", Fault { ttft: 1.5, ..Fault::NONE }),
    ];
    println!("20 requests a second, 10 % to the candidate, base 1 %, {COMPARED} requests at most.");
    println!("| judge | metric | candidate | rolled back | candidate requests median (p90) |\n|---|---|---|---|---|");
    for (series, name, fault) in faults.into_iter().filter(|fault| fault.1.contains(only)) {
        let names = judges(series).into_iter().map(|judge| judge.0);
        let mut delays = vec![Vec::new(); names.len()];
        for run in 0..runs {
            let mut rivals: Vec<_> = judges(series).into_iter().map(|judge| judge.1).collect();
            let found = before_rivals(&fault, Draw::of(seed, run), &mut rivals);
            for (delays, found) in delays.iter_mut().zip(found) {
                delays.push(found.unwrap_or(f64::INFINITY));
            }
        }
        for (judge, mut delays) in names.zip(delays) {
            let found = delays.iter().filter(|delay| delay.is_finite()).count();
            let (half, most) = (quantile(&mut delays, 0.5), quantile(&mut delays, 0.9));
            let (half, most) = (half.unwrap_or(f64::NAN), most.unwrap_or(f64::NAN));
            println!("| {judge} | {series:?} | {name} | {found}/{runs} | {half:.0} ({most:.0}) |");
        }
    }
}

/// The others. Critical values of the calibrated ones let about 1 % of healthy runs of this length be rolled back: the
/// 99 % quantiles of the largest score over all looks, simulated on their own with numpy.
fn judges(series: Series) -> Vec<(&'static str, Box<dyn Rival>)> {
    let (kayenta, long, short) = match series {
        Series::Errors => (1.75, 3.28, 4.2),
        Series::Ttft => (0.78, 3.02, 3.48),
    };
    let mut judges: Vec<(&'static str, Box<dyn Rival>)> = vec![
        ("Kayenta, as it comes", Box::new(Kayenta::new(series, 2.326))),
        ("Kayenta, calibrated to 1 %", Box::new(Kayenta::new(series, kayenta))),
        ("fixed window of 1500, 1 %", Box::new(Fixed::new(series, 1_500, long))),
        ("fixed window of 300, 1 %", Box::new(Fixed::new(series, 300, short))),
    ];
    if series == Series::Errors {
        judges.insert(0, ("Argo, as it comes", Box::new(Argo::default())));
    }
    judges
}

/// Candidates whose harm is exactly the budget: a promotion is a mistake, allowed in 5 %.
fn promotions(seed: u64, runs: u64) {
    println!("| candidate | promoted by mistake | share | upper 95 % |\n|---|---|---|---|");
    let mut policy = Policy::node();
    policy.alpha = 1e-9;
    policy.breaker.enabled = false;
    let plain = Traffic { wave: 0.0, ..Traffic::PLAIN };
    // At 25 %, going on to 50 %, a budget of 0.5 points allows 1 point: 1 % becomes 2 %.
    let errors = ("errors 1 % -> 2 % at 25 %, next 50 %", Fault { errors: 2.0, ..Fault::NONE });
    let latency = ("ttft x1.15 at 25 %, margin 15 %", Fault { ttft: 1.15, ..Fault::NONE });
    for ((name, fault), latencies) in [(errors, false), (latency, true)] {
        let mut policy = policy.clone();
        if latencies {
            policy.events.clear();
        } else {
            policy.latencies.clear();
        }
        let wrong = (0..runs)
            .filter(|run| {
                let run = Run::new(&plain, &fault, policy.clone(), Draw::of(seed, *run));
                run.play(&[(0.25, 40_000)], Some(0.5), |_| false).promoted
            })
            .count() as u64;
        let share = 100.0 * wrong as f64 / runs as f64;
        println!("| {name} | {wrong}/{runs} | {share:.2} % | {:.2} % |", 100.0 * clopper_pearson_upper(wrong, runs));
    }
}

#[cfg(test)]
mod tests;
