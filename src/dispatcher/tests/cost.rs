//! What a delivery costs the dispatcher itself. Measures, and asserts nothing:
//! `cargo test --release -p pointsman --lib dispatcher::tests::cost -- --ignored --nocapture`.

use std::sync::Arc;

use pointsman_connectors::Attempt;
use pointsman_schemas::Outcome;
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;

use super::bench::*;
use crate::dispatcher::Target;
use crate::dispatcher::testing::{event, policy, route};

const DELIVERIES: u32 = 400_000;

#[tokio::test]
#[ignore = "a measurement"]
async fn deliveries_per_second_on_one_core() {
    for (targets, per_target) in [(1, 1), (1, 10), (10, 1), (100, 10)] {
        let settled = Arc::new(Semaphore::new(0));
        let bench = Bench::with(Some((event("e"), Arc::clone(&settled))));
        let names: Vec<String> = (0..targets * per_target).map(|index| format!("r{index}")).collect();
        let numbers = bench.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let mock = Mock::taking(MS);
        let service = tower::service_fn(|_: Attempt| async {
            tokio::task::yield_now().await;
            Ok(vec![Outcome::delivered()])
        });
        let target = |index: usize| Target { service: BoxCloneSyncService::new(service), ..mock.target(&format!("t{index}")) };
        let routes =
            numbers.iter().zip(&names).enumerate().map(|(index, (number, name))| (*number, route(name, index % targets, policy())));
        let running = bench.start(plan((0..targets).map(target).collect(), routes));
        let start = std::time::Instant::now();
        settled.acquire_many(DELIVERIES).await.unwrap().forget();
        let per_delivery = start.elapsed() / DELIVERIES;
        println!("{targets} targets with {per_target} subscriptions each: {per_delivery:?} per delivery");
        running.stop().await;
    }
}
