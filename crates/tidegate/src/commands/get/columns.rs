//! What a table shows of each kind.

use jiff::Timestamp;
use serde_json::Value;

/// One column between name and age.
pub(crate) struct Column {
    /// Its head.
    pub(crate) head: &'static str,
    /// Its cell.
    pub(crate) cell: fn(&Value) -> String,
}

const fn column(head: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { head, cell }
}

/// The columns of a kind.
pub(crate) fn of(kind: &str) -> &'static [Column] {
    const GATEWAY_CLASS: &[Column] = &[
        column("CONTROLLER", |object| text(object, "/spec/controllerName")),
        column("ACCEPTED", |object| condition(object, "Accepted")),
    ];
    const GATEWAY: &[Column] = &[
        column("CLASS", |object| text(object, "/spec/gatewayClassName")),
        column("ADDRESS", |object| each(object, "/status/addresses", "/value")),
        column("PROGRAMMED", |object| condition(object, "Programmed")),
    ];
    const ROUTE: &[Column] = &[
        column("HOSTNAMES", |object| object.pointer("/spec/hostnames").map(ToString::to_string).unwrap_or_default()),
        column("ACCEPTED", |object| condition(object, "Accepted")),
    ];
    const POOL: &[Column] = &[
        column("PORTS", |object| {
            let one = text(object, "/spec/targetPortNumber");
            if one.is_empty() { each(object, "/spec/targetPorts", "/number") } else { one }
        }),
        column("ACCEPTED", |object| condition(object, "Accepted")),
    ];
    const MODEL: &[Column] = &[
        column("MODEL NAME", |object| text(object, "/spec/modelName")),
        column("INFERENCE POOL", |object| text(object, "/spec/poolRef/name")),
        column("CRITICALITY", |object| text(object, "/spec/criticality")),
        column("ACCEPTED", |object| condition(object, "Accepted")),
    ];
    const REWRITE: &[Column] = &[
        column("INFERENCE POOL", |object| text(object, "/spec/poolRef/name")),
        column("ACCEPTED", |object| condition(object, "Accepted")),
    ];
    const OBJECTIVE: &[Column] = &[
        column("INFERENCE POOL", |object| text(object, "/spec/poolRef/name")),
        column("PRIORITY", |object| text(object, "/spec/priority")),
    ];
    const SERVER: &[Column] = &[
        column("ADDRESS", |object| text(object, "/spec/address")),
        column("ENGINE", |object| text(object, "/spec/engine")),
    ];
    const SERVICE: &[Column] = &[
        column("TYPE", |object| or(text(object, "/spec/type"), "ClusterIP")),
        column("CLUSTER-IP", |object| or(text(object, "/spec/clusterIP"), "<none>")),
        column("EXTERNAL-IP", |object| or(text(object, "/spec/externalName"), "<none>")),
        column("PORT(S)", |object| each(object, "/spec/ports", "/port")),
    ];
    const SLICE: &[Column] = &[
        column("ADDRESSTYPE", |object| text(object, "/addressType")),
        column("PORTS", |object| each(object, "/ports", "/port")),
        column("ENDPOINTS", |object| each(object, "/endpoints", "/addresses/0")),
    ];
    const SECRET: &[Column] = &[
        column("TYPE", |object| or(text(object, "/type"), "Opaque")),
        column("DATA", |object| count(object, "/data").to_string()),
    ];
    match kind {
        "GatewayClass" => GATEWAY_CLASS,
        "Gateway" => GATEWAY,
        "HTTPRoute" => ROUTE,
        "InferencePool" => POOL,
        "InferenceModel" => MODEL,
        "InferenceModelRewrite" => REWRITE,
        "InferenceObjective" => OBJECTIVE,
        "ModelServer" => SERVER,
        "Service" => SERVICE,
        "EndpointSlice" => SLICE,
        "Secret" => SECRET,
        _ => &[],
    }
}

/// The text or number at a JSON pointer; empty when there is none.
pub(crate) fn text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn each(object: &Value, list: &str, pointer: &str) -> String {
    let items = object.pointer(list).and_then(Value::as_array);
    items.into_iter().flatten().map(|item| text(item, pointer)).collect::<Vec<_>>().join(",")
}

fn count(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

fn or(text: String, otherwise: &str) -> String {
    if text.is_empty() { otherwise.into() } else { text }
}

/// The status of a condition on the object, or towards its parents: `False` if it is false towards one of them.
fn condition(object: &Value, kind: &str) -> String {
    let parents =
        ["/status/parents", "/status/parent"].iter().filter_map(|pointer| object.pointer(pointer)?.as_array());
    let of_parents = parents.flatten().filter_map(|parent| parent.get("conditions")?.as_array());
    let of_object = object.pointer("/status/conditions").and_then(Value::as_array);
    let mut found: Vec<&str> = of_object
        .into_iter()
        .chain(of_parents)
        .flatten()
        .filter(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
        .filter_map(|condition| condition.get("status")?.as_str())
        .collect();
    found.sort_unstable();
    found.first().copied().unwrap_or_default().to_owned()
}

/// Time since `metadata.creationTimestamp`, as kubectl shortens it.
pub(crate) fn age(object: &Value, now: Timestamp) -> String {
    let Ok(created) = text(object, "/metadata/creationTimestamp").parse::<Timestamp>() else {
        return "<unknown>".into();
    };
    let seconds = now.as_second().saturating_sub(created.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |one: i64, unit: &str, rest: i64, small: &str| match rest {
        0 => format!("{one}{unit}"),
        rest => format!("{one}{unit}{rest}{small}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}
