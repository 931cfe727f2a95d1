//! Which files a path holds.
//!
//! Folders are read recursively, in the order of their path's bytes. Symlinks are followed (Kubernetes mounts
//! ConfigMaps as symlinks through `..data`), each folder once, so that loops end.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What one `-f` path holds.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Files in order, as reached from the path.
    pub(crate) files: Vec<PathBuf>,
    /// Every folder that was read, as reached.
    pub(crate) folders: Vec<PathBuf>,
    /// Folders that could not be read, and why: what they held is not gone, only unknown.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
}

/// Deepest folder that is read.
const MAX_FOLDER_DEPTH: usize = 64;

/// Lists the files of a `-f` path.
///
/// # Errors
/// When the path itself is not there or may not be read.
pub(crate) fn list(root: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    if !fs::metadata(root)?.is_dir() {
        listing.files.push(root.to_owned());
        return Ok(listing);
    }
    let mut visited = BTreeSet::new();
    folder(root, 0, &mut visited, &mut listing)?;
    listing.files.sort_by(|one, other| one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes()));
    Ok(listing)
}

fn folder(path: &Path, depth: usize, visited: &mut BTreeSet<PathBuf>, listing: &mut Listing) -> io::Result<()> {
    if !visited.insert(fs::canonicalize(path)?) || depth > MAX_FOLDER_DEPTH {
        return Ok(());
    }
    let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    listing.folders.push(path.to_owned());
    for entry in entries {
        if is_ignored(entry.file_name().as_bytes()) {
            continue;
        }
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => match folder(&path, depth.saturating_add(1), visited, listing) {
                Ok(()) => {}
                // Gone since it was listed: its files are gone with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => listing.unreadable.push((path, error.to_string())),
            },
            Ok(metadata) if metadata.is_file() && is_manifest(&path) => listing.files.push(path),
            Ok(_) => {}
            // A symlink to nowhere, or a file that may not be looked at: it is there, and reading it will say what is
            // wrong.
            Err(_) if is_manifest(&path) && fs::symlink_metadata(&path).is_ok() => listing.files.push(path),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Hidden files, ConfigMap internals (`..data`), and what editors leave while they save.
fn is_ignored(name: &[u8]) -> bool {
    name.starts_with(b".") || name.ends_with(b"~") || name.starts_with(b"#") || name == b"4913"
}

fn is_manifest(path: &Path) -> bool {
    let is = |extension: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension));
    is("yaml") || is("yml") || is("json")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(root: &Path) -> Vec<String> {
        let files = list(root).unwrap().files;
        files.iter().map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn manifests_in_the_order_of_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        for name in [
            "b.yaml",
            "B.yml",
            "a.json",
            "b/c/1.YAML",
            "b/z.yaml",
            "b-.yaml",
            "notes.md",
            "c.yaml~",
            ".c.yaml.swp",
            ".#a.yaml",
            "#a.yaml#",
            "4913",
            ".git/x.yaml",
        ] {
            fs::write(root.join(name), "").unwrap();
        }
        assert_eq!(names(root), ["B.yml", "a.json", "b-.yaml", "b.yaml", "b/c/1.YAML", "b/z.yaml"]);
    }

    #[test]
    fn symlinks_are_followed_and_loops_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("..2024_01")).unwrap();
        fs::write(root.join("..2024_01/a.yaml"), "").unwrap();
        symlink("..2024_01", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        symlink("..", root.join("sub/up")).unwrap();
        symlink("self.yaml", root.join("self.yaml")).unwrap();
        symlink("nowhere", root.join("gone.yaml")).unwrap();
        assert_eq!(names(root), ["a.yaml", "gone.yaml", "self.yaml"]);
    }

    #[test]
    fn names_that_are_no_text() {
        let folder = tempfile::tempdir().unwrap();
        let name = OsStr::from_bytes(b"\xff.yaml");
        fs::write(folder.path().join(name), "").unwrap();
        assert_eq!(list(folder.path()).unwrap().files, [folder.path().join(name)]);
    }

    #[test]
    fn a_file_is_itself_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.txt");
        assert!(list(&path).is_err());
        fs::write(&path, "").unwrap();
        assert_eq!(list(&path).unwrap().files, [path]);
    }
}
