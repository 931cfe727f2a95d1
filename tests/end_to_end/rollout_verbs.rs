//! `tidegate rollout`, as a user types it, against a gateway that runs one; and the judge's word for other controllers.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tidegate_harness::gateway::PATIENCE;
use tidegate_harness::{Client, ModelServer};
use tokio::time::Instant;

use crate::setup::{BINARY, CHAT, Manifests, Setup, chat};

/// What a command came to.
struct Said {
    code: i32,
    out: String,
    errors: String,
}

struct Shell {
    server: String,
    state: String,
}

impl Shell {
    fn of(setup: &Setup) -> Self {
        let state = setup.gateway.state.path().to_str().expect("a path in UTF-8").to_owned();
        Self { server: format!("http://{}", setup.gateway.admin), state }
    }

    fn type_in(&self, state: &str, arguments: &[&str]) -> Said {
        let common = ["--server", &self.server, "--state-dir", state];
        let Output { status, stdout, stderr } =
            Command::new(BINARY).arg("rollout").args(arguments).args(common).output().expect("run");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Said { code: status.code().expect("an exit code"), out: text(stdout), errors: text(stderr) }
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.type_in(&self.state, arguments)
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.errors);
        said.out
    }

    /// Its status.
    fn status(&self) -> Value {
        let object: Value = serde_json::from_str(&self.succeed(&["get", "release", "-o", "json"])).expect("JSON");
        object["status"].clone()
    }

    async fn until(&self, phase: &str) -> Value {
        let started = Instant::now();
        loop {
            let status = self.status();
            if status["phase"] == phase {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "never {phase}: {status:#}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// A roll-out that waits for its start, whose first step waits for a person. Nothing but the bake is asked of it.
fn manifests(old: &ModelServer, new: &ModelServer) -> Manifests {
    let mut manifests = Manifests::new(&[("old", 1, &[old]), ("new", 0, &[new])]);
    manifests.further.push(json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "InferenceRollout", "metadata": {"name": "release"},
        "spec": {
            "type": "Node", "start": "Manual", "target": {"routeRef": {"name": "route"}},
            "stable": {"poolRef": {"name": "old"}}, "candidate": {"poolRef": {"name": "new"}},
            "steps": [
                {"weight": 10, "bake": "1s", "gate": {"manual": true}}, {"weight": 50, "bake": "1h"},
                {"weight": 100, "bake": "1s"}],
            "drain": {"timeout": "2s", "minRetention": "1s"}}}));
    manifests
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_leads_a_release_with_the_verbs() {
    let old = ModelServer::start(BINARY, "m", &[], &["--name", "old"]);
    let new = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    let setup = manifests(&old, &new).serve().await;
    let shell = Shell::of(&setup);
    shell.until("Pending").await;
    assert!(shell.succeed(&["list"]).contains("Pending"));
    assert!(shell.succeed(&["list", "-A", "-o", "yaml"]).contains("kind: InferenceRollout"));
    assert!(shell.succeed(&["plan", "release"]).contains("10%"));
    shell.succeed(&["start", "release"]);
    shell.until("Progressing").await;
    shell.succeed(&["pause", "release"]);
    let paused = shell.until("Paused").await;
    assert_eq!(paused["effectiveWeights"], json!({"stable": 90, "candidate": 10}), "{paused:#}");
    shell.succeed(&["resume", "release"]);
    shell.until("Progressing").await;
    assert!(shell.succeed(&["explain", "release"]).contains("what would change it"));
    shell.succeed(&["diff", "release"]);
    // Past the gate, the bake and the evidence that nobody gathers here.
    shell.succeed(&["promote", "release"]);
    let started = Instant::now();
    while shell.status()["effectiveWeights"]["candidate"] != 50 {
        assert!(started.elapsed() < PATIENCE, "{:#}", shell.status());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    shell.succeed(&["rollback", "release", "--reason", "not today"]);
    let back = shell.until("RolledBack").await;
    assert_eq!(back["effectiveWeights"], json!({"stable": 100, "candidate": 0}));
    assert!(shell.succeed(&["history", "release"]).contains("not today"));
    let watched = shell.run(&["watch", "release"]);
    assert_eq!(watched.code, 1, "it did not complete: {}", watched.out);
    shell.succeed(&["start", "release"]);
    shell.until("Progressing").await;
    shell.succeed(&["promote", "release", "--full"]);
    // One answer shows that the weights are in force.
    let started = Instant::now();
    while shell.status()["phase"] != "Settling" {
        assert!(started.elapsed() < PATIENCE, "{:#}", shell.status());
        assert_eq!(Client::new().post(setup.address, CHAT, &chat("m", 1, false)).await.status, 200);
    }
    let patch = shell.succeed(&["emit-patch", "release"]);
    assert!(patch.contains("kubectl patch httproute route -n default") && patch.contains("weight: 0"), "{patch}");
    shell.succeed(&["undo", "release"]);
    shell.until("RolledBack").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_refused_and_says_what_can() {
    let old = ModelServer::start(BINARY, "m", &[], &["--name", "old"]);
    let new = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    let setup = manifests(&old, &new).serve().await;
    let shell = Shell::of(&setup);
    shell.until("Pending").await;
    for (arguments, code, said) in [
        (&["get", "nobody"][..], 1, "there is no InferenceRollout default/nobody"),
        (&["get", "release", "-n", "elsewhere"], 1, "elsewhere/release"),
        (&["undo", "release"], 1, "Pending"),
        (&["dance", "release"], 2, "unrecognized subcommand"),
        (&["get"], 2, "NAME"),
        (&["promote", "release", "--full", "--step"], 2, "cannot be used with"),
    ] {
        let found = shell.run(arguments);
        assert_eq!(found.code, code, "{arguments:?}: {}", found.errors);
        assert!(found.errors.contains(said), "{arguments:?}: {}", found.errors);
    }
    let elsewhere = tempfile::tempdir().expect("a folder");
    let found = shell.type_in(elsewhere.path().to_str().expect("a path in UTF-8"), &["start", "release"]);
    assert!(found.code == 1 && found.errors.contains("token"), "{}", found.errors);
    assert_eq!(shell.status()["phase"], "Pending", "without the token nothing began");
    let nobody =
        Command::new(BINARY).args(["rollout", "list", "--server", "http://127.0.0.1:1"]).output().expect("run");
    assert_eq!(nobody.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_controllers_can_ask_for_the_judges_word() {
    let old = ModelServer::start(BINARY, "m", &[], &["--name", "old"]);
    let new = ModelServer::start(BINARY, "m", &[], &["--name", "new"]);
    let setup = manifests(&old, &new).serve().await;
    Shell::of(&setup).until("Pending").await;
    let path = "/v1/rollouts/default/release/verdict";
    let verdict = setup.gateway.admin_get(path).await.json();
    assert_eq!(verdict["verdict"], "hold", "nothing is known yet: {verdict:#}");
    let ask = async |query: &str| Client::new().post(setup.gateway.admin, &format!("{path}{query}"), &json!({})).await;
    assert_eq!(ask("").await.status, 409, "no pass yet");
    assert_eq!(ask("?when=pass,hold").await.status, 200);
    assert_eq!(ask("?when=fail").await.status, 409);
    let nobody = setup.gateway.admin_get("/v1/rollouts/default/nobody/verdict").await;
    assert_eq!(nobody.status, 404);
}
