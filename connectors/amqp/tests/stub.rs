//! A broker that does as it is told, for what the real one cannot be made to do.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::super::frame::{Flow, Incoming, LinkFlow, Outgoing, State};
use super::super::received::{Assembly, Whole};
use super::super::value::Value;
use super::super::wire::{PROTOCOL, SASL, Wire};
use crate::Verdict;
use crate::in_hand::Unacknowledged;

/// What a broker does with the first message that it is sent, and so on.
#[derive(Clone, Debug)]
pub(super) enum Does {
    /// Says this of it, settled or not.
    Settles(State, bool),
    /// Nothing at all.
    Nothing,
    /// Ends the link, with this condition.
    Detaches(&'static str),
    /// Ends the session where it should attach the link.
    EndsSession(&'static str),
}

/// A broker with no user, that takes `credit` messages.
pub(super) struct Stub {
    pub(super) url: String,
    _serving: AbortOnDropHandle<()>,
}

impl Stub {
    pub(super) async fn start(credit: u32, does: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://{}", listener.local_addr().unwrap());
        let does = Arc::new(does);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let does = Arc::clone(&does);
                tokio::spawn(async move {
                    // It ends where the other side does.
                    let _ = serve(Wire::new(Box::new(stream)), credit, &does).await;
                });
            }
        });
        Self {
            url,
            _serving: AbortOnDropHandle::new(serving),
        }
    }
}

async fn protocol(wire: &mut Wire) -> Option<()> {
    while wire.take_protocol().is_none() {
        wire.turn(true).await.ok()?;
    }
    Some(())
}

async fn next(wire: &mut Wire) -> Option<Incoming> {
    loop {
        match wire.take().ok()? {
            Some(Incoming::Nothing) => {}
            Some(frame) => return Some(frame),
            None => wire.turn(true).await.ok()?,
        }
    }
}

async fn serve(mut wire: Wire, credit: u32, does: &[Does]) -> Option<()> {
    protocol(&mut wire).await?;
    wire.begin(SASL);
    let anonymous = vec![Value::Symbols(vec!["ANONYMOUS".into()])];
    wire.put(Outgoing::said(0x40, anonymous));
    // What only a client says is read and not understood.
    while let Ok(None) = wire.take() {
        wire.turn(true).await.ok()?;
    }
    wire.put(Outgoing::said(0x44, vec![Value::Ubyte(0)]));
    protocol(&mut wire).await?;
    wire.begin(PROTOCOL);
    // Frames of the least size that there may be.
    wire.put(Outgoing::open("stub", "stub", 512, 1_000));
    wire.put(Outgoing::begin(8, 8, 0));
    let mut does = does.iter();
    let mut assembly = Assembly::default();
    let mut seen = 0;
    loop {
        match next(&mut wire).await? {
            Incoming::Attach(attached) => {
                if let Some(Does::EndsSession(condition)) = does.as_slice().first() {
                    does.next();
                    wire.put(Outgoing::said(0x17, vec![error(condition)]));
                    continue;
                }
                let named = Value::String(attached.name);
                let target = Value::described(0x29, Value::List(Vec::new()));
                let mut fields = vec![named, Value::Uint(0), Value::Boolean(true)];
                fields.extend([Value::Null, Value::Null, Value::Null, target]);
                wire.put(Outgoing::said(0x12, fields));
                wire.put(flow(seen, credit));
            }
            Incoming::Transfer(transfer) => {
                seen += 1;
                // The window moves on.
                wire.put(flow(seen, credit));
                let Whole::Message(message) = assembly.take(transfer).unwrap() else {
                    continue;
                };
                let (id, _) = message.acknowledge(&Verdict::Stored).unwrap();
                match does.next().unwrap_or(&Does::Settles(State::Accepted, true)) {
                    Does::Settles(state, true) => {
                        wire.put(Outgoing::disposition(true, id, id, state));
                    }
                    Does::Settles(state, false) => {
                        let fields = vec![
                            Value::Boolean(true),
                            Value::Uint(id),
                            Value::Null,
                            Value::Boolean(false),
                            state.value(),
                        ];
                        wire.put(Outgoing::said(0x15, fields));
                    }
                    Does::Nothing => {}
                    Does::Detaches(condition) => {
                        let fields = vec![Value::Uint(0), Value::Boolean(true), error(condition)];
                        wire.put(Outgoing::said(0x16, fields));
                    }
                    Does::EndsSession(_) => unreachable!("it is for the link"),
                }
            }
            Incoming::Close(_) => return None,
            _ => {}
        }
    }
}

fn error(condition: &'static str) -> Value {
    Value::described(0x1d, Value::List(vec![Value::symbol(condition)]))
}

/// Credit for so many messages in all, and a window of eight transfers.
fn flow(seen: u32, credit: u32) -> Outgoing {
    Outgoing::flow(&Flow {
        next_incoming_id: Some(seen),
        incoming_window: 8,
        next_outgoing_id: 0,
        outgoing_window: 8,
        link: Some(LinkFlow {
            handle: 0,
            delivery_count: Some(0),
            credit,
            ..LinkFlow::default()
        }),
        echo: false,
    })
}
