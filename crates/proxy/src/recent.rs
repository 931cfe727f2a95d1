//! Recent prompts, kept in memory while a roll-out prepares, so that its candidate's caches can be warmed with them.
//!
//! Filled beside the assign stage, for requests of pairs that ask for it, and emptied by whoever warms. Bounded; never
//! logged, never written to a disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Prompts that are kept for one roll-out.
const MOST: usize = 64;
/// Longest body that is kept, in bytes.
const LONGEST: usize = 256 * 1024;

/// A request that can be replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentPrompt {
    /// Its path, without the query.
    pub path: String,
    /// Its JSON body, as it came.
    pub body: Bytes,
}

/// The newest prompts, by roll-out (`namespace/name`).
#[derive(Debug, Default)]
pub(crate) struct Recent {
    kept: Mutex<BTreeMap<Arc<str>, VecDeque<RecentPrompt>>>,
}

impl Recent {
    /// Keeps one; the oldest goes when there are too many.
    pub(crate) fn keep(&self, rollout: &Arc<str>, path: &str, body: &Bytes) {
        if body.is_empty() || body.len() > LONGEST {
            return;
        }
        let mut kept = self.kept.lock();
        let prompts = kept.entry(rollout.clone()).or_default();
        if prompts.len() >= MOST {
            prompts.pop_front();
        }
        prompts.push_back(RecentPrompt { path: path.to_owned(), body: body.clone() });
    }

    /// Those of one roll-out, the newest first.
    pub(crate) fn of(&self, rollout: &str) -> Vec<RecentPrompt> {
        self.kept.lock().get(rollout).map(|prompts| prompts.iter().rev().cloned().collect()).unwrap_or_default()
    }

    /// Forgets those of all roll-outs but these.
    pub(crate) fn retain(&self, rollouts: &BTreeSet<String>) {
        self.kept.lock().retain(|rollout, _| rollouts.contains(&**rollout));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_forgotten_when_told() {
        let (recent, rollout) = (Recent::default(), Arc::from("default/release"));
        for number in 0..100 {
            recent.keep(&rollout, "/v1/completions", &Bytes::from(format!("{{\"n\":{number}}}")));
        }
        recent.keep(&rollout, "/", &Bytes::from(vec![b' '; LONGEST + 1]));
        recent.keep(&rollout, "/", &Bytes::new());
        let kept = recent.of("default/release");
        assert_eq!((kept.len(), &kept[0].body[..]), (MOST, &b"{\"n\":99}"[..]));
        recent.retain(&["default/release".to_owned()].into());
        assert_eq!(recent.of("default/release").len(), MOST);
        recent.retain(&BTreeSet::new());
        assert!(recent.of("default/release").is_empty());
    }
}
