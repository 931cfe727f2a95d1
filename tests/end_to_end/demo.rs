//! The demo, as a newcomer runs it.

use std::process::{Command, Stdio};
use std::time::Duration;

use tidegate_harness::gateway::{PATIENCE, signal};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::setup::BINARY;

#[tokio::test]
async fn the_demo_ends_by_itself_with_every_share_right() {
    let output = tokio::task::spawn_blocking(|| {
        Command::new(BINARY).args(["demo", "--requests", "60"]).output().expect("run the demo")
    });
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().filter(|line| line.ends_with("right")).count(), 21, "{text}");
    for phase in ["Settling", "Completed", "RolledBack"] {
        assert!(text.contains(phase), "{text}");
    }
    assert!(text.contains("Every request was answered, and every share is right."), "{text}");
}

/// Whether asked to end or killed outright, it leaves nothing running.
#[tokio::test]
async fn an_interrupted_demo_leaves_nothing_running() {
    for name in ["INT", "KILL"] {
        let mut demo = tokio::process::Command::new(BINARY)
            .args(["demo", "--hold"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("start the demo");
        let mut lines = BufReader::new(demo.stdout.take().expect("stdout")).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.ends_with("right") {
                break;
            }
        }
        let parent = demo.id().expect("it runs");
        let children = children_of(parent);
        assert_eq!(children.len(), 4, "three servers and a gateway");
        signal(parent, name);
        let started = tokio::time::Instant::now();
        while children.iter().any(|child| is_tidegate(*child)) {
            assert!(started.elapsed() < PATIENCE, "{name}: some of {children:?} still run");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let _ = demo.wait().await;
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let mut children: Vec<u32> = listed.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    // Children of other threads are listed under those.
    for task in std::fs::read_dir(format!("/proc/{parent}/task")).expect("its threads").flatten() {
        let listed = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(listed.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    children.sort_unstable();
    children.dedup();
    children
}

fn is_tidegate(process: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    state.contains("(tidegate)") && !state.contains(") Z")
}
