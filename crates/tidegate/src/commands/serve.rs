//! `tidegate serve`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `tidegate serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Manifests: files or folders (recursively), YAML or JSON; can be given several times.
    #[arg(short = 'f', long = "filename", required = true, value_name = "PATH")]
    pub(crate) filename: Vec<PathBuf>,
    /// Namespace of documents that name none.
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Interface that listeners bind to.
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub(crate) bind: IpAddr,
    /// Address that stands in for a Gateway that routes name and nobody describes.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of the admin API.
    #[arg(long, default_value = "127.0.0.1:15000", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    /// Address of a read-only port with /healthz, /readyz and /metrics alone.
    #[arg(long, value_name = "ADDR")]
    pub(crate) probe_bind: Option<SocketAddr>,
    /// Folder for what must outlive the process (the admin token); `$XDG_STATE_HOME/tidegate` or
    /// `~/.local/state/tidegate` when absent.
    #[arg(long, value_name = "PATH")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Threads of the data plane; one a core when absent.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// How long running requests may take after SIGTERM, in seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub(crate) drain: u64,
    /// Write no access log.
    #[arg(long)]
    pub(crate) no_access_log: bool,
}

/// Runs until SIGTERM or Ctrl-C.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let _ = arguments;
    ExitCode::SUCCESS
}
