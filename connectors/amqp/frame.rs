//! What is said over a connection: the performatives of AMQP 1.0 (part 2, section 2.7) and of SASL
//! (part 5, section 5.3.3), in frames.

mod outgoing;

use bytes::Bytes;
use bytestring::ByteString;

pub(super) use outgoing::{Outgoing, Terminus, encode, encode_nothing};

use super::fault::Fault;
use super::value::{Malformed, Reader, Value};

/// The size, the data offset, the type and the channel (section 2.3).
pub(super) const HEADER_BYTES: usize = 8;

/// What tells performatives, outcomes and termini apart.
mod code {
    pub(super) const OPEN: u64 = 0x10;
    pub(super) const BEGIN: u64 = 0x11;
    pub(super) const ATTACH: u64 = 0x12;
    pub(super) const FLOW: u64 = 0x13;
    pub(super) const TRANSFER: u64 = 0x14;
    pub(super) const DISPOSITION: u64 = 0x15;
    pub(super) const DETACH: u64 = 0x16;
    pub(super) const END: u64 = 0x17;
    pub(super) const CLOSE: u64 = 0x18;
    pub(super) const MECHANISMS: u64 = 0x40;
    pub(super) const INIT: u64 = 0x41;
    pub(super) const CHALLENGE: u64 = 0x42;
    pub(super) const RESPONSE: u64 = 0x43;
    pub(super) const OUTCOME: u64 = 0x44;
    pub(super) const RECEIVED: u64 = 0x23;
    pub(super) const ACCEPTED: u64 = 0x24;
    pub(super) const REJECTED: u64 = 0x25;
    pub(super) const RELEASED: u64 = 0x26;
    pub(super) const MODIFIED: u64 = 0x27;
    pub(super) const SOURCE: u64 = 0x28;
    pub(super) const TARGET: u64 = 0x29;
}

/// What a peer says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Incoming {
    /// An empty frame, which says that it lives.
    Nothing,
    Mechanisms(Vec<ByteString>),
    Challenge(Bytes),
    /// The code that ends SASL, and what a mechanism says with it.
    Outcome(u8, Bytes),
    Open(Opened),
    Begin(Begun),
    Attach(Attached),
    Flow(Flow),
    Transfer(Transfer),
    Disposition(Disposition),
    Detach {
        handle: u32,
        closed: bool,
        fault: Option<Fault>,
    },
    End(Option<Fault>),
    Close(Option<Fault>),
}

/// What a peer says of a connection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Opened {
    /// The product and its version, where it says so.
    pub(super) product: Option<String>,
    pub(super) frame_bytes_max: u32,
    /// How long it bears to hear nothing, in milliseconds.
    pub(super) idle_ms: Option<u32>,
}

/// What a peer says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) next_outgoing_id: u32,
    pub(super) incoming_window: u32,
    pub(super) handle_max: u32,
}

/// What a peer says of a link.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attached {
    pub(super) handle: u32,
    pub(super) name: ByteString,
    /// Its address there; none where there is no such thing, which an error follows.
    pub(super) has_terminus: bool,
    /// Whether messages are settled as they are sent.
    pub(super) is_settled: bool,
    pub(super) delivery_count: u32,
    pub(super) message_bytes_max: Option<u64>,
}

/// The state of a session's windows and a link's credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) next_incoming_id: Option<u32>,
    pub(super) incoming_window: u32,
    pub(super) next_outgoing_id: u32,
    pub(super) outgoing_window: u32,
    pub(super) link: Option<LinkFlow>,
    pub(super) echo: bool,
}

/// The state of a link's credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkFlow {
    pub(super) handle: u32,
    pub(super) delivery_count: Option<u32>,
    pub(super) credit: u32,
    /// How many messages wait, where it is said.
    pub(super) available: Option<u32>,
    pub(super) drain: bool,
}

/// A message, or a part of one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Transfer {
    pub(super) handle: u32,
    /// None in the parts that follow the first.
    pub(super) delivery_id: Option<u32>,
    pub(super) settled: bool,
    pub(super) more: bool,
    pub(super) aborted: bool,
    pub(super) payload: Bytes,
}

/// What has become of messages.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Disposition {
    /// Whether it is said by who receives them.
    pub(super) is_receiver: bool,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) settled: bool,
    pub(super) state: Option<State>,
}

/// What has become of a message (part 3, section 3.4).
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Not yet anything.
    Received,
    Accepted,
    Rejected(Option<Fault>),
    Released,
    Modified {
        failed: bool,
        undeliverable_here: bool,
    },
}

/// The fields of a performative, or of another list with a code.
struct Fields<'v>(&'v [Value]);

impl<'v> Fields<'v> {
    fn at(&self, index: usize) -> Option<&'v Value> {
        self.0.get(index).filter(|value| !value.is_null())
    }

    fn number(&self, index: usize) -> Option<u32> {
        self.at(index)?.as_u32()
    }

    fn bool(&self, index: usize) -> bool {
        self.at(index).and_then(Value::as_bool).unwrap_or(false)
    }

    fn fault(&self, index: usize) -> Option<Fault> {
        self.at(index).map(Fault::read)
    }

    fn bytes(&self, index: usize) -> Bytes {
        match self.at(index) {
            Some(Value::Binary(bytes)) => bytes.clone(),
            Some(Value::String(text)) => text.clone().into_bytes(),
            _ => Bytes::new(),
        }
    }

    fn required(&self, index: usize) -> Result<u32, Malformed> {
        let missing = Malformed("a frame of AMQP lacks what it must say");
        self.number(index).ok_or(missing)
    }
}

/// Reads the body of a frame.
///
/// # Errors
/// It says nothing that there is.
pub(super) fn decode(body: Bytes) -> Result<Incoming, Malformed> {
    if body.is_empty() {
        return Ok(Incoming::Nothing);
    }
    let mut reader = Reader::new(body);
    let value = reader.value()?;
    let unknown = Malformed("a frame of AMQP says nothing that there is");
    let (code, value) = value.as_described().ok_or(unknown)?;
    let fields = Fields(value.as_list());
    Ok(match code {
        code::MECHANISMS => Incoming::Mechanisms(fields.at(0).map(texts).unwrap_or_default()),
        code::CHALLENGE => Incoming::Challenge(fields.bytes(0)),
        code::OUTCOME => {
            let code = u8::try_from(fields.required(0)?).unwrap_or(u8::MAX);
            Incoming::Outcome(code, fields.bytes(1))
        }
        code::OPEN => Incoming::Open(opened(&fields)),
        code::BEGIN => Incoming::Begin(Begun {
            next_outgoing_id: fields.required(1)?,
            incoming_window: fields.required(2)?,
            handle_max: fields.number(4).unwrap_or(u32::MAX),
        }),
        code::ATTACH => Incoming::Attach(attached(&fields)?),
        code::FLOW => Incoming::Flow(flow(&fields)?),
        code::TRANSFER => Incoming::Transfer(Transfer {
            handle: fields.required(0)?,
            delivery_id: fields.number(1),
            settled: fields.bool(4),
            more: fields.bool(5),
            aborted: fields.bool(9),
            payload: reader.into_rest(),
        }),
        code::DISPOSITION => {
            let first = fields.required(1)?;
            Incoming::Disposition(Disposition {
                is_receiver: fields.bool(0),
                first,
                last: fields.number(2).unwrap_or(first),
                settled: fields.bool(3),
                state: fields.at(4).and_then(state),
            })
        }
        code::DETACH => Incoming::Detach {
            handle: fields.required(0)?,
            closed: fields.bool(1),
            fault: fields.fault(2),
        },
        code::END => Incoming::End(fields.fault(0)),
        code::CLOSE => Incoming::Close(fields.fault(0)),
        _ => return Err(unknown),
    })
}

/// One text, or an array of them.
fn texts(value: &Value) -> Vec<ByteString> {
    let one = value.as_text().into_iter();
    let many = value.as_list().iter().filter_map(Value::as_text);
    one.chain(many).cloned().collect()
}

fn opened(fields: &Fields<'_>) -> Opened {
    let said = |key: &str| Some(fields.at(9)?.get(key)?.as_text()?.to_string());
    let product = said("product").map(|product| match said("version") {
        Some(version) => format!("{product} {version}"),
        None => product,
    });
    Opened {
        product,
        frame_bytes_max: fields.number(2).unwrap_or(u32::MAX),
        idle_ms: fields.number(4).filter(|milliseconds| *milliseconds > 0),
    }
}

fn attached(fields: &Fields<'_>) -> Result<Attached, Malformed> {
    // Who receives says so; its terminus is the target.
    let is_receiver = fields.bool(2);
    Ok(Attached {
        handle: fields.required(1)?,
        name: fields
            .at(0)
            .and_then(Value::as_text)
            .cloned()
            .unwrap_or_default(),
        has_terminus: fields.at(if is_receiver { 6 } else { 5 }).is_some(),
        is_settled: fields.number(3) == Some(1),
        delivery_count: fields.number(9).unwrap_or(0),
        message_bytes_max: fields
            .at(10)
            .and_then(Value::as_u64)
            .filter(|bytes| *bytes > 0),
    })
}

fn flow(fields: &Fields<'_>) -> Result<Flow, Malformed> {
    let link = fields.number(4).map(|handle| LinkFlow {
        handle,
        delivery_count: fields.number(5),
        credit: fields.number(6).unwrap_or(0),
        available: fields.number(7),
        drain: fields.bool(8),
    });
    Ok(Flow {
        next_incoming_id: fields.number(0),
        incoming_window: fields.required(1)?,
        next_outgoing_id: fields.required(2)?,
        outgoing_window: fields.required(3)?,
        link,
        echo: fields.bool(9),
    })
}

fn state(value: &Value) -> Option<State> {
    let (code, value) = value.as_described()?;
    let fields = Fields(value.as_list());
    Some(match code {
        code::RECEIVED => State::Received,
        code::ACCEPTED => State::Accepted,
        code::REJECTED => State::Rejected(fields.fault(0)),
        code::RELEASED => State::Released,
        code::MODIFIED => State::Modified {
            failed: fields.bool(0),
            undeliverable_here: fields.bool(1),
        },
        _ => return None,
    })
}
