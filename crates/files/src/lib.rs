//! Documents from files and folders, watched.
//!
//! Reads manifests (YAML with several documents, or JSON) into [`tidegate_api::Document`]s with the position of every
//! field, and watches the paths: [`FileSource`] gives a new [`FileSet`] when something changed, [`load`] reads once.
//! Losing a path freezes what it held. Routes no traffic and decides nothing about meaning.

mod documents;
mod files;
mod ledger;
mod problem;
mod scope;
mod source;
mod walk;
mod watch;
mod yaml;

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_api::Document;

pub use problem::Problem;
pub use source::FileSource;

/// How documents are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Namespace of documents that name none and are of a namespaced kind.
    pub default_namespace: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { default_namespace: "default".into() }
    }
}

/// Everything that the paths hold, in the order that decides which of two descriptions wins (the later): `-f`, then
/// path bytes, then document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileSet {
    /// The documents. One that only stands because its file broke or vanished carries a finding that says so.
    pub documents: Vec<Arc<Document>>,
    /// What could not be read, in the same order.
    pub problems: Vec<Problem>,
    /// Counts the sets of one source, from 1.
    pub revision: u64,
}

/// A path named by `-f` that is not there, or may not be read, at the start.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}: name a manifest file or a folder of them that can be read", path.display())]
pub struct OpenError {
    /// The path as given.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub error: std::io::Error,
}

/// Reads the paths once, without watching them.
///
/// # Errors
/// When one of the paths does not exist or may not be read.
pub fn load(paths: &[PathBuf], options: Options) -> Result<FileSet, OpenError> {
    Ok(ledger::Ledger::open(paths, options)?.set(1))
}
