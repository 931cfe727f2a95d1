use std::io::{Error, ErrorKind, Result};
use std::sync::mpsc::{Sender, channel};

use parking_lot::Condvar;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends every write over a channel, so that a test can wait for it.
struct Sent(Sender<Vec<u8>>);

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| Error::from(ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A pipe that nobody reads until the gate is opened.
struct Gated {
    gate: Arc<(Mutex<bool>, Condvar)>,
    sent: Sent,
}

impl Write for Gated {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let (open, opened) = &*self.gate;
        let mut open = open.lock();
        while !*open {
            opened.wait(&mut open);
        }
        self.sent.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> Result<usize> {
        Err(ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn logged(number: usize) -> Observation {
    Observation {
        listener: "default/gateway/http".into(),
        path: format!("/{number}"),
        status: 200,
        logged: true,
        ..Observation::default()
    }
}

fn start(output: impl Write + Send + 'static, queue: usize) -> Arc<Telemetry> {
    Telemetry::start(Options { access_log: Some(Box::new(output)), queue, ..Options::default() }).unwrap()
}

fn count(text: &str, series: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in:\n{text}")).parse().unwrap()
}

fn requests(text: &str) -> u64 {
    let lines = text.lines().filter(|line| line.starts_with("tidegate_requests_total{"));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[test]
fn lines_reach_the_output_without_a_shutdown_or_a_scrape() {
    let (sender, lines) = channel();
    let telemetry = start(Sent(sender), QUEUE);
    for number in 0..3 {
        telemetry.observe(logged(number));
        let line = String::from_utf8(lines.recv_timeout(PATIENCE).unwrap()).unwrap();
        assert!(line.contains(&format!(r#""path":"/{number}""#)), "{line}");
    }
    telemetry.shutdown(PATIENCE);
}

#[test]
fn only_requests_of_listeners_that_ask_for_it_are_logged() {
    let (sender, lines) = channel();
    let telemetry = start(Sent(sender), QUEUE);
    telemetry.observe(Observation { logged: false, ..logged(1) });
    telemetry.observe(logged(2));
    telemetry.shutdown(PATIENCE);
    let text: Vec<u8> = lines.try_iter().flatten().collect();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains(r#""path":"/1""#) && text.contains(r#""path":"/2""#), "{text}");
    assert_eq!(requests(&telemetry.render()), 2, "metrics have both");
}

#[test]
fn a_scrape_has_all_that_finished_before_it() {
    let telemetry = Telemetry::start(Options::default()).unwrap();
    for expected in 1..50 {
        telemetry.observe(logged(0));
        assert_eq!(requests(&telemetry.render()), expected);
    }
}

#[test]
fn requests_under_way_are_counted_although_observations_are_dropped() {
    let telemetry = Telemetry::start(Options { queue: 1, ..Options::default() }).unwrap();
    for _ in 0..10 {
        telemetry.began();
    }
    let recorder = telemetry.recorder.lock();
    for number in 0..7 {
        telemetry.observe(logged(number));
    }
    drop(recorder);
    let text = telemetry.render();
    assert_eq!(count(&text, "tidegate_requests_in_flight"), 3);
    assert_eq!(count(&text, "tidegate_observations_dropped_total"), 6);
}

#[test]
fn a_blocked_output_stalls_nobody_and_drops_are_counted() {
    let (sender, lines) = channel();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let telemetry = start(Gated { gate: gate.clone(), sent: Sent(sender) }, QUEUE);
    // Some 250 bytes a line: more than the bounded buffers together hold.
    let many = 60_000;
    for number in 0..many {
        telemetry.observe(logged(number));
        if number % 1_000 == 0 {
            // Keeps the queue short, so that the buffers behind it are what overflows.
            telemetry.render();
        }
    }
    let text = telemetry.render();
    assert_eq!(requests(&text), many as u64, "metrics go on");
    assert_eq!(count(&text, "tidegate_observations_dropped_total"), 0);
    let full = count(&text, r#"tidegate_access_log_lines_dropped_total{cause="full"}"#);
    assert!(full > 0, "{text}");

    *gate.0.lock() = true;
    gate.1.notify_all();
    telemetry.shutdown(PATIENCE);
    let text = telemetry.render();
    let written = count(&text, "tidegate_access_log_lines_total");
    let full = count(&text, r#"tidegate_access_log_lines_dropped_total{cause="full"}"#);
    assert_eq!(written + full, many as u64, "every line was written or counted");
    let bytes: Vec<u8> = lines.try_iter().flatten().collect();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len() as u64, written);
    assert!(lines.iter().all(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok()), "no line is torn");
}

#[test]
fn a_full_queue_drops_and_counts() {
    let telemetry = start(Closed, 4);
    // Whoever holds this lock keeps the recorder from emptying the queue.
    let recorder = telemetry.recorder.lock();
    for number in 0..10 {
        telemetry.observe(logged(number));
    }
    drop(recorder);
    let text = telemetry.render();
    assert_eq!(requests(&text) + count(&text, "tidegate_observations_dropped_total"), 10);
    assert_eq!(count(&text, "tidegate_observations_dropped_total"), 6);
}

#[test]
fn a_closed_output_is_given_up_and_counted() {
    let telemetry = start(Closed, QUEUE);
    for number in 0..10 {
        telemetry.observe(logged(number));
    }
    telemetry.shutdown(PATIENCE);
    let text = telemetry.render();
    assert_eq!(count(&text, r#"tidegate_access_log_lines_dropped_total{cause="failed"}"#), 10);
    assert_eq!(count(&text, "tidegate_access_log_lines_total"), 0);
    telemetry.observe(logged(11));
    assert_eq!(count(&telemetry.render(), "tidegate_observations_dropped_total"), 1, "after the end");
}

#[test]
fn shutdown_does_not_wait_for_an_output_that_never_takes() {
    let (sender, _lines) = channel();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let telemetry = start(Gated { gate: gate.clone(), sent: Sent(sender) }, QUEUE);
    telemetry.observe(logged(1));
    telemetry.shutdown(Duration::from_millis(50));
    *gate.0.lock() = true;
    gate.1.notify_all();
}
