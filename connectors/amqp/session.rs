//! The task that holds a source's connection: reads what comes, settles what is stored, gives credit
//! for what may come, and keeps the connection alive also while nobody asks for messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::client::{ANSWER_WITHIN, WINDOW};
use super::fault::Fault;
use super::frame::{Flow, Incoming, LinkFlow, Outgoing, State, Transfer};
use super::pulse::Pulse;
use super::received::{Assembly, Received, Whole, ranges};
use super::wire::{Broken, Wire};
use crate::Link;
use crate::files::Files;
use crate::in_hand::InHand;

/// Why a source ends whose secrets are to be read again.
const RENEWED: &str = "what its credentials are read from has changed; it connects anew";

/// How often a broker is asked how much waits.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// One connection of a source.
pub(super) struct Session {
    pub(super) wire: Wire,
    pub(super) link: ReceiverLink,
    pub(super) in_hand: Arc<InHand<Received>>,
    pub(super) messages_max: usize,
    pub(super) pulse: Duration,
    pub(super) files: Files,
    pub(super) status: Link,
    /// Ends the connection once what is stored has been settled.
    pub(super) stop: CancellationToken,
}

/// The state of the link that messages come over (part 2, section 2.6.7).
#[derive(Debug)]
pub(super) struct ReceiverLink {
    /// Transfers that the session has seen.
    next_incoming_id: u32,
    /// Messages that the broker has sent over the link, as it counts them.
    delivery_count: u32,
    /// The count at which it has to stop.
    limit: u32,
    assembly: Assembly,
    asked: Instant,
    /// Whether the broker has ever said that messages wait: some always say that none do.
    tells_lag: bool,
}

impl ReceiverLink {
    pub(super) fn new(next_incoming_id: u32, delivery_count: u32) -> Self {
        Self {
            next_incoming_id,
            delivery_count,
            limit: delivery_count,
            assembly: Assembly::default(),
            asked: Instant::now(),
            tells_lag: false,
        }
    }

    /// Messages that the broker may still send.
    fn credit(&self) -> u32 {
        // A broker that sends more than it may leaves nothing.
        let left = self.limit.wrapping_sub(self.delivery_count);
        if left > WINDOW { 0 } else { left }
    }

    /// Takes a transfer; a message where it is whole.
    fn take(&mut self, transfer: Transfer) -> Result<Option<Received>, Broken> {
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        let whole = self.assembly.take(transfer)?;
        if whole == Whole::NotYet {
            return Ok(None);
        }
        self.delivery_count = self.delivery_count.wrapping_add(1);
        Ok(match whole {
            Whole::Message(message) => Some(message),
            Whole::NotYet | Whole::Aborted => None,
        })
    }

    /// The flow that lets so many come as there is room for; none where it would change little, and
    /// the broker need not be `asked` anything.
    fn grant(&mut self, room: u32, least: u32, asks: bool) -> Option<Flow> {
        let credit = self.credit();
        let more = room.saturating_sub(credit);
        let is_worth_it = more >= least || credit == 0 && room > 0;
        if !is_worth_it && !asks {
            return None;
        }
        let credit = credit + more;
        self.limit = self.delivery_count.wrapping_add(credit);
        Some(self.flow(credit, asks))
    }

    fn flow(&self, credit: u32, echo: bool) -> Flow {
        Flow {
            next_incoming_id: Some(self.next_incoming_id),
            incoming_window: WINDOW,
            next_outgoing_id: 0,
            outgoing_window: WINDOW,
            link: Some(LinkFlow {
                handle: 0,
                delivery_count: Some(self.delivery_count),
                credit,
                ..LinkFlow::default()
            }),
            echo,
        }
    }
}

impl Session {
    /// Holds the connection until it ends; says why there where it was not asked to.
    pub(super) async fn run(mut self) {
        match self.hold().await {
            Ok(()) => {
                // Whoever shuts down does not wait for ever; what is not settled comes again.
                let _ = timeout(ANSWER_WITHIN, self.close()).await;
            }
            Err(why) => self.in_hand.end(why),
        }
    }

    async fn hold(&mut self) -> Result<(), String> {
        let mut pulse = Pulse::new(self.pulse);
        loop {
            self.receive()?;
            self.settle(self.in_hand.unwritten());
            self.grant();
            let reads = self.has_room();
            if !reads {
                pulse.forgive();
            }
            // Something goes out by the clock also where more comes all the time; so does what is
            // settled, each round.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = self.files.changed() => return Err(RENEWED.to_owned()),
                () = pulse.due() => pulse.beat(&mut self.wire)?,
                turned = self.wire.turn(reads) => turned.map_err(|broken| broken.words())?,
                () = self.in_hand.changed() => {}
            }
        }
    }

    /// How many come is bounded by the link's credit; how much is by not reading on.
    fn has_room(&self) -> bool {
        self.in_hand.has_room(usize::MAX)
    }

    /// Takes what has come, as far as there is room.
    fn receive(&mut self) -> Result<(), String> {
        while self.has_room() {
            match self.wire.take().map_err(|broken| broken.words())? {
                Some(frame) => self.take(frame)?,
                None => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Incoming) -> Result<(), String> {
        match frame {
            Incoming::Transfer(transfer) => {
                let message = self.link.take(transfer);
                if let Some(message) = message.map_err(|broken| broken.words())? {
                    self.in_hand.push(message);
                }
            }
            Incoming::Flow(flow) => self.flow(&flow),
            Incoming::Detach { fault, .. } => return Err(ended("the link", fault)),
            Incoming::End(fault) => return Err(ended("the session", fault)),
            Incoming::Close(fault) => return Err(ended("the connection", fault)),
            // What the broker says of messages is of its own: what is settled here is final.
            _ => {}
        }
        Ok(())
    }

    fn flow(&mut self, flow: &Flow) {
        if let Some(LinkFlow {
            delivery_count,
            available,
            ..
        }) = flow.link
        {
            // A broker that has been asked to send all it has, or nothing, counts on.
            self.link.delivery_count = delivery_count.unwrap_or(self.link.delivery_count);
            if let Some(waiting) = available {
                self.link.tells_lag |= waiting > 0;
                if self.link.tells_lag {
                    self.status.lag(Some(waiting.into()));
                }
            }
        }
        if flow.echo {
            let state = self.link.flow(self.link.credit(), false);
            self.wire.put(Outgoing::flow(&state));
        }
    }

    fn settle(&mut self, told: Vec<(u32, State)>) {
        for (first, last, state) in ranges(told) {
            let disposition = Outgoing::disposition(true, first, last, &state);
            self.wire.put(disposition);
        }
    }

    fn grant(&mut self) {
        let asks = self.link.asked.elapsed() >= ASK_EVERY;
        if asks {
            self.link.asked = Instant::now();
        }
        let room = self.messages_max.saturating_sub(self.in_hand.count());
        let small = |count: usize| u32::try_from(count).unwrap_or(WINDOW);
        let least = small(self.messages_max / 4).max(1);
        if let Some(flow) = self.link.grant(small(room), least, asks) {
            self.wire.put(Outgoing::flow(&flow));
        }
    }

    /// Settles what is stored, gives the rest back, and takes leave.
    async fn close(&mut self) -> Result<(), Broken> {
        self.settle(self.in_hand.unwritten());
        let given_up = self.in_hand.give_up();
        let released = given_up.iter().filter_map(|message| message.released());
        self.settle(released.collect());
        self.wire.close().await
    }
}

/// The broker has ended something.
pub(super) fn ended(what: &str, fault: Option<Fault>) -> String {
    match fault {
        Some(fault) => format!("the AMQP broker has ended {what}: {fault}"),
        None => format!("the AMQP broker has ended {what}"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn transfer(link: &mut ReceiverLink, id: u32) {
        let transfer = Transfer {
            delivery_id: Some(id),
            payload: Bytes::new(),
            ..Transfer::default()
        };
        assert!(link.take(transfer).unwrap().is_some());
    }

    #[tokio::test]
    async fn credit_is_given_for_what_there_is_room_for_and_not_for_each_message() {
        let granted = |flow: Option<Flow>| flow.map(|flow| flow.link.unwrap().credit);
        // Counters wrap.
        let mut link = ReceiverLink::new(0, u32::MAX - 1);
        assert_eq!(granted(link.grant(8, 2, false)), Some(8));
        assert_eq!(granted(link.grant(8, 2, false)), None);
        transfer(&mut link, 0);
        assert_eq!(granted(link.grant(7, 2, false)), None, "nothing is done");
        assert_eq!(
            granted(link.grant(8, 2, false)),
            None,
            "one is not worth it"
        );
        assert_eq!(
            granted(link.grant(8, 2, true)),
            Some(8),
            "unless it is asked anyway"
        );
        for id in 1..9 {
            transfer(&mut link, id);
        }
        assert_eq!(link.credit(), 0);
        assert_eq!(granted(link.grant(0, 2, false)), None);
        assert_eq!(
            granted(link.grant(1, 2, false)),
            Some(1),
            "one is better than none"
        );
        assert_eq!(link.delivery_count, 7);
        transfer(&mut link, 9);
        transfer(&mut link, 10);
        assert_eq!(link.credit(), 0, "one more than was asked for");
        assert_eq!(link.next_incoming_id, 11);
        assert_eq!(granted(link.grant(3, 2, false)), Some(3));
        assert_eq!(link.credit(), 3);
    }
}
