//! What the verbs print for people.

use serde_json::Value;

use crate::output::Table;

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => match number.as_f64() {
            // The logarithm of an evidence of 0: there is none.
            Some(float) if float <= -1e8 => "-".into(),
            Some(float) if number.is_f64() => format!("{float:.3}"),
            _ => number.to_string(),
        },
        Some(other) => other.to_string(),
    }
}

fn each<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn table<'v>(head: &[(&str, &str)], rows: impl Iterator<Item = &'v Value>) -> String {
    let mut table = Table::new(head.iter().map(|(head, _)| *head));
    for row in rows {
        table.row(head.iter().map(|(_, pointer)| text(row, pointer)).collect());
    }
    table.render()
}

const LIST: &[(&str, &str)] = &[
    ("NAMESPACE", "/metadata/namespace"),
    ("NAME", "/metadata/name"),
    ("TYPE", "/spec/type"),
    ("PHASE", "/status/phase"),
    ("STEP", "/status/stepIndex"),
    ("CANDIDATE%", "/status/effectiveWeights/candidate"),
    ("WHY", "/status/message"),
];

pub(super) fn list(value: &Value) -> String {
    table(LIST, each(value, "/items"))
}

pub(super) fn one(value: &Value) -> String {
    let mut printed = table(LIST, std::iter::once(value));
    for hold in each(value, "/status/holds") {
        printed.push_str(&format!("held by {}: {}\n", text(hold, "/reason"), text(hold, "/message")));
    }
    printed
}

/// One line, for a watch.
pub(super) fn line(value: &Value) -> String {
    format!(
        "{} step {} candidate {} %: {}\n",
        text(value, "/status/phase"),
        text(value, "/status/stepIndex"),
        text(value, "/status/effectiveWeights/candidate"),
        text(value, "/status/message")
    )
}

pub(super) fn taken(value: &Value) -> String {
    match value.as_str() {
        Some(message) => format!("{message}\n"),
        None => format!("{}\n", text(value, "/message")),
    }
}

pub(super) fn plan(value: &Value) -> String {
    let head = [
        ("STEP", "/step"),
        ("WEIGHT", "/weight"),
        ("BAKE s", "/bakeSeconds"),
        ("TAKES s", "/seconds"),
        ("REQUESTS TO CERTIFY", "/certify/requests"),
        ("ERRORS FOUND AFTER s", "/findsErrors/seconds"),
        ("ANSWERS SPOILT", "/spoiledUntilThen"),
        ("SLOWNESS FOUND AFTER s", "/findsSlowness/seconds"),
    ];
    let mut printed = format!("requests/s today: {}\n", text(value, "/requestsPerSecond"));
    printed.push_str(&table(&head, each(value, "/steps")));
    printed.push_str(&format!(
        "to the promotion: {} s\nassumed fault: {} × errors on {}, {} × latency\n",
        text(value, "/secondsToPromotion"),
        text(value, "/assumes/faultTimes"),
        text(value, "/assumes/errorRate"),
        text(value, "/assumes/slowerTimes")
    ));
    let capacity = match value.pointer("/rollbackCapacity/enough").and_then(Value::as_bool) {
        Some(true) => "stable can take everything back".into(),
        Some(false) => format!("stable could NOT take everything back: {}", text(value, "/rollbackCapacity/message")),
        None => "whether stable could take everything back is not known yet".into(),
    };
    format!("{printed}{capacity}\n")
}

pub(super) fn explanation(value: &Value) -> String {
    let mut printed = format!("{}: {}\n\n", text(value, "/phase"), text(value, "/summary"));
    let head = [("NUMBER", "/name"), ("VALUE", "/value"), ("UNIT", "/unit"), ("LIMIT", "/limit")];
    printed.push_str(&table(&head, each(value, "/numbers")));
    for formula in each(value, "/formulas") {
        printed.push_str(&format!("\n{}: {}", text(formula, "/name"), text(formula, "/says")));
    }
    printed.push_str("\n\nwhat would change it:\n");
    for change in each(value, "/wouldChange").filter_map(Value::as_str) {
        printed.push_str(&format!("- {change}\n"));
    }
    printed
}

pub(super) fn history(value: &Value) -> String {
    table(&[("AT", "/at"), ("TYPE", "/type"), ("REASON", "/reason"), ("MESSAGE", "/message")], each(value, ""))
}

pub(super) fn difference(value: &Value) -> String {
    let head = [
        ("METRIC", "/metric"),
        ("STABLE", "/stable/counted"),
        ("CANDIDATE", "/candidate/counted"),
        ("RATIO", "/ratio/estimate"),
        ("AT LEAST", "/ratio/lower"),
        ("AT MOST", "/ratio/upper"),
        ("ln E", "/lnE"),
        ("LIMIT", "/lnELimit"),
    ];
    table(&head, each(value, ""))
}
