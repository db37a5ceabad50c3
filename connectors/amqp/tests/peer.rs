//! Others at the broker, who send messages as they like and look at what is there.

use bytes::Bytes;
use tokio::time::timeout;

use super::super::client::{Connected, Plan, attach};
use super::super::frame::{Flow, Incoming, LinkFlow, Outgoing, State, Terminus};
use super::super::message::Message;
use super::super::settings::Access;
use super::super::source::GUARD;
use super::super::wire::Wire;
use super::{LONG, QUIET};
use crate::net::Names;
use crate::net::server::ServerSettings;

/// Somebody with one link.
pub(super) struct Peer {
    pub(super) wire: Wire,
    credit: u32,
    sent: u32,
    /// The message that comes.
    delivery_id: u32,
    parts: Vec<u8>,
}

fn plan(url: &str) -> Plan {
    let url = url.into();
    let access = Access {
        server: ServerSettings {
            url: &url,
            username: None,
            password: None,
            tls: None,
        },
        host_name: None,
        container: None,
    };
    let container = format!("peer-{:x}", rand::random::<u64>());
    access.plan(&container).ok().unwrap()
}

impl Peer {
    async fn attached(url: &str, asked: Outgoing) -> Self {
        let connected = plan(url).connect(GUARD, Names::default()).await;
        let Connected { mut wire, .. } = connected.unwrap();
        attach(&mut wire, asked, "it does not").await.unwrap();
        Self {
            wire,
            credit: 0,
            sent: 0,
            delivery_id: 0,
            parts: Vec::new(),
        }
    }

    /// Somebody who sends to an address.
    pub(super) async fn sender(url: &str, address: &str) -> Self {
        Self::attached(url, Outgoing::sender("peer", 0, address, None)).await
    }

    /// Somebody who reads an address.
    pub(super) async fn receiver(url: &str, address: &str) -> Self {
        let terminus = Terminus {
            address: address.to_owned(),
            ..Terminus::default()
        };
        let asked = Outgoing::receiver("peer", terminus.source(), 1 << 30);
        let mut peer = Self::attached(url, asked).await;
        peer.wire.put(Outgoing::flow(&Flow {
            next_incoming_id: Some(0),
            incoming_window: 1 << 30,
            next_outgoing_id: 0,
            outgoing_window: 1 << 30,
            link: Some(LinkFlow {
                handle: 0,
                delivery_count: Some(0),
                credit: 100_000,
                ..LinkFlow::default()
            }),
            echo: false,
        }));
        peer
    }

    async fn next(&mut self) -> Incoming {
        loop {
            match self.wire.take().unwrap() {
                Some(Incoming::Flow(flow)) => {
                    if let Some(link) = flow.link {
                        let seen = link.delivery_count.unwrap_or(0);
                        self.credit = seen + link.credit - self.sent;
                    }
                }
                Some(Incoming::Nothing) => {}
                Some(frame) => return frame,
                None => self.wire.turn(true).await.unwrap(),
            }
        }
    }

    /// Sends the bytes of a message, right or wrong, and waits until it is accepted.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        let sent = async {
            while self.credit == 0 {
                match self.wire.take().unwrap() {
                    Some(Incoming::Flow(flow)) => {
                        if let Some(link) = flow.link {
                            let seen = link.delivery_count.unwrap_or(0);
                            self.credit = seen + link.credit - self.sent;
                        }
                    }
                    Some(_) => {}
                    None => self.wire.turn(true).await.unwrap(),
                }
            }
            let parts: Vec<_> = bytes.chunks(100_000).collect();
            let parts = if parts.is_empty() { vec![bytes] } else { parts };
            let last = parts.len() - 1;
            for (index, part) in parts.into_iter().enumerate() {
                let transfer = Outgoing::transfer(0, self.sent, index == 0, index < last);
                self.wire.put_with(transfer, part);
                // What waits is written first.
                while self.wire.unwritten_bytes() > 1 << 20 {
                    self.wire.turn(true).await.unwrap();
                }
            }
            self.sent += 1;
            self.credit -= 1;
            let answer = self.next().await;
            let Incoming::Disposition(told) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(told.state, Some(State::Accepted), "{told:?}");
        };
        timeout(LONG, sent).await.unwrap();
    }

    pub(super) async fn send(&mut self, message: Message) {
        self.send_bytes(&message.write()).await;
    }

    /// Accepts and returns what there is.
    pub(super) async fn received(&mut self) -> Vec<Message> {
        let bytes = self.received_bytes().await.into_iter();
        bytes.map(|bytes| Message::read(bytes).unwrap()).collect()
    }

    pub(super) async fn received_bytes(&mut self) -> Vec<Bytes> {
        let mut received = Vec::new();
        while let Ok(frame) = timeout(QUIET, self.next()).await {
            let Incoming::Transfer(transfer) = frame else {
                panic!("{frame:?}")
            };
            self.delivery_id = transfer.delivery_id.unwrap_or(self.delivery_id);
            self.parts.extend_from_slice(&transfer.payload);
            if !transfer.more {
                let id = self.delivery_id;
                let accepted = Outgoing::disposition(true, id, id, &State::Accepted);
                self.wire.put(accepted);
                received.push(std::mem::take(&mut self.parts).into());
            }
        }
        received
    }
}
