//! The sink that the data plane hands its observations to.
//!
//! `observe` moves the observation into a bounded queue (a memory copy and a few atomic operations, some 0.2 µs by
//! `benches/observe.rs`) and returns; if the queue is full the observation is dropped and counted. A thread of its own, the
//! recorder, empties the queue: it counts in the metrics and writes the access log's lines. So label look-ups,
//! formatting and the freeing of strings cost the data plane nothing. The recorder gathers for [`ROUND`] between two
//! looks, so that a busy gateway pays no wake-up per request; when nothing came it sleeps until the first request
//! wakes it. A scrape empties the queue itself first: what finished before it is in it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;

use crate::access_log::LogOutput;
use crate::metrics::{ConfigState, LiveGauges, Metrics, ReloadOutcome};
use crate::observation::Event;
use crate::pair::{self, PairEvent, PairEvents};
use crate::{KnownModels, Observation, ObservationSink};

/// Observations on their way to the recorder at most; some 6 MiB when all places are taken.
pub const QUEUE: usize = 16_384;
/// How long the recorder gathers between two looks into the queue; also how old a line is at most before it is handed
/// to the output.
const ROUND: Duration = Duration::from_millis(20);
/// Longest sleep of a recorder that nobody wakes.
const SLEEP: Duration = Duration::from_secs(5);

/// What [`Telemetry::start`] needs.
pub struct Options {
    /// Where access log lines go; `None` writes none. The binary passes stdout.
    pub access_log: Option<Box<dyn Write + Send>>,
    /// Which model names are labels; the binary keeps it up to date.
    pub models: Arc<KnownModels>,
    /// The program's version, for `tidegate_build_info`.
    pub version: String,
    /// Places in the queue; [`QUEUE`] unless a test wants fewer. At least 1.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { access_log: None, models: Arc::default(), version: String::new(), queue: QUEUE }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Options").field("access_log", &self.access_log.is_some()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "events are rare; a box would cost every request an allocation")]
enum Message {
    Observation(Observation),
    Event(Event),
    Pair(PairEvent),
}

/// The recorder's half: whoever holds the lock empties the queue.
#[derive(Debug)]
struct Recorder {
    receiver: mpsc::Receiver<Message>,
    log: Option<LogOutput>,
    metrics: Arc<Metrics>,
    pairs: mpsc::Sender<PairEvent>,
    pairs_lost: Arc<AtomicU64>,
}

impl Recorder {
    /// Records what is in the queue, at most one queue's worth; whether there was anything.
    fn empty(&mut self) -> bool {
        let mut any = false;
        for _ in 0..self.receiver.max_capacity() {
            let Ok(message) = self.receiver.try_recv() else { break };
            any = true;
            match message {
                Message::Observation(observation) => {
                    self.metrics.record(&observation);
                    if let Some(log) = self.log.as_mut().filter(|_| observation.logged) {
                        log.add(&observation);
                    }
                }
                Message::Event(event) => self.metrics.event(&event),
                Message::Pair(event) => {
                    if self.pairs.try_send(event).is_err() {
                        self.pairs_lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        if let Some(log) = &mut self.log {
            log.hand_over();
        }
        any
    }
}

#[derive(Debug, Default)]
struct Flags {
    /// The recorder sleeps and wants to be woken.
    asleep: AtomicBool,
    stopping: AtomicBool,
}

/// Metrics and access log of one gateway.
#[derive(Debug)]
pub struct Telemetry {
    sender: mpsc::Sender<Message>,
    dropped: Counter,
    /// Counted here and not by the recorder: a dropped observation must not leave a request under way for good.
    in_flight: Gauge,
    flags: Arc<Flags>,
    recorder: Arc<Mutex<Recorder>>,
    thread: Thread,
    ended: Mutex<Receiver<()>>,
    metrics: Arc<Metrics>,
    pairs_lost: Arc<AtomicU64>,
    pair_events: Mutex<Option<PairEvents>>,
}

impl Telemetry {
    /// Starts the recorder, and the access log's writer where one is asked for.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(options: Options) -> std::io::Result<Arc<Self>> {
        let metrics = Arc::new(Metrics::new(options.models, &options.version));
        let (sender, receiver) = mpsc::channel(options.queue.max(1));
        let log = options.access_log.map(|output| LogOutput::start(output, metrics.log_counters())).transpose()?;
        let (pairs, pair_receiver) = mpsc::channel(pair::ROOM);
        let pairs_lost = Arc::new(AtomicU64::new(0));
        let pair_events = PairEvents { receiver: pair_receiver, lost: pairs_lost.clone() };
        let recorder = Recorder { receiver, log, metrics: metrics.clone(), pairs, pairs_lost: pairs_lost.clone() };
        let recorder = Arc::new(Mutex::new(recorder));
        let flags = Arc::new(Flags::default());
        let (finished, ended) = sync_channel(1);
        let thread = spawn_recorder(recorder.clone(), flags.clone(), finished)?;
        let (dropped, in_flight) = (metrics.dropped_observations(), metrics.in_flight());
        Ok(Arc::new(Self {
            sender,
            dropped,
            in_flight,
            flags,
            recorder,
            thread,
            ended: Mutex::new(ended),
            metrics,
            pairs_lost,
            pair_events: Mutex::new(Some(pair_events)),
        }))
    }

    /// Everything as OpenMetrics text ([`crate::metrics::CONTENT_TYPE`]), with all that finished before the call.
    pub fn render(&self) -> String {
        self.recorder.lock().empty();
        self.metrics.render()
    }

    /// The events of roll-outs' pairs, for the one that judges them; `None` from the second call on.
    pub fn pair_events(&self) -> Option<PairEvents> {
        self.pair_events.lock().take()
    }

    /// Sets the function that reads gauges at each scrape; it must not block.
    pub fn set_live(&self, read: impl Fn() -> LiveGauges + Send + Sync + 'static) {
        self.metrics.live().set(read);
    }

    /// Counts a reload and, where `state` is given, says what serves now.
    pub fn reload(&self, outcome: ReloadOutcome, state: Option<ConfigState>) {
        self.metrics.reload(outcome, state);
    }

    /// Records what has been handed over, ends the recorder, and waits at most `patience` for the access log's last
    /// lines. Blocks; call it from where that is allowed. What comes later is dropped, counted.
    pub fn shutdown(&self, patience: Duration) {
        self.flags.stopping.store(true, Ordering::SeqCst);
        self.thread.unpark();
        // The recorder never waits for anything but time, so it ends within a round.
        if self.ended.lock().recv_timeout(patience.max(ROUND * 4)) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the telemetry recorder did not end in time");
        }
        let mut recorder = self.recorder.lock();
        recorder.receiver.close();
        recorder.empty();
        if let Some(log) = &mut recorder.log {
            log.finish(patience);
        }
    }

    fn send(&self, message: Message) {
        if let Err(error) = self.sender.try_send(message) {
            match error.into_inner() {
                // Dropped evidence is another matter than a dropped line: the judge is told.
                Message::Pair(_) => drop(self.pairs_lost.fetch_add(1, Ordering::Relaxed)),
                Message::Observation(_) | Message::Event(_) => drop(self.dropped.inc()),
            }
            return;
        }
        // With the recorder's fence: either it sees this message before it sleeps, or the flag is seen here.
        fence(Ordering::SeqCst);
        // Read before written: while the recorder is awake, threads share this line of cache unchanged.
        if self.flags.asleep.load(Ordering::Relaxed) && self.flags.asleep.swap(false, Ordering::Relaxed) {
            self.thread.unpark();
        }
    }
}

impl ObservationSink for Telemetry {
    fn began(&self) {
        self.in_flight.inc();
    }

    fn observe(&self, observation: Observation) {
        self.in_flight.dec();
        self.send(Message::Observation(observation));
    }

    fn event(&self, event: Event) {
        self.send(Message::Event(event));
    }

    fn pair(&self, event: PairEvent) {
        self.send(Message::Pair(event));
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.flags.stopping.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

fn spawn_recorder(
    recorder: Arc<Mutex<Recorder>>,
    flags: Arc<Flags>,
    finished: SyncSender<()>,
) -> std::io::Result<Thread> {
    let run = move || {
        while !flags.stopping.load(Ordering::SeqCst) {
            if recorder.lock().empty() {
                thread::park_timeout(ROUND);
                continue;
            }
            flags.asleep.store(true, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            // Whoever sent before the flag was up did not see it: look once more before sleeping.
            if !recorder.lock().empty() && !flags.stopping.load(Ordering::SeqCst) {
                thread::park_timeout(SLEEP);
            }
            flags.asleep.store(false, Ordering::Relaxed);
        }
        let _ = finished.try_send(());
    };
    Ok(thread::Builder::new().name("telemetry".into()).spawn(run)?.thread().clone())
}

#[cfg(test)]
mod tests;
