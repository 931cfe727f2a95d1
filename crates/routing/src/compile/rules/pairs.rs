//! A roll-out's pair among the arms of a rule.

use gateway_api::experimental::httproutes::HttpRouteRules;
use tidegate_api::Resource;
use tidegate_api::annotation::{EmptyArm, ResponseModel, RouteAnnotations};
use tidegate_api::rollout::{ArmSettings, WHOLE_SHARE};

use super::RuleMaker;
use crate::Pair;
use crate::compile::rollouts::{is_arm, pool_of};
use crate::overlay::Overlay;
use crate::snapshot::{Arm, ArmTarget};

/// An arm, its annotations, and whether it is an InferencePool.
pub(super) type Made = (Arm, RouteAnnotations, bool);

impl RuleMaker<'_, '_> {
    /// The pair of the roll-out that decides in this rule; the arm that the manifests do not list is added with weight
    /// 0, which takes nothing from the others.
    pub(super) fn pair(&mut self, number: usize, spec: &HttpRouteRules, arms: &mut Vec<Made>) -> Option<Pair> {
        let overlay = self.place.plans.of_rule(self.object.key, number)?;
        let (own, namespace) = (&self.object.key.namespace, &overlay.rollout.namespace);
        let backends: Vec<_> = spec.backend_refs.iter().flatten().collect();
        let positions = |arm: &ArmSettings| -> Vec<usize> {
            let listed = backends.iter().enumerate();
            listed.filter(|(_, backend)| is_arm(self.index, own, backend, namespace, arm)).map(|(at, _)| at).collect()
        };
        let (mut old, mut new) = (positions(&overlay.stable), positions(&overlay.candidate));
        if old.is_empty() {
            old.push(self.add(&overlay.stable, *new.first()?, arms)?);
        }
        if new.is_empty() {
            new.push(self.add(&overlay.candidate, *old.first()?, arms)?);
        }
        let (stable, candidate) = (*old.first()?, *new.first()?);
        let leads = |position: usize| arms.get(position).is_some_and(|(arm, _, _)| is_sound(arm));
        let in_force = surviving(overlay, leads(stable), leads(candidate));
        for position in &new {
            if let Some((arm, _, _)) = arms.get_mut(*position) {
                arm.redistribute_when_empty = true;
            }
        }
        old.append(&mut new);
        Some(Pair::new(&in_force, stable, candidate, old))
    }

    /// Adds an arm that takes the place of the one at `like`, with its filters and, where its pool says nothing, its
    /// annotations; `None` when its pool is not described.
    fn add(&mut self, arm: &ArmSettings, like: usize, arms: &mut Vec<Made>) -> Option<usize> {
        let object = pool_of(self.index, &self.object.key.namespace, arm)?;
        let Resource::InferencePool(pool) = object.resource else { return None };
        let (beside, said, _) = arms.get(like)?;
        let (own, _) = RouteAnnotations::parse(object.key, &object.metadata.annotations);
        let annotations = own.or(said.clone());
        self.pools.is_routed(object.key, self.place.gateway);
        let added = Arm {
            label: object.key.namespaced_name().into(),
            weight: 0,
            target: ArmTarget::Pool(self.pools.inference(&object, pool)),
            filters: beside.filters.clone(),
            redistribute_when_empty: annotations.empty_arm == Some(EmptyArm::Redistribute),
            answer_requested_model: annotations.response_model == Some(ResponseModel::Requested),
        };
        arms.push((added, annotations, true));
        Some(arms.len() - 1)
    }
}

fn is_sound(arm: &Arm) -> bool {
    matches!(arm.target, ArmTarget::Pool(_))
}

/// The overlay, with everything on the other arm when one's pool is no longer described.
fn surviving(overlay: &Overlay, stable: bool, candidate: bool) -> Overlay {
    let mut overlay = overlay.clone();
    match (stable, candidate) {
        (true, false) => (overlay.candidate_share_ppm, overlay.admits_forced) = (0, false),
        (false, true) => overlay.candidate_share_ppm = WHOLE_SHARE,
        _ => {}
    }
    overlay
}
