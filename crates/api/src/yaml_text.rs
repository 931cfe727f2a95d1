//! YAML text of a value, for replacements that can be pasted.

use serde_json::Value;

/// The value in block style, without a trailing line end.
pub(crate) fn block(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_pasteable() {
        let value = json!({"rules": [{"backendRefs": [{"name": "llm", "weight": 90}]}], "port": "8000", "flag": "true", "n": null, "d": "2020-01-01", "s": "a: b", "e": "", "star": "*.x", "tick": "`x`"});
        let text = block(&value);
        assert!(text.starts_with("rules:\n"), "{text}");
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, value, "{text}");
    }
}
