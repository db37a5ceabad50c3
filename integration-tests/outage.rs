//! What a bus does while an outside system is away: how much it says, works and knocks.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Bus, Fault, Proxy, Sink, until, until_within};

/// A bus is back at work no later than this after its outside system is.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// How long an outage lasts.
const LASTS: Duration = Duration::from_secs(12);

/// Has a proxy between a bus and what its source `orders` consumes misbehave, with messages that
/// are published by their ids before and after that.
///
/// # Panics
/// Where the bus is not quiet meanwhile, is not back soon, or something does not arrive.
pub async fn ride_out(
    bus: &Bus,
    proxy: &Proxy,
    fault: Fault,
    sink: &Sink,
    publish: impl AsyncFn(String) -> bool,
) {
    is_running(bus).await;
    assert!(publish("before".to_owned()).await);
    until("the first has arrived", async || sink.arrived() == 1).await;
    let outage = Outage::of(bus, proxy, fault).await;
    is_over(sink, publish).await;
    outage.assert_quiet(bus);
    is_running(bus).await;
}

async fn is_running(bus: &Bus) {
    until("its source is running", async || {
        let source = bus.source("orders").await;
        source.get("state").is_some_and(|state| state == "running")
    })
    .await;
}

/// Publishes messages until one arrives, and waits until all have. The first ones may have been
/// sent where the bus is no more, and come again when its acknowledgement has not.
async fn is_over(sink: &Sink, publish: impl AsyncFn(String) -> bool) {
    let before = sink.arrived();
    let mut published = 0;
    until_within(BACK_WITHIN, "something arrives again", async || {
        assert!(
            publish(format!("after-{published}")).await,
            "a system that is back takes nothing"
        );
        published += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
        sink.arrived() > before
    })
    .await;
    until("everything has arrived", async || {
        sink.arrived() == before + published
    })
    .await;
}

/// What was seen of a bus during an outage.
#[derive(Clone, Copy, Debug)]
struct Outage {
    lasted: Duration,
    /// Lines of its log.
    lines: usize,
    /// Processor time.
    worked: Duration,
    /// Connections that it made, where they could be made.
    attempts: usize,
}

impl Outage {
    /// Has a proxy misbehave, and then no more.
    async fn of(bus: &Bus, proxy: &Proxy, fault: Fault) -> Self {
        let (begin, lines, worked, attempts) = (
            Instant::now(),
            bus.log().lines().count(),
            bus.cpu_time(),
            proxy.attempts(),
        );
        proxy.set(fault);
        // Not to wait for something, but to see what does not happen meanwhile.
        tokio::time::sleep(LASTS).await;
        let seen = Self {
            lasted: begin.elapsed(),
            lines: bus.log().lines().count() - lines,
            worked: bus.cpu_time().saturating_sub(worked),
            attempts: proxy.attempts() - attempts,
        };
        proxy.set(Fault::None);
        println!("{fault:?}: {seen:?}");
        seen
    }

    /// At most one line of the log per ten seconds, less than a tenth of a processor, and no tight
    /// loop.
    fn assert_quiet(&self, bus: &Bus) {
        let tens = usize::try_from(self.lasted.as_secs() / 10).unwrap_or(usize::MAX);
        assert!(self.lines <= tens + 1, "{self:?}:\n{}", bus.log());
        assert!(self.worked < self.lasted / 10, "{self:?}");
        // The first pauses are short; after them one try in some seconds is what is left.
        assert!(self.attempts <= 10 * (tens + 1), "{self:?}");
    }
}
