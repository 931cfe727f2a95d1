//! How many retries a listener may have under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tidegate_routing::snapshot::RetryBudget;

/// Active requests and retries under way on a listener; lives across snapshots.
#[derive(Debug, Default)]
pub struct BudgetState {
    /// Requests under way.
    pub active: AtomicU32,
    /// Retries under way.
    pub retrying: AtomicU32,
    /// The bounds.
    pub bounds: RetryBudget,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Arc<BudgetState>);

/// A retry that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Retrying<'a>(&'a BudgetState);

impl ActiveRequest {
    pub(crate) fn begin(budget: &Arc<BudgetState>) -> Self {
        budget.active.fetch_add(1, Ordering::Relaxed);
        Self(budget.clone())
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BudgetState {
    /// Room for one more retry, if there is any.
    pub(crate) fn retry(&self) -> Option<Retrying<'_>> {
        let active = u64::from(self.active.load(Ordering::Relaxed));
        let share = active * u64::from(self.bounds.percent) / 100;
        let most = share + u64::from(self.bounds.minimum);
        self.retrying
            .try_update(Ordering::AcqRel, Ordering::Acquire, |now| (u64::from(now) < most).then(|| now + 1))
            .ok()
            .map(|_| Retrying(self))
    }
}

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_active_requests_and_a_few_always() {
        let budget =
            Arc::new(BudgetState { bounds: RetryBudget { percent: 20, minimum: 1 }, ..BudgetState::default() });
        let first = budget.retry();
        assert!(first.is_some());
        assert!(budget.retry().is_none());
        let active: Vec<_> = (0..10).map(|_| ActiveRequest::begin(&budget)).collect();
        let more = (budget.retry(), budget.retry());
        assert!(more.0.is_some() && more.1.is_some());
        assert!(budget.retry().is_none());
        drop(active);
        drop(more);
        assert!(budget.retry().is_none());
        drop(first);
        assert_eq!((budget.active.load(Ordering::Relaxed), budget.retrying.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_budget_of_nothing_forbids_retries() {
        let budget = BudgetState { bounds: RetryBudget { percent: 0, minimum: 0 }, ..BudgetState::default() };
        assert!(budget.retry().is_none());
    }
}
