//! Paired: which arm of a roll-out's pair a request gets, and what the judge needs to know of that choice.
//!
//! Stands inside the assign stage: the split has drawn, and the pair divides what fell on it. Must not do I/O.

use std::sync::Arc;

use http::HeaderMap;
use tidegate_api::rollout::ArmName;
use tidegate_body::scan;
use tidegate_routing::Draw;
use tidegate_routing::pair::{Cause, Closed, Drawn, KeySource, Pair};

use super::{Asking, Masks};
use crate::read::ReadBody;

/// A request's place in a pair.
#[derive(Clone, Debug)]
pub(crate) struct Paired<'a> {
    pub(crate) pair: &'a Arc<Pair>,
    /// The arm of the first attempt.
    pub(crate) arm: ArmName,
    /// What was assigned: where the session stands; none: the request by itself.
    pub(crate) session: Option<u64>,
    /// Chance did not choose.
    pub(crate) forced: bool,
}

/// What a pair made of a request.
pub(crate) enum Placed {
    /// It goes to this arm; the drawn one, where that gave it away.
    There { arm: ArmName, instead_of: Option<ArmName> },
    /// The pair cannot take it.
    Nowhere,
}

impl<'a> Paired<'a> {
    /// Draws the arm of a request that fell on the pair.
    pub(crate) fn draw(pair: &'a Arc<Pair>, asking: &Asking<'_>, closed: Closed) -> (Self, Placed) {
        let key = session_key(&pair.keys, asking.headers, asking.read);
        let draw = key.as_deref().map_or_else(|| Draw::Random(fastrand::u64(..)), Draw::Session);
        let Drawn { arm: drawn, cause } = pair.draw(asking.headers, asking.model(), draw);
        let placed = match pair.open(drawn, closed) {
            Some(arm) => Placed::There { arm, instead_of: (arm != drawn).then_some(drawn) },
            None => Placed::Nowhere,
        };
        let (arm, moved) = match placed {
            Placed::There { arm, instead_of } => (arm, instead_of.is_some()),
            Placed::Nowhere => (drawn, true),
        };
        let forced = moved || matches!(cause, Cause::Forced | Cause::ExcludedModel);
        let session = key.as_deref().filter(|_| cause == Cause::Session).map(|key| pair.point(key));
        (Self { pair, arm, session, forced }, placed)
    }

    /// Whether a failure of its first attempt is made good by stable. Who demands the candidate gets it as it is.
    pub(crate) fn is_shielded(&self) -> bool {
        self.pair.shield && self.arm == ArmName::Candidate && !self.forced
    }
}

/// Which of a pair's arms are closed to a request, by what is known of all arms.
pub(crate) fn closed(masks: Masks) -> Closed {
    Closed { empty: masks.without_endpoints, absent: masks.absent }
}

/// The first of the key's sources that a request has.
fn session_key(sources: &[KeySource], headers: &HeaderMap, read: &ReadBody) -> Option<Vec<u8>> {
    let body: &[u8] = &read.bytes;
    let fields = &read.fields;
    let member = |span: &Option<std::ops::Range<usize>>| {
        let span = scan::session_value(body, span.as_ref()?)?;
        body.get(span).map(<[u8]>::to_vec)
    };
    sources.iter().find_map(|source| match source {
        KeySource::Header(name) => {
            headers.get(name).map(|value| value.as_bytes().to_vec()).filter(|key| !key.is_empty())
        }
        KeySource::PromptCacheKey => member(&fields.prompt_cache_key),
        KeySource::User => member(&fields.user),
        KeySource::Conversation => member(&fields.conversation),
        KeySource::FirstMessages => {
            let span = scan::first_messages(body, fields.messages.as_ref()?)?;
            let mut key = read.model.as_deref().unwrap_or_default().as_bytes().to_vec();
            key.extend_from_slice(body.get(span)?);
            Some(key)
        }
    })
}
