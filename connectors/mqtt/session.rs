//! The task that holds a source's connection: reads what comes, writes acknowledgements, and keeps
//! the connection alive also while nobody asks for messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::ANSWER_WITHIN;
use super::packet::{Incoming, Outgoing, Publish};
use super::pulse::Pulse;
use super::wire::{Broken, Wire};
use crate::files::Files;
use crate::in_hand::InHand;

/// Why a source ends whose secrets are to be read again.
const RENEWED: &str = "what its credentials are read from has changed; it connects anew";

/// One connection of a source.
pub(super) struct Session {
    pub(super) wire: Wire,
    pub(super) in_hand: Arc<InHand<Publish>>,
    /// Messages of QoS 2 that the broker has finished with.
    pub(super) released: Vec<u16>,
    pub(super) messages_max: usize,
    pub(super) ping_every: Duration,
    pub(super) files: Files,
    /// Ends the connection once what is stored has been acknowledged.
    pub(super) stop: CancellationToken,
}

impl Session {
    /// Holds the connection until it ends; says why there where it was not asked to.
    pub(super) async fn run(mut self) {
        match self.hold().await {
            Ok(()) => {
                // Whoever shuts down does not wait for ever; what is not acknowledged comes again.
                let _ = timeout(ANSWER_WITHIN, self.close()).await;
            }
            Err(why) => self.in_hand.end(why),
        }
    }

    async fn hold(&mut self) -> Result<(), String> {
        let mut pulse = Pulse::new(self.ping_every);
        loop {
            self.receive()?;
            self.acknowledge().map_err(|error| error.words())?;
            let reads = self.in_hand.has_room(self.messages_max);
            if !reads {
                pulse.forgive();
            }
            // Pings go out also where more comes all the time; so do acknowledgements, each round.
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = self.files.changed() => return Err(RENEWED.to_owned()),
                () = pulse.due() => pulse.beat(&mut self.wire)?,
                turned = self.wire.turn(reads) => turned.map_err(|error| error.words())?,
                () = self.in_hand.changed() => {}
            }
        }
    }

    /// Takes what has come, as far as there is room.
    fn receive(&mut self) -> Result<(), String> {
        while self.in_hand.has_room(self.messages_max) {
            match self.wire.take().map_err(|error| error.words())? {
                Some(packet) => receive(&mut self.released, &self.in_hand, packet)?,
                None => break,
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self) -> Result<(), Broken> {
        for ack in self.in_hand.unwritten() {
            self.wire.put(ack.packet())?;
        }
        for id in self.released.drain(..) {
            self.wire.put(Outgoing::Complete(id))?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Broken> {
        self.acknowledge()?;
        self.wire.put(Outgoing::Disconnect)?;
        self.wire.close().await
    }
}

/// Takes a packet: a message, or in `released` what the broker has finished with.
///
/// # Errors
/// The broker ends the connection.
pub(super) fn receive(
    released: &mut Vec<u16>,
    in_hand: &InHand<Publish>,
    packet: Incoming,
) -> Result<(), String> {
    match packet {
        Incoming::Publish(publish) => in_hand.push(publish),
        // Also of a message that an earlier connection has received: the broker then still knows
        // that it was, and nothing has to be known here.
        Incoming::Release(id) => released.push(id),
        Incoming::Disconnect(reason) => {
            let why = reason.words();
            return Err(format!("the MQTT broker has ended the connection: {why}"));
        }
        Incoming::Connected { .. }
        | Incoming::Acknowledged { .. }
        | Incoming::Subscribed { .. }
        | Incoming::Unsubscribed
        | Incoming::Pong => {}
    }
    Ok(())
}
