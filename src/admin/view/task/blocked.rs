//! Order keys that are blocked, page by page.

use std::fmt;
use std::str::FromStr;

use pointsman_journal::JournalError;
use pointsman_schemas::SubscriptionNumber;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Onlooker, SubscriptionSelection, TaskView};
use crate::admin::view::Page;

/// Rows that one request looks at, about.
const LOOKED_AT_MAX: u64 = 100_000;

/// An order key of which the first task was tried, or is held back, and waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlockedView {
    /// The task that all others of its key wait for.
    #[serde(flatten)]
    pub head: TaskView,
    /// How many wait behind it; 10,000 stands for so many or more.
    pub behind: u64,
}

/// Behind which order key a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockedCursor {
    subscription: SubscriptionNumber,
    order_key: u64,
}

impl fmt::Display for BlockedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:016x}", self.subscription.0, self.order_key)
    }
}

impl FromStr for BlockedCursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (subscription, order_key) = text.split_once('-')?;
            let cursor = Self {
                subscription: SubscriptionNumber(u32::from_str_radix(subscription, 16).ok()?),
                order_key: u64::from_str_radix(order_key, 16).ok()?,
            };
            // Of the ways of writing a number one is taken.
            (cursor.to_string() == text).then_some(cursor)
        };
        parse().ok_or_else(|| format!("{text:?} is not the next of this list"))
    }
}

impl JsonSchema for BlockedCursor {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BlockedCursor".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(0|[1-9a-f][0-9a-f]{0,7})-[0-9a-f]{16}$" })
    }
}

/// The order keys that are blocked behind `after`, at most `limit`, by subscription and then in an
/// order that does not change.
///
/// # Errors
/// [`JournalError::Io`].
pub async fn blocked_page(
    onlooker: &Onlooker<'_>,
    of: &SubscriptionSelection,
    after: Option<BlockedCursor>,
    limit: usize,
) -> Result<Page<BlockedView>, JournalError> {
    let from = after.map_or(SubscriptionNumber(0), |after| after.subscription);
    let (mut items, mut looked_at) = (Vec::new(), 0);
    for status in onlooker.reader.subscriptions().await? {
        let (subscription, identity) = (status.number, &status.identity);
        let names = [&identity.tenant, &identity.rule, &identity.target];
        let pending = status.counts.pending;
        if subscription < from || pending == 0 || !of.admits(subscription, names) {
            continue;
        }
        let behind = after.filter(|after| after.subscription == subscription);
        let behind = behind.map(|after| after.order_key);
        let room = limit - items.len();
        let page = onlooker.reader.blocked(subscription, behind, room).await?;
        looked_at += page.looked_at.max(1);
        items.extend(page.keys.into_iter().map(|key| BlockedView {
            head: TaskView::waiting(identity, key.head.clone(), onlooker.state(&key.head)),
            behind: key.behind,
        }));
        // At the end of a subscription the last key that there can be says where to go on.
        let order_key = page.next.unwrap_or(i64::MAX.cast_unsigned());
        if page.next.is_some() || items.len() == limit || looked_at >= LOOKED_AT_MAX {
            let next = BlockedCursor {
                subscription,
                order_key,
            };
            let next = Some(next.to_string());
            return Ok(Page::part(items, next));
        }
    }
    Ok(Page::whole(items))
}
