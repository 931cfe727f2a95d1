//! Report: gathers what there is to say about one document while it is decoded.
//!
//! It knows the object's name, so that every message names it, and it bounds how much is said: a document of a million
//! wrong values must not become a million sentences.

use crate::{FieldPath, Finding, ObjectKey, Severity};

/// How many findings of one severity are kept for one document; the author mends the first ones first.
const KEPT_PER_SEVERITY: usize = 100;

/// Findings of one document.
pub(crate) struct Report {
    subject: ObjectKey,
    findings: Vec<Finding>,
    left_out: [usize; 3],
}

impl Report {
    pub(crate) fn new(subject: &ObjectKey) -> Self {
        Self { subject: subject.clone(), findings: Vec::new(), left_out: [0; 3] }
    }

    /// The document, or this part of it, is refused.
    pub(crate) fn error(&mut self, reason: &'static str, field: &FieldPath, sentence: impl AsRef<str>) {
        self.say(Severity::Error, reason, field, sentence.as_ref());
    }

    /// It is accepted, but not as written, or not all of it.
    pub(crate) fn warn(&mut self, reason: &'static str, field: &FieldPath, sentence: impl AsRef<str>) {
        self.say(Severity::Warning, reason, field, sentence.as_ref());
    }

    /// Adds a finding that was made elsewhere.
    pub(crate) fn push(&mut self, finding: Finding) {
        let slot = finding.severity as usize;
        let same = self.findings.iter().filter(|other| other.severity == finding.severity).count();
        if same < KEPT_PER_SEVERITY {
            self.findings.push(finding);
        } else if let Some(count) = self.left_out.get_mut(slot) {
            *count += 1;
        }
    }

    /// Whether anything is refused.
    pub(crate) fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Everything said, errors first where one document has many.
    pub(crate) fn into_findings(mut self) -> Vec<Finding> {
        for (count, severity) in self.left_out.into_iter().zip([Severity::Note, Severity::Warning, Severity::Error]) {
            if count > 0 {
                let sentence = format!(
                    "{}: {count} more findings of this severity are not listed; mend the first {KEPT_PER_SEVERITY} and look again",
                    self.subject
                );
                self.findings.push(Finding::new(severity, "MoreFindings", FieldPath::root(), sentence));
            }
        }
        self.findings
    }

    fn say(&mut self, severity: Severity, reason: &'static str, field: &FieldPath, sentence: &str) {
        let message = if field.0.is_empty() {
            format!("{}: {sentence}", self.subject)
        } else {
            format!("{}: {field} {sentence}", self.subject)
        };
        self.push(Finding::new(severity, reason, field.clone(), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_warnings_do_not_hide_an_error() {
        let mut report = Report::new(&ObjectKey::new("", "Service", "default", "one"));
        for index in 0..10_000 {
            report.warn("UnknownField", &FieldPath::root().index(index), "is not known");
        }
        report.error("WrongType", &FieldPath::root().key("spec"), "is 1, but must be a mapping");
        assert!(report.has_errors());
        let findings = report.into_findings();
        assert_eq!(findings.len(), KEPT_PER_SEVERITY + 2);
        assert!(
            findings.iter().any(|finding| finding.message == "Service default/one: spec is 1, but must be a mapping")
        );
    }
}
