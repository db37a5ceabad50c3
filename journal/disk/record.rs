//! The bytes of a row's value, and the checksum that every row carries.
//!
//! ```text
//! value = version, body, CRC-32 (little endian) over table tag, key numbers, version and body
//! ```
//!
//! Numbers in a body are LEB128 (signed ones zigzag), texts and bytes are preceded by their length.
//! A row that was written under another key or into another table does not pass its check.

use std::sync::Arc;

use bytes::Bytes;
use pointsman_schemas::Reject;
use pointsman_schemas::{AttributeValue, Class, Cursor, Data, DataKind, Event, Name, Timestamp};

use crate::{Activity, Backlog, Counts, DeadReason, LastOutcome, Role, SubscriptionIdentity};

/// The version of every body written today.
const VERSION: u8 = 1;

/// Which table a value lies in; part of what the checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Meta = 1,
    Event = 2,
    Subscription = 3,
    Pending = 4,
    Dead = 5,
    Cursor = 6,
    Identity = 7,
    Position = 8,
}

/// A value does not say what was once written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(pub(super) &'static str);

const SHORT: Damage = Damage("it ends too early");

/// Writes a value.
pub(super) struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity + 8);
        bytes.push(VERSION);
        Self { bytes }
    }

    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.bytes.push(byte);
        self
    }

    pub(super) fn number(&mut self, mut number: u64) -> &mut Self {
        while number >= 0x80 {
            self.bytes.push((number & 0x7F) as u8 | 0x80);
            number >>= 7;
        }
        self.byte((number & 0x7F) as u8)
    }

    pub(super) fn time(&mut self, time: Timestamp) -> &mut Self {
        self.number(((time.0 << 1) ^ (time.0 >> 63)).cast_unsigned())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Adds the checksum.
    pub(super) fn seal(mut self, table: Table, key: &[u64]) -> Vec<u8> {
        let check = checksum(table, key, &self.bytes);
        self.bytes.extend_from_slice(&check.to_le_bytes());
        self.bytes
    }
}

fn checksum(table: Table, key: &[u64], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[table as u8]);
    for number in key {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(body);
    hasher.finalize()
}

/// A text key as a number, for the checksum.
pub(super) fn key_of(text: &str) -> u64 {
    key_of_bytes(text.as_bytes())
}

fn key_of_bytes(bytes: &[u8]) -> u64 {
    u64::from(crc32fast::hash(bytes)) | (bytes.len() as u64) << 32
}

/// Reads a value whose checksum has held.
pub(super) struct Decoder<'v> {
    rest: &'v [u8],
}

impl<'v> Decoder<'v> {
    pub(super) fn open(table: Table, key: &[u64], value: &'v [u8]) -> Result<Self, Damage> {
        let (body, check) = value.split_last_chunk::<4>().ok_or(SHORT)?;
        if checksum(table, key, body) != u32::from_le_bytes(*check) {
            return Err(Damage("its checksum does not hold"));
        }
        match body.split_first() {
            Some((&VERSION, rest)) => Ok(Self { rest }),
            _ => Err(Damage("its version is not understood")),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damage> {
        let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(super) fn number(&mut self) -> Result<u64, Damage> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damage("a number in it is too long"))
    }

    pub(super) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, Damage> {
        T::try_from(self.number()?).map_err(|_| Damage("a number in it is too large"))
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, Damage> {
        let number = self.number()?;
        Ok(Timestamp(
            (number >> 1).cast_signed() ^ -(number & 1).cast_signed(),
        ))
    }

    pub(super) fn bytes(&mut self) -> Result<&'v [u8], Damage> {
        let length = self.narrow()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(SHORT)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'v str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damage("a text in it is not UTF-8"))
    }

    pub(super) fn name(&mut self) -> Result<Name, Damage> {
        Name::new(self.text()?).map_err(|_| Damage("a name in it is none"))
    }
}

/// An event with what is kept of its arrival.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) tenant: Name,
    pub(super) origin: Name,
    pub(super) at: Timestamp,
    pub(super) event: Arc<Event>,
}

const HAS_SUBJECT: u8 = 1;
const HAS_TIME: u8 = 2;
const HAS_CONTENT_TYPE: u8 = 4;
const HAS_SCHEMA: u8 = 8;

impl EventRow {
    pub(super) fn encode(&self, sequence: u64) -> Vec<u8> {
        let event = &*self.event;
        let mut out = Encoder::new(event.size_bytes());
        out.bytes(self.tenant.as_str().as_bytes())
            .bytes(self.origin.as_str().as_bytes())
            .time(self.at);
        out.bytes(event.id().as_bytes())
            .bytes(event.source().as_bytes())
            .bytes(event.ty().as_bytes());
        let optional = [
            event.subject(),
            event.time(),
            event.datacontenttype(),
            event.dataschema(),
        ];
        let flags = [HAS_SUBJECT, HAS_TIME, HAS_CONTENT_TYPE, HAS_SCHEMA];
        out.byte(
            optional
                .iter()
                .zip(flags)
                .filter(|(text, _)| text.is_some())
                .map(|(_, flag)| flag)
                .sum(),
        );
        for text in optional.into_iter().flatten() {
            out.bytes(text.as_bytes());
        }
        out.number(event.extensions().len() as u64);
        for (name, value) in event.extensions() {
            out.bytes(name.as_bytes());
            match value {
                AttributeValue::String(text) => out.byte(0).bytes(text.as_bytes()),
                AttributeValue::Integer(number) => {
                    out.byte(1).number(u64::from(number.cast_unsigned()))
                }
                AttributeValue::Boolean(value) => out.byte(2).byte(u8::from(value)),
            };
        }
        match event.data() {
            None => out.byte(0),
            Some(data) => {
                let kind = match data.kind() {
                    DataKind::Json => 1,
                    DataKind::Text => 2,
                    DataKind::Binary => 3,
                };
                out.byte(kind).bytes(data.bytes())
            }
        };
        out.seal(Table::Event, &[sequence])
    }

    /// Reads an event; its data is a slice of `value`.
    pub(super) fn decode(sequence: u64, value: &Bytes) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Event, &[sequence], value)?;
        let (tenant, origin, at) = (from.name()?, from.name()?, from.time()?);
        let mut event = Event::builder(from.text()?, from.text()?, from.text()?);
        let flags = from.byte()?;
        for (flag, name) in [
            (HAS_SUBJECT, "subject"),
            (HAS_TIME, "time"),
            (HAS_CONTENT_TYPE, "datacontenttype"),
            (HAS_SCHEMA, "dataschema"),
        ] {
            if flags & flag != 0 {
                event.set(name, AttributeValue::String(from.text()?));
            }
        }
        for _ in 0..from.number()? {
            let name = from.text()?;
            let value = match from.byte()? {
                0 => AttributeValue::String(from.text()?),
                1 => AttributeValue::Integer(from.narrow::<u32>()?.cast_signed()),
                _ => AttributeValue::Boolean(from.byte()? != 0),
            };
            event.set(name, value);
        }
        let kind = match from.byte()? {
            0 => None,
            1 => Some(DataKind::Json),
            2 => Some(DataKind::Text),
            _ => Some(DataKind::Binary),
        };
        if let Some(kind) = kind {
            event = event.data(Data::new_unchecked(kind, value.slice_ref(from.bytes()?)));
        }
        let event = event.build().map_err(|_| Damage("it is no CloudEvent"))?;
        debug_assert!(event.attribute("specversion") == Some(AttributeValue::String("1.0")));
        Ok(Self {
            tenant,
            origin,
            at,
            event: Arc::new(event),
        })
    }
}

pub(super) fn encode_last(out: &mut Encoder, last: Option<&LastOutcome>) {
    let Some(last) = last else {
        out.byte(0);
        return;
    };
    let class = CLASSES
        .iter()
        .position(|class| *class == last.class)
        .unwrap_or_default();
    out.byte(1)
        .time(last.at)
        .byte(u8::try_from(class).unwrap_or_default());
    match last.code {
        None => out.byte(0),
        Some(code) => out.byte(1).number(u64::from(code.cast_unsigned())),
    };
    out.bytes(last.message.as_bytes())
        .bytes(last.response.as_bytes());
}

pub(super) fn decode_last(from: &mut Decoder<'_>) -> Result<Option<LastOutcome>, Damage> {
    if from.byte()? == 0 {
        return Ok(None);
    }
    let (at, class) = (from.time()?, from.byte()?);
    let class = *CLASSES
        .get(usize::from(class))
        .ok_or(Damage("its class is not known"))?;
    let code = if from.byte()? == 0 {
        None
    } else {
        Some(from.narrow::<u32>()?.cast_signed())
    };
    Ok(Some(LastOutcome {
        at,
        class,
        code,
        message: from.text()?.to_owned(),
        response: from.text()?.to_owned(),
    }))
}

/// The place in these lists is what lies on disk: append only.
const CLASSES: [Class; 7] = [
    Class::Delivered,
    Class::Throttled,
    Class::Unavailable,
    Class::Failed,
    Class::Refused,
    Class::Gone,
    Class::Rejected,
];
const REASONS: [DeadReason; 7] = [
    DeadReason::Rejected,
    DeadReason::Exhausted,
    DeadReason::Expired,
    DeadReason::Transform,
    DeadReason::Hops,
    DeadReason::Backlog,
    DeadReason::Unreadable,
];
const ROLES: [Role; 3] = [Role::To, Role::OnSuccess, Role::OnFailure];
const ACTIVITIES: [Activity; 3] = [Activity::Active, Activity::Suspended, Activity::Gone];

fn place<T: PartialEq>(list: &[T], one: &T) -> u8 {
    list.iter()
        .position(|other| other == one)
        .and_then(|place| u8::try_from(place).ok())
        .unwrap_or_default()
}

fn at_place<T: Copy>(list: &[T], place: u8) -> Result<T, Damage> {
    list.get(usize::from(place))
        .copied()
        .ok_or(Damage("it names something that is not known"))
}

/// A subscription as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Subscribed {
    pub(super) identity: SubscriptionIdentity,
    pub(super) attached: bool,
    pub(super) activity: Activity,
    pub(super) backlog: Option<Backlog>,
    /// The highest run given out here while each subscription counted its own; since then they are
    /// counted in the ledger.
    pub(super) runs_of_format_1: u32,
    pub(super) counts: Counts,
}

impl Subscribed {
    /// Whether it can be dropped: no rule wants it, and it holds nothing.
    pub(super) fn is_nothing_left(&self) -> bool {
        !self.attached && self.counts.pending == 0 && self.counts.dead == 0
    }

    pub(super) fn encode(&self, number: u32) -> Vec<u8> {
        let mut out = Encoder::new(160);
        let SubscriptionIdentity {
            tenant,
            rule,
            role,
            target,
        } = &self.identity;
        out.bytes(tenant.as_str().as_bytes())
            .bytes(rule.as_str().as_bytes())
            .byte(place(&ROLES, role))
            .bytes(target.as_str().as_bytes());
        out.byte(u8::from(self.attached))
            .byte(place(&ACTIVITIES, &self.activity));
        match self.backlog {
            None => out.byte(0),
            Some(backlog) => out
                .byte(1 + u8::from(backlog.dead_when_full))
                .number(backlog.max),
        };
        out.number(u64::from(self.runs_of_format_1));
        let Counts {
            created,
            delivered,
            dead,
            redriven,
            purged,
            cancelled,
            quarantined,
            pending,
            retrying,
            in_flight: _,
        } = self.counts;
        for count in [
            created,
            delivered,
            dead,
            redriven,
            purged,
            cancelled,
            quarantined,
            pending,
            retrying,
        ] {
            out.number(count);
        }
        out.seal(Table::Subscription, &[u64::from(number)])
    }

    pub(super) fn decode(number: u32, value: &[u8]) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Subscription, &[u64::from(number)], value)?;
        let (tenant, rule, role, target) = (
            from.name()?,
            from.name()?,
            at_place(&ROLES, from.byte()?)?,
            from.name()?,
        );
        let (attached, activity) = (from.byte()? != 0, at_place(&ACTIVITIES, from.byte()?)?);
        let backlog = match from.byte()? {
            0 => None,
            kind => Some(Backlog {
                max: from.number()?,
                dead_when_full: kind == 2,
            }),
        };
        let runs_of_format_1 = from.narrow()?;
        let mut count = || from.number();
        let counts = Counts {
            created: count()?,
            delivered: count()?,
            dead: count()?,
            redriven: count()?,
            purged: count()?,
            cancelled: count()?,
            quarantined: count()?,
            pending: count()?,
            retrying: count()?,
            in_flight: 0,
        };
        let identity = SubscriptionIdentity {
            tenant,
            rule,
            role,
            target,
        };
        Ok(Self {
            identity,
            attached,
            activity,
            backlog,
            runs_of_format_1,
            counts,
        })
    }
}

/// What is kept of a dead letter beside its key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeadRow {
    pub(super) tenant: Name,
    pub(super) origin: Name,
    pub(super) reason: DeadReason,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) order_key: Option<u64>,
    pub(super) last: Option<LastOutcome>,
    /// Of a reject: what could not be read.
    pub(super) reject: Option<Reject>,
}

impl DeadRow {
    pub(super) fn encode(&self, key: &[u64; 3]) -> Vec<u8> {
        let mut out = Encoder::new(96);
        out.bytes(self.tenant.as_str().as_bytes())
            .bytes(self.origin.as_str().as_bytes());
        out.byte(place(&REASONS, &self.reason))
            .time(self.at)
            .number(u64::from(self.attempts));
        encode_option(&mut out, self.order_key);
        encode_last(&mut out, self.last.as_ref());
        match &self.reject {
            None => out.byte(0),
            Some(reject) => out
                .byte(1)
                .bytes(reject.reason.as_bytes())
                .bytes(&reject.raw),
        };
        out.seal(Table::Dead, key)
    }

    pub(super) fn decode(key: &[u64; 3], value: &[u8]) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Dead, key, value)?;
        let (tenant, origin) = (from.name()?, from.name()?);
        let (reason, at, attempts) = (
            at_place(&REASONS, from.byte()?)?,
            from.time()?,
            from.narrow()?,
        );
        let order_key = decode_option(&mut from)?;
        let last = decode_last(&mut from)?;
        let reject = if from.byte()? == 0 {
            None
        } else {
            let reason = from.text()?.to_owned();
            Some(Reject {
                reason,
                raw: Bytes::copy_from_slice(from.bytes()?),
            })
        };
        Ok(Self {
            tenant,
            origin,
            reason,
            at,
            attempts,
            order_key,
            last,
            reject,
        })
    }
}

pub(super) fn encode_option(out: &mut Encoder, number: Option<u64>) {
    match number {
        None => out.byte(0),
        Some(number) => out.byte(1).number(number),
    };
}

pub(super) fn decode_option(from: &mut Decoder<'_>) -> Result<Option<u64>, Damage> {
    if from.byte()? == 0 {
        Ok(None)
    } else {
        from.number().map(Some)
    }
}

pub(super) fn encode_cursor(key: u64, cursor: &Cursor) -> Vec<u8> {
    let mut out = Encoder::new(cursor.position.len() + 16);
    out.number(cursor.fingerprint).bytes(&cursor.position);
    out.seal(Table::Cursor, &[key])
}

pub(super) fn decode_cursor(key: u64, value: &[u8]) -> Result<Cursor, Damage> {
    let mut from = Decoder::open(Table::Cursor, &[key], value)?;
    Ok(Cursor {
        fingerprint: from.number()?,
        position: Bytes::copy_from_slice(from.bytes()?),
    })
}

/// The key of a row of a source's position, for the checksum.
fn position_key(tenant: &str, source: &str, key: &[u8]) -> [u64; 2] {
    [key_of(&format!("{tenant}/{source}")), key_of_bytes(key)]
}

pub(super) fn encode_position(tenant: &str, source: &str, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Encoder::new(value.len() + 8);
    out.bytes(value);
    out.seal(Table::Position, &position_key(tenant, source, key))
}

pub(super) fn decode_position(
    tenant: &str,
    source: &str,
    key: &[u8],
    value: &[u8],
) -> Result<Bytes, Damage> {
    let mut from = Decoder::open(Table::Position, &position_key(tenant, source, key), value)?;
    let value = Bytes::copy_from_slice(from.bytes()?);
    if from.is_empty() {
        Ok(value)
    } else {
        Err(Damage("it goes on after its end"))
    }
}

/// When and as what an event with a certain identity was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    /// Nobody asks for it from here on.
    pub(super) until: Timestamp,
}

impl Seen {
    pub(super) fn encode(&self, key: [u64; 2]) -> Vec<u8> {
        let mut out = Encoder::new(24);
        out.number(self.sequence).time(self.at).time(self.until);
        out.seal(Table::Identity, &key)
    }

    pub(super) fn decode(key: [u64; 2], value: &[u8]) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Identity, &key, value)?;
        Ok(Self {
            sequence: from.number()?,
            at: from.time()?,
            until: from.time()?,
        })
    }
}
