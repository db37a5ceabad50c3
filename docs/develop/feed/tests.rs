use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_schemas::{Clock, SystemClock};
use serde_json::{Value, json};

use super::*;
use crate::suite::{Canned, SourceFixture, sources};

/// Items to a page.
const PAGE_ITEMS_MAX: usize = 10;

/// A shop with a feed of its orders.
struct Shop {
    server: Canned,
    orders: Arc<Mutex<Vec<Value>>>,
}

impl Shop {
    async fn open() -> Self {
        let orders = Arc::<Mutex<Vec<Value>>>::default();
        let ours = Arc::clone(&orders);
        let server = Canned::start(move |path, _| {
            let orders = ours.lock();
            let after = match path.strip_prefix("/orders?of=ours") {
                Some("") => 0,
                Some(after) => after.strip_prefix("&after=").unwrap().parse().unwrap(),
                None => return (404, String::new()),
            };
            let end = orders.len().min(after + PAGE_ITEMS_MAX);
            let page = json!({ "items": orders[after..end], "next": end.to_string() });
            (200, page.to_string())
        });
        Self {
            server: server.await,
            orders,
        }
    }
}

impl SourceFixture for Shop {
    const KIND: &'static str = "feed";

    fn parse(&self, settings: &Value) -> Result<Box<dyn SourceSettings>, String> {
        let settings = serde_json::from_value::<FeedSource>(settings.clone());
        settings
            .map(|settings| Box::new(settings) as _)
            .map_err(|error| error.to_string())
    }

    fn settings(&self) -> Value {
        json!({ "url": format!("{}/orders?of=ours", self.server.endpoint()), "every": "10ms" })
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let mut orders = self.orders.lock();
        let ids = orders.len()..orders.len() + count;
        orders.extend(ids.clone().map(|id| json!({ "id": id.to_string() })));
        ids.map(|id| id.to_string()).collect()
    }

    fn identity(&self, event: &Event) -> String {
        event.id().to_owned()
    }

    fn batch_messages_max(&self) -> usize {
        PAGE_ITEMS_MAX
    }

    async fn unreadable(&mut self) -> Option<Bytes> {
        let without_id = json!({ "total": 9 });
        self.orders.lock().push(without_id.clone());
        Some(Bytes::from(without_id.to_string()))
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![(json!({ "url": "nowhere", "every": "1s" }), "url")]
    }
}

#[tokio::test]
async fn it_is_a_source() {
    sources(&mut Shop::open().await).await;
}

#[tokio::test]
async fn what_the_feed_answers_is_told() {
    let shop = Shop::open().await;
    for (path, expect) in [
        ("/orders?of=ours", Ok("the feed begins with 0 items")),
        ("/gone", Err("url: the feed answers 404 Not Found")),
    ] {
        let url = shop.server.endpoint().to_owned() + path;
        let settings = shop.parse(&json!({ "url": url, "every": "1s" })).unwrap();
        let told = settings.probe().await.map_err(|error| error.to_string());
        assert_eq!(told.as_deref().map_err(|error| &**error), expect);
    }
}

/// The page tells what is compiled here.
#[test]
fn the_page_shows_the_whole_of_it() {
    let (page, code) = (include_str!("../connectors.md"), include_str!("mod.rs"));
    assert!(page.contains(&format!("```rust\n{code}```\n")));
    let is_said =
        |line: &&str| !line.is_empty() && !line.starts_with("use ") && !line.starts_with("//");
    assert!(
        code.lines().map(str::trim).filter(is_said).count() < 150,
        "it is no longer short"
    );
}
