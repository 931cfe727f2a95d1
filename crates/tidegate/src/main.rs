//! The `tidegate` command: arguments, wiring, runtimes. No logic of its own.

mod commands;
mod control;
mod evidence_bridge;
mod output;
mod rollout_api;
mod rollouts;
mod runtimes;
mod view;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An inference gateway that moves live LLM traffic from one version to the next.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, propagate_version = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve manifests from files and folders.
    Serve(commands::serve::Arguments),
    /// Serve as a simulated vLLM.
    Sim(tidegate_sim::Arguments),
    /// Play the guides' three releases on this machine.
    Demo(tidegate_demo::Arguments),
    /// Print every document with its conditions and repairs; exit 1 if one is not accepted.
    Check(commands::check::Arguments),
    /// Print manifests in their current form.
    Migrate(commands::migrate::Arguments),
    /// Print objects and conditions of a running gateway.
    Get(commands::get::Arguments),
    /// See roll-outs of a running gateway, and tell them what to do.
    Rollout(commands::rollout::Arguments),
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Serve(arguments) => commands::serve::run(arguments),
        Command::Check(arguments) => commands::check::run(arguments),
        Command::Migrate(arguments) => commands::migrate::run(arguments),
        Command::Get(arguments) => commands::get::run(arguments),
        Command::Rollout(arguments) => commands::rollout::run(arguments),
        Command::Sim(arguments) => block_on(tidegate_sim::run(arguments)),
        Command::Demo(arguments) => block_on(tidegate_demo::run(arguments)),
    }
}

/// Runs a command that has no data plane of its own.
fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            eprintln!("tidegate: cannot start threads: {error}");
            ExitCode::FAILURE
        }
    }
}
