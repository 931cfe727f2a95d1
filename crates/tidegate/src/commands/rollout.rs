//! `tidegate rollout`: how people meet roll-outs. Each verb asks the admin API once, or watches it; what a verb means is
//! the gateway's matter.

mod patch;
mod print;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidegate_admin::Token;

use super::server::{Server, encode};
use crate::output::{self, Format};

/// Least time between two looks of a watch.
const BREATH: Duration = Duration::from_millis(250);

/// Arguments of `tidegate rollout`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// Namespace.
    #[arg(short, long, default_value = "default", global = true)]
    namespace: String,
    /// How to print: table, json, yaml or jsonpath={…}.
    #[arg(short, long, default_value = "table", global = true)]
    output: Format,
    /// The gateway's admin API.
    #[arg(long, default_value = "http://127.0.0.1:15000", value_name = "URL", global = true)]
    server: Server,
    /// The gateway's state folder, for its admin token; the same default as that of `serve`.
    #[arg(long, value_name = "PATH", global = true)]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Every roll-out of the namespace, with its phase and share.
    List {
        /// All namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// One roll-out with its status.
    Get { name: String },
    /// Follow a roll-out to its end; 1 if it did not complete.
    Watch { name: String },
    /// How long each step takes at today's traffic, what a fault would spoil, and whether stable can take all back.
    Plan { name: String },
    /// Why it is where it is, by which numbers and formulas, and what would change it.
    Explain { name: String },
    /// What happened, oldest first.
    History { name: String },
    /// Both arms' numbers, side by side.
    Diff { name: String },
    /// The patch of the manifests that settles it; yaml unless -o json.
    EmitPatch { name: String },
    /// Leave Pending, or try again after Failed or RolledBack.
    Start { name: String },
    /// Stand still.
    Pause { name: String },
    /// Go on, and accept what held it.
    Resume { name: String },
    /// Open the step's manual gate.
    Approve { name: String },
    /// Go to the next step (or the last) without waiting for bake, evidence or webhook.
    Promote {
        name: String,
        /// To the next step; the default.
        #[arg(long, conflicts_with = "full")]
        step: bool,
        /// To the last step.
        #[arg(long)]
        full: bool,
    },
    /// Turn back.
    Rollback {
        name: String,
        /// Why, for the record.
        #[arg(long, default_value = "")]
        reason: String,
        /// Cut the candidate's streams, whatever the document says.
        #[arg(long)]
        cut_streams: bool,
    },
    /// Take a promotion back.
    Undo { name: String },
}

/// Does what was asked; 1 when the answer is no, 2 for wrong usage.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    match answer(&arguments) {
        Ok(text) => {
            output::print(&text);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("tidegate rollout: {message}");
            ExitCode::FAILURE
        }
    }
}

fn answer(arguments: &Arguments) -> Result<String, String> {
    let view = |name: &str, view: &str, table: fn(&Value) -> String| {
        let value = read(arguments, name, view)?;
        show(arguments, &value, table)
    };
    match &arguments.verb {
        Verb::List { all_namespaces } => list(arguments, *all_namespaces),
        Verb::Get { name } => view(name, "", print::one),
        Verb::Watch { name } => watch(arguments, name),
        Verb::Plan { name } => view(name, "/plan", print::plan),
        Verb::Explain { name } => view(name, "/explain", print::explanation),
        Verb::History { name } => view(name, "/history", print::history),
        Verb::Diff { name } => {
            let value = read(arguments, name, "")?;
            show(arguments, value.pointer("/status/evidence").unwrap_or(&Value::Null), print::difference)
        }
        Verb::EmitPatch { name } => emit_patch(arguments, name),
        Verb::Start { name } => command(arguments, name, "start", json!({})),
        Verb::Pause { name } => command(arguments, name, "pause", json!({})),
        Verb::Resume { name } => command(arguments, name, "resume", json!({})),
        Verb::Approve { name } => command(arguments, name, "approve", json!({})),
        Verb::Promote { name, full: true, .. } => command(arguments, name, "promote-full", json!({})),
        Verb::Promote { name, .. } => command(arguments, name, "promote", json!({})),
        Verb::Rollback { name, reason, cut_streams } => {
            let verb = if *cut_streams { "rollback-cut" } else { "rollback" };
            command(arguments, name, verb, json!({"reason": reason}))
        }
        Verb::Undo { name } => command(arguments, name, "undo", json!({})),
    }
}

fn path(arguments: &Arguments, name: &str, view: &str) -> String {
    format!("/rollouts/{}/{}{view}", encode(&arguments.namespace), encode(name))
}

fn read(arguments: &Arguments, name: &str, view: &str) -> Result<Value, String> {
    arguments.server.read(&path(arguments, name, view)).map_err(|error| error.to_string())
}

fn show(arguments: &Arguments, value: &Value, table: fn(&Value) -> String) -> Result<String, String> {
    match &arguments.output {
        Format::Table => Ok(table(value)),
        Format::Json => Ok(output::json(value)),
        Format::Yaml => output::yaml(value),
        Format::JsonPath(template) => Ok(template.render(value)),
    }
}

fn list(arguments: &Arguments, all: bool) -> Result<String, String> {
    let query = if all { String::new() } else { format!("?namespace={}", encode(&arguments.namespace)) };
    let value = arguments.server.read(&format!("/rollouts{query}")).map_err(|error| error.to_string())?;
    show(arguments, &value, print::list)
}

fn command(arguments: &Arguments, name: &str, verb: &str, mut body: Value) -> Result<String, String> {
    let folder = arguments.state_dir.clone().or_else(super::serve::default_state_dir);
    let folder = folder.ok_or("no home folder is known: name the gateway's with --state-dir")?;
    let token = Token::load(&folder).map_err(|error| error.to_string())?;
    let id = format!("{}-{}", jiff::Timestamp::now().as_nanosecond(), std::process::id());
    let writer = std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "admin".into());
    if let Some(fields) = body.as_object_mut() {
        fields.insert("verb".into(), json!(verb));
        fields.insert("id".into(), json!(id));
        fields.insert("writer".into(), json!(writer));
    }
    let target = path(arguments, name, "/commands");
    let value = arguments.server.change(&target, token.reveal(), &body).map_err(|error| error.to_string())?;
    show(arguments, &value, print::taken)
}

/// A line for every change; on a terminal the last line is written over.
fn watch(arguments: &Arguments, name: &str) -> Result<String, String> {
    let live = std::io::stdout().is_terminal() && matches!(arguments.output, Format::Table);
    let (mut query, mut before) = (String::new(), String::new());
    loop {
        let value = read(arguments, name, &format!("/watch{query}"))?;
        let (object, generation) = (value.get("object").unwrap_or(&Value::Null), value.get("generation"));
        let text = show(arguments, object, print::line)?;
        if text != before {
            output::print(&if live { format!("\r\u{1b}[2K{}", text.trim_end()) } else { text.clone() });
            before = text;
        }
        match object.pointer("/status/phase").and_then(Value::as_str) {
            Some("Completed") => return Ok(if live { "\n".into() } else { String::new() }),
            Some(phase @ ("RolledBack" | "Failed" | "Superseded")) => {
                let end = if live { "\n" } else { "" };
                output::print(end);
                return Err(format!(
                    "{}/{name} ended {phase}; `tidegate rollout explain {name}` says why",
                    arguments.namespace
                ));
            }
            _ => {}
        }
        query = generation.map(|generation| format!("?generation={generation}")).unwrap_or_default();
        std::thread::sleep(BREATH);
    }
}

fn emit_patch(arguments: &Arguments, name: &str) -> Result<String, String> {
    let rollout = read(arguments, name, "")?;
    let wanted = patch::wanted(&rollout)?;
    let found = arguments.server.objects(&wanted.kind, Some(&arguments.namespace), Some(&wanted.name));
    let found = found.map_err(|error| error.to_string())?;
    let object = found.first().ok_or_else(|| format!("there is no {} {}", wanted.kind, wanted.name))?;
    let patch = patch::settle(&rollout, object)?;
    let kind = wanted.kind.to_ascii_lowercase();
    let head =
        format!("# kubectl patch {kind} {} -n {} --type merge --patch-file FILE\n", wanted.name, arguments.namespace);
    match &arguments.output {
        Format::Table => Ok(format!("{head}{}", output::yaml(&patch)?)),
        _ => show(arguments, &patch, output::json),
    }
}

#[cfg(test)]
mod tests;
