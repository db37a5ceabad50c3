//! Which trace an event belongs to: W3C Trace Context, level 2, and the distributed tracing
//! extension of CloudEvents 1.0.2, whose attributes have the names and values of its headers.

use std::fmt;
use std::str::FromStr;

use crate::{AttributeValue, Event, EventBuilder};

/// The header and the attribute that name the trace and a span of it.
pub const TRACEPARENT: &str = "traceparent";

/// The header and the attribute that hold what tracing systems add.
pub const TRACESTATE: &str = "tracestate";

/// The length of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;

/// What of a `tracestate` is sent on. Section 3.3.1.5: at least so much should be.
const STATE_BYTES_MAX: usize = 512;

/// Entries of a `tracestate`, at most: section 3.3.1.1.
const STATE_ENTRIES_MAX: usize = 32;

/// Entries longer than this are the first to give way: section 3.3.1.5.
const LONG_ENTRY_BYTES: usize = 128;

/// The id of a trace; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(u128);

/// The id of a span; never zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(u64);

/// What whoever sent something has decided of its trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFlags(u8);

/// A `traceparent`: a trace, and the span of it that something follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// What is decided of the trace.
    pub flags: TraceFlags,
}

/// A `tracestate` that may be sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceState(String);

/// Where something belongs in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The span that it follows from.
    pub parent: TraceParent,
    /// What tracing systems have added.
    pub state: Option<TraceState>,
}

/// A text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no traceparent; one is 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01, in \
     lower case, with ids that are not zero"
)]
pub struct InvalidTraceParent;

/// A text is no `tracestate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no tracestate; one is a list such as vendor=value,other=value")]
pub struct InvalidTraceState;

impl TraceId {
    /// The greatest id.
    pub const MAX: Self = Self(u128::MAX);

    /// The id of these bytes; none of zero.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<Self> {
        Some(u128::from_be_bytes(bytes))
            .filter(|id| *id != 0)
            .map(Self)
    }

    /// The id as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// What sampling by a ratio compares: the low 56 bits, which level 2 asks to be random
    /// (section 3.2.2.3.2, "random-trace-id").
    #[must_use]
    pub fn randomness(self) -> u64 {
        let bytes = self.to_bytes();
        let low = bytes.iter().skip(9);
        low.fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl SpanId {
    /// The greatest id.
    pub const MAX: Self = Self(u64::MAX);

    /// The id of these bytes; none of zero.
    #[must_use]
    pub fn new(bytes: [u8; 8]) -> Option<Self> {
        Some(u64::from_be_bytes(bytes))
            .filter(|id| *id != 0)
            .map(Self)
    }

    /// The id as bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TraceFlags {
    /// Somebody records the trace.
    pub const SAMPLED: Self = Self(1);
    /// Somebody records the trace, whose id is random in its low 56 bits.
    pub const SAMPLED_AT_RANDOM: Self = Self(3);

    /// The flags that are known; what later versions add is left out.
    const KNOWN: u8 = 3;

    /// Whether somebody records the trace.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// The same flags, of a trace that somebody records.
    #[must_use]
    pub fn sampled(self) -> Self {
        Self(self.0 | Self::SAMPLED.0)
    }

    /// The flags as a byte.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl TraceParent {
    /// The same trace, followed from another span.
    #[must_use]
    pub fn at(self, span_id: SpanId) -> Self {
        Self { span_id, ..self }
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// Section 3.2.2. A version that is not known yet is read by its first four fields, as section
    /// 3.2.4 asks for.
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let bytes = text.as_bytes();
        let field = |from: usize, to: usize| bytes.get(from..to).and_then(hexadecimal);
        let is_dash = |at: usize| bytes.get(at) == Some(&b'-');
        let read = || {
            let version = field(0, 2)?;
            let has_end = match version {
                0 => bytes.len() == PARENT_BYTES,
                0xff => false,
                _ => bytes.len() == PARENT_BYTES || is_dash(PARENT_BYTES),
            };
            let trace_id = TraceId::new(field(3, 35)?.to_be_bytes())?;
            let span_id = SpanId::new(u64::try_from(field(36, 52)?).ok()?.to_be_bytes())?;
            let flags = u8::try_from(field(53, PARENT_BYTES)?).ok()? & TraceFlags::KNOWN;
            let is_whole = has_end && is_dash(2) && is_dash(35) && is_dash(52);
            is_whole.then_some(Self {
                trace_id,
                span_id,
                flags: TraceFlags(flags),
            })
        };
        read().ok_or(InvalidTraceParent)
    }
}

/// A number of lower-case hexadecimal digits, of which there are 32 at most.
fn hexadecimal(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

impl fmt::Display for TraceParent {
    /// In version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
        } = self;
        write!(f, "00-{trace_id}-{span_id}-{:02x}", flags.0)
    }
}

impl TraceState {
    /// The state as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceState {
    type Err = InvalidTraceState;

    /// Section 3.3.1. Several headers of that name are one list, joined with commas. Where it is
    /// longer than has to be sent on, long entries are left out, and then the last ones: each
    /// tracing system puts its own in front.
    fn from_str(text: &str) -> Result<Self, InvalidTraceState> {
        let blank = [' ', '\t'];
        let entries = text.split(',').map(|entry| entry.trim_matches(blank));
        let mut entries: Vec<&str> = entries.filter(|entry| !entry.is_empty()).collect();
        let keys = entries.iter().map(|entry| entry.split_once('='));
        let Some(keys) = keys.collect::<Option<Vec<_>>>() else {
            return Err(InvalidTraceState);
        };
        let is_valid = keys
            .iter()
            .all(|(key, value)| is_key(key) && is_value(value));
        let is_twice = |at: usize, key: &str| keys.iter().take(at).any(|(one, _)| *one == key);
        let mut places = keys.iter().enumerate();
        if !(1..=STATE_ENTRIES_MAX).contains(&keys.len())
            || !is_valid
            || places.any(|(at, (key, _))| is_twice(at, key))
        {
            return Err(InvalidTraceState);
        }
        let bytes = |entries: &[&str]| entries.iter().map(|one| one.len() + 1).sum::<usize>() - 1;
        if bytes(&entries) > STATE_BYTES_MAX {
            entries.retain(|entry| entry.len() <= LONG_ENTRY_BYTES);
        }
        while !entries.is_empty() && bytes(&entries) > STATE_BYTES_MAX {
            entries.pop();
        }
        if entries.is_empty() {
            return Err(InvalidTraceState);
        }
        Ok(Self(entries.join(",")))
    }
}

/// Section 3.3.1.3.1.
fn is_key(key: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256
        && key.bytes().next().is_some_and(is_first)
        && key
            .bytes()
            .all(|byte| is_first(byte) || b"_-*/@".contains(&byte))
}

/// Section 3.3.1.3.2; blanks at its end are the list's.
fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
}

impl fmt::Display for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TraceContext {
    /// Reads what headers or attributes say; none where the first names no trace. A state that is
    /// none is left out.
    #[must_use]
    pub fn read(parent: &str, state: Option<&str>) -> Option<Self> {
        Some(Self {
            parent: parent.parse().ok()?,
            state: state.and_then(|state| state.parse().ok()),
        })
    }

    /// What an event says in its attributes.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let AttributeValue::String(parent) = event.attribute(TRACEPARENT)? else {
            return None;
        };
        let state = match event.attribute(TRACESTATE) {
            Some(AttributeValue::String(state)) => Some(state),
            _ => None,
        };
        Self::read(parent, state)
    }

    /// The event with attributes that say this. It is left as it is where it names a trace
    /// already, right or wrong, since the attribute is its origin's and not altered on the way, and
    /// where it has no room for another attribute.
    #[must_use]
    pub fn add_to(&self, event: Event) -> Event {
        if event.attribute(TRACEPARENT).is_some() {
            return event;
        }
        let mut traced = event.clone().into_builder();
        self.set_in(&mut traced);
        traced.build().unwrap_or(event)
    }

    /// As [`TraceContext::add_to`], for an event that is not made yet.
    pub fn set_in(&self, event: &mut EventBuilder) {
        if event.has(TRACEPARENT) {
            return;
        }
        let parent = self.parent.to_string();
        event.set(TRACEPARENT, AttributeValue::String(&parent));
        if let Some(state) = self.state.as_ref().filter(|_| !event.has(TRACESTATE)) {
            event.set(TRACESTATE, AttributeValue::String(state.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_what_the_specification_says() {
        let later = PARENT.replacen("00", "cc", 1);
        for (given, expect) in [
            (PARENT.to_owned(), Some(PARENT.to_owned())),
            (
                PARENT.replace("-01", "-00"),
                Some(PARENT.replace("-01", "-00")),
            ),
            (
                PARENT.replace("-01", "-03"),
                Some(PARENT.replace("-01", "-03")),
            ),
            // Flags that nobody knows yet are not sent on.
            (PARENT.replace("-01", "-fd"), Some(PARENT.to_owned())),
            (later.clone(), Some(PARENT.to_owned())),
            (format!("{later}-what.the-future"), Some(PARENT.to_owned())),
            (format!("{later}."), None),
            (format!("{PARENT}-"), None),
            (format!(" {PARENT}"), None),
            (PARENT.replacen("00", "ff", 1), None),
            (PARENT.replacen("00", "0", 1), None),
            (PARENT.to_uppercase(), None),
            (PARENT.replace('b', "B"), None),
            (PARENT.replace('c', "g"), None),
            (PARENT.replace('-', "_"), None),
            (
                PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
                None,
            ),
            (PARENT.replace("b7ad6b7169203331", &"0".repeat(16)), None),
            (PARENT.replace("0af7", "äf"), None),
            (PARENT[..54].to_owned(), None),
            (String::new(), None),
        ] {
            let read = given.parse::<TraceParent>().ok();
            assert_eq!(read.map(|read| read.to_string()), expect, "{given}");
        }
        let parent: TraceParent = PARENT.parse().unwrap();
        assert!(parent.flags.is_sampled());
        assert_eq!(parent.trace_id.randomness(), 0x48_eb21_1c80_319c);
    }

    #[test]
    fn a_tracestate_is_a_list_with_limits() {
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>();
        let of = |length: usize, key: &str| format!("{key}={}", "v".repeat(length));
        for (given, expect) in [
            ("a=b".to_owned(), Some("a=b".to_owned())),
            (
                " a=b ,\t, 0c/*@-_=d e ".to_owned(),
                Some("a=b,0c/*@-_=d e".to_owned()),
            ),
            ("a=b,a=c".to_owned(), None),
            ("A=b".to_owned(), None),
            ("=b".to_owned(), None),
            ("a=".to_owned(), None),
            ("a".to_owned(), None),
            ("a=b=c".to_owned(), None),
            ("a=ä".to_owned(), None),
            ("a=b\n".to_owned(), None),
            (",".to_owned(), None),
            (many(32).join(","), Some(many(32).join(","))),
            (many(33).join(","), None),
            (of(256, "a"), Some(of(256, "a"))),
            (of(257, "a"), None),
            // What is long gives way first, and then what is last.
            (
                [of(250, "a"), of(10, "b"), of(250, "c")].join(","),
                Some(of(10, "b")),
            ),
            (
                ["a", "b", "c", "d", "e"].map(|key| of(110, key)).join(","),
                Some(["a", "b", "c", "d"].map(|key| of(110, key)).join(",")),
            ),
            (["a", "b", "c"].map(|key| of(200, key)).join(","), None),
        ] {
            let read = given.parse::<TraceState>().ok();
            assert_eq!(read.map(|read| read.to_string()), expect, "{given}");
        }
    }

    #[test]
    fn an_event_keeps_the_trace_that_it_names() {
        let plain = || Event::builder("1", "/s", "t");
        let context = TraceContext::read(PARENT, Some("a=b")).unwrap();
        let traced = context.add_to(plain().build().unwrap());
        assert_eq!(TraceContext::of(&traced), Some(context.clone()));
        for own in ["garbage", &PARENT.replace("0af7", "1af7")] {
            let event = plain().attribute(TRACEPARENT, own.into()).build().unwrap();
            assert_eq!(context.add_to(event.clone()), event);
        }
        // An event whose state is no list belongs to its trace all the same.
        let event = plain()
            .attribute(TRACEPARENT, PARENT.into())
            .attribute(TRACESTATE, "?".into());
        let read = TraceContext::of(&event.build().unwrap()).unwrap();
        assert_eq!((read.parent, read.state), (context.parent, None));
    }
}
