//! The task that holds a target's connection: a link for each address, messages that go out as far as
//! the broker gives credit, and what it says of them.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::sync::{mpsc, oneshot};

use super::client::{Connected, WINDOW};
use super::fault::Fault;
use super::frame::{Disposition, Flow, Incoming, Outgoing, State};
use super::links::{Links, SenderLink};
use super::pulse::Pulse;
use super::sender::{Answer, Request};
use super::session::ended;
use super::wire::Wire;

/// Messages that wait for credit. Past these no further one is taken over, of whatever address.
const WAITING_MAX: usize = 1_024;

/// Past so many bytes that wait to be written no further message joins them.
const UNWRITTEN_BYTES_MAX: usize = 1 << 20;

/// Sends messages, and reads what becomes of them.
pub(super) struct Driver {
    wire: Wire,
    pulse: Duration,
    asked: mpsc::Receiver<Request>,
    links: Links,
    /// Messages of addresses for which there is no link yet, nor can be for now.
    parked: VecDeque<Request>,
    /// By their delivery numbers: the link, and who waits.
    unsettled: HashMap<u32, (u32, oneshot::Sender<Answer>)>,
    next_delivery_id: u32,
    /// Transfers that went out.
    next_outgoing_id: u32,
    /// Transfers that the broker takes before it says how many came.
    window: u32,
    sending: Option<Sending>,
    /// Why the broker has ended the session.
    ended_by: Option<Fault>,
}

/// A message of which a part has been sent.
struct Sending {
    handle: u32,
    delivery_id: u32,
    is_first: bool,
    rest: Bytes,
}

impl Driver {
    pub(super) fn new(
        connected: Connected,
        asked: mpsc::Receiver<Request>,
        capability: Option<&'static str>,
    ) -> Self {
        Self {
            wire: connected.wire,
            pulse: connected.pulse,
            asked,
            links: Links::new(connected.begun.handle_max, capability),
            parked: VecDeque::new(),
            unsettled: HashMap::new(),
            next_delivery_id: 0,
            next_outgoing_id: 0,
            window: connected.begun.incoming_window,
            sending: None,
            ended_by: None,
        }
    }

    pub(super) async fn run(mut self) {
        let Err(why) = self.drive().await else {
            return;
        };
        self.asked.close();
        // Whoever has gone away does not hear it.
        for (_, (_, waiting)) in self.unsettled.drain() {
            let _ = waiting.send(Answer::Cut(why.clone()));
        }
        // Some brokers end the session where one address of it is not to their liking.
        for request in self.links.drain_asked() {
            let _ = request.waiting.send(match &self.ended_by {
                Some(fault) => Answer::Refused(Some(fault.clone())),
                None => Answer::Unsent(why.clone()),
            });
        }
        let waiting = self.links.drain().chain(self.parked.drain(..));
        let mut waiting: Vec<_> = waiting.collect();
        while let Ok(request) = self.asked.try_recv() {
            waiting.push(request);
        }
        for request in waiting {
            let _ = request.waiting.send(Answer::Unsent(why.clone()));
        }
    }

    /// Goes on until nobody asks any more, or the connection breaks.
    async fn drive(&mut self) -> Result<(), String> {
        let mut pulse = Pulse::new(self.pulse);
        loop {
            while let Some(frame) = self.wire.take().map_err(|broken| broken.words())? {
                self.receive(frame)?;
            }
            self.place();
            self.send();
            let has_room = self.links.waiting() + self.parked.len() < WAITING_MAX
                && self.wire.unwritten_bytes() < UNWRITTEN_BYTES_MAX;
            tokio::select! {
                biased;
                () = pulse.due() => {
                    pulse.beat(&mut self.wire)?;
                    self.links.forget_withdrawn();
                    self.parked.retain(|request| !request.claim.is_withdrawn());
                }
                request = self.asked.recv(), if has_room => match request {
                    Some(request) => self.parked.push_back(request),
                    None => return Ok(()),
                },
                turned = self.wire.turn(true) => turned.map_err(|broken| broken.words())?,
            }
        }
    }

    /// Finds links for messages that have none, in their order.
    fn place(&mut self) {
        for request in std::mem::take(&mut self.parked) {
            match self.links.place(request) {
                Ok(asked) => asked.into_iter().for_each(|asked| self.wire.put(asked)),
                Err(request) => self.parked.push_back(request),
            }
        }
        if !self.parked.is_empty() {
            let busy = self.sending.as_ref().map(|sending| sending.handle);
            let given_up = self.links.give_up_one(busy);
            given_up
                .into_iter()
                .for_each(|detach| self.wire.put(detach));
        }
    }

    /// Sends what may go.
    fn send(&mut self) {
        while self.window > 0 && self.wire.unwritten_bytes() < UNWRITTEN_BYTES_MAX {
            if self.sending.is_none() && !self.begin() {
                return;
            }
            self.send_part();
        }
    }

    /// Begins with the next message; false where there is none that may go.
    fn begin(&mut self) -> bool {
        while let Some((handle, link)) = self.links.next_to_send() {
            let Some(request) = link.waiting.pop_front() else {
                return false;
            };
            if !request.claim.send() {
                continue;
            }
            let length = u64::try_from(request.message.len()).unwrap_or(u64::MAX);
            if let Some(most) = link.message_bytes_max.filter(|most| length > *most) {
                // Whoever has gone away does not hear it.
                let _ = request.waiting.send(Answer::TooLarge(most));
                continue;
            }
            link.sends_one();
            let delivery_id = self.next_delivery_id;
            self.next_delivery_id = delivery_id.wrapping_add(1);
            self.unsettled
                .insert(delivery_id, (handle, request.waiting));
            self.sending = Some(Sending {
                handle,
                delivery_id,
                is_first: true,
                rest: request.message,
            });
            return true;
        }
        false
    }

    fn send_part(&mut self) {
        let Some(mut sending) = self.sending.take() else {
            return;
        };
        let length = sending.rest.len().min(self.wire.payload_bytes_max());
        let more = length < sending.rest.len();
        let Sending {
            handle,
            delivery_id,
            is_first,
            ..
        } = sending;
        let transfer = Outgoing::transfer(handle, delivery_id, is_first, more);
        let part = sending.rest.get(..length).unwrap_or_default();
        self.wire.put_with(transfer, part);
        self.window -= 1;
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        if more {
            sending.rest.advance(length);
            sending.is_first = false;
            self.sending = Some(sending);
        }
    }

    fn receive(&mut self, frame: Incoming) -> Result<(), String> {
        match frame {
            Incoming::Attach(attached) => self.links.attached(&attached),
            Incoming::Flow(flow) => self.flow(&flow),
            Incoming::Disposition(told) if told.is_receiver => self.settle(&told),
            Incoming::Detach { handle, fault, .. } => self.detached(handle, fault),
            Incoming::End(fault) => {
                self.ended_by.clone_from(&fault);
                return Err(ended("the session", fault));
            }
            Incoming::Close(fault) => return Err(ended("the connection", fault)),
            _ => {}
        }
        Ok(())
    }

    fn flow(&mut self, flow: &Flow) {
        // Part 2, section 2.5.6.
        let seen = flow.next_incoming_id.unwrap_or(0);
        let window = seen
            .wrapping_add(flow.incoming_window)
            .wrapping_sub(self.next_outgoing_id);
        // More may be under way than a broker that takes little says that it takes.
        self.window = if window > i32::MAX.unsigned_abs() {
            0
        } else {
            window
        };
        let link = flow.link.and_then(|given| self.links.flow(&given));
        if flow.echo || link.is_some() {
            self.wire.put(Outgoing::flow(&Flow {
                next_incoming_id: Some(flow.next_outgoing_id),
                incoming_window: WINDOW,
                next_outgoing_id: self.next_outgoing_id,
                outgoing_window: WINDOW,
                link,
                echo: false,
            }));
        }
    }

    /// The broker says what has become of messages.
    fn settle(&mut self, told: &Disposition) {
        let is_final = told.settled || !matches!(told.state, None | Some(State::Received));
        if !is_final {
            return;
        }
        let count = told.last.wrapping_sub(told.first);
        let is_meant = |id: &u32| id.wrapping_sub(told.first) <= count;
        let ids: Vec<u32> = match usize::try_from(count) {
            // A range may be longer than what is there to be settled.
            Ok(count) if count < self.unsettled.len() => (0..=told.last.wrapping_sub(told.first))
                .map(|n| told.first.wrapping_add(n))
                .collect(),
            _ => self.unsettled.keys().copied().filter(is_meant).collect(),
        };
        for id in ids {
            if let Some((handle, waiting)) = self.unsettled.remove(&id) {
                self.links.settled(handle);
                // Whoever has gone away does not hear it.
                let _ = waiting.send(Answer::Settled(told.state.clone()));
            }
        }
        if let (false, Some(state)) = (told.settled, &told.state) {
            // It keeps it in mind until we say that we have heard.
            let heard = Outgoing::disposition(false, told.first, told.last, state);
            self.wire.put(heard);
        }
    }

    /// The broker has ended a link, or answers that we have.
    fn detached(&mut self, remote: u32, fault: Option<Fault>) {
        let Some((handle, link)) = self.links.detached(remote) else {
            return;
        };
        if !link.is_leaving() {
            self.wire.put(Outgoing::detach(handle, true));
        }
        if self
            .sending
            .as_ref()
            .is_some_and(|sending| sending.handle == handle)
        {
            self.sending = None;
        }
        let SenderLink {
            address, waiting, ..
        } = link;
        // Whoever has gone away does not hear it.
        for request in waiting {
            let _ = request.waiting.send(Answer::Refused(fault.clone()));
        }
        let ids = self.unsettled.iter().filter(|(_, (of, _))| *of == handle);
        let ids: Vec<_> = ids.map(|(id, _)| *id).collect();
        let why = ended(&format!("the link to {address}"), fault);
        for id in ids {
            if let Some((_, waiting)) = self.unsettled.remove(&id) {
                let _ = waiting.send(Answer::Cut(why.clone()));
            }
        }
    }
}
