//! One answer on its way: tokens from the engine become text, whole or in chunks, with the faults drawn for it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::answer::{DONE, Ending, Usage, Writer};
use crate::engine::{Finish, Produced};
use crate::faults::Faults;
use crate::problem::Problem;
use crate::shared::{Event, InFlight, Shared};
use crate::tokens::Detokenizer;

/// Between the last chunk and a reset.
const BEFORE_RESET: Duration = Duration::from_millis(10);

/// The faults of one answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) stall: Option<Duration>,
    pub(crate) silence_after: Option<u32>,
    pub(crate) reset_after: Option<u32>,
    pub(crate) empty: bool,
    pub(crate) malformed: bool,
    pub(crate) truncated: bool,
}

impl Plan {
    pub(crate) fn draw(shared: &Shared, faults: &Faults) -> Self {
        let stall = Duration::try_from_secs_f64(faults.stall_seconds).unwrap_or_default();
        Self {
            stall: shared.happens(faults.stall_rate).then_some(stall),
            silence_after: shared.happens(faults.silence_rate).then_some(faults.silence_after),
            reset_after: shared.happens(faults.reset_mid_stream_rate).then_some(faults.reset_after),
            empty: shared.happens(faults.empty_rate),
            malformed: shared.happens(faults.malformed_rate),
            truncated: shared.happens(faults.truncated_rate),
        }
    }
}

/// An answer on its way. Dropping it aborts the request.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) writer: Writer,
    pub(crate) receiver: mpsc::Receiver<Event>,
    pub(crate) plan: Plan,
    pub(crate) tells_cached: bool,
    /// Set to have the connection reset.
    pub(crate) reset: Arc<AtomicBool>,
    #[expect(dead_code, reason = "held to be counted until the answer ends")]
    pub(crate) in_flight: InFlight,
    pub(crate) detokenizer: Detokenizer,
    /// Text not yet given to the client.
    pub(crate) text: String,
    pub(crate) completion: usize,
    pub(crate) cached: usize,
}

/// One token's worth of an answer.
struct Piece {
    text: String,
    ending: Option<Ending>,
}

impl Generation {
    fn usage(&self) -> Usage {
        let cached = self.tells_cached.then_some(self.cached);
        Usage { prompt: self.writer.asked.prompt.len(), completion: self.completion, cached }
    }

    /// The engine's next word.
    pub(crate) async fn next(&mut self) -> Result<Produced, Problem> {
        match self.receiver.recv().await {
            Some(Event::Token(token)) => Ok(token),
            Some(Event::Died) | None => Err(Problem::engine_died()),
        }
    }

    fn piece(&mut self, token: &Produced) -> Piece {
        self.completion = self.completion.saturating_add(1);
        self.cached = token.cached;
        let mut ending = token.finish.map(|finish| Ending { finish, stop: None });
        let mut text = self.detokenizer.text(token.token, ending.is_some());
        if self.plan.empty {
            text.clear();
            ending = ending.map(|_| Ending { finish: Finish::Stop, stop: None });
        }
        if self.writer.asked.stop.is_empty() {
            return Piece { text, ending };
        }
        self.text.push_str(&text);
        let met = self.writer.asked.stop.iter().filter(|stop| !stop.is_empty());
        let met = met.filter_map(|stop| Some((self.text.find(stop.as_str())?, stop.clone()))).min();
        if let Some((place, stop)) = met {
            self.text.truncate(place);
            ending = Some(Ending { finish: Finish::Stop, stop: Some(stop) });
        }
        // What may be the beginning of a stop string waits for what follows.
        let longest = self.writer.asked.stop.iter().map(String::len).max().unwrap_or(0);
        let mut until = if ending.is_some() { self.text.len() } else { self.text.len().saturating_sub(longest) };
        while !self.text.is_char_boundary(until) {
            until = until.saturating_sub(1);
        }
        Piece { text: self.text.drain(..until).collect(), ending }
    }

    /// The whole answer, from its first token on.
    pub(crate) async fn whole(mut self, first: Produced) -> Result<String, Problem> {
        let mut text = String::new();
        let mut token = first;
        loop {
            let piece = self.piece(&token);
            text.push_str(&piece.text);
            if let Some(ending) = piece.ending {
                let mut body = self.writer.whole(&text, &ending, self.usage()).to_string();
                if self.plan.malformed {
                    cut(&mut body);
                }
                return Ok(body);
            }
            token = self.next().await?;
        }
    }

    /// The body of a stream, from its first token on.
    pub(crate) fn stream(self, first: Produced) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
        let mut stream = Stream { generation: self, chunks: VecDeque::new(), sent: 0, over: false };
        let head = stream.generation.usage();
        stream.chunks.extend(stream.generation.writer.first(head));
        stream.take(&first);
        futures_util::stream::unfold(stream, |mut stream| async move {
            let chunk = stream.next().await?;
            Some((chunk, stream))
        })
    }
}

struct Stream {
    generation: Generation,
    chunks: VecDeque<String>,
    sent: u32,
    over: bool,
}

impl Stream {
    fn take(&mut self, token: &Produced) {
        let piece = self.generation.piece(token);
        let usage = self.generation.usage();
        let writer = &self.generation.writer;
        self.chunks.push_back(writer.token(&piece.text, piece.ending.as_ref(), usage));
        if piece.ending.is_some() {
            self.chunks.extend(writer.counts(usage));
            self.chunks.push_back(DONE.into());
            self.over = true;
            // The engine need not go on for a stop string.
            self.generation.receiver.close();
        }
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let plan = self.generation.plan;
        if plan.silence_after.is_some_and(|most| self.sent >= most) {
            std::future::pending::<()>().await;
        }
        if plan.reset_after.is_some_and(|most| self.sent >= most) {
            // What was sent arrives first: a reset throws away what the kernel still holds.
            tokio::time::sleep(BEFORE_RESET).await;
            self.generation.reset.store(true, Ordering::Relaxed);
            return Some(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if self.chunks.is_empty() && !self.over {
            match self.generation.next().await {
                Ok(token) => self.take(&token),
                Err(problem) => {
                    self.chunks.extend([problem.event(), DONE.into()]);
                    self.over = true;
                }
            }
        }
        let mut chunk = self.chunks.pop_front()?;
        self.sent = self.sent.saturating_add(1);
        if plan.malformed && self.sent == 2 {
            cut(&mut chunk);
            chunk.push_str("\n\n");
        }
        Some(Ok(chunk.into()))
    }
}

/// Cuts a text in two and leaves the first half.
fn cut(text: &mut String) {
    let mut half = text.len() / 2;
    while !text.is_char_boundary(half) {
        half = half.saturating_sub(1);
    }
    text.truncate(half);
}
