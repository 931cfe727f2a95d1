//! Which model names may become metric labels.
//!
//! Clients can ask for any name they like, and each label value lives as long as the process: an open set would let
//! anyone fill the memory of the gateway and of its Prometheus. So only names that the configuration or a server's
//! `/v1/models` gives are labels, and only so many of them; every other name counts as `other`. The binary sets the
//! list at each reload and each poll; this module decides nothing about routing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use foldhash::{HashSet, HashSetExt as _};
use parking_lot::Mutex;

/// Most model names that ever become label values in one process, [`OTHER`] among them.
pub const MODEL_LABELS: usize = 1_000;

/// Longest name, in bytes, that becomes a label value.
const LONGEST_NAME: usize = 256;

/// The label of every name that is not known.
pub const OTHER: &str = "other";

/// The names that may be labels now, and all that ever were.
#[derive(Debug)]
pub struct KnownModels {
    current: ArcSwap<HashSet<Arc<str>>>,
    /// Names that hold a place for good: their series exist whether or not they are still served.
    admitted: Mutex<HashSet<Arc<str>>>,
    other: Arc<str>,
    /// How often the list was replaced.
    generation: AtomicU64,
}

impl Default for KnownModels {
    fn default() -> Self {
        Self {
            current: ArcSwap::default(),
            admitted: Mutex::default(),
            other: OTHER.into(),
            generation: AtomicU64::new(0),
        }
    }
}

impl KnownModels {
    /// Replaces the list. The order of `names` is the order in which they get the places that are left: put the
    /// configuration's names before those that servers list.
    pub fn set<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut admitted = self.admitted.lock();
        let mut current = HashSet::new();
        for name in names {
            if name.is_empty() || name.len() > LONGEST_NAME || name == OTHER {
                continue;
            }
            let known = admitted.get(name).cloned();
            let label = match known {
                Some(label) => label,
                None if admitted.len() < MODEL_LABELS - 1 => {
                    let label: Arc<str> = name.into();
                    admitted.insert(label.clone());
                    label
                }
                None => continue,
            };
            current.insert(label);
        }
        self.current.store(Arc::new(current));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Another number once labels may have changed: a label that is asked for afterwards is at least as new.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The label for a name.
    pub fn label(&self, name: &str) -> Arc<str> {
        self.current.load().get(name).unwrap_or(&self.other).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_labels() {
        let models = KnownModels::default();
        assert_eq!(&*models.label("base"), OTHER);
        models.set(["base", "adapter-1"]);
        assert_eq!(&*models.label("base"), "base");
        assert_eq!(&*models.label("stranger"), OTHER);
        models.set(["adapter-1"]);
        assert_eq!(&*models.label("base"), OTHER, "a name that is gone is no label any more");
    }

    #[test]
    fn the_cap_holds_over_the_whole_life() {
        let models = KnownModels::default();
        let names: Vec<String> = (0..100_000).map(|number| format!("adapter-{number}")).collect();
        let mut seen = HashSet::new();
        for part in names.chunks(700) {
            models.set(part.iter().map(String::as_str));
            seen.extend(part.iter().map(|name| models.label(name)));
            seen.insert(models.label("adapter-0"));
        }
        assert_eq!(seen.len(), MODEL_LABELS);
        assert!(seen.contains("adapter-0") && seen.contains(OTHER));
    }

    #[test]
    fn names_that_come_first_get_the_places() {
        let models = KnownModels::default();
        let listed: Vec<String> = (0..2_000).map(|number| format!("listed-{number}")).collect();
        models.set(["configured"].into_iter().chain(listed.iter().map(String::as_str)));
        assert_eq!(&*models.label("configured"), "configured");
        assert_eq!(&*models.label("listed-1999"), OTHER);
        models.set(["x".repeat(300).as_str()]);
        assert_eq!(&*models.label(&"x".repeat(300)), OTHER);
    }
}
