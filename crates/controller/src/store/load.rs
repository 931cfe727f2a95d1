//! What an earlier process left behind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_api::ObjectKey;
use tidegate_api::rollout::InferenceRolloutSpec;
use tidegate_rollout::replay::{Replayed, replay};

use super::Place;
use crate::board::HISTORY;

/// The folder is this process's until this is dropped.
#[derive(Debug)]
pub(crate) struct Owned {
    _lock: File,
}

/// Takes the folder of roll-outs for this process.
///
/// # Errors
/// When it cannot be written, or another process has it.
pub(crate) fn own(state: &Path) -> io::Result<Owned> {
    let folder = state.join("rollouts");
    std::fs::create_dir_all(&folder)?;
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join(".lock"))?;
    lock.try_lock().map_err(|error| {
        io::Error::other(format!("{} belongs to another gateway that runs ({error})", folder.display()))
    })?;
    Ok(Owned { _lock: lock })
}

/// A release's document, as it is kept beside its journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptDocument {
    /// The InferenceRollout.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The spec in force.
    pub(crate) spec: InferenceRolloutSpec,
    /// The whole document.
    pub(crate) document: Value,
}

/// One release that an earlier process had.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) place: Place,
    pub(crate) key: ObjectKey,
    pub(crate) kept: KeptDocument,
    pub(crate) replayed: Replayed,
    pub(crate) history: Vec<Value>,
}

/// Every release under a state folder that can be read. What cannot is put aside and said.
pub(crate) fn load(state: &Path) -> Vec<Loaded> {
    let mut found = Vec::new();
    for namespace in entries(&state.join("rollouts")) {
        for folder in entries(&namespace) {
            for journal in entries(&folder).into_iter().filter(|path| has_ending(path, "journal")) {
                match load_one(&journal) {
                    Ok(loaded) => found.push(Loaded { place: place(&folder, &journal), ..loaded }),
                    Err(why) => put_aside(&journal, &why),
                }
            }
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found == ending)
}

fn place(folder: &Path, journal: &Path) -> Place {
    let uid = journal.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Place { folder: folder.to_owned(), uid }
}

fn load_one(journal: &Path) -> Result<Loaded, String> {
    let folder = journal.parent().unwrap_or(Path::new("."));
    let place = place(folder, journal);
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let replayed = replay(&read(journal)?).map_err(|error| error.to_string())?;
    let kept: KeptDocument = serde_json::from_slice(&read(&place.document())?)
        .map_err(|error| format!("{}: {error}", place.document().display()))?;
    for damage in &replayed.damage {
        tracing::warn!(journal = %journal.display(), "{damage}");
    }
    let key = ObjectKey::new("tidegate.dev", "InferenceRollout", &kept.namespace, &kept.name);
    Ok(Loaded { history: history(&place.history()), place, key, kept, replayed })
}

/// The last lines of a history; one that was torn is left out.
fn history(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let first = lines.len().saturating_sub(HISTORY);
    lines.into_iter().skip(first).collect()
}

fn put_aside(journal: &Path, why: &str) {
    let aside = journal.with_extension("unreadable");
    tracing::error!(
        journal = %journal.display(),
        "cannot be read ({why}); it is put aside as {}, and the roll-out begins anew with everything on stable",
        aside.display()
    );
    if let Err(error) = std::fs::rename(journal, &aside) {
        tracing::error!(%error, "it cannot be put aside either");
    }
}
