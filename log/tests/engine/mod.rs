//! What the tests with real engines share.

use pointsman_log::Cluster;
use pointsman_schemas::Name;

/// Runs a test on a runtime of its own.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

/// A cluster with one shard.
pub fn one() -> Cluster {
    Cluster::new(Name::new("test").unwrap(), 1).unwrap()
}
