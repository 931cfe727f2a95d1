//! One file: its stamp, its bytes, and what of it is in force.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tidegate_api::{Document, FieldPath, Finding, ObjectKey, Severity};
use xxhash_rust::xxh3::xxh3_128;

use crate::documents::{Parsed, parse_file};
use crate::problem::Problem;

/// Larger files are not read.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 20;

/// What tells that a file was written. The time of change (ctime) and the inode see what a restored mtime would hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// A file.
    Here { length: u64, modified: (i64, i64), changed: (i64, i64), inode: (u64, u64) },
    /// A pipe or the like, which can be read once.
    Pipe,
    /// There, and may not be looked at; or a symlink to nowhere.
    Unreadable,
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Self::Here {
                length: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
                inode: (metadata.dev(), metadata.ino()),
            },
            Ok(_) => Self::Pipe,
            Err(_) => Self::Unreadable,
        }
    }
}

/// What a file holds, and what it held when it last was good.
#[derive(Debug, Default)]
pub(crate) struct FileState {
    /// The stamp it had when it was read.
    pub(crate) stamp: Option<Stamp>,
    hash: Option<u128>,
    /// Documents as the file has them.
    documents: Vec<Arc<Document>>,
    /// Objects of an earlier good version that the file no longer has, because of `problems`.
    kept: Vec<Arc<Document>>,
    /// What is wrong with the file.
    problems: Vec<Problem>,
    /// Why the whole file stands as it was last read (its `-f` path vanished), if it does.
    frozen: Option<Problem>,
}

impl FileState {
    /// Reads the file; whether what is in force changed.
    pub(crate) fn read(&mut self, path: &Path, default_namespace: &str) -> bool {
        let source = path.to_string_lossy();
        let stamp = Stamp::of(path);
        let bytes = read_bounded(path);
        // What was written during the read is read once it has settled.
        self.stamp = (Stamp::of(path) == stamp).then_some(stamp);
        let was_frozen = self.frozen.take().is_some();
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.hash = None;
                let parsed = Parsed { problems: vec![problem.on(&source)], ..Parsed::default() };
                return self.take(parsed) || was_frozen;
            }
        };
        let hash = xxh3_128(&bytes);
        if self.hash.replace(hash) == Some(hash) {
            return was_frozen;
        }
        let mut parsed = parse_file(&source, &bytes, default_namespace);
        if parsed.is_empty {
            let message = "the file holds no document: remove it, or write one";
            parsed.problems.push(Problem::of_file(&source, Severity::Warning, "FileEmpty", message));
        }
        self.take(parsed) || was_frozen
    }

    fn take(&mut self, mut parsed: Parsed) -> bool {
        let before: Vec<Arc<Document>> = self.documents.drain(..).chain(self.kept.drain(..)).collect();
        if !parsed.problems.is_empty() {
            let have: HashSet<&ObjectKey> = parsed.documents.iter().map(|document| &document.key).collect();
            self.kept = before.iter().filter(|document| !have.contains(&document.key)).cloned().collect();
        }
        for problem in &mut parsed.problems {
            problem.stale = !self.kept.is_empty();
        }
        let changed = parsed.problems != self.problems || before != parsed.documents || !self.kept.is_empty();
        self.documents = parsed.documents;
        self.problems = parsed.problems;
        changed
    }

    /// Keeps everything because the file's `-f` path, or a folder on the way, is not there any more; whether that is
    /// news.
    pub(crate) fn freeze(&mut self, reason: &'static str, message: &str, source: &str) -> bool {
        let mut problem = Problem::of_file(source, Severity::Error, reason, message);
        problem.stale = true;
        if self.frozen.as_ref() == Some(&problem) {
            return false;
        }
        self.frozen = Some(problem);
        // When it returns it is read again, whatever its stamp.
        self.stamp = None;
        true
    }

    /// Whether it is kept as it was because its path is gone.
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Makes the next read take the bytes as new.
    pub(crate) fn forget(&mut self) {
        self.stamp = None;
        self.hash = None;
    }

    /// What is in force, with findings on what only stands because something broke.
    pub(crate) fn documents(&self) -> impl Iterator<Item = Arc<Document>> {
        let current = self.documents.iter().map(|document| match &self.frozen {
            Some(problem) => with_finding(document, problem),
            None => document.clone(),
        });
        let why = self.frozen.as_ref().or(self.problems.first());
        let kept = self.kept.iter().map(move |document| match why {
            Some(problem) => with_finding(document, problem),
            None => document.clone(),
        });
        current.chain(kept)
    }

    /// What is wrong.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

fn with_finding(document: &Arc<Document>, problem: &Problem) -> Arc<Document> {
    let place = match (problem.line, problem.column) {
        (Some(line), Some(column)) => format!("{}:{line}:{column}", problem.path),
        _ => problem.path.clone(),
    };
    let message =
        format!("{}: the last good version goes on serving, because of {place}: {}", document.key, problem.message);
    let mut finding = Finding::new(Severity::Warning, problem.reason, FieldPath::root(), message);
    finding.position = document.origin.position(&FieldPath::root());
    let mut document = Document::clone(document);
    document.findings.push(finding);
    Arc::new(document)
}

/// Why a file's bytes cannot be had.
struct Unread {
    reason: &'static str,
    message: String,
}

impl Unread {
    fn on(self, source: &str) -> Problem {
        Problem::of_file(source, Severity::Error, self.reason, self.message)
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Unread> {
    let unreadable = |error: io::Error| Unread {
        reason: "FileUnreadable",
        message: match error.kind() {
            io::ErrorKind::PermissionDenied => format!("cannot read the file ({error}): let this user read it"),
            io::ErrorKind::NotFound => format!("cannot read the file ({error}): it is a link to nowhere, or gone"),
            _ => format!("cannot read the file ({error})"),
        },
    };
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::with_capacity(usize::try_from(length.min(MAX_FILE_BYTES)).unwrap_or_default());
    file.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message = format!("the file is larger than {} MiB: split it", MAX_FILE_BYTES >> 20);
        return Err(Unread { reason: "FileTooLarge", message });
    }
    Ok(bytes)
}
