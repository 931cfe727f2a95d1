//! The folder `shared` that may stand beside the project: the guides' manifests as printed, and captured answers.

use std::path::PathBuf;

/// A path inside `shared`, if that folder is here. Prints what is left out when it is not.
pub fn path(relative: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("TIDEGATE_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")));
    let path = folder.join(relative);
    if path.exists() {
        return Some(path);
    }
    // CI has the folder; a test that silently found nothing there would check nothing.
    assert!(std::env::var_os("CI").is_none(), "{} is missing, and CI leaves nothing out", path.display());
    eprintln!("LEFT OUT: this test wants shared/{relative}, which is not beside this clone");
    None
}
