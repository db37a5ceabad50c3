//! The trace that a message belongs to, in the headers of its transport: `traceparent` and
//! `tracestate` of W3C Trace Context, under the same names wherever messages have headers.
//!
//! What comes in with them is stored with the event, as the attributes of CloudEvents' distributed
//! tracing extension. What goes out has them beside the event's own attributes, which are its
//! origin's: the header names who sent it on.

use std::str::from_utf8;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman_schemas::trace::{TRACEPARENT, TRACESTATE};
use pointsman_schemas::{Event, TraceContext};

use crate::source::Arrival;
use crate::target::Delivery;

/// What the headers of a message say; none where they name no trace, or several.
fn read<'h>(headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Option<TraceContext> {
    let (mut parent, mut state) = (None, Vec::new());
    for (name, value) in headers {
        if name.eq_ignore_ascii_case(TRACEPARENT) {
            if parent.replace(value).is_some() {
                return None;
            }
        } else if name.eq_ignore_ascii_case(TRACESTATE) {
            state.push(from_utf8(value).unwrap_or("?"));
        }
    }
    let parent = from_utf8(parent?).ok()?.trim();
    TraceContext::read(parent, Some(&state.join(",")))
}

/// Gives what a message brings the trace that its headers name; events that name one themselves
/// keep it.
pub(crate) fn adopt<'h>(
    arrivals: &mut [Arrival],
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
) {
    let Some(context) = read(headers) else {
        return;
    };
    for arrival in arrivals {
        match arrival {
            Arrival::Event(event) => {
                *event = Arc::new(context.add_to(Event::clone(event)));
            }
            Arrival::Plain(plain) => context.set_in(&mut plain.defaults),
        }
    }
}

/// The headers of a request, as [`adopt`] takes them.
pub(crate) fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    let field = |(name, value)| (HeaderName::as_str(name), HeaderValue::as_bytes(value));
    headers.iter().map(field)
}

/// The headers that a delivery is sent with.
pub(crate) fn headers(delivery: &Delivery) -> impl Iterator<Item = (&'static str, String)> {
    let context = delivery.trace.as_deref();
    let parent = context.map(|context| (TRACEPARENT, context.parent.to_string()));
    let state = context.and_then(|context| Some((TRACESTATE, context.state.as_ref()?.to_string())));
    parent.into_iter().chain(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plain;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn adopted(arrival: Arrival, headers: &[(&str, &str)]) -> Option<(String, Option<String>)> {
        let mut arrivals = [arrival];
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        adopt(&mut arrivals, headers);
        let [arrival] = arrivals;
        let event = match arrival {
            Arrival::Event(event) => event,
            Arrival::Plain(plain) => Arc::new(plain.defaults.build().unwrap()),
        };
        let attribute = |name| event.attribute(name).map(|value| value.to_string());
        Some((attribute(TRACEPARENT)?, attribute(TRACESTATE)))
    }

    #[test]
    fn an_event_without_a_trace_takes_the_one_of_its_message() {
        let upper = PARENT.to_uppercase();
        let other = PARENT.replace("0af7", "1af7");
        let pair = |state: Option<&str>| Some((PARENT.to_owned(), state.map(str::to_owned)));
        type Headers<'h> = &'h [(&'h str, &'h str)];
        let table: [(Headers<'_>, _); 7] = [
            (&[("traceparent", PARENT)], pair(None)),
            (
                &[
                    ("TraceParent", &format!(" {PARENT} ")),
                    ("Tracestate", "a=b"),
                    ("tracestate", "c=d"),
                ],
                pair(Some("a=b,c=d")),
            ),
            (&[("traceparent", PARENT), ("tracestate", "?")], pair(None)),
            (&[("tracestate", "a=b")], None),
            (&[("traceparent", &upper)], None),
            (&[("traceparent", PARENT), ("traceparent", &other)], None),
            (&[], None),
        ];
        for (headers, expect) in table {
            let builder = || Event::builder("1", "/s", "t");
            let event = Arrival::Event(Arc::new(builder().build().unwrap()));
            let plain = Arrival::Plain(Box::new(Plain {
                fields: Plain::fields([]),
                defaults: builder(),
            }));
            for arrival in [event, plain] {
                assert_eq!(adopted(arrival, headers), expect, "{headers:?}");
            }
            let own = builder().attribute(TRACEPARENT, (&*other).into());
            let own = Arrival::Event(Arc::new(own.build().unwrap()));
            assert_eq!(adopted(own, headers), Some((other.clone(), None)));
        }
    }
}
