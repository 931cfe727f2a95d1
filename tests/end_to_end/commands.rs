//! `check`, `migrate` and `get`, as a user types them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tidegate_harness::{ModelServer, shared};

use crate::setup::{BINARY, Manifests};

fn run(arguments: &[&str]) -> (i32, String) {
    let Output { status, stdout, .. } = Command::new(BINARY).args(arguments).output().expect("run");
    (status.code().expect("an exit code"), String::from_utf8(stdout).expect("text"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The GKE guide's files in a folder of their own, their backticks removed.
fn without_backticks() -> Option<tempfile::TempDir> {
    let printed = shared::path("manifests/gke")?;
    let folder = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(printed).expect("the guide's folder") {
        let file = file.expect("a file");
        let clean = std::fs::read_to_string(file.path()).expect("its text").replace('`', "");
        std::fs::write(folder.path().join(file.file_name()), clean).expect("write");
    }
    Some(folder)
}

#[test]
fn check_names_each_repair_with_its_place_and_the_text_to_write() {
    let Some(folder) = without_backticks() else { return };
    let (code, said) = run(&["check", "-f", text(folder.path())]);
    // No Gateway and no pools are among the printed files.
    assert_eq!(code, 1, "{said}");
    for part in [
        "routes-to-llm.as-printed.yaml:8:3: warning RepairedList",
        "write: rules:\n             - backendRefs:\n               - name: llm\n",
        "inferencemodel-sample.as-printed.yaml:6:3: warning PrintedForm",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let Some(printed) = shared::path("manifests/gke") else { return };
    let (code, said) = run(&["check", "-f", text(&printed)]);
    assert_eq!(code, 1);
    assert!(said.contains("routes-to-llm.as-printed.yaml:2:7: a value cannot begin with a backtick"), "{said}");
}

#[test]
fn check_ends_with_0_1_or_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.yaml");
    let server = |address: Value| {
        json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelServer", "metadata": {"name": "s"},
                                        "spec": {"address": address}})
    };
    for (address, wanted) in [(json!("127.0.0.1:1"), 0), (json!(7), 1)] {
        std::fs::write(&file, server(address).to_string()).expect("write");
        let (code, said) = run(&["check", "-o", "json", "-f", text(&file)]);
        assert_eq!(code, wanted, "{said}");
        serde_json::from_str::<Value>(&said).expect("JSON");
    }
    assert_eq!(run(&["check", "-f", text(&folder.path().join("none.yaml"))]).0, 2);
    assert_eq!(run(&["check", "--none"]).0, 2);
}

#[test]
fn what_migrate_prints_is_accepted_and_needs_no_migration() {
    let Some(guide) = shared::path("manifests/ack") else { return };
    let (code, current) = run(&["migrate", "-f", text(&guide)]);
    assert_eq!(code, 0);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("current.yaml");
    std::fs::write(&file, &current).expect("write");
    let (code, said) = run(&["check", "-f", text(&file)]);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains(": warning "), "{said}");
    let (code, again) = run(&["migrate", "-f", text(&file)]);
    assert_eq!(code, 0);
    let plain = |text: &str| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(plain(&again), plain(&current));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_prints_a_running_gateways_objects() {
    let server = ModelServer::start(BINARY, "m", &[], &[]);
    let other = ModelServer::start(BINARY, "other", &[], &[]);
    let setup = Manifests::new(&[("pool", 90, &[&server]), ("second", 10, &[&other])]).serve().await;
    let admin = format!("http://{}", setup.gateway.admin);
    let get = |form: &str| {
        let (code, said) = run(&["get", "gateway/gateway", "--server", &admin, "-o", form]);
        assert_eq!(code, 0, "{said}");
        said
    };
    let address = get("jsonpath={.status.addresses[0].value}");
    assert_eq!(address.trim(), setup.address.ip().to_string());
    let object: Value = serde_json::from_str(&get("json")).expect("JSON");
    assert_eq!((&object["kind"], &object["metadata"]["name"]), (&json!("Gateway"), &json!("gateway")));
    assert!(get("yaml").contains("kind: Gateway"));
    let table = get("table");
    assert!(table.contains("NAME") && table.contains(address.trim()), "{table}");
    // Each pool lists a model that the other lacks; the route says so once both are known.
    let started = tokio::time::Instant::now();
    loop {
        let route = setup.gateway.objects("httproute", Some("route")).await.remove(0)["status"].to_string();
        if route.contains("ShareGivenAway") && route.contains("default/second does not serve") {
            break;
        }
        assert!(started.elapsed() < tidegate_harness::gateway::PATIENCE, "the route does not say it: {route}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
