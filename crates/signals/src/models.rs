//! An answer to `GET /v1/models`.

use serde_json::Value;
use tidegate_picker::{ModelCard, ModelList};

/// An answer that is no list of models.
#[derive(Debug, thiserror::Error)]
#[error("not a list of models: {0}")]
pub struct InvalidModels(&'static str);

/// Reads `{"data": [{"id": …, "parent": …}, …]}`. Cards without an `id` are passed over.
///
/// # Errors
/// When it is not JSON or has no list `data`.
pub fn parse_models(body: &[u8]) -> Result<ModelList, InvalidModels> {
    let mut answer: Value = serde_json::from_slice(body).map_err(|_| InvalidModels("it is not JSON"))?;
    let Some(Value::Array(cards)) = answer.get_mut("data").map(Value::take) else {
        return Err(InvalidModels("it has no list \"data\""));
    };
    let text = |card: &Value, field: &str| card.get(field).and_then(Value::as_str).map(str::to_owned);
    let named = cards.into_iter().filter_map(|card| {
        let id = text(&card, "id")?;
        Some(ModelCard { id, parent: text(&card, "parent"), card })
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use super::parse_models;

    #[test]
    fn cards_have_names_and_adapters_parents() {
        let body = br#"{"object":"list","data":[{"id":"m","parent":null},{"id":"a","parent":"m"},{"no":"id"}]}"#;
        let models = parse_models(body).expect("a list");
        let names: Vec<(&str, Option<&str>)> =
            models.iter().map(|card| (card.id.as_str(), card.parent.as_deref())).collect();
        assert_eq!(names, [("m", None), ("a", Some("m"))]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for body in ["", "{}", "[]", "{\"data\":{}}", "<html>"] {
            assert!(parse_models(body.as_bytes()).is_err(), "{body}");
        }
    }
}
