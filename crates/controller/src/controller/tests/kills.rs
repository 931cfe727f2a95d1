//! Kills at any moment: what a process leaves behind on its disk is what the next one goes on with.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use tidegate_evidence::Arm;

use super::play::{Fake, Play, Stage, document, in_journal};
use crate::clock::Clock;
use tokio::time::{Duration, Instant};

/// How often a roll-out is killed in all; each goes from its document to its end.
const KILLS: u32 = 200;
/// Observations that are sent between two kills at most.
const BETWEEN: u64 = 16;
/// How many times as fast as the world's the clock goes.
const SPEED: u32 = 500;

/// Steps that a few hundred requests certify.
fn brief(clock: Clock) -> Stage {
    let spec = json!({
        "steps": [{"weight": 20, "bake": "5s"}, {"weight": 50, "bake": "5s"}, {"weight": 100, "bake": "5s"}],
        "analysis": {"harmBudget": "20pp", "guards": [{"metric": "error"}], "stepMaxDuration": "24h"},
        "preflight": {"timeout": "24h"},
        "drain": {"timeout": "24h", "minRetention": "0s"},
    });
    let tick = Duration::from_millis(2);
    Stage { clock, tick, journal_first: true, ..Stage::with(document(spec)) }
}

/// A folder in memory where there is one: what is killed here is the process, and the disk would only make it slow.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder")
}

/// What a power cut or a kill leaves: the files as they are now, in another place.
fn left_behind(state: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("a folder");
        for entry in std::fs::read_dir(from).expect("a folder").flatten() {
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            if source.is_dir() {
                copy(&source, &target);
            } else if let Ok(bytes) = std::fs::read(&source) {
                // What is being renamed away is found under its new name, or was not there yet.
                std::fs::write(&target, bytes).expect("write");
            }
        }
    }
    let left = folder();
    copy(state, left.path());
    left
}

/// What must be the same after a kill.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    phase: String,
    step: Option<u64>,
    candidate: f64,
    evidence: Vec<(String, u64, u64)>,
}

fn held(play: &Play) -> Held {
    let status = play.status();
    let counted = |line: &serde_json::Value, arm: &str| line[arm]["stepTrials"].as_u64().unwrap_or_default();
    Held {
        phase: status["phase"].as_str().unwrap_or_default().to_owned(),
        step: status["stepIndex"].as_u64(),
        candidate: status["effectiveWeights"]["candidate"].as_f64().unwrap_or_default(),
        evidence: status["evidence"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|line| {
                (
                    line["metric"].as_str().unwrap_or_default().to_owned(),
                    counted(line, "stable"),
                    counted(line, "candidate"),
                )
            })
            .collect(),
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Answers of a gateway that splits as it was told.
async fn traffic(play: &Play, dice: &mut Dice, requests: &mut u64, count: u64) {
    for _ in 0..count {
        let share = play.shares.borrow().unwrap_or(0);
        *requests += 1;
        let arm = if dice.below(1_000_000) < u64::from(share) { Arm::Candidate } else { Arm::Stable };
        play.ended(*requests, arm, f64::from(share) / 1e6, false).await;
    }
}

#[tokio::test]
async fn killed_two_hundred_times_a_roll_out_goes_on_where_it_was() {
    let fleet = Fake::alike().await;
    let clock = Clock::faster(Instant::now(), SPEED);
    let (mut dice, mut requests, mut kills, mut ends) = (Dice(0x9E37_79B9_7F4A_7C15), 0, 0, 0_u32);
    while kills < KILLS {
        let mut state = folder();
        let mut play = Play::on(state.path(), fleet.clone(), brief(clock));
        play.until(Some(200_000)).await;
        let mut lived_through = 0;
        while *play.shares.borrow() != Some(1_000_000) {
            let count = dice.below(BETWEEN);
            traffic(&play, &mut dice, &mut requests, count).await;
            // Sometimes a decision is given the time to come, sometimes it is killed in the middle.
            if dice.below(2) == 0 {
                tokio::time::sleep(Duration::from_millis(dice.below(40))).await;
            }
            let laid = play.shares.borrow().unwrap_or(0);
            let left = left_behind(state.path());
            let after = held(&play);
            play.kill().await;
            play = Play::on(left.path(), fleet.clone(), brief(clock));
            kills += 1;
            lived_through += 1;
            assert!(lived_through < 2 * KILLS, "it comes to no end: {:#}", play.status());
            let first = play.shares.borrow().unwrap_or(0);
            let decided = (after.candidate * 10_000.0).round() as u32;
            assert!(
                (laid..=decided).contains(&first),
                "kill {kills}: {laid} was served by, {decided} decided, now {first}"
            );
            let now = held(&play);
            let counts =
                |held: &Held| held.evidence.iter().map(|(_, stable, candidate)| stable + candidate).sum::<u64>();
            assert!(now.step < after.step || counts(&now) <= counts(&after), "kill {kills}: {now:?}, then {after:?}");
            assert!(now.step <= after.step && now.step >= Some(0), "kill {kills}: {now:?} after {after:?}");
            state = left;
        }
        assert!(lived_through > 0, "a roll-out was over after {lived_through} kills");
        play.kill().await;
        ends += 1;
    }
    assert!(ends > 2, "{ends} roll-outs came to their end");
}

#[tokio::test]
async fn what_was_written_down_before_a_kill_is_known_to_the_last_request() {
    let fleet = Fake::alike().await;
    // Its clock stands as good as still: nothing is decided meanwhile.
    let clock = Clock::since(Instant::now());
    let (mut dice, mut requests) = (Dice(7), 0);
    let mut state = folder();
    let spec = json!({"steps": [{"weight": 50, "bake": "100h"}, {"weight": 100}], "analysis": {"guards": [{"metric": "error"}]}});
    let stage = || Stage { clock, tick: Duration::from_millis(5), ..Stage::with(document(spec.clone())) };
    let mut play = Play::on(state.path(), fleet.clone(), stage());
    play.until(Some(500_000)).await;
    for kill in 0..40 {
        let count = 1 + dice.below(BETWEEN);
        traffic(&play, &mut dice, &mut requests, count).await;
        // What is gathered for a moment is told with the next round.
        play.until_status("every request", |status| {
            let line = &status["evidence"][0];
            let counted = |arm: &str| line[arm]["stepTrials"].as_u64().unwrap_or_default();
            counted("stable") + counted("candidate") == requests
        })
        .await;
        play.written_down(kill).await;
        let before = held(&play);
        let left = left_behind(state.path());
        play.kill().await;
        play = Play::on(left.path(), fleet.clone(), stage());
        assert_eq!(held(&play), before, "kill {kill}");
        state = left;
    }
    play.kill().await;
}

/// A process that dies in the middle of a write leaves half a line: all that was decided before it is in force.
#[tokio::test]
async fn a_journal_cut_at_any_byte_never_gives_the_candidate_more_than_it_says() {
    let fleet = Fake::alike().await;
    let clock = Clock::faster(Instant::now(), SPEED);
    let (mut dice, mut requests) = (Dice(11), 0);
    let state = folder();
    let mut play = Play::on(state.path(), fleet.clone(), brief(clock));
    play.until(Some(200_000)).await;
    while *play.shares.borrow() == Some(200_000) {
        traffic(&play, &mut dice, &mut requests, 5).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let left = left_behind(state.path());
    play.kill().await;
    let folder = left.path().join("rollouts/serving/to-new");
    let files = std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path());
    let journal =
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "journal")).expect("a journal");
    let bytes = std::fs::read(&journal).expect("readable");
    let first_line = bytes.iter().position(|byte| *byte == b'\n').expect("a whole line") + 1;
    let mut shares = Vec::new();
    for end in 0..=bytes.len() {
        // Every byte of the last lines, and of every line its last two and one in the middle.
        let around = bytes.get(end.saturating_sub(1)..(end + 2).min(bytes.len())).unwrap_or_default();
        let is_near_end = around.contains(&b'\n');
        if !is_near_end && end % 97 != 0 && end + 2_000 < bytes.len() {
            continue;
        }
        std::fs::write(&journal, &bytes[..end]).expect("write");
        let share = in_journal(left.path());
        assert_eq!(share.is_some(), end >= first_line, "cut at {end}");
        shares.extend(share);
    }
    assert!(shares.is_sorted(), "a longer journal of a healthy roll-out never says less: {shares:?}");
    for end in [first_line, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
        std::fs::write(&journal, &bytes[..end]).expect("write");
        let said = in_journal(left.path());
        let again = left_behind(left.path());
        let play = Play::on(again.path(), fleet.clone(), brief(clock));
        assert_eq!(*play.shares.borrow(), said, "cut at {end}");
        play.kill().await;
    }
}
