use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_api::Severity;

use super::*;

/// Longer than anything here takes on a busy machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

fn service(name: &str, version: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  labels: {{version: \"{version}\"}}\n")
}

/// `name=version`, with `!` where only the last good version stands.
fn summary(set: &FileSet) -> Vec<String> {
    let one = |document: &Arc<tidegate_api::Document>| {
        let stale = document.findings.iter().any(|finding| finding.message.contains("last good"));
        let version = document.value["metadata"]["labels"]["version"].as_str().unwrap_or_default();
        format!("{}={version}{}", document.key.name, if stale { "!" } else { "" })
    };
    set.documents.iter().map(one).collect()
}

fn reasons(set: &FileSet) -> Vec<&'static str> {
    set.problems.iter().map(|problem| problem.reason).collect()
}

async fn until(source: &mut FileSource, what: &str, is: impl Fn(&FileSet) -> bool) -> Arc<FileSet> {
    let wait = async {
        let mut set = source.current();
        while !is(&set) {
            set = source.changed().await;
        }
        set
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(set) => set,
        Err(_) => panic!("never {what}: {:?}", source.current()),
    }
}

async fn until_summary(source: &mut FileSource, expected: &[&str]) -> Arc<FileSet> {
    until(source, &format!("{expected:?}"), |set| summary(set) == expected).await
}

fn open(paths: &[&Path]) -> FileSource {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    FileSource::open(&paths, Options::default()).unwrap()
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn a_missing_path_is_an_error() {
    let folder = folder(&[]);
    let missing = folder.path().join("nothing");
    let error = FileSource::open(std::slice::from_ref(&missing), Options::default()).unwrap_err();
    assert_eq!(error.path, missing);
    assert!(error.to_string().contains("No such file"), "{error}");
    assert!(crate::load(&[missing], Options::default()).is_err());
}

#[tokio::test]
async fn order_is_that_of_the_paths_then_of_their_bytes() {
    let one = folder(&[
        ("b.yaml", &service("b", "1")),
        ("a.yaml", &format!("{}---\n{}", service("z", "1"), service("a", "1"))),
    ]);
    let two = folder(&[("0.yaml", &service("first", "1"))]);
    let source = open(&[one.path(), two.path()]);
    assert_eq!(summary(&source.current()), ["z=1", "a=1", "b=1", "first=1"]);
    // A file that two paths reach counts where it comes last.
    let again = open(&[one.path(), &one.path().join("a.yaml")]);
    assert_eq!(summary(&again.current()), ["b=1", "z=1", "a=1"]);
}

#[tokio::test]
async fn writes_renames_new_files_and_deletions() {
    let folder = folder(&[("a.yaml", &service("a", "1"))]);
    let path = folder.path().join("a.yaml");
    let mut source = open(&[folder.path()]);
    fs::write(&path, service("a", "2")).unwrap();
    until_summary(&mut source, &["a=2"]).await;
    let temporary = folder.path().join(".new");
    fs::write(&temporary, service("a", "3")).unwrap();
    fs::rename(&temporary, &path).unwrap();
    until_summary(&mut source, &["a=3"]).await;
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/b.yaml"), service("b", "1")).unwrap();
    until_summary(&mut source, &["a=3", "b=1"]).await;
    fs::write(folder.path().join("sub/b.yaml"), service("b", "2")).unwrap();
    until_summary(&mut source, &["a=3", "b=2"]).await;
    fs::remove_file(&path).unwrap();
    let set = until_summary(&mut source, &["b=2"]).await;
    assert_eq!(reasons(&set), [""; 0]);
    fs::remove_dir_all(folder.path().join("sub")).unwrap();
    until_summary(&mut source, &[]).await;
}

/// As vim does it: the old file becomes a backup, the new one is written under its name, the backup goes.
#[tokio::test]
async fn an_editor_that_swaps_files_deletes_nothing() {
    let folder = folder(&[("a.yaml", &service("a", "1"))]);
    let path = folder.path().join("a.yaml");
    let mut source = open(&[folder.path()]);
    let mut least = usize::MAX;
    for version in ["2", "3", "4"] {
        fs::write(folder.path().join("4913"), "").unwrap();
        fs::write(folder.path().join(".a.yaml.swp"), "swap").unwrap();
        fs::rename(&path, folder.path().join("a.yaml~")).unwrap();
        fs::write(&path, service("a", version)).unwrap();
        fs::remove_file(folder.path().join("a.yaml~")).unwrap();
        fs::remove_file(folder.path().join("4913")).unwrap();
        let expected = format!("a={version}");
        while summary(&source.current()) != [expected.clone()] {
            let set = tokio::time::timeout(PATIENCE, source.changed()).await.expect("a new set");
            least = least.min(set.documents.len());
        }
    }
    assert_eq!(least, 1, "the object was never gone");
}

#[tokio::test]
async fn a_config_map_is_swapped_at_once() {
    let folder = folder(&[]);
    let root = folder.path();
    let publish = |version: &str| {
        let name = format!("..2024_{version}");
        fs::create_dir(root.join(&name)).unwrap();
        fs::write(root.join(&name).join("a.yaml"), service("a", version)).unwrap();
        fs::write(root.join(&name).join("b.yaml"), service("b", version)).unwrap();
        symlink(&name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    publish("1");
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    symlink("..data/b.yaml", root.join("b.yaml")).unwrap();
    let mut source = open(&[root]);
    let mut single = open(&[&root.join("b.yaml")]);
    assert_eq!(summary(&source.current()), ["a=1", "b=1"]);
    for version in ["2", "3"] {
        publish(version);
        let (a, b) = (format!("a={version}"), format!("b={version}"));
        until_summary(&mut source, &[&a, &b]).await;
        until_summary(&mut single, &[&b]).await;
    }
    fs::remove_dir_all(root.join("..2024_1")).unwrap();
}

#[tokio::test]
async fn a_folder_that_vanishes_keeps_its_objects_and_returns() {
    let parent = folder(&[]);
    let root = parent.path().join("manifests");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), service("a", "1")).unwrap();
    fs::write(root.join("b.yaml"), service("b", "1")).unwrap();
    let mut source = open(&[&root]);
    fs::rename(&root, parent.path().join("elsewhere")).unwrap();
    let set = until_summary(&mut source, &["a=1!", "b=1!"]).await;
    assert_eq!(reasons(&set), ["PathVanished"]);
    assert!(set.problems[0].stale && set.problems[0].severity == Severity::Error);
    let finding = set.documents[0].findings.last().unwrap();
    assert_eq!((finding.reason, finding.severity), ("PathVanished", Severity::Warning));
    // What is missing when it returns was deleted.
    fs::create_dir(&root).unwrap();
    fs::write(root.join("b.yaml"), service("b", "2")).unwrap();
    let set = until_summary(&mut source, &["b=2"]).await;
    assert_eq!(reasons(&set), [""; 0]);
}

#[tokio::test]
async fn a_file_that_vanishes_keeps_its_objects_and_returns() {
    let folder = folder(&[("a.yaml", &service("a", "1"))]);
    let path = folder.path().join("a.yaml");
    let mut source = open(&[&path]);
    fs::remove_file(&path).unwrap();
    let set = until_summary(&mut source, &["a=1!"]).await;
    assert_eq!(reasons(&set), ["PathVanished"]);
    fs::write(&path, service("a", "1")).unwrap();
    let set = until_summary(&mut source, &["a=1"]).await;
    assert_eq!(reasons(&set), [""; 0]);
}

#[tokio::test]
async fn a_file_that_is_emptied_or_broken_keeps_its_objects() {
    let both = format!("{}---\n{}", service("a", "1"), service("b", "1"));
    let folder = folder(&[("a.yaml", &both), ("z.yaml", &service("z", "1"))]);
    let path = folder.path().join("a.yaml");
    let mut source = open(&[folder.path()]);
    fs::write(&path, "").unwrap();
    let set = until_summary(&mut source, &["a=1!", "b=1!", "z=1"]).await;
    assert_eq!(reasons(&set), ["FileEmpty"]);
    fs::write(&path, "a: [").unwrap();
    let set = until(&mut source, "broken", |set| reasons(set) == ["InvalidYaml"]).await;
    assert_eq!(summary(&set), ["a=1!", "b=1!", "z=1"]);
    // The sound document is taken, the other stays as it was.
    fs::write(&path, format!("{}---\nkind: `Service`\n", service("a", "2"))).unwrap();
    let set = until_summary(&mut source, &["a=2", "b=1!", "z=1"]).await;
    assert!(
        set.problems[0].to_string().contains("a.yaml:7:7: a value cannot begin with a backtick"),
        "{}",
        set.problems[0]
    );
    assert!(set.documents[1].findings[0].message.contains("a.yaml:7:7"));
    fs::write(&path, service("a", "3")).unwrap();
    let set = until_summary(&mut source, &["a=3", "z=1"]).await;
    assert_eq!(reasons(&set), [""; 0]);
    fs::write(&path, b"\xff\xfe\x00binary\x00").unwrap();
    until_summary(&mut source, &["a=3!", "z=1"]).await;
}

#[tokio::test]
async fn what_never_was_good_is_only_a_problem() {
    let folder = folder(&[("a.yaml", "a: ["), ("b.yaml", ""), ("c.yaml", &service("c", "1"))]);
    symlink("nowhere", folder.path().join("d.yaml")).unwrap();
    let source = open(&[folder.path()]);
    let set = source.current();
    assert_eq!(summary(&set), ["c=1"]);
    assert_eq!(reasons(&set), ["InvalidYaml", "FileEmpty", "FileUnreadable"]);
    assert!(set.problems.iter().all(|problem| !problem.stale));
    assert_eq!(set.problems[1].severity, Severity::Warning);
}

#[tokio::test]
async fn a_file_too_large_is_refused() {
    let folder = folder(&[("a.yaml", &service("a", "1"))]);
    let path = folder.path().join("a.yaml");
    let mut source = open(&[folder.path()]);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(crate::files::MAX_FILE_BYTES + 1).unwrap();
    let set = until_summary(&mut source, &["a=1!"]).await;
    assert_eq!(reasons(&set), ["FileTooLarge"]);
}

#[tokio::test]
async fn reload_reads_without_waiting() {
    let folder = folder(&[("a.yaml", &service("a", "1"))]);
    let mut source = open(&[folder.path()]);
    fs::write(folder.path().join("a.yaml"), service("a", "2")).unwrap();
    source.reload();
    until_summary(&mut source, &["a=2"]).await;
}

/// A file that is written on and on is not read half written; nobody else waits for it.
#[tokio::test]
async fn a_file_is_read_when_it_stands_still() {
    let folder = folder(&[("a.yaml", &service("a", "1")), ("b.yaml", &service("b", "1"))]);
    let mut ledger = Ledger::open(&[folder.path().to_owned()], Options::default()).unwrap();
    let start = tokio::time::Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    fs::write(folder.path().join("a.yaml"), "apiVersion: v1\n").unwrap();
    fs::write(folder.path().join("b.yaml"), service("b", "2")).unwrap();
    let looked = ledger.look(at(0), false);
    assert_eq!((looked.changed, looked.again), (false, Some(at(100))));
    fs::write(folder.path().join("a.yaml"), "apiVersion: v1\nkind: S").unwrap();
    assert!(!ledger.look(at(60), false).changed);
    let looked = ledger.look(at(110), false);
    assert_eq!((looked.changed, looked.again), (true, Some(at(160))));
    assert_eq!(summary(&ledger.set(2)), ["a=1", "b=2"]);
    fs::write(folder.path().join("a.yaml"), service("a", "22")).unwrap();
    assert!(!ledger.look(at(160), false).changed);
    assert!(ledger.look(at(260), false).changed);
    assert_eq!(summary(&ledger.set(3)), ["a=22", "b=2"]);
    // Written again with the same bytes: nothing changed.
    fs::write(folder.path().join("a.yaml"), service("a", "22")).unwrap();
    ledger.look(at(300), false);
    assert!(!ledger.look(at(400), false).changed);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert!(!ledger.look(at(500), false).changed);
    assert_eq!(summary(&ledger.set(4)), ["a=22", "b=2"]);
    assert!(ledger.look(at(600), false).changed);
    assert_eq!(summary(&ledger.set(5)), ["b=2"]);
}
