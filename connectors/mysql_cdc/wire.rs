//! A connection to a server: packets, simple queries, and the stream of the binary log.
//!
//! The protocol is that of "Client/Server Protocol" in the documentation of MySQL and of MariaDB.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::login::log_in;
use super::refusal::{Failure, Refusal};
use super::take::{Take, Unreadable};
use crate::cdc::address::{Login, Modes, System};
use crate::cdc::wire::{ANSWER_WITHIN, LOGIN_WITHIN, Wire};
use crate::net::fault;
use crate::net::server::Protocol;

/// A packet of as many bytes goes on in the next one.
const FULL_PACKET: usize = 0xff_ffff;

/// What an answer begins with that is none of rows.
pub(super) const OK: u8 = 0;
pub(super) const END: u8 = 0xfe;
pub(super) const ERROR: u8 = 0xff;

/// What a row has in the place of a value that is null, and an answer that asks for a file.
const NULL: u8 = 0xfb;

const COM_QUERY: u8 = 3;

/// How values are written, and how long the server waits for us, whatever its settings say.
const SETTINGS_OF_SESSION: &str = "SET NAMES utf8mb4, SESSION time_zone = '+00:00', \
                                   SESSION sql_mode = '', SESSION net_write_timeout = 86400, \
                                   SESSION wait_timeout = 86400";

/// What a user may write where a server is named.
pub(super) const SYSTEM: System = System {
    protocol: Protocol {
        plain: &["mysql", "mariadb"],
        secure: &[],
        ports: (3306, 3306),
        check_path: |path| match path.contains('/') {
            true => Err("the URL names more than a database: mysql://host/database"),
            false => Ok(()),
        },
    },
    example: "write one such as mysql://127.0.0.1/shop",
    nobody: "write username: …, or mysql://user@host/database",
    modes: Modes {
        plain: "ssl-mode=disabled",
        // What trusts anybody is not there.
        secure: &[
            "ssl-mode=required",
            "ssl-mode=verify_ca",
            "ssl-mode=verify_identity",
        ],
        unknown: "of the URL's parameters only ssl-mode=disabled, required and verify_identity are \
                  known",
    },
    called: "the server",
    runs: "check that MySQL or MariaDB runs and listens there",
    faults: fault::Settings {
        url: "url",
        tls: "tls",
        trust: "name that authority: tls: { ca: { file: … } }",
        no_tls: "write ssl-mode=disabled, or have the server speak TLS",
        closed: "check that it is MySQL or MariaDB that listens there",
    },
};

/// Where a server is and who logs in.
pub(super) struct Address(pub(super) Login);

/// A row: what each column has as text, nothing where it is null.
pub(super) type Row = Vec<Option<Bytes>>;

/// A connection. Dropped, it is closed.
pub(super) struct Connection {
    wire: Wire,
    /// The beginning of what goes on in the next packet.
    begun: BytesMut,
    /// The number of the packet that comes next.
    sequence: u8,
    /// How the server calls itself.
    pub(super) version: String,
}

impl Address {
    /// Connects.
    ///
    /// # Errors
    /// Why the server does not let us in.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        match timeout(LOGIN_WITHIN, self.connecting()).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(self.unreachable("it takes the connection and says nothing")),
        }
    }

    async fn connecting(&self) -> Result<Connection, Failure> {
        let plain = self.0.connect().await;
        let plain = plain.map_err(|words| self.unreachable(&words))?;
        let connection = Connection {
            wire: Wire::new(plain),
            begun: BytesMut::new(),
            sequence: 0,
            version: String::new(),
        };
        let mut connection = log_in(self, connection).await?;
        connection.query(SETTINGS_OF_SESSION, ANSWER_WITHIN).await?;
        Ok(connection)
    }

    /// Speaks TLS over a connection. What came before it may be from anybody.
    pub(super) async fn secure(
        &self,
        mut connection: Connection,
        tls: Arc<ClientConfig>,
    ) -> Result<Connection, Failure> {
        if !connection.wire.incoming.is_empty() {
            return Err(self.unreachable("the server said more before TLS than it was asked"));
        }
        let secured = self.0.secure(connection.wire.stream, tls).await;
        connection.wire = Wire::new(secured.map_err(|words| self.unreachable(&words))?);
        Ok(connection)
    }

    /// A problem on the way to the server, in these words.
    pub(super) fn unreachable(&self, words: &str) -> Failure {
        Failure::Broken(SYSTEM.unreachable(&self.0, words))
    }
}

impl Connection {
    /// Runs a statement, and returns its rows.
    ///
    /// # Errors
    /// The server refuses, the connection breaks, or nothing comes within this time. After the last
    /// two the connection is of no use any more.
    pub(super) async fn query(&mut self, sql: &str, within: Duration) -> Result<Vec<Row>, Failure> {
        let asked = async {
            let mut rows = Vec::new();
            let columns = self.ask(sql).await?;
            if columns > 0 {
                while let Some(row) = self.row(columns).await? {
                    rows.push(row);
                }
            }
            Ok(rows)
        };
        let in_time = timeout(within, asked).await;
        in_time.unwrap_or_else(|_elapsed| Err(Failure::broken("it does not answer in time")))
    }

    /// Begins a statement, and returns how many columns its rows have; none where there are no
    /// rows. They come by [`Connection::row`].
    ///
    /// # Errors
    /// The server refuses, or the connection breaks.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<usize, Failure> {
        self.command(COM_QUERY, sql.as_bytes()).await?;
        let answer = self.packet().await?;
        let columns = match answer.first() {
            Some(&OK) => return Ok(0),
            Some(&ERROR) => return Err(refused(&answer)),
            Some(&NULL) => return Err(Failure::broken("it asks for a file")),
            _ => Take(&answer).length()?,
        };
        // They are described up to an end, and what they are called is known here.
        while !is_end(&self.packet().await?) {}
        usize::try_from(columns).map_err(|_| Unreadable::Short.into())
    }

    /// The next row; nothing behind the last.
    ///
    /// # Errors
    /// The server breaks off, or the connection breaks.
    pub(super) async fn row(&mut self, columns: usize) -> Result<Option<Row>, Failure> {
        let packet = self.packet().await?;
        if packet.first() == Some(&ERROR) {
            return Err(refused(&packet));
        }
        if is_end(&packet) {
            return Ok(None);
        }
        let mut left = Take(&packet);
        let mut row = Vec::with_capacity(columns);
        for _ in 0..columns {
            row.push(match left.0.split_first() {
                Some((&NULL, rest)) => {
                    left = Take(rest);
                    None
                }
                _ => Some(packet.slice_ref(left.prefixed()?)),
            });
        }
        Ok(Some(row))
    }

    /// Sends a command that is answered by nothing but that it is done.
    ///
    /// # Errors
    /// The server refuses, does not answer, or the connection breaks.
    pub(super) async fn tell(&mut self, command: u8, content: &[u8]) -> Result<(), Failure> {
        let told = async {
            self.command(command, content).await?;
            let answer = self.packet().await?;
            match answer.first() {
                Some(&ERROR) => Err(refused(&answer)),
                _ => Ok(()),
            }
        };
        let in_time = timeout(ANSWER_WITHIN, told).await;
        in_time.unwrap_or_else(|_elapsed| Err(Failure::broken("it does not answer in time")))
    }

    /// Sends a command.
    ///
    /// # Errors
    /// The connection breaks.
    pub(super) async fn command(&mut self, command: u8, content: &[u8]) -> Result<(), Failure> {
        self.sequence = 0;
        let mut payload = Vec::with_capacity(content.len() + 1);
        payload.push(command);
        payload.extend_from_slice(content);
        self.send(&payload).await
    }

    /// The next event of the log, where it is there already.
    ///
    /// # Errors
    /// The server ends the stream.
    pub(super) fn event(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(mut packet) = self.parsed() else {
            return Ok(None);
        };
        match packet.first() {
            Some(&OK) => {
                packet.advance(1);
                Ok(Some(packet))
            }
            Some(&ERROR) => Err(refused(&packet)),
            _ => Err(Failure::broken("the server ends the stream")),
        }
    }

    /// Waits for more bytes. Nothing is lost where this is dropped.
    ///
    /// # Errors
    /// The connection breaks.
    pub(super) async fn fill(&mut self) -> Result<(), Failure> {
        self.wire.fill().await.map_err(Failure::broken)
    }

    /// Sends what is smaller than a packet may be, as the next one.
    ///
    /// # Errors
    /// The connection breaks, or it is larger.
    pub(super) async fn send(&mut self, payload: &[u8]) -> Result<(), Failure> {
        if payload.len() >= FULL_PACKET {
            return Err(Failure::broken("what is to be sent is too long"));
        }
        let mut packet = BytesMut::with_capacity(payload.len() + 4);
        packet.put_uint_le(payload.len() as u64, 3);
        packet.put_u8(self.sequence);
        packet.put_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.wire.send(&packet).await.map_err(Failure::broken)
    }

    /// The next packet.
    ///
    /// # Errors
    /// The connection breaks.
    pub(super) async fn packet(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Some(packet) = self.parsed() {
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    fn parsed(&mut self) -> Option<Bytes> {
        loop {
            let mut header = Take(&self.wire.incoming);
            let length = usize::try_from(header.number(3).ok()?).ok()?;
            let sequence = header.u8().ok()?;
            if header.0.len() < length {
                return None;
            }
            self.wire.incoming.advance(4);
            let part = self.wire.incoming.split_to(length);
            self.sequence = sequence.wrapping_add(1);
            let is_whole = length < FULL_PACKET;
            if is_whole && self.begun.is_empty() {
                return Some(part.freeze());
            }
            self.begun.extend_from_slice(&part);
            if is_whole {
                return Some(std::mem::take(&mut self.begun).freeze());
            }
        }
    }
}

/// The error that a packet is.
pub(super) fn refused(packet: &[u8]) -> Failure {
    Failure::Refused(Refusal::read(packet.get(1..).unwrap_or_default()))
}

/// Whether a packet ends rows, or what describes them: a row may begin with the same byte where it
/// is longer.
fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&END) && packet.len() < 9
}
