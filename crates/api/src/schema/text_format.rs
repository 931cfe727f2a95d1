//! How texts must look, each under the name by which a schema's `format` calls it.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};

/// A named form of text.
pub(crate) struct TextFormat {
    name: &'static str,
    /// What it must be, to follow "must be".
    pub(crate) expected: &'static str,
    accepts: fn(&str) -> bool,
}

impl std::fmt::Debug for TextFormat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

impl TextFormat {
    /// The format of that name, if it is one of ours.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    /// Whether `text` has it.
    pub(crate) fn accepts(&self, text: &str) -> bool {
        (self.accepts)(text)
    }
}

/// Sources: the patterns of the Gateway API's CRDs (`config/crd`, v1.6) and Kubernetes' apimachinery
/// (`util/validation`).
static FORMATS: &[TextFormat] = &[
    TextFormat {
        name: "subdomain",
        expected: "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit",
        accepts: is_subdomain,
    },
    TextFormat {
        name: "label",
        expected: "lower-case letters, digits and '-', beginning and ending with a letter or digit",
        accepts: |text| !text.contains('.') && is_subdomain(text),
    },
    TextFormat {
        name: "group",
        expected: "an API group such as gateway.networking.k8s.io, or \"\" for Kubernetes' core group",
        accepts: |text| text.is_empty() || is_subdomain(text),
    },
    TextFormat {
        name: "kind",
        expected: "a kind such as Service: letters, digits and '-', beginning with a letter",
        accepts: |text| {
            text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !text.ends_with('-')
        },
    },
    TextFormat {
        name: "wildcard-hostname",
        expected: "a host name such as llm.example.com or *.example.com, without scheme, port and capitals",
        accepts: |text| is_subdomain(text.strip_prefix("*.").unwrap_or(text)),
    },
    TextFormat {
        name: "hostname",
        expected: "a host name such as llm.example.com, without scheme, port and capitals",
        accepts: is_subdomain,
    },
    TextFormat {
        name: "header-name",
        expected: "a header name: letters, digits and !#$%&'*+-.^_`|~",
        accepts: |text| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        },
    },
    TextFormat {
        name: "header-value",
        expected: "a header value: visible ASCII, words separated by single blanks",
        accepts: is_header_value,
    },
    TextFormat {
        name: "duration",
        expected: "a duration such as 10s, 500ms or 1h30m",
        accepts: |text| crate::duration::parse(text).is_some(),
    },
    TextFormat {
        name: "controller-name",
        expected: "a controller name of the form domain/path",
        accepts: |text| {
            text.split_once('/').is_some_and(|(domain, path)| {
                is_subdomain(domain)
                    && !path.is_empty()
                    && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte))
            })
        },
    },
    TextFormat {
        name: "label-key",
        expected: "a label key: an optional domain and '/', then up to 63 letters, digits, '-', '_' and '.'",
        accepts: is_label_key,
    },
    TextFormat {
        name: "label-value",
        expected: "a label value: up to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
        accepts: |text| text.is_empty() || is_qualified_name(text),
    },
    TextFormat {
        name: "absolute-path",
        expected: "a path that begins with '/'",
        accepts: |text| text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control()),
    },
    TextFormat {
        name: "cors-origin",
        expected: "an origin such as https://*.example.com, or *",
        accepts: |text| CORS_ORIGIN.as_ref().is_some_and(|pattern| pattern.is_match(text)),
    },
    TextFormat { name: "date-time", expected: "a time such as 2026-01-31T12:00:00Z", accepts: is_time },
    TextFormat { name: "byte", expected: "base64", accepts: is_base64 },
    TextFormat {
        name: "quantity",
        expected: "a size such as 20Mi",
        accepts: |text| crate::quantity::parse_bytes(text).is_ok(),
    },
    TextFormat {
        name: "span",
        expected: "a duration longer than 0 such as 10m, 1h30m or 24h",
        accepts: |text| crate::duration::parse_go(text).is_some_and(|span| !span.is_zero()),
    },
    TextFormat {
        name: "percent",
        expected: "a percentage such as 15% or 0.5%",
        accepts: |text| crate::rollout::parse_percent_ppm(text).is_some(),
    },
    TextFormat {
        name: "percent-of-whole",
        expected: "a percentage from 0% to 100%, such as 50%",
        accepts: |text| {
            crate::rollout::parse_percent_ppm(text).is_some_and(|parts| parts <= crate::rollout::WHOLE_SHARE)
        },
    },
    TextFormat {
        name: "percentage-points",
        expected: "percentage points above 0pp and up to 100pp, such as 0.5pp",
        accepts: |text| {
            crate::rollout::parse_points_ppm(text)
                .is_some_and(|parts| (1..=crate::rollout::WHOLE_SHARE).contains(&parts))
        },
    },
    TextFormat {
        name: "step-weight",
        expected: crate::rollout::STEP_WEIGHT,
        accepts: |text| crate::rollout::StepWeight::parse(text).is_some(),
    },
    TextFormat {
        name: "session-key",
        expected: "header:NAME, body:prompt_cache_key, body:user, body:conversation or messages:first",
        accepts: |text| crate::rollout::SessionKey::parse(text).is_some(),
    },
    TextFormat {
        name: "cron",
        expected: "five fields (minute, hour, day of month, month, day of week) such as \"0 18 * * 5\"",
        accepts: crate::rollout::is_cron,
    },
    TextFormat {
        name: "time-zone",
        expected: "a time zone's name such as Europe/Berlin or UTC",
        accepts: |text| {
            text.starts_with(|first: char| first.is_ascii_alphabetic())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte))
                && !text.contains("//")
                && !text.ends_with('/')
        },
    },
    TextFormat {
        name: "web-address",
        expected: "an address such as https://evals.internal/judge",
        accepts: is_web_address,
    },
    TextFormat {
        name: "server-address",
        expected: "host or host:port, such as 10.0.0.7:8000, gpu-1.example.com or [fd00::7]:8000",
        accepts: crate::model_server::is_address,
    },
];

static CORS_ORIGIN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    RegexBuilder::new(r"^(\*|https?://((\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?)$").build().ok()
});

/// RFC 1123 subdomain, without its length limit (schemas give that).
fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// `http://` or `https://`, then a host; no user, no blank.
fn is_web_address(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    crate::model_server::is_address(host) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_qualified_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => domain.len() <= 253 && is_subdomain(domain) && is_qualified_name(name),
        None => is_qualified_name(text),
    }
}

fn is_header_value(text: &str) -> bool {
    let visible = |c: char| ('!'..='~').contains(&c);
    text.starts_with(visible)
        && text.ends_with(visible)
        && text.chars().all(|c| visible(c) || c == ' ' || c == '\t')
        && text.split(visible).all(|blanks| blanks.len() <= 1)
}

fn is_time(text: &str) -> bool {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    serde_json::from_value::<Time>(serde_json::Value::String(text.to_owned())).is_ok()
}

fn is_base64(text: &str) -> bool {
    use k8s_openapi::ByteString;
    serde_json::from_value::<ByteString>(serde_json::Value::String(text.to_owned())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_tell_good_from_bad() {
        for (name, good, bad) in [
            ("subdomain", &["a", "a-1.b", "0"][..], &["", "A", "-a", "a-", "a..b", "a_b", "a."][..]),
            ("label", &["a-1"], &["a.b", ""]),
            ("group", &["", "llm-d.ai"], &["Apps", "a/b"]),
            ("kind", &["HTTPRoute", "a-1"], &["`HTTPRoute`", "1a", "", "a-"]),
            ("wildcard-hostname", &["*.example.com", "a.b"], &["*", "a.*.b", "http://a", "a:80", "*.", "EXAMPLE.com"]),
            ("header-name", &["x-session-id", "`~"], &["", "x id", "x:y", "ü"]),
            ("header-value", &["a", "a b", "a\tb"], &["", " a", "a ", "a  b", "ä", "a\nb"]),
            ("duration", &["10s", "0s", "1h30m", "500ms"], &["10", "-1s", "1d", "1.5s", "", "s"]),
            ("controller-name", &["tidegate.dev/gateway-controller"], &["tidegate", "a/", "A.b/c"]),
            ("label-key", &["app", "app.kubernetes.io/name"], &["", "/a", "a/b/c", "-a"]),
            ("label-value", &["", "v1.2_3"], &["-", "a b"]),
            ("absolute-path", &["/", "/metrics"], &["", "metrics", "/a b"]),
            ("cors-origin", &["*", "https://a.b:8443", "http://*.x"], &["a.b", "https://", "ftp://a"]),
            ("date-time", &["2026-01-31T12:00:00Z", "2026-01-31T12:00:00+02:00"], &["2026-01-31", "yesterday", ""]),
            ("span", &["10m", "1h30m", "1.5h"], &["0s", "0", "10", "1d", "ten minutes"]),
            ("percent", &["15%", "0.5%", "150%"], &["15", "", "%", "-1%"]),
            ("percent-of-whole", &["0%", "100%"], &["101%", "1"]),
            ("percentage-points", &["0.5pp", "100pp"], &["0pp", "0.5%", "0.5", "101pp"]),
            ("step-weight", &["parity", "0.5%"], &["half", "5", "101%", "0.00001%"]),
            ("session-key", &["header:x-session-id", "messages:first"], &["header:", "header:a b", "body:model", "x"]),
            ("cron", &["0 18 * * 5"], &["@daily", "* * * *"]),
            ("time-zone", &["UTC", "Europe/Berlin", "Etc/GMT+1"], &["", "Europe/", "+01:00", "a//b"]),
            (
                "web-address",
                &["https://a.b/c?d", "http://10.0.0.1:80"],
                &["a.b", "ftp://a", "https://", "https://u@a", "http://a b"],
            ),
            ("byte", &["", "YQ=="], &["%", "YQ="]),
            (
                "server-address",
                &["a:1", "10.0.0.7", "[::1]:80", "::1"],
                &["", "a:0", "a:99999", "http://a", "a b", "[::1", ":80"],
            ),
        ] {
            let format = TextFormat::named(name).expect(name);
            for text in good {
                assert!(format.accepts(text), "{name} must accept {text:?}");
            }
            for text in bad {
                assert!(!format.accepts(text), "{name} must refuse {text:?}");
            }
        }
    }
}
