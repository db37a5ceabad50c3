//! A connection to a server: packets, simple queries, and the stream of the binary log.
//!
//! The protocol is that of "Client/Server Protocol" in the documentation of MySQL and of MariaDB.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use pointsman_schemas::Problem;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::login::log_in;
use super::refusal::{Failure, Refusal};
use super::take::{Take, Unreadable};
use crate::cdc::address::Login;
use crate::net::Names;
use crate::net::explain::explain;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::stream::{self, Stream, secured};

/// How long a server may take to let us in, TLS and login included.
const LOGIN_WITHIN: Duration = Duration::from_secs(10);

/// How long an answer may take that asks for little.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long something of a few bytes may take to be sent.
const SENT_WITHIN: Duration = Duration::from_secs(20);

/// How much is read at once, at least, where it is there.
const READ_BYTES: usize = 32 << 10;

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

/// What is said and done about each fault on the way to a server.
const FAULTS: fault::Settings = fault::Settings {
    url: "url",
    tls: "tls",
    trust: "name that authority: tls: { ca: { file: … } }",
    no_tls: "write ssl-mode=disabled, or have the server speak TLS",
    closed: "check that it is MySQL or MariaDB that listens there",
};

/// Where a server is and who logs in.
pub(super) struct Address(pub(super) Login);

/// A row: what each column has as text, nothing where it is null.
pub(super) type Row = Vec<Option<Bytes>>;

/// A connection. Dropped, it is closed.
pub(super) struct Connection {
    stream: Stream,
    incoming: BytesMut,
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
        // The operator names the address, and no event has a part in it.
        let guard = Guard {
            allow_private_addresses: true,
        };
        let plain = stream::connect(&self.0.host, None, guard, Names::default()).await;
        let plain = plain.map_err(|error| self.unreachable(&explain(&*error)))?;
        let connection = Connection {
            stream: plain,
            incoming: BytesMut::new(),
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
        if !connection.incoming.is_empty() {
            return Err(self.unreachable("the server said more before TLS than it was asked"));
        }
        let secured = secured(connection.stream, &self.0.host.name, tls).await;
        let secured = secured.map_err(|error| self.unreachable(&explain(&*error)))?;
        connection.stream = Box::new(secured);
        Ok(connection)
    }

    /// A problem on the way to the server, in these words.
    pub(super) fn unreachable(&self, words: &str) -> Failure {
        let advice = fault::advice(words, &FAULTS, self.0.shows_certificate);
        let Advice { at, what, help } = advice.unwrap_or_else(|| Advice {
            at: "url",
            what: words.to_owned(),
            help: "check that MySQL or MariaDB runs and listens there",
        });
        let message = format!("cannot connect to the server at {}: {what}", self.0.host);
        Failure::Broken(Problem::new(message).help(help).at(at))
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
        self.incoming.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.incoming).await {
            Ok(0) => Err(Failure::broken("the server closed it")),
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::broken(explain(&error))),
        }
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
        let sent = async {
            self.stream.write_all(&packet).await?;
            self.stream.flush().await
        };
        match timeout(SENT_WITHIN, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::broken(explain(&error))),
            Err(_elapsed) => Err(Failure::broken("it takes nothing")),
        }
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
            let mut header = Take(&self.incoming);
            let length = usize::try_from(header.number(3).ok()?).ok()?;
            let sequence = header.u8().ok()?;
            if header.0.len() < length {
                return None;
            }
            self.incoming.advance(4);
            let part = self.incoming.split_to(length);
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
