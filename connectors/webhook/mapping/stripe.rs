//! Stripe's events.

use serde_json::Value;

use super::{Attributes, first_text, text};

/// `com.stripe.<type>`, by the event's id, from the connected account or from Stripe, about the object.
pub(super) fn attributes(body: &Value) -> Attributes {
    Attributes {
        ty: format!("com.stripe.{}", text(body, "type").as_deref().unwrap_or("unknown")),
        source: first_text(body, &["account", "context"])
            .map_or_else(|| "https://api.stripe.com".to_owned(), |account| format!("https://api.stripe.com/v1/accounts/{account}")),
        id: text(body, "id"),
        subject: first_text(body, &["data.object.id", "related_object.id"]),
        time: text(body, "created"),
    }
}
