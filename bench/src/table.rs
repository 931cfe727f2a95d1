//! The table: medians with their spread, and the ratio to the bare proxy.

use std::time::Duration;

use crate::proxies::Kind;

/// One proxy in one round.
#[derive(Debug)]
pub(crate) struct Cell {
    /// CPU time a request, in the program.
    pub(crate) user_microseconds: f64,
    /// CPU time a request, in the kernel.
    pub(crate) system_microseconds: f64,
    /// How long each request over a single connection took.
    pub(crate) times: Vec<Duration>,
}

/// One proxy in all rounds.
#[derive(Debug)]
pub(crate) struct Row {
    kind: Kind,
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, cells: Vec::new() }
    }

    fn costs(&self) -> Vec<f64> {
        self.sorted(|cell| cell.user_microseconds + cell.system_microseconds)
    }

    fn sorted(&self, figure: impl Fn(&Cell) -> f64) -> Vec<f64> {
        let mut figures: Vec<f64> = self.cells.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures
    }

    /// The quantile in microseconds over the requests of all rounds.
    fn latency(&self, quantile: f64) -> f64 {
        let mut times: Vec<f64> =
            self.cells.iter().flat_map(|cell| &cell.times).map(|time| time.as_secs_f64() * 1e6).collect();
        times.sort_unstable_by(f64::total_cmp);
        at(&times, quantile)
    }
}

/// The value below which this share of the sorted values lies; 0 where there are none.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    let index = (quantile * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// Prints one line a proxy. Latency is what it adds to the same requests sent to the server directly.
pub(crate) fn print(rows: &[Row], base: Kind) {
    let direct = rows.iter().find(|row| row.kind == Kind::Direct);
    let floor = |quantile| direct.map_or(0.0, |row| row.latency(quantile));
    let base = rows.iter().find(|row| row.kind == base).map_or(0.0, |row| at(&row.costs(), 0.5));
    println!(
        "| proxy | CPU µs/request: min | median | max | median ÷ bare | user | system | p50 µs | p99 µs | added p50 | added p99 |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        let (median, tail) = (row.latency(0.5), row.latency(0.99));
        let latency = format!("{median:.0} | {tail:.0} | {:.0} | {:.0}", median - floor(0.5), tail - floor(0.99));
        if row.kind == Kind::Direct {
            println!("| {} | | | | | | | {latency} |", row.kind);
            continue;
        }
        let costs = row.costs();
        let (low, middle, high) = (at(&costs, 0.0), at(&costs, 0.5), at(&costs, 1.0));
        let user = at(&row.sorted(|cell| cell.user_microseconds), 0.5);
        let system = at(&row.sorted(|cell| cell.system_microseconds), 0.5);
        let times = middle / base;
        println!(
            "| {} | {low:.1} | {middle:.1} | {high:.1} | {times:.2} | {user:.1} | {system:.1} | {latency} |",
            row.kind
        );
    }
}
