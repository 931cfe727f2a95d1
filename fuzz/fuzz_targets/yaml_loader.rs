//! Whatever a manifest file holds: reading it ends, panics nowhere, and leaves a document or a word about why not.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tidegate_files::{Options, load};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    // A folder in memory where there is one: the disk is not what is tested.
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
});

fuzz_target!(|input: &[u8]| {
    let Some((kind, text)) = input.split_first() else { return };
    let name = if kind % 4 == 0 { "manifest.json" } else { "manifest.yaml" };
    let path: PathBuf = FOLDER.path().join(name);
    std::fs::write(&path, text).expect("a file");
    let set = load(std::slice::from_ref(&path), Options::default()).expect("a path that exists");
    for problem in &set.problems {
        assert!(!problem.message.is_empty());
        assert!(!problem.to_string().is_empty());
    }
    let again = load(&[path], Options::default()).expect("a path that exists");
    assert_eq!(set, again, "the same bytes read twice");
});
