//! Packets over a connection.

use std::io;

use bytes::{Buf, Bytes};

use super::packet::{Incoming, Malformed, Outgoing, Version, decode, encode, frame_length};
use crate::net::duplex::Duplex;
use crate::net::stream::Stream;

/// The largest packet that is read. A broker of MQTT 5 is told of it and sends none that is larger;
/// of a larger one of another only the beginning is kept, and it is a dead letter.
pub(super) const PACKET_BYTES_MAX: usize = 16 << 20;

/// Packets below this are copied out of what was read.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// So much is kept of a packet that is too large: a topic and an identifier fit.
const CUT_BYTES: usize = 128 << 10;

/// Both directions of a connection. What is under way stays here where a future is dropped.
pub(super) struct Wire {
    version: Version,
    duplex: Duplex,
    /// The largest packet that the broker takes.
    packet_bytes_max: usize,
    /// So many bytes of a packet that is too large are still to come.
    skip: usize,
}

/// Why a connection is of no use any more, in words.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

impl Broken {
    /// The same for a person who may not know what broke.
    pub(super) fn words(&self) -> String {
        match self {
            // Not every broker of MQTT 5 says why, and none of 3.1.1.
            Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the MQTT broker has closed the connection; where it does so again and again, \
                 another client may have the same client_id"
                    .to_owned()
            }
            _ => format!("the connection to the MQTT broker broke: {self}"),
        }
    }
}

impl Wire {
    pub(super) fn new(version: Version, stream: Stream) -> Self {
        Self {
            version,
            duplex: Duplex::new(stream),
            packet_bytes_max: usize::MAX,
            skip: 0,
        }
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Puts a packet behind those that are to be written.
    ///
    /// # Errors
    /// It cannot be written, and is not.
    pub(super) fn put(&mut self, packet: Outgoing<'_>) -> Result<(), Malformed> {
        let output = &mut self.duplex.output;
        let before = output.len();
        encode(self.version, packet, output)?;
        if output.len() - before > self.packet_bytes_max {
            output.truncate(before);
            return Err(Malformed("the message is larger than the broker takes"));
        }
        Ok(())
    }

    /// Puts no packet any more that is larger.
    pub(super) fn limit(&mut self, packet_bytes_max: usize) {
        self.packet_bytes_max = packet_bytes_max;
    }

    /// How many bytes wait to be written.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.duplex.output.len()
    }

    /// Whether anything has come since this was last asked.
    pub(super) fn has_heard(&mut self) -> bool {
        self.duplex.has_heard()
    }

    /// The next packet that is whole; none where more has to be read first.
    ///
    /// # Errors
    /// What came breaks the protocol.
    pub(super) fn take(&mut self) -> Result<Option<Incoming>, Broken> {
        let input = &mut self.duplex.input;
        let skipped = self.skip.min(input.len());
        input.advance(skipped);
        self.skip -= skipped;
        let Some((header, length)) = frame_length(input)? else {
            return Ok(None);
        };
        let is_cut = length > PACKET_BYTES_MAX;
        let here = if is_cut { CUT_BYTES } else { length };
        if input.len() < header + here {
            input.reserve(header + here - input.len());
            return Ok(None);
        }
        let first = input.first().copied().unwrap_or_default();
        input.advance(header);
        // A small message must not keep all that was read with it.
        let body = match input.get(..here) {
            Some(small) if here < COPIED_BYTES_MAX => {
                let body = Bytes::copy_from_slice(small);
                input.advance(here);
                body
            }
            _ => input.split_to(here).freeze(),
        };
        self.skip = length - here;
        Ok(Some(decode(self.version, first, body, is_cut)?))
    }

    /// Waits until something was written or, where it `reads`, has come. Safe to cancel.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) async fn turn(&mut self, reads: bool) -> Result<(), Broken> {
        Ok(self.duplex.turn(reads).await?)
    }

    /// Writes all that waits, and ends the connection. Returns once the broker has ended it too: it
    /// has then taken what was written, which it would drop if somebody else connected with the
    /// same identifier first.
    pub(super) async fn close(&mut self) -> Result<(), Broken> {
        Ok(self.duplex.close().await?)
    }
}
