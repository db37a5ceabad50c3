//! How long a page of the console takes with 10,000 rules, a million deliveries that wait, and
//! 1,000 events a second that pass.

use std::time::{Duration, Instant};

use pointsman_integration_tests::browser::Browser;
use pointsman_integration_tests::load::{binary_request, median, paced};
use pointsman_integration_tests::{Bus, Caller, Sink};

use crate::{Shape, fill, print};

const PER_SECOND: f64 = 1_000.0;
const CONNECTIONS: u32 = 16;
/// Longer than all pages take.
const LOAD: Duration = Duration::from_secs(600);
/// Until the charts and the flow know what passes.
const SETTLE: Duration = Duration::from_secs(15);
const VISITS: usize = 7;

const GOAL_MILLISECONDS: f64 = 1_000.0;
const GOAL_KB: f64 = 500.0;

/// Every page, and the lists with conditions that next to nothing fulfils.
const PAGES: [&str; 20] = [
    "/",
    "/?q=rule-9999",
    "/flow",
    "/events",
    "/events?type=none",
    "/events?subject=9999",
    "/events?pattern=%7B%22data%22%3A%7B%22total%22%3A%5B-1%5D%7D%7D",
    "/events/1",
    "/tasks",
    "/tasks?rule=rule-9999",
    "/tasks?state=failed",
    "/dead",
    "/rules",
    "/rules/default/rule-9999",
    "/sources",
    "/targets",
    "/targets/default/down",
    "/subscriptions/9999",
    "/replays",
    "/playground",
];

/// Prints how long each page takes and how large it is, and when a browser can be used with the
/// first.
pub(crate) async fn console() {
    let sink = Sink::counting().await;
    let rules = format!(
        "{}\n  served: {{ match: {{ type: [seen] }}, to: function }}\n",
        Shape::Subscriptions.rules().replace(
            "targets:\n",
            &format!(
                "targets:\n  function: {{ http: {{ url: \"{}\" }} }}\n",
                sink.url()
            )
        )
    );
    let bus = Bus::start(&rules).await;
    fill(&bus, Shape::Subscriptions).await;
    let address = bus.url("").trim_start_matches("http://").to_owned();
    let load = tokio::spawn(async move {
        let request = binary_request(&address, "seen", 1_024);
        paced(&address, &request, CONNECTIONS, PER_SECOND, LOAD).await
    });
    tokio::time::sleep(SETTLE).await;
    let (before, begin) = (sink.arrived(), Instant::now());
    for page in PAGES {
        visit(&bus, page).await;
    }
    opened(&bus).await;
    let passed = f64::from(u32::try_from(sink.arrived() - before).expect("less than 2^32"));
    println!(
        "{:.0} events/s were delivered meanwhile",
        passed / begin.elapsed().as_secs_f64()
    );
    load.abort();
}

async fn visit(bus: &Bus, page: &str) {
    let (caller, url) = (Caller::new(), bus.admin_url(page));
    let (mut times, mut bytes) = (Vec::new(), 0);
    for _ in 0..VISITS {
        let begin = Instant::now();
        let (status, body) = caller.get(&url).await.expect("the bus answers");
        assert_eq!(status, 200, "{page}");
        times.push(begin.elapsed().as_secs_f64() * 1_000.0);
        bytes = body.len();
    }
    print(page, median(times), "ms", GOAL_MILLISECONDS);
    let bytes = f64::from(u32::try_from(bytes).expect("less than 4 GiB"));
    print("", bytes / 1e3, "KB", GOAL_KB);
}

/// What a browser says of the first page.
async fn opened(bus: &Bus) {
    let Some(browser) = Browser::start().await else {
        println!("Chromium is not there: when a browser is ready is left out");
        return;
    };
    let mut times = Vec::new();
    for _ in 0..VISITS {
        browser.go(&bus.admin_url("/")).await;
        let script = "return performance.getEntriesByType('navigation')[0].domInteractive";
        let time = browser.run(script).await;
        times.push(time.as_f64().expect("a number"));
    }
    print(
        "a browser can be used with the first page after",
        median(times),
        "ms",
        GOAL_MILLISECONDS,
    );
}
