//! Answers of the gateway's own: OpenAI-shaped JSON with a stable reason.
//!
//! Every stage that refuses a request gives a [`Refusal`]; only the spine turns it into an answer. Messages name
//! what the client can change and never an internal address.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tidegate_telemetry::Reason;

/// The reason's word, also for answers without a body (HEAD).
const REASON_HEADER: HeaderName = HeaderName::from_static("x-tidegate-reason");

/// Why a request is not forwarded.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: Cow<'static, str>,
    /// For `Retry-After`, rounded up to seconds; in place of what the reason says ([`again_after`]).
    pub(crate) retry_after: Option<Duration>,
    /// The connection cannot be used again (its request was not read to the end).
    pub(crate) close: bool,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into(), retry_after: None, close: false }
    }

    /// The same, ending the connection.
    pub(crate) fn closing(self) -> Self {
        Self { close: true, ..self }
    }

    pub(crate) fn status(&self) -> StatusCode {
        status_of(self.reason)
    }

    /// The answer.
    pub(crate) fn into_response(self) -> Response<Bytes> {
        let status = self.status();
        let body = serde_json::json!({"error": {
            "message": self.message,
            "type": type_of(status),
            "param": null,
            "code": status.as_u16(),
            "reason": self.reason.word(),
        }});
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REASON_HEADER, HeaderValue::from_static(self.reason.word()));
        if let Some(after) = self.retry_after.or_else(|| again_after(self.reason)) {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The status that goes with a reason; see [`Reason`].
fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::NoRoute => StatusCode::NOT_FOUND,
        Reason::DuplicateModel
        | Reason::InvalidModel
        | Reason::InvalidJson
        | Reason::InvalidMultipart
        | Reason::BadRequest
        | Reason::ClientLeft => StatusCode::BAD_REQUEST,
        Reason::AdminPath => StatusCode::FORBIDDEN,
        Reason::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Reason::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::CompressedBody => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Reason::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        Reason::InvalidBackend | Reason::NoBackend => StatusCode::INTERNAL_SERVER_ERROR,
        Reason::ConnectFailed
        | Reason::UpstreamReset
        | Reason::UpstreamProtocol
        | Reason::UpstreamAborted
        | Reason::RolloutCut
        | Reason::ErrorEvent => StatusCode::BAD_GATEWAY,
        Reason::NoEndpoint | Reason::PickerUnavailable | Reason::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        Reason::UpstreamTimeout | Reason::IdleTimeout | Reason::TotalTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// When a client whose request was not the fault may try again: load passes in a moment; an endpoint or a picker comes
/// back with a probe, a poll or a change of manifests, within 5 seconds of its return.
fn again_after(reason: Reason) -> Option<Duration> {
    match reason {
        Reason::Overloaded => Some(Duration::from_secs(1)),
        Reason::NoEndpoint | Reason::PickerUnavailable => Some(Duration::from_secs(5)),
        _ => None,
    }
}

/// OpenAI's `error.type` for a status.
fn type_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_openai_error_with_a_reason() {
        let refusal = Refusal {
            retry_after: Some(Duration::from_millis(1200)),
            ..Refusal::new(Reason::NoEndpoint, "pool default/a has no \"ready\" endpoint").closing()
        };
        let response = refusal.into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(response.headers()["x-tidegate-reason"], "no_endpoint");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"]["code"], 503);
        assert_eq!(body["error"]["reason"], "no_endpoint");
        assert_eq!(body["error"]["type"], "overloaded_error");
        assert_eq!(body["error"]["message"], "pool default/a has no \"ready\" endpoint");
    }

    #[test]
    fn every_503_says_when_to_come_again() {
        let after = |refusal: Refusal| refusal.into_response().headers().get("retry-after").cloned();
        for (reason, seconds) in
            [(Reason::NoEndpoint, "5"), (Reason::PickerUnavailable, "5"), (Reason::Overloaded, "1")]
        {
            assert_eq!(Refusal::new(reason, "x").status(), 503);
            assert_eq!(after(Refusal::new(reason, "x")).unwrap(), seconds);
        }
        assert_eq!(after(Refusal::new(Reason::ConnectFailed, "x")), None);
    }

    #[test]
    fn statuses_are_those_of_the_reasons() {
        for (reason, status) in [
            (Reason::NoRoute, 404),
            (Reason::InvalidJson, 400),
            (Reason::AdminPath, 403),
            (Reason::RequestTimeout, 408),
            (Reason::BodyTooLarge, 413),
            (Reason::CompressedBody, 415),
            (Reason::Misdirected, 421),
            (Reason::NoBackend, 500),
            (Reason::ConnectFailed, 502),
            (Reason::PickerUnavailable, 503),
            (Reason::UpstreamTimeout, 504),
        ] {
            assert_eq!(Refusal::new(reason, "x").status(), status);
        }
    }
}
