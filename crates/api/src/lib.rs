//! The kinds users write, and the words in which we answer them.
//!
//! A [`Document`] is an object as its author wrote it. Decoding turns it into a typed [`Resource`] or into
//! [`Finding`]s that name the field path; compiling (in `tidegate-routing`) turns resources into a snapshot and
//! [`ObjectStatus`]es. This crate does no I/O and knows nothing of traffic.

pub mod annotation;
pub mod certificate;
mod decode;
pub mod document;
pub mod duration;
pub mod finding;
pub mod gateway_parameters;
pub mod inference;
pub mod key;
pub mod model_server;
mod node;
pub mod policy;
pub mod quantity;
mod report;
pub mod resource;
pub mod rollout;
mod rules;
mod schema;
pub mod status;
mod yaml_text;

pub use document::{Document, Origin, Position};
pub use finding::{Finding, Severity};
pub use key::{FieldPath, ObjectKey};
pub use resource::{Decoded, Metadata, Resource, decode};
pub use rules::regular_expression::SIZE_LIMIT as REGULAR_EXPRESSION_SIZE_LIMIT;
pub use status::{Condition, ConditionStatus, ObjectStatus};
