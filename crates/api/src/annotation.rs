//! The annotations of ours: those that routes and pools may carry, the pool's before the route's, and the command on a
//! roll-out.
//!
//! An unknown value is a finding, and the default applies.

use std::collections::BTreeMap;

use crate::report::Report;
use crate::{FieldPath, Finding, ObjectKey};

/// What happens to the share of an arm whose pool has no ready endpoint: `unavailable` (503, the default, as the
/// Gateway API says) or `redistribute` (the other arms take it).
pub const EMPTY_ARM: &str = "tidegate.dev/empty-arm";
/// Which model name the client reads in an answer: `served` (what the server says, the default) or `requested`.
pub const RESPONSE_MODEL: &str = "tidegate.dev/response-model";
/// Whether an arm that is known not to serve a model gives its share to those that do: `"true"` (default), `"false"`.
pub const MODEL_AWARE: &str = "tidegate.dev/model-aware";
/// Paths, separated by commas, that are opened although they are administrative; never the adapter paths.
pub const ALLOW_PATHS: &str = "tidegate.dev/allow-paths";
/// A command to a roll-out, on an InferenceRollout: `<verb>;<id>`. The id makes a command one that is taken once.
pub const ROLLOUT_COMMAND: &str = "tidegate.dev/rollout-command";

const OURS: &str = "tidegate.dev/";
const ALL: [&str; 4] = [EMPTY_ARM, RESPONSE_MODEL, MODEL_AWARE, ALLOW_PATHS];
/// Kinds on which they mean something.
const CARRIERS: [&str; 2] = ["HTTPRoute", "InferencePool"];

/// The kind that takes commands.
const ROLLOUT: &str = "InferenceRollout";

/// What happens to the share of an arm without a ready endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyArm {
    /// It is answered with 503.
    Unavailable,
    /// The other arms take it.
    Redistribute,
}

/// Which model name a client reads in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseModel {
    /// What the server says.
    Served,
    /// What the client asked for.
    Requested,
}

/// The annotations of one route or pool; `None` where it says nothing, or nothing that is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteAnnotations {
    /// [`EMPTY_ARM`].
    pub empty_arm: Option<EmptyArm>,
    /// [`RESPONSE_MODEL`].
    pub response_model: Option<ResponseModel>,
    /// [`MODEL_AWARE`].
    pub model_aware: Option<bool>,
    /// [`ALLOW_PATHS`], each beginning with `/`, without those that stay closed.
    pub allow_paths: Option<Vec<String>>,
}

impl RouteAnnotations {
    /// Reads `metadata.annotations` of `object`. The findings are those that [`crate::decode`] has made already.
    pub fn parse(object: &ObjectKey, annotations: &BTreeMap<String, String>) -> (Self, Vec<Finding>) {
        let mut report = Report::new(object);
        let parsed = read(annotations, &mut report);
        (parsed, report.into_findings())
    }

    /// These where they say something, else `fallback`'s: `pool.or(route)`.
    #[must_use]
    pub fn or(self, fallback: Self) -> Self {
        Self {
            empty_arm: self.empty_arm.or(fallback.empty_arm),
            response_model: self.response_model.or(fallback.response_model),
            model_aware: self.model_aware.or(fallback.model_aware),
            allow_paths: self.allow_paths.or(fallback.allow_paths),
        }
    }
}

/// A command on a roll-out, as written in [`ROLLOUT_COMMAND`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutCommand {
    /// `pause`, `approve` and others; which there are is the roll-out's matter.
    pub verb: String,
    /// The same id is taken once.
    pub id: String,
}

impl RolloutCommand {
    /// The command in an object's annotations; `None` where there is none, or none that can be read.
    pub fn read(annotations: &BTreeMap<String, String>) -> Option<Self> {
        annotations.get(ROLLOUT_COMMAND).and_then(|text| Self::parse(text))
    }

    /// Reads `<verb>;<id>`: a word of lower-case letters and dashes, and up to 128 visible characters.
    pub fn parse(text: &str) -> Option<Self> {
        let (verb, id) = text.split_once(';')?;
        let (verb, id) = (verb.trim(), id.trim());
        let is_verb = !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let is_id = !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic());
        (is_verb && is_id).then(|| Self { verb: verb.to_owned(), id: id.to_owned() })
    }
}

/// Says what is wrong with the annotations of a document of that kind.
pub(crate) fn review(kind: &str, annotations: &BTreeMap<String, String>, report: &mut Report) {
    if CARRIERS.contains(&kind) {
        read(annotations, report);
        return;
    }
    for (name, value) in annotations.iter().filter(|(name, _)| name.starts_with(OURS)) {
        if name == ROLLOUT_COMMAND && kind == ROLLOUT {
            if RolloutCommand::parse(value).is_none() {
                let sentence = format!(
                    "is {value:?}, but must be a verb and an id such as \"pause;2026-01-31-a\"; it is not taken"
                );
                report.warn("UnknownAnnotationValue", &place(name), sentence);
            }
            continue;
        }
        let sentence = if name == ROLLOUT_COMMAND {
            format!("has no effect on a {kind}; write it on an InferenceRollout")
        } else if ALL.contains(&name.as_str()) {
            format!("has no effect on a {kind}; write it on an HTTPRoute or an InferencePool")
        } else {
            unknown_annotation()
        };
        report.warn("UnknownAnnotation", &place(name), sentence);
    }
}

fn unknown_annotation() -> String {
    format!("is no annotation of ours and has no effect; those are {}", ALL.join(", "))
}

fn place(name: &str) -> FieldPath {
    FieldPath::root().key("metadata").key("annotations").key(name)
}

fn read(annotations: &BTreeMap<String, String>, report: &mut Report) -> RouteAnnotations {
    let mut parsed = RouteAnnotations::default();
    for (name, value) in annotations.iter().filter(|(name, _)| name.starts_with(OURS)) {
        match name.as_str() {
            EMPTY_ARM => {
                let known = [("unavailable", EmptyArm::Unavailable), ("redistribute", EmptyArm::Redistribute)];
                parsed.empty_arm = choice(name, value, &known, report);
            }
            RESPONSE_MODEL => {
                let known = [("served", ResponseModel::Served), ("requested", ResponseModel::Requested)];
                parsed.response_model = choice(name, value, &known, report);
            }
            MODEL_AWARE => parsed.model_aware = choice(name, value, &[("true", true), ("false", false)], report),
            ALLOW_PATHS => parsed.allow_paths = Some(allowed_paths(name, value, report)),
            ROLLOUT_COMMAND => {
                report.warn("UnknownAnnotation", &place(name), "has no effect here; write it on an InferenceRollout");
            }
            _ => report.warn(
                "UnknownAnnotation",
                &place(name),
                format!("is no annotation of ours and has no effect; those are {}", ALL.join(", ")),
            ),
        }
    }
    parsed
}

fn choice<T: Copy>(name: &str, value: &str, known: &[(&str, T)], report: &mut Report) -> Option<T> {
    let found = known.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    if found.is_none() {
        let words: Vec<String> = known.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let default = if name == MODEL_AWARE { "true" } else { known.first().map_or("", |(word, _)| *word) };
        let sentence = format!("is {value:?}, but must be {}; the default ({default}) applies", words.join(" or "));
        report.warn("UnknownAnnotationValue", &place(name), sentence);
    }
    found
}

fn allowed_paths(name: &str, value: &str, report: &mut Report) -> Vec<String> {
    let mut paths = Vec::new();
    for path in value.split(',').map(str::trim).filter(|path| !path.is_empty()) {
        if !path.starts_with('/') {
            let sentence = format!("names {path:?}, but a path must begin with '/'; it is left out");
            report.warn("UnknownAnnotationValue", &place(name), sentence);
        } else if is_adapter_path(path) {
            let sentence = format!("names {path:?}, which stays closed: adapters are not loaded through the gateway");
            report.warn("UnknownAnnotationValue", &place(name), sentence);
        } else {
            paths.push(path.to_owned());
        }
    }
    paths
}

/// Whether a path is one of the adapter paths, however it is written.
fn is_adapter_path(path: &str) -> bool {
    let segments: Vec<String> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_ascii_lowercase).collect();
    // A percent sign or a step upwards could hide one; nobody needs either in this list.
    path.contains('%') || segments.iter().any(|part| part == ".." || part.ends_with("_lora_adapter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> (RouteAnnotations, Vec<Finding>) {
        let annotations = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        RouteAnnotations::parse(&ObjectKey::new("", "HTTPRoute", "default", "route"), &annotations)
    }

    #[test]
    fn known_values_are_read_without_a_word() {
        let (parsed, findings) = parse(&[
            (EMPTY_ARM, "redistribute"),
            (RESPONSE_MODEL, "requested"),
            (MODEL_AWARE, "false"),
            (ALLOW_PATHS, "/metrics, /load ,"),
            ("example.com/other", "x"),
        ]);
        assert_eq!(
            parsed,
            RouteAnnotations {
                empty_arm: Some(EmptyArm::Redistribute),
                response_model: Some(ResponseModel::Requested),
                model_aware: Some(false),
                allow_paths: Some(vec!["/metrics".into(), "/load".into()]),
            }
        );
        assert_eq!(findings, []);
    }

    #[test]
    fn unknown_values_and_names_are_findings() {
        let (parsed, findings) =
            parse(&[(EMPTY_ARM, "Redistribute"), (MODEL_AWARE, "yes"), ("tidegate.dev/emptyarm", "x")]);
        assert_eq!(parsed, RouteAnnotations::default());
        let reasons: Vec<&str> = findings.iter().map(|finding| finding.reason).collect();
        assert_eq!(reasons, ["UnknownAnnotationValue", "UnknownAnnotation", "UnknownAnnotationValue"]);
    }

    #[test]
    fn adapter_paths_stay_closed_however_they_are_written() {
        for path in [
            "/v1/load_lora_adapter",
            "/v1//unload_lora_adapter",
            "/V1/Load_LoRA_Adapter",
            "/x/../v1/load_lora_adapter",
            "/v1/load%5flora_adapter",
        ] {
            let (parsed, findings) = parse(&[(ALLOW_PATHS, path)]);
            assert_eq!(parsed.allow_paths, Some(vec![]), "{path}");
            assert_eq!(findings.len(), 1, "{path}");
        }
    }

    #[test]
    fn a_command_is_a_verb_and_an_id() {
        let command = |verb: &str, id: &str| Some(RolloutCommand { verb: verb.into(), id: id.into() });
        for (text, expected) in [
            ("pause;1", command("pause", "1")),
            ("emit-patch; a:b ", command("emit-patch", "a:b")),
            ("pause", None),
            ("pause;", None),
            (";1", None),
            ("Pause;1", None),
            ("pause;a b", None),
        ] {
            let annotations = [(ROLLOUT_COMMAND.to_owned(), text.to_owned())].into();
            assert_eq!(RolloutCommand::read(&annotations), expected, "{text}");
            let mut report = Report::new(&ObjectKey::new("tidegate.dev", ROLLOUT, "default", "one"));
            review(ROLLOUT, &annotations, &mut report);
            assert_eq!(report.into_findings().is_empty(), expected.is_some(), "{text}");
        }
        let (_, findings) = parse(&[(ROLLOUT_COMMAND, "pause;1")]);
        assert!(findings[0].message.contains("InferenceRollout"));
    }

    #[test]
    fn the_pool_wins_over_the_route() {
        let (pool, _) = parse(&[(MODEL_AWARE, "false")]);
        let (route, _) = parse(&[(MODEL_AWARE, "true"), (EMPTY_ARM, "redistribute")]);
        let both = pool.or(route);
        assert_eq!((both.model_aware, both.empty_arm), (Some(false), Some(EmptyArm::Redistribute)));
    }
}
