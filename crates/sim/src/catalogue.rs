//! What the server serves: `/v1/models`, and adapters that come and go.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::problem::Problem;
use crate::service::Reply;
use crate::shared::{Shared, unix_time};

/// The list of models: base names, then adapters with their parent.
pub(crate) fn models(shared: &Shared) -> Value {
    let base = shared.config.base();
    let names = &shared.config.served_model_names;
    let bases = if names.is_empty() { vec![base.to_owned()] } else { names.clone() };
    let card = |id: &str, root: &str, parent: Option<&str>, most: Option<usize>| {
        let permission = format!("modelperm-{:016x}", shared.random.lock().u64(..));
        let created = unix_time() as u64;
        json!({
            "id": id, "object": "model", "created": created, "owned_by": "vllm", "root": root, "parent": parent,
            "max_model_len": most,
            "permission": [{
                "id": permission, "object": "model_permission", "created": created, "allow_create_engine": false,
                "allow_sampling": true, "allow_logprobs": true, "allow_search_indices": false, "allow_view": true,
                "allow_fine_tuning": false, "organization": "*", "group": null, "is_blocking": false
            }]
        })
    };
    let mut data: Vec<Value> =
        bases.iter().map(|name| card(name, &shared.config.model, None, Some(shared.config.max_model_len))).collect();
    data.extend(shared.adapters.lock().iter().map(|(name, path)| card(name, path, Some(base), None)));
    json!({"object": "list", "data": data})
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// `POST /v1/load_lora_adapter`.
pub(crate) fn load(shared: &Shared, fields: &Map<String, Value>) -> Result<Reply, Problem> {
    let (name, path) = (text(fields, "lora_name"), text(fields, "lora_path"));
    if name.is_empty() || path.is_empty() {
        return Err(Problem::adapter_fields("Both 'lora_name' and 'lora_path'"));
    }
    let in_place = fields.get("load_inplace").and_then(Value::as_bool) == Some(true);
    let mut adapters = shared.adapters.lock();
    let loaded = adapters.iter().position(|(other, _)| other == name);
    if loaded.is_some() && !in_place {
        return Err(Problem::adapter_loaded(name));
    }
    let exists = match &shared.config.known_paths {
        Some(paths) => paths.iter().any(|known| known == path),
        None => !path.starts_with("missing") && !path.starts_with("no-such"),
    };
    if !exists {
        return Err(Problem::adapter_path(name, path));
    }
    match loaded.and_then(|place| adapters.get_mut(place)) {
        Some(entry) => path.clone_into(&mut entry.1),
        None => adapters.push((name.to_owned(), path.to_owned())),
    }
    drop(adapters);
    shared.core.lock().engine.forget_adapter(name);
    let said = format!("Success: LoRA adapter '{name}' added successfully.");
    Ok(Reply::whole(StatusCode::OK, None, said))
}

/// `POST /v1/unload_lora_adapter`.
pub(crate) fn unload(shared: &Shared, fields: &Map<String, Value>) -> Result<Reply, Problem> {
    let name = text(fields, "lora_name");
    if name.is_empty() {
        return Err(Problem::adapter_fields("'lora_name'"));
    }
    let mut adapters = shared.adapters.lock();
    let Some(place) = adapters.iter().position(|(other, _)| other == name) else {
        return Err(Problem::adapter_unknown(name));
    };
    adapters.remove(place);
    drop(adapters);
    shared.core.lock().engine.forget_adapter(name);
    let said = format!("Success: LoRA adapter '{name}' removed successfully.");
    Ok(Reply::whole(StatusCode::OK, None, said))
}
