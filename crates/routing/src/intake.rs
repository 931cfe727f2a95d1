//! Intake: which documents count.
//!
//! Decodes each document, lets the later of two descriptions of one object win (with a finding that names both
//! places), and keeps an object's last good version in force while its newest document is broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_api::{Document, Finding, Metadata, ObjectKey, Resource};

/// One object that is described, with the version of it that is in force.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Its newest document.
    pub document: Arc<Document>,
    /// The object in force: decoded from `document`, or from its last good predecessor; `None` if there never was one.
    pub resource: Option<Arc<Resource>>,
    /// Metadata that goes with `resource`.
    pub metadata: Metadata,
    /// Everything found so far: by the source, by decoding, by the rules above.
    pub findings: Vec<Finding>,
}

/// Remembers each object's last good version.
#[derive(Debug, Default)]
pub struct Intake {
    good: BTreeMap<ObjectKey, (Arc<Resource>, Metadata)>,
}

impl Intake {
    /// Admits a whole set of documents, in their order (later wins). Objects that are not in the set are forgotten.
    pub fn admit(&mut self, documents: &[Arc<Document>]) -> Vec<Admitted> {
        let _ = (&mut self.good, documents);
        Vec::new()
    }
}
