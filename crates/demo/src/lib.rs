//! The guides' three releases (new nodes, new base model, new LoRA adapter), played on this machine: first with weights
//! that are edited, as the guides do it, then by roll-outs that run themselves.
//!
//! Starts simulated model servers and a gateway as children of this process, writes manifests, moves weights by editing
//! them, sends traffic, and compares what it saw with what the weights say. Knows the gateway only as a user does: by
//! its command line, its manifests and its ports.

mod live;
mod load;
mod manifests;
mod play;
mod processes;
mod statistics;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

pub use play::DemoError;

/// Arguments of `tidegate demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Folder for the manifests; a temporary one when absent.
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Requests at each weight.
    #[arg(long, default_value_t = 400, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=100_000))]
    pub requests: u32,
    /// Stay up afterwards, to try `curl` against, until Ctrl-C.
    #[arg(long)]
    pub hold: bool,
}

/// Plays the releases. `SUCCESS` if every request was answered and every share is right; else says what was off.
/// Whatever the way out, the children are ended first.
pub async fn run(arguments: Arguments) -> ExitCode {
    match play::play(&arguments).await {
        Ok(faults) if faults.is_empty() => {
            println!("\nEvery request was answered, and every share is right.");
            ExitCode::SUCCESS
        }
        Ok(faults) => {
            eprintln!("\nNot as it should be:");
            for fault in faults {
                eprintln!("  {fault}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("\ndemo: {error}");
            ExitCode::FAILURE
        }
    }
}
