//! What one round asks of one endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_api::rollout::{ArmSettings, RolloutSettings};
use tidegate_rollout::plan::Check;
use tokio::task::JoinSet;

use crate::client;
use crate::fleet::Endpoint;

const PATIENCE: Duration = Duration::from_secs(5);
/// The first request after the start of an engine can take a minute.
const PROBE: Duration = Duration::from_secs(90);
/// A text whose tokens differ between tokenizers: scripts, digits, spaces, code.
const SAMPLE: &str = "Tidegate 0.1 — größe, 東京, Привет, 12345.678\n\tfn main() { println!(\"ok\"); }  ";

/// A model that an endpoint lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Card {
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) max_model_len: Option<u64>,
}

/// Adapters that an engine works with now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    pub(super) most: u64,
    pub(super) active: BTreeSet<String>,
    /// Every adapter that ever had a request.
    pub(super) ever: BTreeSet<String>,
}

/// What one endpoint answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) address: Arc<str>,
    /// Why it is not ready; none: it is.
    pub(super) not_ready: Option<String>,
    pub(super) cards: Vec<Card>,
    /// None: it does not say, or was not asked.
    pub(super) slots: Option<Slots>,
    /// The probe's answer, or why there is none.
    pub(super) probe: Option<Result<Value, String>>,
    /// Tokens of [`SAMPLE`]; none: it does not say, or was not asked.
    pub(super) tokens: Option<Vec<u64>>,
}

/// What one endpoint answered to a probe, and the tokens it counts in the probe's prompt.
type Answers = (Value, Option<Vec<u64>>);

/// Looks at endpoints; answers that do not change are asked for once.
#[derive(Clone, Debug)]
pub(super) struct Looker {
    asks_slots: bool,
    asks_probe: bool,
    asks_tokens: bool,
    prompt: String,
    max_tokens: u32,
    stable: Option<String>,
    candidate: Option<String>,
    /// Answers of probes and tokenizers by endpoint and side.
    known: BTreeMap<(Arc<str>, bool), Answers>,
}

impl Looker {
    /// Asks what these checks need.
    pub(super) fn new(settings: &RolloutSettings, checks: &[Check]) -> Self {
        let model = |arm: &ArmSettings| match arm {
            ArmSettings::Model(name) => Some(name.clone()),
            ArmSettings::Pool { .. } => None,
        };
        let asks = |check: Check| checks.contains(&check);
        Self {
            asks_slots: asks(Check::FreeSlots) || asks(Check::Adapters),
            asks_probe: asks(Check::Probe) || asks(Check::ResponseShape),
            asks_tokens: asks(Check::Tokenizer),
            prompt: settings.preflight.probe_prompt.clone(),
            max_tokens: settings.preflight.probe_max_tokens.max(1),
            stable: model(&settings.stable),
            candidate: model(&settings.candidate),
            known: BTreeMap::new(),
        }
    }

    /// Looks at all of these at once.
    pub(super) async fn look(&mut self, endpoints: Vec<Endpoint>, is_candidate: bool) -> Vec<Look> {
        let mut calls = JoinSet::new();
        for (index, endpoint) in endpoints.into_iter().enumerate() {
            let looker = self.clone();
            calls.spawn(async move { (index, looker.look_at(endpoint, is_candidate).await) });
        }
        let mut looks = BTreeMap::new();
        while let Some(done) = calls.join_next().await {
            if let Ok((index, look)) = done {
                if let Some(Ok(answer)) = &look.probe {
                    let key = (look.address.clone(), is_candidate);
                    self.known.insert(key, (answer.clone(), look.tokens.clone()));
                }
                looks.insert(index, look);
            }
        }
        looks.into_values().collect()
    }

    async fn look_at(&self, endpoint: Endpoint, is_candidate: bool) -> Look {
        let address = endpoint.address.clone();
        let mut look = Look { address: address.clone(), ..Look::default() };
        if endpoint.ejected {
            look.not_ready = Some("it failed again and again and is passed over".into());
        }
        match client::get(&address, "/health", PATIENCE).await {
            Ok(answer) if answer.status == 200 || answer.status == 404 => {}
            Ok(answer) => look.not_ready = Some(format!("GET /health: status {}", answer.status)),
            Err(error) => {
                look.not_ready = Some(error.to_string());
                return look;
            }
        }
        match models(&address).await {
            Ok(cards) => look.cards = cards,
            Err(why) => look.not_ready = look.not_ready.or(Some(why)),
        }
        if self.asks_slots
            && let Ok(answer) = client::get(&address, "/metrics", PATIENCE).await
        {
            look.slots = slots(&String::from_utf8_lossy(&answer.body));
        }
        if look.not_ready.is_some() || !self.asks_probe {
            return look;
        }
        if let Some((answer, tokens)) = self.known.get(&(address.clone(), is_candidate)) {
            look.probe = Some(Ok(answer.clone()));
            look.tokens = tokens.clone();
            return look;
        }
        let arm = if is_candidate { &self.candidate } else { &self.stable };
        let base = || look.cards.iter().find(|card| card.parent.is_none()).map(|card| card.id.clone());
        let model = arm.clone().or_else(base);
        // An adapter that is not there yet has nothing to probe.
        let is_there = model.as_ref().is_some_and(|model| look.cards.iter().any(|card| card.id == *model));
        if is_there {
            look.probe = Some(self.probe(&address, model.as_deref()).await);
            if self.asks_tokens {
                look.tokens = tokens(&address, model.as_deref()).await;
            }
        }
        look
    }

    /// One token; from the chat endpoint where the server has no other.
    async fn probe(&self, address: &str, model: Option<&str>) -> Result<Value, String> {
        let plain = json!({"model": model, "prompt": self.prompt, "max_tokens": self.max_tokens});
        let answer =
            client::post(address, "/v1/completions", &plain, PROBE).await.map_err(|error| error.to_string())?;
        let answer = if matches!(answer.status, 404 | 405) {
            let messages = json!([{"role": "user", "content": self.prompt}]);
            let chat = json!({"model": model, "messages": messages, "max_tokens": self.max_tokens});
            client::post(address, "/v1/chat/completions", &chat, PROBE).await.map_err(|error| error.to_string())?
        } else {
            answer
        };
        if answer.status != 200 {
            return Err(answer.says());
        }
        let body = answer.json().ok_or_else(|| "the answer is no JSON".to_owned())?;
        let has_choice = body.get("choices").and_then(Value::as_array).is_some_and(|choices| !choices.is_empty());
        if has_choice { Ok(body) } else { Err("the answer has no choices".into()) }
    }
}

/// What an endpoint lists.
pub(super) async fn models(address: &str) -> Result<Vec<Card>, String> {
    let answer = client::get(address, "/v1/models", PATIENCE).await.map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("GET /v1/models: status {}", answer.status));
    }
    let body = answer.json().ok_or("GET /v1/models: no JSON")?;
    let cards = body.get("data").and_then(Value::as_array).ok_or("GET /v1/models: no list \"data\"")?;
    let card = |card: &Value| {
        Some(Card {
            id: card.get("id")?.as_str()?.to_owned(),
            parent: card.get("parent").and_then(Value::as_str).map(str::to_owned),
            max_model_len: card.get("max_model_len").and_then(Value::as_u64),
        })
    };
    Ok(cards.iter().filter_map(card).collect())
}

async fn tokens(address: &str, model: Option<&str>) -> Option<Vec<u64>> {
    let body = json!({"model": model, "prompt": SAMPLE, "add_special_tokens": false});
    let answer = client::post(address, "/tokenize", &body, PATIENCE).await.ok()?;
    let body = answer.json().filter(|_| answer.status == 200)?;
    body.get("tokens")?.as_array()?.iter().map(Value::as_u64).collect()
}

/// Reads `vllm:lora_requests_info`: many series, each with names of adapters and the time it was last true; the newest
/// is the present, all of them the past.
pub(super) fn slots(page: &str) -> Option<Slots> {
    let mut newest = f64::NEG_INFINITY;
    let mut found: Option<Slots> = None;
    let mut ever = BTreeSet::new();
    for line in page.lines() {
        let Some(rest) = line.strip_prefix("vllm:lora_requests_info{") else { continue };
        let Some((labels, value)) = rest.rsplit_once('}') else { continue };
        let Some(at) = value.split_ascii_whitespace().next().and_then(|at| at.parse::<f64>().ok()) else { continue };
        let mut active: BTreeSet<String> = names(labels, "running_lora_adapters=\"");
        active.extend(names(labels, "waiting_lora_adapters=\""));
        ever.extend(active.iter().cloned());
        if at >= newest {
            newest = at;
            let most = label(labels, "max_lora=\"").and_then(|most| most.parse().ok()).unwrap_or(0);
            found = Some(Slots { most, active, ever: BTreeSet::new() });
        }
    }
    found.map(|slots| Slots { ever, ..slots })
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(name)?;
    rest.split('"').next()
}

fn names(labels: &str, name: &str) -> BTreeSet<String> {
    let list = label(labels, name).unwrap_or_default();
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_series_the_newest_is_the_present() {
        let page = "# TYPE vllm:lora_requests_info gauge\n\
            vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"\",waiting_lora_adapters=\"\"} 1.7953342721622508e+09\n\
            vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"v1, v2\",waiting_lora_adapters=\"v1\"} 1.795334269819272e+09\n\
            vllm:lora_requests_info{max_lora=\"2\",running_lora_adapters=\"v2\",waiting_lora_adapters=\"v3\"} 1.7953342709783711e+09\n";
        let ever = ["v1", "v2", "v3"].map(str::to_owned).into();
        assert_eq!(slots(page), Some(Slots { most: 2, active: BTreeSet::new(), ever }));
        assert_eq!(slots("vllm:num_requests_running 1\n"), None, "an engine without adapters says nothing");
        assert_eq!(slots("vllm:lora_requests_info{max_lora=\"2\"} soon\nvllm:lora_requests_info{\n"), None);
    }
}
