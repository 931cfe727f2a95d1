//! Where roll-outs outlive the process: `<state dir>/rollouts/<namespace>/<name>/`.
//!
//! Of each release there is a journal (`<uid>.journal`) and the document it began with (`<uid>.json`); of each roll-out
//! one history (`history.jsonl`). All writing is done by one thread of its own ([`writer`]); a disk that stands still
//! delays answers and nothing else. One gateway at a time owns the folder.

mod file;
mod load;
mod writer;

use std::path::{Path, PathBuf};

use tidegate_api::ObjectKey;

pub(crate) use file::FileJournal;
pub(crate) use load::{KeptDocument, Loaded, Owned, load, own};
pub(crate) use writer::{Done, Store, Work};

/// The files of one release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    folder: PathBuf,
    uid: String,
}

impl Place {
    /// The place of a release under a state folder.
    pub(crate) fn new(state: &Path, key: &ObjectKey, uid: &str) -> Self {
        let folder = state.join("rollouts").join(safe(&key.namespace)).join(safe(&key.name));
        Self { folder, uid: safe(uid) }
    }

    /// Its journal.
    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.join(format!("{}.journal", self.uid))
    }

    /// Its document.
    pub(crate) fn document(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.uid))
    }

    /// The roll-out's history.
    pub(crate) fn history(&self) -> PathBuf {
        self.folder.join("history.jsonl")
    }

    /// The folder of all of these.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// A name as one part of a path. Names of objects are so already; what is not cannot leave the folder.
fn safe(name: &str) -> String {
    let plain = |byte: char| byte.is_ascii_alphanumeric() || matches!(byte, '-' | '_' | '.');
    let text: String = name.chars().map(|byte| if plain(byte) { byte } else { '_' }).collect();
    if text.is_empty() || text.chars().all(|byte| byte == '.') { format!("_{text}") } else { text }
}
