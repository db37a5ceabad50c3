//! A connection to a server: logging in, simple queries, and the stream of a slot.
//!
//! The messages are those of `postgres-protocol`. A connection of `replication=database` takes SQL
//! and the commands of replication alike, by simple queries; `START_REPLICATION` turns it into one
//! that copies both ways ("Streaming Replication Protocol" in PostgreSQL's documentation).

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use pointsman_schemas::Problem;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{self, Message};
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::refusal::{Failure, Refusal};
use crate::cdc::address::{Login, Modes, System};
use crate::cdc::wire::{ANSWER_WITHIN, LOGIN_WITHIN, Wire};
use crate::net::explain::explain;
use crate::net::fault;
use crate::net::server::Protocol;
use crate::net::stream::Stream;

/// What the server starts a stream of copies both ways with; `postgres-protocol` does not know it.
const COPY_BOTH_RESPONSE: u8 = b'W';

/// How values are written, whatever the server's settings say; and that the server notices within
/// this time that we are gone, so that the slot is free for whoever comes next.
const SETTINGS_OF_SESSION: [(&str, &str); 7] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("wal_sender_timeout", "20s"),
];

/// What a user may write where a server is named.
pub(super) const SYSTEM: System = System {
    protocol: Protocol {
        plain: &["postgres", "postgresql"],
        secure: &[],
        ports: (5432, 5432),
        check_path: |path| match path.is_empty() || path.contains('/') {
            true => Err("the URL names no database: postgres://host/database"),
            false => Ok(()),
        },
    },
    example: "write one such as postgres://127.0.0.1/shop",
    nobody: "write username: …, or postgres://user@host/database",
    modes: Modes {
        plain: "sslmode=disable",
        // What trusts anybody is not there.
        secure: &[
            "sslmode=require",
            "sslmode=verify-ca",
            "sslmode=verify-full",
        ],
        unknown: "of the URL's parameters only sslmode=disable, require and verify-full are known",
    },
    called: "PostgreSQL",
    runs: "check that PostgreSQL runs and listens there",
    faults: fault::Settings {
        url: "url",
        tls: "tls",
        trust: "name that authority: tls: { ca: { file: … } }",
        no_tls: "write sslmode=disable, or have the server speak TLS",
        closed: "check that it is PostgreSQL that listens there",
    },
};

/// Where a server is and who logs in.
pub(super) struct Address(pub(super) Login);

/// A row: what each column has as text, nothing where it is null.
pub(super) type Row = Vec<Option<Bytes>>;

/// What came: a message of the protocol's usual part, or that copies follow both ways.
enum Frame {
    Message(Message),
    CopyBoth,
}

/// A connection. Dropped, it is closed.
pub(super) struct Connection {
    wire: Wire,
}

impl Address {
    /// Connects for replication.
    ///
    /// # Errors
    /// Why the server does not let us in.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        self.connect_with(&[("replication", "database")]).await
    }

    /// Connects for SQL alone, which takes none of the connections that are there for replication.
    ///
    /// # Errors
    /// Why the server does not let us in.
    pub(super) async fn connect_plainly(&self) -> Result<Connection, Failure> {
        self.connect_with(&[]).await
    }

    async fn connect_with(&self, more: &[(&str, &str)]) -> Result<Connection, Failure> {
        match timeout(LOGIN_WITHIN, self.connecting(more)).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(self.unreachable("it takes the connection and says nothing")),
        }
    }

    async fn connecting(&self, more: &[(&str, &str)]) -> Result<Connection, Failure> {
        let plain = self.0.connect().await;
        let plain = plain.map_err(|words| self.unreachable(&words))?;
        let stream = match &self.0.tls {
            Some(tls) => self.secure(plain, Arc::clone(tls)).await?,
            None => plain,
        };
        let mut connection = Connection {
            wire: Wire::new(stream),
        };
        let mut startup = BytesMut::new();
        let own = [
            ("user", self.0.user.as_str()),
            ("database", self.0.database.as_str()),
            ("application_name", "pointsman"),
        ];
        let all = own.into_iter().chain(SETTINGS_OF_SESSION);
        frontend::startup_message(all.chain(more.iter().copied()), &mut startup)
            .map_err(|error| self.unreachable(&error.to_string()))?;
        connection.send(&startup).await?;
        self.log_in(&mut connection).await?;
        Ok(connection)
    }

    /// Asks for TLS. One byte is read before it and no more: what came along with it may be from
    /// anybody.
    async fn secure(&self, mut plain: Stream, tls: Arc<ClientConfig>) -> Result<Stream, Failure> {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        let asked = async {
            plain.write_all(&request).await?;
            plain.read_u8().await
        };
        let answer = asked.await;
        match answer.map_err(|error| self.unreachable(&explain(&error)))? {
            b'S' => {}
            b'N' => {
                let message = format!("PostgreSQL at {} does not speak TLS", self.0.host);
                return Err(Failure::Broken(
                    Problem::new(message).help(SYSTEM.faults.no_tls).at("url"),
                ));
            }
            _ => return Err(self.unreachable("what answers there is not PostgreSQL")),
        }
        let secured = self.0.secure(plain, tls).await;
        secured.map_err(|words| self.unreachable(&words))
    }

    async fn log_in(&self, connection: &mut Connection) -> Result<(), Failure> {
        let mut scram = None;
        loop {
            let mut answer = BytesMut::new();
            match connection.message().await? {
                Message::AuthenticationOk => {}
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(self.password()?, &mut answer)
                        .map_err(Failure::broken)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(self.0.user.as_bytes(), self.password()?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut answer)
                        .map_err(Failure::broken)?;
                }
                Message::AuthenticationSasl(body) => {
                    let mut mechanisms = body.mechanisms();
                    if !mechanisms
                        .any(|name| Ok(name == SCRAM_SHA_256))
                        .unwrap_or(false)
                    {
                        return Err(self.unknown_login());
                    }
                    let begun = ScramSha256::new(self.password()?, ChannelBinding::unsupported());
                    frontend::sasl_initial_response(SCRAM_SHA_256, begun.message(), &mut answer)
                        .map_err(Failure::broken)?;
                    scram = Some(begun);
                }
                Message::AuthenticationSaslContinue(body) => {
                    let scram = scram.as_mut().ok_or_else(|| self.unknown_login())?;
                    scram.update(body.data()).map_err(Failure::broken)?;
                    frontend::sasl_response(scram.message(), &mut answer)
                        .map_err(Failure::broken)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    let scram = scram.as_mut().ok_or_else(|| self.unknown_login())?;
                    scram.finish(body.data()).map_err(Failure::broken)?;
                }
                Message::BackendKeyData(_) => {}
                Message::ErrorResponse(body) => {
                    return Err(Failure::Refused(Refusal::read(body.fields())));
                }
                Message::ReadyForQuery(_) => return Ok(()),
                _ => return Err(self.unknown_login()),
            }
            if !answer.is_empty() {
                connection.send(&answer).await?;
            }
        }
    }

    fn password(&self) -> Result<&[u8], Failure> {
        let password = self.0.password.as_deref().map(str::as_bytes);
        password.ok_or_else(|| {
            let message = format!("PostgreSQL at {} asks for a password", self.0.host);
            let help = "write password: { env: NAME }";
            Failure::Broken(Problem::new(message).help(help).at("password"))
        })
    }

    fn unknown_login(&self) -> Failure {
        let message = format!(
            "PostgreSQL at {} asks for a login that is not known here",
            self.0.host
        );
        let help = "have pg_hba.conf say scram-sha-256, md5, password, cert or trust";
        Failure::Broken(Problem::new(message).help(help).at("username"))
    }

    fn unreachable(&self, words: &str) -> Failure {
        Failure::Broken(SYSTEM.unreachable(&self.0, words))
    }
}

impl Connection {
    /// Runs SQL, or a command of replication, and returns the rows of all that it says.
    ///
    /// # Errors
    /// The server refuses, the connection breaks, or nothing comes within this time. After the last
    /// two the connection is of no use any more.
    pub(super) async fn query(&mut self, sql: &str, within: Duration) -> Result<Vec<Row>, Failure> {
        let asked = async {
            let mut query = BytesMut::new();
            frontend::query(sql, &mut query).map_err(Failure::broken)?;
            self.send(&query).await?;
            let (mut rows, mut refused) = (Vec::new(), None);
            loop {
                match self.message().await? {
                    Message::DataRow(body) => {
                        let all = body.buffer_bytes().clone();
                        let row = body.ranges().map(|range| Ok(range.map(|at| all.slice(at))));
                        rows.push(row.collect().map_err(Failure::broken)?);
                    }
                    Message::ErrorResponse(body) => refused = Some(Refusal::read(body.fields())),
                    Message::ReadyForQuery(_) => break,
                    _ => {}
                }
            }
            match refused {
                Some(refusal) => Err(Failure::Refused(refusal)),
                None => Ok(rows),
            }
        };
        let in_time = timeout(within, asked).await;
        in_time.unwrap_or_else(|_elapsed| Err(Failure::broken("it does not answer in time")))
    }

    /// Has the server stream: what follows are [`Connection::copied`].
    ///
    /// # Errors
    /// It refuses, or the connection breaks.
    pub(super) async fn start(&mut self, command: &str) -> Result<(), Failure> {
        let mut query = BytesMut::new();
        frontend::query(command, &mut query).map_err(Failure::broken)?;
        let started = async {
            self.send(&query).await?;
            loop {
                match self.frame().await? {
                    Frame::CopyBoth => return Ok(()),
                    Frame::Message(Message::ErrorResponse(body)) => {
                        return Err(Failure::Refused(Refusal::read(body.fields())));
                    }
                    Frame::Message(_) => {}
                }
            }
        };
        let in_time = timeout(ANSWER_WITHIN, started).await;
        in_time.unwrap_or_else(|_elapsed| Err(Failure::broken("it does not begin to stream")))
    }

    /// The next thing that the server copies to us, where it is there already.
    ///
    /// # Errors
    /// The server ends the stream.
    pub(super) fn copied(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.parsed()? {
            match frame {
                Frame::Message(Message::CopyData(body)) => return Ok(Some(body.into_bytes())),
                Frame::Message(Message::ErrorResponse(body)) => {
                    return Err(Failure::Refused(Refusal::read(body.fields())));
                }
                Frame::Message(Message::CopyDone) => {
                    return Err(Failure::broken("the server ends the stream"));
                }
                Frame::Message(_) | Frame::CopyBoth => {}
            }
        }
        Ok(None)
    }

    /// Waits for more bytes. Nothing is lost where this is dropped.
    ///
    /// # Errors
    /// The connection breaks.
    pub(super) async fn fill(&mut self) -> Result<(), Failure> {
        self.wire.fill().await.map_err(Failure::broken)
    }

    /// Copies something to the server.
    ///
    /// # Errors
    /// The connection breaks.
    pub(super) async fn copy(&mut self, data: &[u8]) -> Result<(), Failure> {
        let mut out = BytesMut::new();
        frontend::CopyData::new(data)
            .map_err(Failure::broken)?
            .write(&mut out);
        self.send(&out).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.wire.send(bytes).await.map_err(Failure::broken)
    }

    /// The next message of the usual kinds; notices and parameters are left out.
    async fn message(&mut self) -> Result<Message, Failure> {
        loop {
            match self.frame().await? {
                Frame::Message(Message::NoticeResponse(_) | Message::ParameterStatus(_))
                | Frame::CopyBoth => {}
                Frame::Message(message) => return Ok(message),
            }
        }
    }

    async fn frame(&mut self) -> Result<Frame, Failure> {
        loop {
            if let Some(frame) = self.parsed()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    fn parsed(&mut self) -> Result<Option<Frame>, Failure> {
        let header = backend::Header::parse(&self.wire.incoming).map_err(Failure::broken)?;
        let Some(header) = header else {
            return Ok(None);
        };
        if header.tag() == COPY_BOTH_RESPONSE {
            let bytes = usize::try_from(header.len())
                .unwrap_or(usize::MAX)
                .saturating_add(1);
            if self.wire.incoming.len() < bytes {
                return Ok(None);
            }
            self.wire.incoming.advance(bytes);
            return Ok(Some(Frame::CopyBoth));
        }
        let message = Message::parse(&mut self.wire.incoming).map_err(Failure::broken)?;
        Ok(message.map(Frame::Message))
    }
}

/// What the stream carries, inside of what is copied.
pub(super) enum Replicated {
    /// A message of the plugin.
    Data(Bytes),
    /// The server has read its log up to here, and may want an answer.
    Alive { up_to: u64, wants_answer: bool },
}

impl Replicated {
    /// Reads what was copied.
    ///
    /// # Errors
    /// It is nothing that is known.
    pub(super) fn read(mut copied: Bytes) -> Result<Self, Failure> {
        let unknown = |_| Failure::broken("the server streams what is not known here");
        match copied.try_get_u8().map_err(unknown)? {
            b'w' => {
                // Where it begins, where the log ends, and the time; each says itself better.
                if copied.len() < 24 {
                    return Err(Failure::broken("the server streams too little"));
                }
                copied.advance(24);
                Ok(Self::Data(copied))
            }
            b'k' => {
                let up_to = copied.try_get_u64().map_err(unknown)?;
                let _time = copied.try_get_i64().map_err(unknown)?;
                let wants_answer = copied.try_get_u8().map_err(unknown)? != 0;
                Ok(Self::Alive {
                    up_to,
                    wants_answer,
                })
            }
            _ => Err(Failure::broken("the server streams what is not known here")),
        }
    }
}

/// What tells the server how far we are: what came, and what is stored. It is asked to answer.
pub(super) fn status(received: u64, stored: u64, micros: i64) -> [u8; 34] {
    let mut status = [0; 34];
    let mut out = status.as_mut_slice();
    out.put_u8(b'r');
    out.put_u64(received);
    out.put_u64(stored);
    out.put_u64(stored);
    out.put_i64(micros);
    out.put_u8(1);
    status
}
