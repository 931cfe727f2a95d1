//! The two runtimes: the data plane's threads never wait for a reload, a poll or the admin API.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Threads of the process.
#[derive(Debug)]
pub(crate) struct Runtimes {
    /// Requests.
    pub(crate) data: Runtime,
    /// Everything else.
    pub(crate) control: Runtime,
}

impl Runtimes {
    /// A data runtime with `workers` threads (one a core when `None`), and a control runtime with one.
    pub(crate) fn start(workers: Option<usize>) -> io::Result<Self> {
        let workers = workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let data = Builder::new_multi_thread().worker_threads(workers).thread_name("data").enable_all().build()?;
        let control = Builder::new_multi_thread().worker_threads(1).thread_name("control").enable_all().build()?;
        Ok(Self { data, control })
    }
}
