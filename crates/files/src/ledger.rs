//! The ledger: every file of every path, and what is in force.
//!
//! One [`Ledger::look`] compares the disk with what is known and applies the rules of loss: a file that left a folder
//! which can still be read is deleted; whatever else cannot be read stays as it was last good. Reads the disk; waits
//! for nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_api::Severity;
use tokio::time::Instant;

use crate::files::{FileState, Stamp};
use crate::problem::Problem;
use crate::walk::{self, Listing};
use crate::{FileSet, OpenError, Options};

/// How long a file must have stood still before it is read.
const SETTLE: Duration = Duration::from_millis(100);

/// A `-f` path.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    /// Its files when it could last be listed, in order.
    files: Vec<PathBuf>,
    /// Why it cannot be listed now.
    lost: Option<Problem>,
    /// Parts of it that cannot be listed now.
    unreadable: Vec<Problem>,
}

/// A difference that was seen and has not stood still for long enough.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    /// What was seen; `None` when the file was not there.
    stamp: Option<Stamp>,
    since: Instant,
}

/// Every file of every path.
#[derive(Debug)]
pub(crate) struct Ledger {
    options: Options,
    roots: Vec<Root>,
    files: HashMap<PathBuf, FileState>,
    unsettled: HashMap<PathBuf, Unsettled>,
    /// Folders that hold something of ours, for whoever watches.
    folders: BTreeSet<PathBuf>,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Whether what is in force changed.
    pub(crate) changed: bool,
    /// When to look again because something is about to settle.
    pub(crate) again: Option<Instant>,
}

impl Ledger {
    /// Reads everything for the first time.
    ///
    /// # Errors
    /// When one of the paths is not there or may not be read.
    pub(crate) fn open(paths: &[PathBuf], options: Options) -> Result<Self, OpenError> {
        let mut ledger = Self {
            options,
            roots: Vec::new(),
            files: HashMap::new(),
            unsettled: HashMap::new(),
            folders: BTreeSet::new(),
        };
        for path in paths {
            let listing = walk::list(path)
                .and_then(|listing| {
                    if listing.folders.is_empty() { std::fs::File::open(path).map(|_| listing) } else { Ok(listing) }
                })
                .map_err(|error| OpenError { path: path.clone(), error })?;
            ledger.folders.extend(listing.folders.iter().cloned());
            for file in &listing.files {
                ledger.files.entry(file.clone()).or_insert_with(|| {
                    let mut state = FileState::default();
                    state.read(file, &ledger.options.default_namespace);
                    state
                });
            }
            let unreadable = unreadable_problems(&listing);
            ledger.roots.push(Root { path: path.clone(), files: listing.files, lost: None, unreadable });
        }
        Ok(ledger)
    }

    /// The paths named by `-f`.
    pub(crate) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|root| root.path.as_path())
    }

    /// Every folder that was read.
    pub(crate) fn folders(&self) -> &BTreeSet<PathBuf> {
        &self.folders
    }

    /// Every file that is known.
    pub(crate) fn known_files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// Makes the next look read every file, settled or not.
    pub(crate) fn forget_stamps(&mut self) {
        self.files.values_mut().for_each(FileState::forget);
    }

    /// Compares the disk with what is known. `at_once` takes what is there without waiting for it to settle.
    pub(crate) fn look(&mut self, now: Instant, at_once: bool) -> Looked {
        let mut changed = false;
        let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
        let mut lost: Vec<(PathBuf, &'static str, String)> = Vec::new();
        self.folders.clear();
        let mut roots = std::mem::take(&mut self.roots);
        for root in &mut roots {
            let (problem, unreadable) = match walk::list(&root.path) {
                Ok(listing) => {
                    self.folders.extend(listing.folders.iter().cloned());
                    let unreadable = unreadable_problems(&listing);
                    root.files = self.with_known(&root.files, listing, &mut lost);
                    (None, unreadable)
                }
                Err(error) => {
                    let message = format!("{error}: what it held goes on serving until it returns");
                    lost.push((root.path.clone(), "PathVanished", message.clone()));
                    let mut problem =
                        Problem::of_file(&root.path.to_string_lossy(), Severity::Error, "PathVanished", message);
                    problem.stale = true;
                    (Some(problem), Vec::new())
                }
            };
            changed |= root.lost != problem || root.unreadable != unreadable;
            root.lost = problem;
            root.unreadable = unreadable;
            seen.extend(root.files.iter().cloned());
        }
        self.roots = roots;
        let mut again = None;
        for path in &seen {
            changed |= match lost.iter().find(|(place, ..)| path.starts_with(place)) {
                Some((place, reason, message)) => self.freeze(path, place, reason, message),
                None => self.look_at(path, Some(Stamp::of(path)), now, at_once, &mut again),
            };
        }
        let gone: Vec<PathBuf> = self.files.keys().filter(|path| !seen.contains(*path)).cloned().collect();
        for path in &gone {
            changed |= self.look_at(path, None, now, at_once, &mut again);
            if self.files.contains_key(path) {
                self.keep_listed(path);
            }
        }
        self.unsettled.retain(|path, _| seen.contains(path) || self.files.contains_key(path));
        Looked { changed, again }
    }

    /// The files of a listing, and those known before that stand in folders which cannot be read now.
    fn with_known(
        &self,
        known: &[PathBuf],
        listing: Listing,
        lost: &mut Vec<(PathBuf, &'static str, String)>,
    ) -> Vec<PathBuf> {
        let mut files = listing.files;
        for (folder, error) in listing.unreadable {
            files.extend(known.iter().filter(|path| path.starts_with(&folder)).cloned());
            lost.push((
                folder,
                "FileUnreadable",
                format!("{error}: what it held goes on serving until it can be read"),
            ));
        }
        sort(&mut files);
        files
    }

    /// A file that is about to be deleted stands in its place until then.
    fn keep_listed(&mut self, path: &Path) {
        for root in &mut self.roots {
            if path.starts_with(&root.path) && !root.files.iter().any(|file| file == path) {
                root.files.push(path.to_owned());
                sort(&mut root.files);
            }
        }
    }

    fn freeze(&mut self, path: &Path, place: &Path, reason: &'static str, message: &str) -> bool {
        self.unsettled.remove(path);
        self.files.get_mut(path).is_some_and(|state| state.freeze(reason, message, &place.to_string_lossy()))
    }

    /// Reads or deletes a file if it differs from what is known and has stood still; whether anything changed.
    fn look_at(
        &mut self,
        path: &Path,
        stamp: Option<Stamp>,
        now: Instant,
        at_once: bool,
        again: &mut Option<Instant>,
    ) -> bool {
        let known = self.files.get(path);
        if stamp.is_some() && known.is_some_and(|state| !state.is_frozen() && state.stamp == stamp) {
            self.unsettled.remove(path);
            return false;
        }
        let since = match self.unsettled.get(path) {
            Some(before) if before.stamp == stamp => before.since,
            _ => now,
        };
        if !at_once && now.saturating_duration_since(since) < SETTLE {
            self.unsettled.insert(path.to_owned(), Unsettled { stamp, since });
            let due = since.checked_add(SETTLE).unwrap_or(now);
            *again = Some(again.map_or(due, |earlier| earlier.min(due)));
            return false;
        }
        self.unsettled.remove(path);
        if stamp.is_none() {
            self.files.remove(path);
            return true;
        }
        let is_new = known.is_none();
        let changed = self.files.entry(path.to_owned()).or_default().read(path, &self.options.default_namespace);
        changed || is_new
    }

    /// Everything in force, in order.
    pub(crate) fn set(&self, revision: u64) -> FileSet {
        let mut set = FileSet { revision, ..FileSet::default() };
        for (path, root) in self.in_order() {
            match path {
                None => set.problems.extend(root.lost.iter().chain(&root.unreadable).cloned()),
                Some(path) => {
                    if let Some(state) = self.files.get(path) {
                        set.documents.extend(state.documents());
                        set.problems.extend(state.problems().iter().cloned());
                    }
                }
            }
        }
        set
    }

    /// Each root (`None`), then its files. A file that several paths reach counts where it comes last.
    fn in_order(&self) -> Vec<(Option<&Path>, &Root)> {
        let mut last: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut order = Vec::new();
        for root in &self.roots {
            order.push((None, root));
            for path in &root.files {
                let canonical = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                last.insert(canonical, order.len());
                order.push((Some(path.as_path()), root));
            }
        }
        let last: BTreeSet<usize> = last.into_values().collect();
        let counts = |index: usize, path: Option<&Path>| path.is_none() || last.contains(&index);
        order
            .into_iter()
            .enumerate()
            .filter(|(index, (path, _))| counts(*index, *path))
            .map(|(_, entry)| entry)
            .collect()
    }
}

fn sort(files: &mut [PathBuf]) {
    use std::os::unix::ffi::OsStrExt;
    files.sort_by(|one, other| one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes()));
}

fn unreadable_problems(listing: &Listing) -> Vec<Problem> {
    let problem = |(path, error): &(PathBuf, String)| {
        let message = format!("cannot read the folder ({error}): let this user read it");
        Problem::of_file(&path.to_string_lossy(), Severity::Error, "FileUnreadable", message)
    };
    listing.unreadable.iter().map(problem).collect()
}
