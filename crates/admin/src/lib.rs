//! The admin API: what runs, whether it is well, and why.
//!
//! It stands beside the request path, on the control runtime: [`AdminListener`] takes connections, [`guard`] refuses
//! those that a browser was tricked into, [`router`] answers from what the binary gives in [`AdminState`], and
//! [`ObjectStore`] keeps the documents with their statuses. It knows neither the data plane nor the sources, and must
//! never hold either up.

mod guard;
pub mod kinds;
mod objects;
mod rollouts;
mod router;
mod serve;
mod token;

use std::sync::Arc;

use serde_json::Value;

pub use objects::{ObjectFilter, ObjectStore};
pub use rollouts::{CommandAnswer, CommandRefusal, RolloutView, Rollouts};
pub use serve::{AdminListener, BindError, Port};
pub use token::{Token, TokenError};

/// Reads something as JSON.
pub type ReadJson = Arc<dyn Fn() -> Value + Send + Sync>;
/// Reads something as text.
pub type ReadText = Arc<dyn Fn() -> String + Send + Sync>;
/// Whether the gateway is ready; if not, what is missing.
pub type ReadReady = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;
/// Does something and says what came of it, or why it could not be done.
pub type Act = Arc<dyn Fn() -> Result<Value, String> + Send + Sync>;

/// What the admin API shows and does. All functions are called on blocking threads of the control runtime, but for
/// `ready`, which must return at once.
#[derive(Clone)]
pub struct AdminState {
    /// Documents and their statuses, for `/objects`.
    pub objects: Arc<ObjectStore>,
    /// The active table, for `/snapshot`.
    pub snapshot: ReadJson,
    /// OpenMetrics text, for `/metrics`.
    pub metrics: ReadText,
    /// For `/readyz`.
    pub ready: ReadReady,
    /// Reads the manifests now, for `POST /reload`.
    pub reload: Act,
    /// For `/rollouts`; none: this process runs none.
    pub rollouts: Option<Arc<dyn Rollouts>>,
    /// What calls that change something must bring. The probe port has none of those.
    pub token: Arc<Token>,
}

impl std::fmt::Debug for AdminState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AdminState").field("objects", &self.objects).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
