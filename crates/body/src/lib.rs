//! Request and answer bodies: found out in one pass, changed by splicing, never parsed into a tree.
//!
//! [`scan`] reads a request body once and says where its `model` stands; [`answer`] follows an answer's bytes as they
//! pass. Pure functions and push parsers over bytes; every one of them is fuzzed. Bytes that are not changed leave as
//! they came.

pub mod answer;
mod json_string;
pub mod multipart;
pub mod scan;
pub mod splice;
