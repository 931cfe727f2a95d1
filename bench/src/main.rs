//! What a request costs: `cargo run --profile dist -p tidegate-bench -- cost`.
//!
//! One binary is the load, the model server that answers at once, and the bare proxy to compare with; each stands in a
//! process of its own, so that one proxy's CPU time is read alone.

mod backend;
mod bare;
mod cost;
mod load;
mod process;
mod proxies;
mod table;

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

// The gateway's allocator: a bare proxy with another one would be another runtime.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures what a request costs.
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// CPU time a request of each proxy, in turn, in several rounds.
    Cost(cost::Arguments),
    /// A model server that answers at once.
    Backend {
        /// Addresses to listen on.
        #[arg(long, required = true)]
        listen: Vec<SocketAddr>,
    },
    /// A proxy that does nothing but pass on.
    Bare {
        /// Address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// Address to pass on to.
        #[arg(long)]
        backend: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    match CommandLine::parse().command {
        Command::Cost(arguments) => current_thread()?.block_on(cost::run(arguments)),
        Command::Backend { listen } => one_worker()?.block_on(backend::serve(listen)),
        Command::Bare { listen, backend } => one_worker()?.block_on(bare::serve(listen, backend)),
    }
}

/// The load: one thread, so that it takes no more than a core from what it measures.
fn current_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// As `tidegate serve --workers 1` runs its data plane.
fn one_worker() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}
