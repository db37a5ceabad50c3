//! Frames over a connection.

use std::io;

use bytes::{Buf, Bytes};

use super::frame::{HEADER_BYTES, Incoming, Outgoing, decode, encode, encode_nothing};
use super::value::Malformed;
use crate::net::duplex::Duplex;
use crate::net::stream::Stream;

/// The largest frame that is read; a peer is told of it.
pub(super) const FRAME_BYTES_MAX: u32 = 256 << 10;

/// Frames below this are copied out of what was read.
const COPIED_BYTES_MAX: usize = 4 << 10;

/// What a connection begins with (part 2, section 2.2): which protocol is spoken.
pub(super) const PROTOCOL: [u8; 8] = *b"AMQP\x00\x01\x00\x00";

/// The same, of SASL (part 5, section 5.3.1).
pub(super) const SASL: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

/// A connection. What is under way stays here where a future is dropped.
pub(super) struct Wire {
    duplex: Duplex,
    /// The largest frame that the peer reads.
    frame_bytes_max: usize,
}

/// Why a connection is of no use any more.
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
            Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the AMQP broker has closed the connection".to_owned()
            }
            _ => format!("the connection to the AMQP broker broke: {self}"),
        }
    }
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            duplex: Duplex::new(stream),
            // Until the peer says otherwise (section 2.7.1).
            frame_bytes_max: 512,
        }
    }

    /// Puts the bytes there that begin a protocol.
    pub(super) fn begin(&mut self, protocol: [u8; 8]) {
        self.duplex.output.extend_from_slice(&protocol);
    }

    /// The peer reads frames of so many bytes.
    pub(super) fn limit(&mut self, frame_bytes_max: u32) {
        // Less than any peer may ask for would leave no room for a payload.
        self.frame_bytes_max = usize::try_from(frame_bytes_max)
            .unwrap_or(usize::MAX)
            .max(512);
    }

    /// How much of a message fits into one frame.
    pub(super) fn payload_bytes_max(&self) -> usize {
        // What stands before it in a transfer is less than this.
        const TRANSFER_BYTES: usize = 128;
        // A buffer of our own size is enough, whatever a peer reads.
        let most = usize::try_from(FRAME_BYTES_MAX).unwrap_or(usize::MAX);
        self.frame_bytes_max.min(most) - TRANSFER_BYTES
    }

    /// Puts a frame behind those that are to be written.
    pub(super) fn put(&mut self, outgoing: Outgoing) {
        encode(outgoing, &[], &mut self.duplex.output);
    }

    /// Puts a transfer there with its payload.
    pub(super) fn put_with(&mut self, outgoing: Outgoing, payload: &[u8]) {
        encode(outgoing, payload, &mut self.duplex.output);
    }

    /// Puts a frame there that says only that we live.
    pub(super) fn put_nothing(&mut self) {
        encode_nothing(&mut self.duplex.output);
    }

    /// How many bytes wait to be written.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.duplex.output.len()
    }

    /// Whether anything has come since this was last asked.
    pub(super) fn has_heard(&mut self) -> bool {
        self.duplex.has_heard()
    }

    /// What the peer begins a protocol with; none where more has to be read first.
    pub(super) fn take_protocol(&mut self) -> Option<[u8; 8]> {
        let protocol = self.duplex.input.first_chunk::<8>().copied()?;
        self.duplex.input.advance(protocol.len());
        Some(protocol)
    }

    /// The next frame that is whole; none where more has to be read first.
    ///
    /// # Errors
    /// What came breaks the protocol.
    pub(super) fn take(&mut self) -> Result<Option<Incoming>, Broken> {
        let input = &mut self.duplex.input;
        let Some(header) = input.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, offset, ..] = *header;
        let size = u32::from_be_bytes([a, b, c, d]);
        let (length, offset) = (
            usize::try_from(size).unwrap_or(usize::MAX),
            usize::from(offset) * 4,
        );
        if size > FRAME_BYTES_MAX || offset < HEADER_BYTES || length < offset {
            return Err(Malformed(
                "what came is no frame of AMQP, or a larger one than was asked for",
            )
            .into());
        }
        if input.len() < length {
            input.reserve(length - input.len());
            return Ok(None);
        }
        // A small message must not keep all that was read with it.
        let mut frame = match input.get(..length) {
            Some(small) if length < COPIED_BYTES_MAX => {
                let frame = Bytes::copy_from_slice(small);
                input.advance(length);
                frame
            }
            _ => input.split_to(length).freeze(),
        };
        frame.advance(offset);
        Ok(Some(decode(frame)?))
    }

    /// Waits until something was written or, where it `reads`, has come. Safe to cancel.
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) async fn turn(&mut self, reads: bool) -> Result<(), Broken> {
        Ok(self.duplex.turn(reads).await?)
    }

    /// Takes leave of the peer, and waits until it does the same.
    pub(super) async fn close(&mut self) -> Result<(), Broken> {
        self.put(Outgoing::close());
        Ok(self.duplex.close().await?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn frames_are_taken_whole_however_they_come() {
        let (here, mut there) = duplex(1 << 20);
        let mut wire = Wire::new(Box::new(here));
        // A heartbeat, a frame with a longer header, and the end of a connection.
        let frames =
            b"\0\0\0\x08\x02\0\0\0\0\0\0\x0c\x03\0\0\0xxxx\0\0\0\x0c\x02\0\0\0\0\x53\x18\x45";
        let mut taken = Vec::new();
        for byte in frames {
            there.write_all(&[*byte]).await.unwrap();
            wire.turn(true).await.unwrap();
            taken.extend(wire.take().unwrap());
        }
        assert_eq!(
            taken,
            [Incoming::Nothing, Incoming::Nothing, Incoming::Close(None)]
        );

        wire.put_nothing();
        wire.put(Outgoing::close());
        wire.turn(false).await.unwrap();
        let mut written = [0; 20];
        there.read_exact(&mut written).await.unwrap();
        assert_eq!(
            &written,
            b"\0\0\0\x08\x02\0\0\0\0\0\0\x0c\x02\0\0\0\0\x53\x18\x45"
        );

        for broken in [
            &b"HTTP/1.1"[..],
            b"\0\0\0\x07\x02\0\0\0",
            b"\0\0\0\x08\x01\0\0\0",
            b"\0\0\0\x09\x02\0\0\0\x40",
            b"\0\0\0\x0c\x02\0\0\0\0\x53\x77\x45",
        ] {
            let (here, mut there) = duplex(1 << 20);
            let mut wire = Wire::new(Box::new(here));
            there.write_all(broken).await.unwrap();
            wire.turn(true).await.unwrap();
            assert!(wire.take().is_err(), "{broken:?}");
        }
    }
}
