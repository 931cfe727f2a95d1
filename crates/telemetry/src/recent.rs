//! What the recorder worked out for requests like this one, not long ago.
//!
//! Most requests of a second share their route, arm, endpoint and models, and the names of a snapshot are the same
//! pieces of memory from one request to the next. So a look at a few addresses replaces hashing, or escaping, the same
//! names again. Must not be relied upon to hold anything: what it does not have is worked out anew.

use std::sync::Arc;

use crate::{Observation, Reason};

/// Entries at most; a look goes through all of them.
const KEPT: usize = 16;

/// What a request has in common with others.
#[derive(Debug)]
struct Traits {
    listener: Arc<str>,
    route: Option<Arc<str>>,
    rule: Option<usize>,
    arm: Option<Arc<str>>,
    requested_model: Option<Arc<str>>,
    target_model: Option<Arc<str>>,
    endpoint: Option<Arc<str>>,
    status: u16,
    reason: Option<Reason>,
}

impl Traits {
    fn of(observation: &Observation) -> Self {
        Self {
            listener: observation.listener.clone(),
            route: observation.route.clone(),
            rule: observation.rule,
            arm: observation.arm.clone(),
            requested_model: observation.requested_model.clone(),
            target_model: observation.target_model.clone(),
            endpoint: observation.endpoint.clone(),
            status: observation.status,
            reason: observation.reason,
        }
    }

    /// What differs most often is looked at first.
    fn are_of(&self, observation: &Observation) -> bool {
        same_place(self.endpoint.as_ref(), observation.endpoint.as_ref())
            && same_place(self.arm.as_ref(), observation.arm.as_ref())
            && same_text(self.target_model.as_ref(), observation.target_model.as_ref())
            && same_text(self.requested_model.as_ref(), observation.requested_model.as_ref())
            && self.status == observation.status
            && self.reason == observation.reason
            && self.rule == observation.rule
            && same_place(self.route.as_ref(), observation.route.as_ref())
            && Arc::ptr_eq(&self.listener, &observation.listener)
    }
}

fn same_place(one: Option<&Arc<str>>, other: Option<&Arc<str>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// A client's own words lie elsewhere in each request.
fn same_text(one: Option<&Arc<str>>, other: Option<&Arc<str>>) -> bool {
    same_place(one, other) || one.is_some() && one == other
}

/// The last few.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    entries: Vec<(Traits, T)>,
    next: usize,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: 0 }
    }
}

impl<T> Recent<T> {
    /// What was kept for requests like this one.
    pub(crate) fn get(&self, observation: &Observation) -> Option<&T> {
        self.entries.iter().find(|(traits, _)| traits.are_of(observation)).map(|(_, kept)| kept)
    }

    /// Keeps something for requests like this one, in the place of what was kept first.
    pub(crate) fn keep(&mut self, observation: &Observation, kept: T) {
        let entry = (Traits::of(observation), kept);
        match self.entries.get_mut(self.next) {
            Some(slot) => *slot = entry,
            None => self.entries.push(entry),
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation() -> Observation {
        Observation {
            listener: "l".into(),
            route: Some("r".into()),
            rule: Some(0),
            arm: Some("a".into()),
            requested_model: Some("m".into()),
            target_model: Some("m-1".into()),
            endpoint: Some("e".into()),
            status: 200,
            ..Observation::default()
        }
    }

    #[test]
    fn any_other_trait_is_another_request() {
        let first = observation();
        let mut recent = Recent::default();
        recent.keep(&first, 1);
        assert_eq!(recent.get(&first), Some(&1));
        let said_again = Observation { requested_model: Some("m".into()), bytes_in: 7, ..first.clone() };
        assert_eq!(recent.get(&said_again), Some(&1));
        for other in [
            Observation { listener: "l2".into(), ..first.clone() },
            Observation { route: None, ..first.clone() },
            Observation { rule: Some(1), ..first.clone() },
            Observation { arm: Some("b".into()), ..first.clone() },
            Observation { requested_model: Some("n".into()), ..first.clone() },
            Observation { requested_model: None, ..first.clone() },
            Observation { target_model: Some("m-2".into()), ..first.clone() },
            Observation { endpoint: None, ..first.clone() },
            Observation { status: 503, ..first.clone() },
            Observation { reason: Some(Reason::ErrorEvent), ..first.clone() },
        ] {
            assert_eq!(recent.get(&other), None, "{other:?}");
        }
    }

    #[test]
    fn the_oldest_goes_first() {
        let observations: Vec<_> = (0..=KEPT as u16).map(|status| Observation { status, ..observation() }).collect();
        let mut recent = Recent::default();
        for observation in &observations {
            recent.keep(observation, observation.status);
        }
        assert_eq!(recent.get(&observations[0]), None);
        for observation in &observations[1..] {
            assert_eq!(recent.get(observation), Some(&observation.status));
        }
        recent.clear();
        assert_eq!(recent.get(&observations[1]), None);
    }
}
