//! The numbers of one moment.

use futures::future::BoxFuture;

/// Everything that the bus counts, as texts of OpenMetrics without their ends.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// What is counted since the start of this process.
    pub process: String,
    /// What outlives it.
    pub store: String,
}

/// Takes one; none where that cannot be done.
pub type Expose = Box<dyn Fn() -> BoxFuture<'static, Option<Exposition>> + Send + Sync>;
