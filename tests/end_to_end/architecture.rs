//! The arrows between rooms: a crate may only know those that ARCHITECTURE.md lets it know.

use std::process::Command;

use serde_json::Value;

/// Crate → crates of ours that it may depend on (outside its own tests).
const ALLOWED: &[(&str, &[&str])] = &[
    ("tidegate-api", &[]),
    ("tidegate-body", &[]),
    ("tidegate-http1", &[]),
    ("tidegate-picker", &[]),
    ("tidegate-sim", &[]),
    ("tidegate-telemetry", &[]),
    ("tidegate-routing", &["tidegate-api"]),
    ("tidegate-rollout", &["tidegate-api", "tidegate-evidence"]),
    ("tidegate-files", &["tidegate-api"]),
    (
        "tidegate-controller",
        &["tidegate-api", "tidegate-evidence", "tidegate-rollout", "tidegate-routing", "tidegate-telemetry"],
    ),
    ("tidegate-signals", &["tidegate-picker"]),
    ("tidegate-migrate", &["tidegate-api", "tidegate-routing"]),
    ("tidegate-admin", &["tidegate-api", "tidegate-telemetry"]),
    ("tidegate-demo", &[]),
    ("tidegate-evidence", &[]),
    (
        "tidegate-proxy",
        &[
            "tidegate-api",
            "tidegate-body",
            "tidegate-http1",
            "tidegate-picker",
            "tidegate-routing",
            "tidegate-telemetry",
        ],
    ),
];

#[test]
fn crates_know_only_those_they_may() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo metadata");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    for (name, allowed) in ALLOWED {
        let package = packages
            .iter()
            .find(|package| package["name"] == *name)
            .unwrap_or_else(|| panic!("{name} is a crate of the workspace"));
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        for dependency in dependencies.iter().filter(|dependency| dependency["kind"].is_null()) {
            let known = dependency["name"].as_str().unwrap_or_default();
            assert!(
                !known.starts_with("tidegate-") || allowed.contains(&known),
                "{name} must not depend on {known}: see ARCHITECTURE.md, or change it there first",
            );
        }
    }
    let crates = packages.iter().filter_map(|package| package["name"].as_str());
    for name in crates
        .filter(|name| !["tidegate", "tidegate-harness", "tidegate-bench", "tidegate-bench-rollouts"].contains(name))
    {
        assert!(ALLOWED.iter().any(|(known, _)| *known == name), "{name} has no line here yet");
    }
}
