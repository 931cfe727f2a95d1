//! The `tidegate` command: arguments, wiring, runtimes. No logic of its own.

mod commands;

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
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Serve(arguments) => commands::serve::run(arguments),
    }
}
