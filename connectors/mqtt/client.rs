//! Connections to a broker: dialled, and let in.

use std::fmt;
use std::time::Duration;

use pointsman_schemas::{Class, Problem};
use tokio::time::timeout;

use super::packet::{
    Connect, Incoming, Outgoing, Properties, Reason, Subscribe, Version, property,
};
use super::reason::{FAILURE, advice, is_of_credentials, of_connect};
use super::wire::{Broken, PACKET_BYTES_MAX, Wire};
use crate::OpenError;
use crate::net::Names;
use crate::net::explain::explain;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::server::Server;
use crate::net::stream;

/// How long a broker may take to let us in, and to answer anything else.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// So often something is sent, so that each side knows that the other is there.
pub(super) const PING_EVERY: Duration = Duration::from_secs(5);

/// What the broker is told: it ends a connection over which nothing came for half as long again.
const KEEP_ALIVE_SECONDS: u16 = 30;

/// What is said and done about each fault on the way to a broker.
const SETTINGS: fault::Settings = fault::Settings {
    url: "url",
    tls: "tls",
    trust: "name that authority: tls: { ca: { file: … } }",
    no_tls: "write mqtt://, or name the port that speaks TLS",
    closed: "check that it is an MQTT broker that listens there; where it speaks TLS, write \
             mqtts://",
};

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Unreachable {
    pub(super) class: Class,
    pub(super) problem: Problem,
}

impl Unreachable {
    pub(super) fn unavailable(problem: Problem) -> Self {
        Self {
            class: Class::Unavailable,
            problem,
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.problem.message)
    }
}

impl From<Unreachable> for OpenError {
    fn from(unreachable: Unreachable) -> Self {
        Self(unreachable.problem)
    }
}

/// A connection that a broker has let in, and what it said then.
pub(super) struct Connected {
    pub(super) wire: Wire,
    pub(super) session_present: bool,
    /// What the broker offers; empty where that is all.
    pub(super) properties: Properties,
    /// How often something has to be sent.
    pub(super) ping_every: Duration,
}

/// How to connect.
pub(super) struct Plan {
    pub(super) server: Server,
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) is_clean: bool,
    /// Properties of CONNECT beside the largest packet.
    pub(super) numbers: Vec<(u8, u32)>,
}

impl Plan {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection, and what to do.
    pub(super) async fn connect(
        &self,
        guard: Guard,
        names: Names,
    ) -> Result<Connected, Unreachable> {
        let Server { host, tls, .. } = &self.server;
        let stream = stream::connect(host, tls.clone(), guard, names)
            .await
            .map_err(|error| self.unreachable(&explain(&*error)))?;
        let mut wire = Wire::new(self.version, stream);
        let greeted = wire.put(Outgoing::Connect(&self.greeting()));
        greeted.map_err(|error| Unreachable::unavailable(Problem::new(error.to_string())))?;
        let answer = match timeout(ANSWER_WITHIN, answer(&mut wire)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Broken::Io(error))) => return Err(self.unreachable(&explain(&error))),
            Ok(Err(Broken::Malformed(_))) => return Err(self.is_no_broker()),
            Err(_elapsed) => {
                return Err(self.unreachable("it takes the connection and says nothing"));
            }
        };
        match answer {
            Incoming::Connected {
                session_present,
                code,
                properties,
            } => match of_connect(self.version, code) {
                code @ FAILURE.. => Err(self.unwelcome(code, &properties)),
                _ => Ok(self.connected(wire, session_present, properties)),
            },
            _ => Err(self.is_no_broker()),
        }
    }

    /// The same for somebody who passes by and leaves nothing: under another identifier, since the
    /// broker ends the connection of whoever has the same.
    pub(super) fn passing(self) -> Self {
        Self {
            client_id: format!("pointsman-{:016x}", rand::random::<u64>()),
            is_clean: true,
            numbers: Vec::new(),
            ..self
        }
    }

    fn connected(
        &self,
        mut wire: Wire,
        session_present: bool,
        properties: Properties,
    ) -> Connected {
        let wanted = properties.number(property::SERVER_KEEP_ALIVE);
        let wanted = wanted.filter(|seconds| *seconds > 0);
        let at_most = wanted.map_or(PING_EVERY, |seconds| {
            Duration::from_secs(seconds.into()) / 2
        });
        if let Some(largest) = properties.number(property::MAXIMUM_PACKET_SIZE) {
            wire.limit(usize::try_from(largest).unwrap_or(usize::MAX));
        }
        Connected {
            wire,
            session_present,
            properties,
            ping_every: PING_EVERY.min(at_most),
        }
    }

    fn greeting(&self) -> Connect {
        let largest = u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX);
        let mut numbers = self.numbers.clone();
        numbers.push((property::MAXIMUM_PACKET_SIZE, largest));
        Connect {
            client_id: self.client_id.clone(),
            is_clean: self.is_clean,
            keep_alive: KEEP_ALIVE_SECONDS,
            user: self.server.user.clone(),
            password: self.server.password.clone(),
            properties: Properties {
                numbers,
                ..Properties::default()
            },
        }
    }

    /// What is wrong where no connection was made.
    fn unreachable(&self, words: &str) -> Unreachable {
        let advice = fault::advice(words, &SETTINGS, self.server.shows_certificate);
        let Advice { at, what, help } = advice.unwrap_or_else(|| Advice {
            at: "url",
            what: words.to_owned(),
            help: "check that the MQTT broker runs and listens there",
        });
        let host = &self.server.host;
        let message = format!("cannot connect to the MQTT broker at {host}: {what}");
        Unreachable::unavailable(Problem::new(message).help(help).at(at))
    }

    fn is_no_broker(&self) -> Unreachable {
        let host = &self.server.host;
        let problem = Problem::new(format!("what answers at {host} is no MQTT broker"));
        let help = "check the port; where it speaks TLS, write mqtts://";
        Unreachable::unavailable(problem.help(help).at("url"))
    }

    /// What is wrong where the broker does not let us in.
    fn unwelcome(&self, code: u8, properties: &Properties) -> Unreachable {
        let reason = Reason {
            code,
            said: properties.said(),
        };
        let (at, help) = advice(code);
        let host = &self.server.host;
        let why = reason.words();
        let message = format!("the MQTT broker at {host} does not take the connection: {why}");
        let class = match is_of_credentials(code) {
            true => Class::Refused,
            false => Class::Unavailable,
        };
        Unreachable {
            class,
            problem: Problem::new(message).help(help).at(at),
        }
    }
}

/// Takes leave of the broker.
pub(super) async fn leave(mut wire: Wire) {
    // Where that does not succeed the broker finds out by itself.
    if wire.put(Outgoing::Disconnect).is_ok() {
        let _ = timeout(ANSWER_WITHIN, wire.close()).await;
    }
}

/// The next packet.
async fn answer(wire: &mut Wire) -> Result<Incoming, Broken> {
    loop {
        if let Some(packet) = wire.take()? {
            return Ok(packet);
        }
        wire.turn(true).await?;
    }
}

/// Subscribes, and returns the code of each filter. What comes before that is handed to `take`.
///
/// # Errors
/// Why the broker does not answer, in words.
pub(super) async fn subscribe(
    wire: &mut Wire,
    subscribe: &Subscribe,
    mut take: impl FnMut(Incoming) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let put = wire.put(Outgoing::Subscribe(subscribe));
    put.map_err(|error| error.to_string())?;
    let answered = async {
        loop {
            match answer(wire).await.map_err(|error| error.to_string())? {
                Incoming::Subscribed { codes, .. } => return Ok(codes),
                other => take(other)?,
            }
        }
    };
    timeout(ANSWER_WITHIN, answered)
        .await
        .unwrap_or_else(|_elapsed| Err("the broker does not answer in time".to_owned()))
}
