//! Joins the admin API to the controller: views by name, and commands as the machine takes them.

use serde_json::Value;
use tidegate_admin::{CommandAnswer, CommandRefusal, RolloutView, Rollouts};
use tidegate_controller::{CommandError, RolloutHandle};
use tidegate_rollout::event::{Actor, Command, Verb};
use tokio::sync::watch;

/// The roll-outs of this process.
pub(crate) struct Adapter(pub(crate) RolloutHandle);

impl Rollouts for Adapter {
    fn list(&self) -> Vec<Value> {
        self.0.list()
    }

    fn get(&self, namespace: &str, name: &str) -> Option<Value> {
        self.0.get(namespace, name)
    }

    fn view(&self, namespace: &str, name: &str, view: RolloutView) -> Option<Value> {
        match view {
            RolloutView::Explain => self.0.explain(namespace, name),
            RolloutView::History => self.0.history(namespace, name).map(Value::Array),
            RolloutView::Plan => self.0.plan(namespace, name),
            RolloutView::Verdict => self.0.verdict(namespace, name),
        }
    }

    fn command<'a>(&'a self, namespace: &'a str, name: &'a str, command: Value) -> CommandAnswer<'a> {
        Box::pin(async move {
            let command = read(&command).map_err(CommandRefusal::Invalid)?;
            self.0.command(namespace, name, command).await.map_err(|error| {
                let message = error.to_string();
                match error {
                    CommandError::NotFound { .. } => CommandRefusal::NotFound(message),
                    CommandError::Refused(_) => CommandRefusal::Conflict(message),
                    CommandError::Unavailable => CommandRefusal::Unavailable(message),
                }
            })
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

/// The metrics' page with those of roll-outs, before its end mark.
pub(crate) fn with_metrics(page: String, rollouts: &RolloutHandle) -> String {
    const END: &str = "# EOF\n";
    match page.strip_suffix(END) {
        Some(page) => format!("{page}{}{END}", rollouts.metrics()),
        None => page + &rollouts.metrics(),
    }
}

/// Reads `{verb, id, writer, reason}`. Who holds the token may name any writer: groups are not taken from it.
fn read(command: &Value) -> Result<Command, String> {
    let field = |name: &str| command.get(name).and_then(Value::as_str);
    let word = field("verb").unwrap_or_default();
    let mut verb =
        Verb::parse(word).ok_or_else(|| format!("verb: is {word:?}, but must be one of {}", Verb::WORDS.join(", ")))?;
    let id = field("id").filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let id = id.ok_or("id: must be 1 to 128 visible ASCII characters, another for each command")?;
    if let Verb::Rollback { reason, .. } = &mut verb {
        *reason = field("reason").unwrap_or_default().chars().take(1000).collect();
    }
    let writer = field("writer").filter(|writer| !writer.is_empty()).unwrap_or("admin");
    Ok(Command { id: id.to_owned(), writer: Actor::named(&writer.chars().take(200).collect::<String>()), verb })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_are_read_and_mistakes_named() {
        let command = read(&json!({"verb": "rollback-cut", "id": "1", "reason": "slow", "writer": "ann"})).unwrap();
        assert_eq!(command.verb, Verb::Rollback { reason: "slow".into(), cut_streams: true });
        assert_eq!(command.writer.name, "ann");
        for (wrong, field) in [
            (json!({"verb": "dance", "id": "1"}), "verb"),
            (json!({"verb": "pause"}), "id"),
            (json!({"verb": "pause", "id": "a b"}), "id"),
            (json!([]), "verb"),
        ] {
            assert!(read(&wrong).unwrap_err().starts_with(field), "{wrong}");
        }
    }
}
