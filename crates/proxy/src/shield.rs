//! Shield: what a candidate's answer must not be for its client to see it.
//!
//! While a roll-out is active, an attempt on the candidate that fails before its first byte, or whose first event is an
//! error inside a 200 stream, is made good by stable: the client sees nothing, the judge counts the failure. Stands
//! between the forward and the respond stage. Must not be asked about stable, whose answers pass as they are.

use http::StatusCode;
use tidegate_body::answer::{AnswerKind, FirstEvent, first_event};
use tidegate_telemetry::Reason;

use crate::evidence::is_doubtful;
use crate::forward::{ForwardError, Forwarded};

/// What to do with a candidate's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shielding {
    /// It passes.
    Pass,
    /// Stable is asked. `doubted`: the request may be at fault itself.
    AskStable { doubted: bool },
}

/// Looks at what came of the first attempt.
pub(crate) fn look(outcome: &Result<Forwarded, ForwardError>) -> Shielding {
    match outcome {
        // What the client did, or a limit for the whole request, stable cannot mend.
        Err(error) => match error.reason {
            Reason::TotalTimeout | Reason::BodyTooLarge | Reason::RequestTimeout | Reason::ClientLeft => {
                Shielding::Pass
            }
            _ => Shielding::AskStable { doubted: false },
        },
        Ok(forwarded) if forwarded.head.status.is_server_error() => Shielding::AskStable { doubted: false },
        Ok(forwarded) if is_doubtful(forwarded.head.status) => Shielding::AskStable { doubted: true },
        Ok(forwarded) if forwarded.head.status == StatusCode::OK && forwarded.kind == AnswerKind::EventStream => {
            match first_event(&forwarded.first) {
                // Without a number nothing says that the request is at fault.
                FirstEvent::Error { code: None | Some(500..) } => Shielding::AskStable { doubted: false },
                FirstEvent::Error { code: Some(401 | 403 | 404) } => Shielding::AskStable { doubted: true },
                // It ended before it said anything.
                FirstEvent::Incomplete if forwarded.complete => Shielding::AskStable { doubted: false },
                _ => Shielding::Pass,
            }
        }
        Ok(_) => Shielding::Pass,
    }
}
