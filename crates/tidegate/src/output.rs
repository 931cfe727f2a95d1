//! How commands print: `-o table|json|yaml|jsonpath=…`.

mod jsonpath;
mod table;

use std::io::Write;
use std::str::FromStr;

use serde_json::Value;

pub(crate) use jsonpath::Template;
pub(crate) use table::Table;

/// A choice of `-o`.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// JSON, indented.
    Json,
    /// YAML.
    Yaml,
    /// kubectl's template.
    JsonPath(Template),
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            _ => match text.strip_prefix("jsonpath=") {
                Some(template) => Template::parse(template).map(Self::JsonPath),
                None => Err("write table, json, yaml or jsonpath={.path}".into()),
            },
        }
    }
}

/// A value as text that ends its line.
pub(crate) fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A value as a YAML document.
///
/// # Errors
/// When the value cannot be written as YAML.
pub(crate) fn yaml(value: &Value) -> Result<String, String> {
    let mut text = serde_saphyr::to_string(value).map_err(|error| format!("cannot write YAML: {error}"))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Writes to stdout. A reader that left (`| head`) is no failure of ours.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats() {
        assert!(matches!("table".parse(), Ok(Format::Table)));
        assert!(matches!("jsonpath={.a}".parse(), Ok(Format::JsonPath(_))));
        assert!("xml".parse::<Format>().is_err());
        assert!("jsonpath={.a".parse::<Format>().is_err());
        assert_eq!(yaml(&json!({"a": ["1", 1]})).map(|text| text.contains("\"1\"") || text.contains("'1'")), Ok(true));
    }
}
