//! One journal as a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tidegate_rollout::journal::Journal;

/// A journal in a file that is only appended to, or replaced as a whole.
#[derive(Debug)]
pub(crate) struct FileJournal {
    path: PathBuf,
    file: Option<File>,
    /// Bytes in it.
    length: u64,
    /// Appended since the last fsync.
    dirty: bool,
}

impl FileJournal {
    /// The journal at a path; nothing is opened yet.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, file: None, length: 0, dirty: false }
    }

    /// Goes on behind the last whole line: what was torn is cut off.
    pub(crate) fn resume(&mut self, end: u64) -> io::Result<()> {
        let file = OpenOptions::new().append(true).open(&self.path)?;
        file.set_len(end)?;
        file.sync_data()?;
        self.file = Some(file);
        self.length = end;
        Ok(())
    }

    /// Whether anything was appended that is not on disk for certain.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Cuts off what a failed write may have left behind.
    fn mend(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.set_len(self.length);
        }
    }
}

impl Journal for FileJournal {
    type Error = io::Error;

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(file) = self.file.as_mut() else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the journal is not open"));
        };
        if let Err(error) = file.write_all(lines) {
            self.mend();
            return Err(error);
        }
        self.length = self.length.saturating_add(lines.len() as u64);
        self.dirty = true;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.dirty) {
            file.sync_data()?;
        }
        self.dirty = false;
        Ok(())
    }

    fn replace(&mut self, lines: &[u8]) -> io::Result<()> {
        replace(&self.path, lines)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        self.length = lines.len() as u64;
        self.dirty = false;
        Ok(())
    }
}

/// Writes a file anew: beside the old one, fsynced, renamed over it, and the folder fsynced.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

/// Adds a line to a file that is there or not.
pub(crate) fn add_line(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}
