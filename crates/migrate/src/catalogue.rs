//! Which objects there are: where a reference to a pool leads before and after, and which names are taken.

use std::collections::BTreeSet;

use tidegate_api::inference::{GROUP_ALPHA, GROUP_LLMD, GROUP_V1, PoolRef};
use tidegate_api::{ObjectKey, Resource};
use tidegate_routing::Admitted;

/// A view on the whole set.
pub(crate) struct Catalogue {
    objects: BTreeSet<ObjectKey>,
    /// Pool (group, namespace, name) and model that an InferenceModelRewrite of the input already rewrites.
    rewritten: BTreeSet<(ObjectKey, String)>,
}

impl Catalogue {
    pub(crate) fn of(admitted: &[Admitted]) -> Self {
        let objects = admitted.iter().map(|one| one.document.key.clone()).collect();
        let mut catalogue = Self { objects, rewritten: BTreeSet::new() };
        for one in admitted {
            let Some(Resource::InferenceModelRewrite(rewrite)) = crate::accepted(one) else { continue };
            let pool = catalogue.pool(&one.document.key.namespace, &rewrite.pool);
            for model in rewrite.rules.iter().flat_map(|rule| &rule.models) {
                catalogue.rewritten.insert((pool.clone(), model.clone()));
            }
        }
        catalogue
    }

    /// Whether a pool of the older group takes its v1 form: not when a v1 pool has its name, and not when there is no
    /// such pool (its reference must go on leading nowhere).
    pub(crate) fn moves(&self, namespace: &str, name: &str) -> bool {
        let of = |group| self.objects.contains(&ObjectKey::new(group, "InferencePool", namespace, name));
        of(GROUP_ALPHA) && !of(GROUP_V1)
    }

    /// The pool that a reference means after migration.
    fn pool(&self, namespace: &str, reference: &PoolRef) -> ObjectKey {
        let group = self.group(namespace, &reference.name, reference.group.as_deref());
        ObjectKey::new(group, "InferencePool", namespace, &reference.name)
    }

    /// What to say of a reference that led nowhere, because only the older group has the pool, and leads to it now.
    pub(crate) fn healed(&self, namespace: &str, name: &str, written: Option<&str>) -> Option<String> {
        (written == Some(GROUP_V1) && self.moves(namespace, name)).then(|| {
            format!("names the v1 InferencePool {name:?}, which there was not; it now leads to the pool that has moved there")
        })
    }

    /// The group to write in a reference to a pool.
    pub(crate) fn group<'a>(&self, namespace: &str, name: &str, written: Option<&'a str>) -> &'a str {
        match written {
            None => GROUP_V1,
            Some(GROUP_ALPHA) if self.moves(namespace, name) => GROUP_V1,
            Some(group) => group,
        }
    }

    /// Whether an InferenceModelRewrite already has this name in that pool; it wins over an InferenceModel.
    pub(crate) fn is_rewritten(&self, namespace: &str, reference: &PoolRef, model: &str) -> bool {
        self.rewritten.contains(&(self.pool(namespace, reference), model.to_owned()))
    }

    /// Whether the current group has an object of that kind and name.
    pub(crate) fn is_taken(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.objects.contains(&ObjectKey::new(GROUP_LLMD, kind, namespace, name))
    }

    /// Whether the older group has one, which would take that name when it moves.
    pub(crate) fn is_claimed(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.is_taken(kind, namespace, name)
            || self.objects.contains(&ObjectKey::new(GROUP_ALPHA, kind, namespace, name))
    }

    /// Whether a namespace has a pool of the older group that moves, and one that stays.
    pub(crate) fn pools_of_namespace(&self, namespace: &str) -> (bool, bool) {
        let old = self
            .objects
            .iter()
            .filter(|key| key.kind == "InferencePool" && key.group == GROUP_ALPHA && key.namespace == namespace);
        old.fold((false, false), |(moving, staying), key| {
            let moves = self.moves(namespace, &key.name);
            (moving || moves, staying || !moves)
        })
    }
}
