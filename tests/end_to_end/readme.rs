//! What the README prints.

use std::process::Command;

use crate::setup::BINARY;

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).expect("the README")
}

#[test]
fn the_readmes_manifest_is_accepted_without_a_warning() {
    let readme = readme();
    let manifest = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a manifest");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("my.yaml"), manifest).expect("write");
    let output = Command::new(BINARY).args(["check", "-f"]).arg(folder.path()).output().expect("run check");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("warning"), "{text}");
}

/// Every subcommand that the README's commands and table name exists.
#[test]
fn the_readmes_commands_exist() {
    let readme = readme();
    let in_commands = readme.lines().filter_map(|line| line.strip_prefix("cargo run --release -- "));
    let in_table = readme.lines().filter_map(|line| line.strip_prefix("| `tidegate "));
    let mut names: Vec<&str> =
        in_commands.chain(in_table).filter_map(|rest| rest.split([' ', '`', '\n']).next()).collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        let status = Command::new(BINARY).args([name, "--help"]).output().expect("run help").status;
        assert!(status.success(), "the README names `tidegate {name}`");
    }
}
