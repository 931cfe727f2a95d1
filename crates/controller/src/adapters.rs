//! Adapters that the gateway loads and unloads itself, on each endpoint: `POST /v1/load_lora_adapter` and
//! `/v1/unload_lora_adapter` of vLLM and SGLang. Clients never reach these paths through the gateway.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::client;
use crate::fleet::Endpoint;

/// An adapter comes from a disk or an object store.
const LOAD: Duration = Duration::from_secs(120);
const UNLOAD: Duration = Duration::from_secs(20);
/// Tries of an unload that is not answered.
const TRIES: u32 = 5;

/// Why an adapter is not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotLoaded {
    /// Trying again will not help.
    pub(crate) is_final: bool,
    pub(crate) message: String,
}

/// Loads an adapter on one endpoint. One that is there already is loaded.
pub(crate) async fn load(address: &str, name: &str, source: &str) -> Result<(), NotLoaded> {
    let body = json!({"lora_name": name, "lora_path": source});
    match client::post(address, "/v1/load_lora_adapter", &body, LOAD).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) if answer.status == 400 && answer.says().contains("already been loaded") => Ok(()),
        Ok(answer) => Err(NotLoaded {
            is_final: (400..500).contains(&answer.status) && answer.status != 429,
            message: format!("{address} does not load {name} from {source}: {}", answer.says()),
        }),
        Err(error) => Err(NotLoaded { is_final: false, message: format!("{address}: {error}") }),
    }
}

/// Unloads an adapter wherever it is loaded. What cannot be unloaded is said in the log and left.
pub(crate) async fn unload(endpoints: Vec<Endpoint>, name: String) {
    let mut calls = JoinSet::new();
    for endpoint in endpoints {
        let name = name.clone();
        calls.spawn(async move {
            let mut pause = Duration::from_secs(1);
            for _ in 0..TRIES {
                let body = json!({"lora_name": name});
                match client::post(&endpoint.address, "/v1/unload_lora_adapter", &body, UNLOAD).await {
                    // 404: it is not there, which is what is wanted.
                    Ok(answer) if matches!(answer.status, 200 | 404) => return,
                    Ok(answer) => {
                        let says = answer.says();
                        tracing::warn!(endpoint = %endpoint.address, adapter = name, says, "the adapter stays loaded");
                        return;
                    }
                    Err(error) => {
                        tracing::debug!(endpoint = %endpoint.address, %error, "the adapter is not unloaded yet");
                    }
                }
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
            tracing::warn!(endpoint = %endpoint.address, adapter = name, "the adapter stays loaded: no answer");
        });
    }
    while calls.join_next().await.is_some() {}
}
