//! What is said to a peer.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Flow, State, code};
use crate::amqp::fault::Fault;
use crate::amqp::value::{Value, write};

/// What is said to a peer.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::amqp) struct Outgoing {
    code: u64,
    fields: Vec<Value>,
}

impl Outgoing {
    fn new(code: u64, fields: Vec<Value>) -> Self {
        Self { code, fields }
    }

    /// Anything, for a broker of the tests.
    #[cfg(test)]
    pub(in crate::amqp) fn said(code: u64, fields: Vec<Value>) -> Self {
        Self::new(code, fields)
    }

    /// The first words of a mechanism.
    pub(in crate::amqp) fn init(mechanism: &'static str, response: Vec<u8>, host: &str) -> Self {
        let response = Value::Binary(response.into());
        let fields = vec![Value::symbol(mechanism), response, Value::string(host)];
        Self::new(code::INIT, fields)
    }

    pub(in crate::amqp) fn response(response: Vec<u8>) -> Self {
        Self::new(code::RESPONSE, vec![Value::Binary(response.into())])
    }

    pub(in crate::amqp) fn open(
        container: &str,
        host: &str,
        frame_bytes_max: u32,
        idle_ms: u32,
    ) -> Self {
        let product = [
            (Value::symbol("product"), Value::string("Pointsman")),
            (
                Value::symbol("version"),
                Value::string(env!("CARGO_PKG_VERSION")),
            ),
        ];
        let fields = vec![
            Value::string(container),
            Value::string(host),
            Value::Uint(frame_bytes_max),
            // One session: channel 0.
            Value::Ushort(0),
            Value::Uint(idle_ms),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Map(product.into()),
        ];
        Self::new(code::OPEN, fields)
    }

    pub(in crate::amqp) fn begin(
        incoming_window: u32,
        outgoing_window: u32,
        handle_max: u32,
    ) -> Self {
        let fields = vec![
            Value::Null,
            Value::Uint(0),
            Value::Uint(incoming_window),
            Value::Uint(outgoing_window),
            Value::Uint(handle_max),
        ];
        Self::new(code::BEGIN, fields)
    }

    /// A link that receives.
    pub(in crate::amqp) fn receiver(name: &str, source: Value, message_bytes_max: u64) -> Self {
        let mut fields = link(name, 0, true);
        fields.extend([
            source,
            Value::described(code::TARGET, Value::List(Vec::new())),
        ]);
        // Of what was unsettled and of where its deliveries begin who receives says nothing.
        fields.extend([Value::Null, Value::Null, Value::Null]);
        fields.push(Value::Ulong(message_bytes_max));
        Self::new(code::ATTACH, fields)
    }

    /// A link that sends.
    pub(in crate::amqp) fn sender(
        name: &str,
        handle: u32,
        address: &str,
        capability: Option<&str>,
    ) -> Self {
        let mut fields = link(name, handle, false);
        let mut target = vec![Value::string(address)];
        if let Some(capability) = capability {
            target.extend(vec![Value::Null; 5]);
            target.push(Value::Symbol(capability.into()));
        }
        let outcomes = Value::List(Vec::new());
        fields.push(Value::described(code::SOURCE, outcomes));
        fields.push(Value::described(code::TARGET, Value::List(target)));
        fields.extend([Value::Null, Value::Null, Value::Uint(0)]);
        Self::new(code::ATTACH, fields)
    }

    pub(in crate::amqp) fn flow(flow: &Flow) -> Self {
        let number = |number: Option<u32>| number.map_or(Value::Null, Value::Uint);
        let mut fields = vec![
            number(flow.next_incoming_id),
            Value::Uint(flow.incoming_window),
            Value::Uint(flow.next_outgoing_id),
            Value::Uint(flow.outgoing_window),
        ];
        match &flow.link {
            Some(link) => fields.extend([
                Value::Uint(link.handle),
                number(link.delivery_count),
                Value::Uint(link.credit),
                number(link.available),
                Value::Boolean(link.drain),
            ]),
            None => fields.extend(vec![Value::Null; 5]),
        }
        fields.push(Value::Boolean(flow.echo));
        Self::new(code::FLOW, fields)
    }

    /// A part of a message, whose bytes are put behind it.
    pub(in crate::amqp) fn transfer(
        handle: u32,
        delivery_id: u32,
        is_first: bool,
        more: bool,
    ) -> Self {
        let mut fields = vec![Value::Uint(handle)];
        if is_first {
            let tag = Bytes::copy_from_slice(&delivery_id.to_be_bytes());
            fields.extend([Value::Uint(delivery_id), Value::Binary(tag), Value::Uint(0)]);
            fields.push(Value::Boolean(false));
        } else {
            fields.extend(vec![Value::Null; 4]);
        }
        fields.push(Value::Boolean(more));
        Self::new(code::TRANSFER, fields)
    }

    /// What has become of messages, which are settled by it.
    pub(in crate::amqp) fn disposition(
        is_receiver: bool,
        first: u32,
        last: u32,
        state: &State,
    ) -> Self {
        let fields = vec![
            Value::Boolean(is_receiver),
            Value::Uint(first),
            Value::Uint(last),
            Value::Boolean(true),
            state.value(),
        ];
        Self::new(code::DISPOSITION, fields)
    }

    pub(in crate::amqp) fn detach(handle: u32, closed: bool) -> Self {
        let fields = vec![Value::Uint(handle), Value::Boolean(closed)];
        Self::new(code::DETACH, fields)
    }

    pub(in crate::amqp) fn close() -> Self {
        Self::new(code::CLOSE, Vec::new())
    }

    /// Whether it belongs to SASL, whose frames are of another type.
    fn is_sasl(&self) -> bool {
        self.code >= code::MECHANISMS
    }
}

/// How both kinds of links begin: messages are settled by who receives them, at once.
fn link(name: &str, handle: u32, is_receiver: bool) -> Vec<Value> {
    vec![
        Value::string(name),
        Value::Uint(handle),
        Value::Boolean(is_receiver),
        Value::Ubyte(0),
        Value::Ubyte(0),
    ]
}

impl State {
    pub(in crate::amqp) fn value(&self) -> Value {
        let (code, fields) = match self {
            Self::Received => (code::RECEIVED, Vec::new()),
            Self::Accepted => (code::ACCEPTED, Vec::new()),
            Self::Rejected(fault) => {
                let fault = fault.as_ref().map(Fault::value);
                (code::REJECTED, fault.into_iter().collect())
            }
            Self::Released => (code::RELEASED, Vec::new()),
            Self::Modified {
                failed,
                undeliverable_here,
            } => {
                let fields = [failed, undeliverable_here];
                let fields = fields.map(|value| Value::Boolean(*value));
                (code::MODIFIED, fields.into())
            }
        };
        Value::described(code, Value::List(fields))
    }
}

/// Where messages come from (part 3, section 3.5.3).
#[derive(Clone, Debug, Default)]
pub(in crate::amqp) struct Terminus {
    pub(in crate::amqp) address: String,
    /// What of them, in the words of JMS.
    pub(in crate::amqp) selector: Option<String>,
    /// Whether it outlives the link.
    pub(in crate::amqp) is_durable: bool,
    pub(in crate::amqp) capabilities: Vec<&'static str>,
}

impl Terminus {
    pub(in crate::amqp) fn source(&self) -> Value {
        /// `apache.org:selector-filter:string`, in the registry of filters.
        const SELECTOR: u64 = 0x0000_468c_0000_0004;
        let outcomes = [
            "amqp:accepted:list",
            "amqp:rejected:list",
            "amqp:released:list",
            "amqp:modified:list",
        ];
        let filter = self.selector.as_deref().map(|selector| {
            let selector = Value::described(SELECTOR, Value::string(selector));
            Value::Map(vec![(Value::symbol("jms-selector"), selector)])
        });
        let symbols = |texts: &[&'static str]| match texts {
            [] => Value::Null,
            texts => Value::Symbols(texts.iter().map(|text| (*text).into()).collect()),
        };
        let (durable, expiry) = match self.is_durable {
            true => (Value::Uint(2), Value::symbol("never")),
            false => (Value::Null, Value::Null),
        };
        let released = State::Released.value();
        Value::described(
            code::SOURCE,
            Value::List(vec![
                Value::string(&self.address),
                durable,
                expiry,
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Null,
                filter.unwrap_or(Value::Null),
                released,
                symbols(&outcomes),
                symbols(&self.capabilities),
            ]),
        )
    }
}

/// Puts a frame behind what is in `out`; `payload` is that of a transfer.
pub(in crate::amqp) fn encode(outgoing: Outgoing, payload: &[u8], out: &mut BytesMut) {
    let at = begin(u8::from(outgoing.is_sasl()), out);
    let Outgoing { code, mut fields } = outgoing;
    while fields.last().is_some_and(Value::is_null) {
        fields.pop();
    }
    write(&Value::described(code, Value::List(fields)), out);
    out.put_slice(payload);
    finish(at, out);
}

/// Puts an empty frame there.
pub(in crate::amqp) fn encode_nothing(out: &mut BytesMut) {
    let at = begin(0, out);
    finish(at, out);
}

fn begin(kind: u8, out: &mut BytesMut) -> usize {
    let at = out.len();
    // The size comes last; behind it the offset of the body in words of four bytes, and the type.
    out.put_slice(&[0, 0, 0, 0, 2, kind, 0, 0]);
    at
}

fn finish(at: usize, out: &mut BytesMut) {
    let size = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&size.to_be_bytes());
    }
}
