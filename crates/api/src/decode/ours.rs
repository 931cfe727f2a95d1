//! Our own kinds: ModelServer and GatewayParameters.

use std::sync::LazyLock;

use serde_json::json;

use super::Input;
use super::typed::{check, envelope, from_value};
use crate::gateway_parameters::GatewayParametersSpec;
use crate::model_server::ModelServerSpec;
use crate::node::Node;
use crate::report::Report;
use crate::schema::{Overlay, Shape, derive};
use crate::{FieldPath, Resource};

pub(super) fn model_server_overlay() -> Overlay {
    Overlay::on(envelope(&derive::<ModelServerSpec>()))
        .add("spec.address", &json!({"minLength": 1, "maxLength": 300, "format": "server-address"}))
        .add("spec.metricsPath", &json!({"maxLength": 1024, "format": "absolute-path"}))
        .add("spec.engine", &json!({"enum": ["vllm", "sglang", "trtllm", "triton"]}))
}

pub(super) fn parameters_overlay() -> Overlay {
    let duration = json!({"format": "duration"});
    let mut overlay = Overlay::on(envelope(&derive::<GatewayParametersSpec>()));
    for limits in ["spec.limits", "spec.listeners{}.limits"] {
        for field in ["connect", "streamFirstByte", "firstByte", "idle", "total", "requestHeader", "requestBody"] {
            overlay = overlay.add(&format!("{limits}.{field}"), &duration);
        }
        overlay = overlay.add(&format!("{limits}.body"), &json!({"format": "quantity"}));
    }
    let attempts = json!({"minimum": 0, "maximum": 10});
    overlay
        .add("spec.retries.attempts", &attempts)
        .add("spec.retries.connectionAttempts", &attempts)
        .add("spec.retries.budgetPercent", &json!({"minimum": 0, "maximum": 100}))
        .add("spec.retries.budgetMinimum", &json!({"minimum": 0, "maximum": 1_000_000}))
}

static MODEL_SERVER: LazyLock<Shape> = LazyLock::new(|| model_server_overlay().shape());
static PARAMETERS: LazyLock<Shape> = LazyLock::new(|| parameters_overlay().shape());

pub(super) fn model_server(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &MODEL_SERVER, report);
    spec(input, &MODEL_SERVER, report).map(Resource::ModelServer)
}

pub(super) fn gateway_parameters(input: &Input<'_>, report: &mut Report) -> Option<Resource> {
    check(input, &PARAMETERS, report);
    spec(input, &PARAMETERS, report).map(|spec| Resource::GatewayParameters(Box::new(spec)))
}

/// The typed `spec`, when nothing was found to be wrong.
pub(super) fn spec<T: serde::de::DeserializeOwned>(input: &Input<'_>, shape: &Shape, report: &mut Report) -> Option<T> {
    if report.has_errors() {
        return None;
    }
    let pruned = shape.prune(input.value);
    let spec = Node::root(&pruned).key("spec").value()?.clone();
    from_value(spec, &FieldPath::root().key("spec"), report)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_constraint_finds_its_field() {
        for overlay in [super::model_server_overlay(), super::parameters_overlay()] {
            assert_eq!(overlay.missed(), [] as [&str; 0]);
        }
    }
}
