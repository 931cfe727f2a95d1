//! Regular expressions compile, and stay small.

use regex::RegexBuilder;

use crate::node::Node;
use crate::report::Report;

/// Memory that one compiled expression may take, in bytes; compile of the snapshot uses the same bound.
pub const SIZE_LIMIT: usize = 1 << 20;

/// Refuses an expression that does not compile or grows beyond [`SIZE_LIMIT`].
pub(crate) fn check(node: &Node<'_>, report: &mut Report) {
    let Some(text) = node.text() else { return };
    if let Err(error) = RegexBuilder::new(text).size_limit(SIZE_LIMIT).build() {
        // The last line of the message names the fault; the lines before it draw it.
        let error = error.to_string();
        let fault = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let sentence = format!("is {text:?}, which is no usable regular expression (RE2 syntax): {fault}");
        report.error("InvalidRegularExpression", node.path(), sentence);
    }
}
