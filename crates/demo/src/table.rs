//! The table in the terminal: a line that lives while a step runs, and stays when it is done. Plain lines elsewhere.

use std::io::{IsTerminal, Write};

use tokio::time::{Duration, Instant};

use crate::load::Seen;
use crate::manifests::Release;
use crate::statistics::percentile;

/// How often a living line is drawn anew.
const REDRAW: Duration = Duration::from_millis(100);

/// One step's line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) release: Release,
    /// The candidate's weight in percent.
    pub(crate) weight: u32,
    pub(crate) requests: u32,
}

/// Draws lines.
#[derive(Debug)]
pub(crate) struct Table {
    live: bool,
    drawn: Instant,
}

impl Table {
    /// A table with its heading printed.
    pub(crate) fn begin() -> Self {
        println!(
            "{:<18}{:>8}{:>10}{:>11}{:>10}{:>10}{:>8}  verdict",
            "release", "weight", "requests", "candidate", "TTFT p50", "p99", "errors"
        );
        Self { live: std::io::stdout().is_terminal(), drawn: Instant::now() }
    }

    /// Shows a step under way, if this is a terminal and the last drawing is a while ago.
    pub(crate) fn show(&mut self, line: Line, seen: &Seen) {
        if self.live && self.drawn.elapsed() >= REDRAW {
            self.drawn = Instant::now();
            let mut sorted = seen.first_bytes.clone();
            sorted.sort_by(f64::total_cmp);
            print!("\r\x1b[2K{}", text(line, seen, &sorted));
            let _ = std::io::stdout().flush();
        }
    }

    /// Leaves a finished step's line.
    pub(crate) fn keep(&mut self, line: Line, seen: &Seen, verdict: &str) {
        let start = if self.live { "\r\x1b[2K" } else { "" };
        println!("{start}{}  {verdict}", text(line, seen, &seen.first_bytes));
    }
}

fn text(line: Line, seen: &Seen, sorted: &[f64]) -> String {
    let share = f64::from(seen.candidate) * 100.0 / f64::from(seen.requests.max(1));
    let errors: u32 = seen.errors.values().sum();
    format!(
        "{:<18}{:>7}%{:>6}/{:<4}{:>9.1}%{:>7.1} ms{:>7.1} ms{:>8}",
        line.release.title(),
        line.weight,
        seen.requests,
        line.requests,
        share,
        percentile(sorted, 50.0),
        percentile(sorted, 99.0),
        errors
    )
}
