//! The annotations of ours that routes and pools may carry; the pool's win over the route's.
//!
//! An unknown value is a finding, and the default applies.

/// What happens to the share of an arm whose pool has no ready endpoint: `unavailable` (503, the default, as the
/// Gateway API says) or `redistribute` (the other arms take it).
pub const EMPTY_ARM: &str = "tidegate.dev/empty-arm";
/// Which model name the client reads in an answer: `served` (what the server says, the default) or `requested`.
pub const RESPONSE_MODEL: &str = "tidegate.dev/response-model";
/// Whether an arm that is known not to serve a model gives its share to those that do: `"true"` (default), `"false"`.
pub const MODEL_AWARE: &str = "tidegate.dev/model-aware";
/// Paths, separated by commas, that are opened although they are administrative; never the adapter paths.
pub const ALLOW_PATHS: &str = "tidegate.dev/allow-paths";
