//! Intake: which documents count.
//!
//! Decodes each document, lets the later of two descriptions of one object win (with a finding that names both
//! places), and keeps an object's last good version in force while its newest document is broken. A later description
//! that was never good takes nothing from an earlier one, as `kubectl apply` in the same order would leave it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_api::{Document, FieldPath, Finding, Metadata, ObjectKey, Resource, Severity, decode};

/// One object that is described, with the version of it that is in force.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Its newest document.
    pub document: Arc<Document>,
    /// The object in force: decoded from `document`, or from its last good predecessor; `None` if there never was one.
    pub resource: Option<Arc<Resource>>,
    /// Metadata that goes with `resource`.
    pub metadata: Metadata,
    /// Place of the earlier description that is in force in place of `document`, which was never good.
    pub stand_in: Option<String>,
    /// Everything found so far: by the source, by decoding, by the rules above.
    pub findings: Vec<Finding>,
}

/// A version of an object that was in force.
#[derive(Clone, Debug)]
struct Good {
    resource: Arc<Resource>,
    metadata: Metadata,
    /// Where it stood, for messages.
    place: String,
    /// It is an earlier description, in force only because the later one was never good.
    stands_in: bool,
}

/// Remembers each object's last good version.
#[derive(Debug, Default)]
pub struct Intake {
    good: BTreeMap<ObjectKey, Good>,
}

impl Intake {
    /// Admits a whole set of documents, in their order (later wins). Objects that are not in the set are forgotten.
    pub fn admit(&mut self, documents: &[Arc<Document>]) -> Vec<Admitted> {
        // Position of each object's winner, and the places that it wins over.
        let mut winners: BTreeMap<&ObjectKey, (usize, Vec<usize>)> = BTreeMap::new();
        for (position, document) in documents.iter().enumerate() {
            let entry = winners.entry(&document.key).or_insert((position, Vec::new()));
            if entry.0 != position {
                let earlier = std::mem::replace(&mut entry.0, position);
                entry.1.push(earlier);
            }
        }
        let mut before = std::mem::take(&mut self.good);
        let mut order: Vec<(usize, Vec<usize>)> = winners.into_values().collect();
        order.sort_unstable_by_key(|(position, _)| *position);
        order
            .into_iter()
            .filter_map(|(position, superseded)| {
                let document = documents.get(position)?;
                let earlier: Vec<&Arc<Document>> =
                    superseded.iter().filter_map(|earlier| documents.get(*earlier)).collect();
                Some(self.admit_one(document, &earlier, before.remove(&document.key)))
            })
            .collect()
    }

    fn admit_one(&mut self, document: &Arc<Document>, earlier: &[&Arc<Document>], last: Option<Good>) -> Admitted {
        let decoded = decode(document);
        let mut findings = document.findings.clone();
        let (good, is_broken) = match decoded.resource {
            Some(resource) => (Some(good(resource, decoded.metadata.clone(), document)), false),
            None => (instead_of_broken(earlier, last), true),
        };
        if good.as_ref().is_none_or(|good| !good.stands_in) {
            findings.extend(earlier.iter().map(|earlier| superseded_by(earlier, document)));
        }
        findings.extend(decoded.findings);
        if let (true, Some(instead)) = (is_broken, &good) {
            findings.push(serves_instead(document, instead));
        }
        let metadata = good.as_ref().map_or(decoded.metadata, |good| good.metadata.clone());
        let resource = good.as_ref().map(|good| good.resource.clone());
        let stand_in = good.as_ref().filter(|good| good.stands_in).map(|good| good.place.clone());
        if let Some(good) = good {
            self.good.insert(document.key.clone(), good);
        }
        Admitted { document: document.clone(), resource, metadata, stand_in, findings }
    }
}

fn good(resource: Resource, metadata: Metadata, document: &Document) -> Good {
    Good { resource: Arc::new(resource), metadata, place: document.origin.to_string(), stands_in: false }
}

/// What is in force in place of a broken document: its own last good version, else the latest earlier description
/// that is good, else what stood in for it before.
fn instead_of_broken(earlier: &[&Arc<Document>], last: Option<Good>) -> Option<Good> {
    if last.as_ref().is_some_and(|last| !last.stands_in) {
        return last;
    }
    let described = earlier.iter().rev().find_map(|earlier| {
        let decoded = decode(earlier);
        Some(Good { stands_in: true, ..good(decoded.resource?, decoded.metadata, earlier) })
    });
    described.or(last)
}

fn serves_instead(broken: &Document, instead: &Good) -> Finding {
    let (reason, what) = match instead.stands_in {
        true => ("EarlierServes", "the earlier description at"),
        false => ("LastGoodServes", "its last good version, read from"),
    };
    let message =
        format!("{} is broken at {}; {what} {} serves until that is mended", broken.key, broken.origin, instead.place);
    Finding::new(Severity::Error, reason, FieldPath::root(), message)
}

fn superseded_by(earlier: &Document, later: &Document) -> Finding {
    Finding::new(
        Severity::Warning,
        "Superseded",
        FieldPath::root(),
        format!(
            "{} is described twice, at {} and at {}; the later one is in force",
            later.key, earlier.origin, later.origin
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use tidegate_api::{Document, Severity};

    use super::Intake;
    use crate::testing::document;

    fn server(source: &str, address: serde_json::Value) -> Arc<Document> {
        document(
            source,
            json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "ModelServer", "metadata": {"name": "s"},
                                "spec": {"address": address}}),
        )
    }

    #[test]
    fn the_later_of_two_descriptions_wins_and_both_places_are_named() {
        let admitted = Intake::default().admit(&[server("a.yaml", json!("x:1")), server("b.yaml", json!("y:2"))]);
        assert_eq!(admitted.len(), 1);
        assert_eq!(&*admitted[0].document.origin.source, "b.yaml");
        let twice = admitted[0].findings.iter().find(|finding| finding.reason == "Superseded").expect("a finding");
        assert!(twice.message.contains("a.yaml") && twice.message.contains("b.yaml"), "{}", twice.message);
    }

    #[test]
    fn a_broken_version_leaves_the_last_good_one_in_force() {
        let mut intake = Intake::default();
        let good = intake.admit(&[server("a.yaml", json!("x:1"))]).remove(0).resource.expect("a resource");
        let broken = intake.admit(&[server("a.yaml", json!(7))]).remove(0);
        assert_eq!(broken.resource.as_deref(), Some(&*good));
        assert!(broken.findings.iter().any(|finding| finding.reason == "LastGoodServes"));
        assert!(broken.findings.iter().any(|finding| finding.severity == Severity::Error));
        // Gone and back, still broken: there is no good version any more.
        assert!(intake.admit(&[]).is_empty());
        assert!(intake.admit(&[server("a.yaml", json!(7))]).remove(0).resource.is_none());
    }

    #[test]
    fn a_later_description_that_was_never_good_leaves_the_earlier_one_in_force() {
        let mut intake = Intake::default();
        let (earlier, broken) = (server("03.yaml", json!("x:1")), server("06.yaml", json!(7)));
        let admitted = intake.admit(&[earlier.clone(), broken.clone()]).remove(0);
        let good = Intake::default().admit(std::slice::from_ref(&earlier)).remove(0).resource;
        assert_eq!((admitted.resource, &*admitted.document.origin.source), (good, "06.yaml"));
        let said = |reason: &str| admitted.findings.iter().find(|finding| finding.reason == reason).cloned();
        let serves = said("EarlierServes").expect("a finding");
        assert!(serves.severity == Severity::Error && serves.message.contains("03.yaml"), "{}", serves.message);
        assert!(said("Superseded").is_none(), "nothing is superseded by what does not serve");
        // Once the later one has been good, its last good version comes before the earlier description.
        let later = server("06.yaml", json!("y:2"));
        let good = intake.admit(&[earlier.clone(), later]).remove(0).resource;
        let again = intake.admit(&[earlier, broken]).remove(0);
        assert_eq!(again.resource, good);
    }

    #[test]
    fn a_broken_certificate_leaves_the_last_good_one_in_force() {
        let made = || rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
        let (own, other) = (made(), made());
        let secret = |key: &str| {
            document(
                "a.yaml",
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "kubernetes.io/tls",
                       "stringData": {"tls.crt": own.cert.pem(), "tls.key": key}}),
            )
        };
        let mut intake = Intake::default();
        let good = intake.admit(&[secret(&own.signing_key.serialize_pem())]).remove(0).resource.expect("a resource");
        for key in ["-----BEGIN PRIVATE", &other.signing_key.serialize_pem()] {
            let broken = intake.admit(&[secret(key)]).remove(0);
            assert_eq!(broken.resource.as_deref(), Some(&*good));
            assert!(broken.findings.iter().any(|finding| finding.field.to_string().contains("tls.key")));
        }
    }
}
