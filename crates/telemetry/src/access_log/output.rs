//! From the recorder to stdout, without ever waiting for it.
//!
//! A pipe that nobody reads blocks whoever writes to it. Only this module's own thread writes; the recorder hands it
//! whole chunks of lines over a bounded channel and, when there is no room, keeps a bounded buffer and then drops
//! lines, counted. An output that is closed is given up for good; any other error loses that chunk, counted.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use super::LineWriter;
use crate::Observation;
use crate::metrics::LogCounters;

/// Chunks on their way to the thread that writes.
const CHUNKS: usize = 16;
/// Size at which the buffer is no longer added to while the channel is full; with [`CHUNKS`], about 4 MiB in all.
const CHUNK_BYTES: usize = 256 * 1024;
/// Pause before another try at an output that is set to non-blocking and full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    lines: u64,
}

/// The recorder's end.
#[derive(Debug)]
pub(crate) struct LogOutput {
    lines: LineWriter,
    pending: Chunk,
    sender: Option<SyncSender<Chunk>>,
    done: Receiver<()>,
    closed: Arc<AtomicBool>,
    counters: LogCounters,
}

impl LogOutput {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(output: Box<dyn Write + Send>, counters: LogCounters) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(CHUNKS);
        let (finished, done) = sync_channel(1);
        let closed = Arc::new(AtomicBool::new(false));
        let writer = Writer { output, closed: closed.clone(), counters: counters.clone() };
        thread::Builder::new().name("access-log".into()).spawn(move || {
            writer.run(&receiver);
            // The one who waits may have given up; then nobody needs to know.
            let _ = finished.try_send(());
        })?;
        let pending = Chunk { bytes: Vec::new(), lines: 0 };
        Ok(Self { lines: LineWriter::default(), pending, sender: Some(sender), done, closed, counters })
    }

    /// Adds the line of one request.
    pub(crate) fn add(&mut self, observation: &Observation) {
        if self.sender.is_none() || self.closed.load(Ordering::Relaxed) {
            self.counters.failed.inc();
            return;
        }
        if self.pending.bytes.len() >= CHUNK_BYTES {
            self.hand_over();
        }
        if self.pending.bytes.len() >= CHUNK_BYTES {
            self.counters.full.inc();
            return;
        }
        self.lines.write(observation, &mut self.pending.bytes);
        self.pending.lines += 1;
    }

    /// Hands what is gathered to the thread that writes, if it has room.
    pub(crate) fn hand_over(&mut self) {
        let Some(sender) = &self.sender else { return };
        if self.pending.lines == 0 {
            return;
        }
        // Room for as much again, so that the next chunk is not moved as it grows.
        let next = Chunk { bytes: Vec::with_capacity(self.pending.bytes.len()), lines: 0 };
        let chunk = std::mem::replace(&mut self.pending, next);
        match sender.try_send(chunk) {
            Ok(()) => {}
            Err(TrySendError::Full(chunk)) => self.pending = chunk,
            Err(TrySendError::Disconnected(chunk)) => {
                self.counters.failed.inc_by(chunk.lines);
            }
        }
    }

    /// Hands over the last lines and waits at most `patience` until all are written. What is not written by then is
    /// counted as lost and never written.
    pub(crate) fn finish(&mut self, patience: Duration) {
        self.hand_over();
        self.counters.full.inc_by(std::mem::take(&mut self.pending.lines));
        self.pending.bytes.clear();
        self.sender = None;
        if self.done.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            self.closed.store(true, Ordering::Relaxed);
            tracing::warn!("the access log's output takes no more; its last lines are lost");
        }
    }
}

/// The thread's end.
struct Writer {
    output: Box<dyn Write + Send>,
    closed: Arc<AtomicBool>,
    counters: LogCounters,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Chunk>) {
        while let Ok(chunk) = receiver.recv() {
            if self.closed.load(Ordering::Relaxed) {
                self.counters.failed.inc_by(chunk.lines);
                continue;
            }
            match self.write(&chunk.bytes) {
                Ok(()) => {
                    self.counters.written.inc_by(chunk.lines);
                }
                Err(error) => {
                    self.counters.failed.inc_by(chunk.lines);
                    self.report(&error);
                }
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !self.closed.load(Ordering::Relaxed) => {
                    thread::sleep(FULL_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        self.output.flush()
    }

    fn report(&self, error: &std::io::Error) {
        if error.kind() == ErrorKind::BrokenPipe {
            self.closed.store(true, Ordering::Relaxed);
            tracing::warn!("the access log's output was closed; no more lines are written until a restart");
        } else {
            tracing::warn!(%error, "access log lines could not be written");
        }
    }
}
