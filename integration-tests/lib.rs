//! The bus from outside: what the end-to-end tests and the benchmarks share.
//!
//! [`Bus`] is a real `pointsman` process with its store in a temporary folder, [`Sink`] a function
//! that remembers what it was given, [`Caller`] a client that keeps connections open and remembers
//! what was acknowledged. Together they are the oracle: what was acknowledged must arrive, whatever
//! was done to the process in between.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "the whole crate is a test, and says what it expects as bluntly as tests do"
)]

pub mod amqp;
pub mod browser;
pub mod bus;
pub mod caller;
pub mod collector;
pub mod drain;
pub mod kafka;
pub mod load;
pub mod mqtt;
pub mod mysql;
pub mod nats;
pub mod object_storage;
mod outage;
pub mod postgres;
pub mod power;
pub mod process;
pub mod rabbitmq;
pub mod redis;
pub mod sink;
pub mod sqs;
pub mod storm;

pub use bus::Bus;
pub use caller::Caller;
pub use outage::ride_out;
pub use pointsman_test_brokers::{Fault, Proxy};
pub use sink::{Answer, Sink};
pub use storm::Storm;

use std::time::Duration;

/// How long a test waits for something that must happen before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds, looking again every few milliseconds.
///
/// # Panics
/// After [`PATIENCE`], with `what`, also where the condition itself does not come to an end.
pub async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, what, condition).await;
}

/// Waits until `condition` holds, no longer than `patience`.
///
/// # Panics
/// As [`until`].
pub async fn until_within(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(patience, holds).await.is_ok(),
        "waited {patience:?} in vain until {what}"
    );
}
