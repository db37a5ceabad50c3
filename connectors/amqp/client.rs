//! Connections to a broker: dialled, let in, and with a session.

use std::fmt;
use std::time::Duration;

use pointsman_schemas::{Class, Problem};
use tokio::time::timeout;

use super::fault::Fault;
use super::frame::{Attached, Begun, Incoming, Opened, Outgoing};
use super::sasl::Identity;
use super::wire::{Broken, FRAME_BYTES_MAX, PROTOCOL, SASL, Wire};
use crate::OpenError;
use crate::net::Names;
use crate::net::explain::explain;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::server::Server;
use crate::net::stream;

/// How long a broker may take to let us in, and to answer anything else.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the broker is told: it says something at least that often. It is taken to be gone after
/// twice that, as the specification wants it (part 2, section 2.4.5).
const IDLE_MS: u32 = 10_000;

/// Something is sent at least that often, also where the broker asks for nothing.
const PULSE: Duration = Duration::from_secs(5);

/// Transfers that may come, or go, before we say how many came: never the limit, which is a link's
/// credit.
pub(super) const WINDOW: u32 = 1 << 30;

/// What is said and done about each fault on the way to a broker.
const SETTINGS: fault::Settings = fault::Settings {
    url: "url",
    tls: "tls",
    trust: "name that authority: tls: { ca: { file: … } }",
    no_tls: "write amqp://, or name the port that speaks TLS",
    closed: "check that it is an AMQP broker that listens there; where it speaks TLS, write \
             amqps://",
};

/// Why there is no connection, or no link.
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

    /// A broker does not do `what` it is asked for.
    pub(super) fn refused(what: &str, fault: &Fault) -> Self {
        let (at, help) = fault.advice();
        let class = match fault.class() {
            Class::Refused => Class::Refused,
            _ => Class::Unavailable,
        };
        Self {
            class,
            problem: Problem::new(format!("{what}: {fault}")).help(help).at(at),
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

/// A connection with a session, and what the broker said of both.
pub(super) struct Connected {
    pub(super) wire: Wire,
    pub(super) begun: Begun,
    /// The broker's name and version, where it says so.
    pub(super) product: Option<String>,
    /// How often something has to be sent.
    pub(super) pulse: Duration,
}

/// How to connect.
pub(super) struct Plan {
    pub(super) server: Server,
    /// The name that the broker knows us by.
    pub(super) container: String,
    /// What the broker is to be, where the host's name does not say it.
    pub(super) host_name: Option<String>,
}

/// What a broker does not do while it lets us in.
enum Unwelcome {
    Broken(Broken),
    /// It speaks another protocol, with the bytes that it says so by.
    Protocol([u8; 8]),
    Credentials(&'static str, String),
    Fault(Fault),
    /// It says something that has no place there.
    OutOfPlace,
}

impl<E: Into<Broken>> From<E> for Unwelcome {
    fn from(broken: E) -> Self {
        Self::Broken(broken.into())
    }
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
        let mut wire = Wire::new(stream);
        match timeout(ANSWER_WITHIN, self.enter(&mut wire)).await {
            Ok(Ok((opened, begun))) => Ok(Connected {
                pulse: pulse(&opened),
                product: opened.product,
                wire,
                begun,
            }),
            Ok(Err(unwelcome)) => Err(self.unwelcome(unwelcome)),
            Err(_elapsed) => {
                Err(self.unreachable("it takes the connection and does not let us in"))
            }
        }
    }

    fn host_name(&self) -> &str {
        self.host_name.as_deref().unwrap_or(&self.server.host.name)
    }

    /// Says who we are, and opens connection and session.
    async fn enter(&self, wire: &mut Wire) -> Result<(Opened, Begun), Unwelcome> {
        wire.begin(SASL);
        protocol(wire, SASL).await?;
        self.log_in(wire).await?;
        wire.begin(PROTOCOL);
        wire.put(Outgoing::open(
            &self.container,
            self.host_name(),
            FRAME_BYTES_MAX,
            IDLE_MS,
        ));
        wire.put(Outgoing::begin(WINDOW, WINDOW, u32::MAX));
        protocol(wire, PROTOCOL).await?;
        let opened = match frame(wire).await? {
            Incoming::Open(opened) => opened,
            Incoming::Close(Some(fault)) => return Err(Unwelcome::Fault(fault)),
            _ => return Err(Unwelcome::OutOfPlace),
        };
        wire.limit(opened.frame_bytes_max);
        match frame(wire).await? {
            Incoming::Begin(begun) => Ok((opened, begun)),
            Incoming::Close(Some(fault)) | Incoming::End(Some(fault)) => {
                Err(Unwelcome::Fault(fault))
            }
            _ => Err(Unwelcome::OutOfPlace),
        }
    }

    async fn log_in(&self, wire: &mut Wire) -> Result<(), Unwelcome> {
        let Incoming::Mechanisms(offered) = frame(wire).await? else {
            return Err(Unwelcome::OutOfPlace);
        };
        let identity = Identity {
            user: self.server.user.clone(),
            password: self.server.password.clone(),
            shows_certificate: self.server.shows_certificate,
        };
        let start = identity.start(&offered);
        let start = start.map_err(|(at, why)| Unwelcome::Credentials(at, why))?;
        wire.put(Outgoing::init(
            start.mechanism,
            start.response,
            self.host_name(),
        ));
        loop {
            match frame(wire).await? {
                // None of our mechanisms has more to say.
                Incoming::Challenge(_) => wire.put(Outgoing::response(Vec::new())),
                Incoming::Outcome(0, _) => return Ok(()),
                Incoming::Outcome(code, _) => {
                    return Err(match (code, start.mechanism) {
                        (1, "PLAIN") => Unwelcome::Credentials(
                            "password",
                            "it does not know the user, or not by this password".to_owned(),
                        ),
                        (1, "EXTERNAL") => Unwelcome::Credentials(
                            "tls",
                            "it does not let the certificate's owner in".to_owned(),
                        ),
                        (1, _) => Unwelcome::Credentials(
                            "username",
                            "it lets nobody in without a name".to_owned(),
                        ),
                        _ => Unwelcome::OutOfPlace,
                    });
                }
                _ => return Err(Unwelcome::OutOfPlace),
            }
        }
    }

    /// What is wrong where no connection was made.
    fn unreachable(&self, words: &str) -> Unreachable {
        let advice = fault::advice(words, &SETTINGS, self.server.shows_certificate);
        let Advice { at, what, help } = advice.unwrap_or_else(|| Advice {
            at: "url",
            what: words.to_owned(),
            help: "check that the AMQP broker runs and listens there",
        });
        let host = &self.server.host;
        let message = format!("cannot connect to the AMQP broker at {host}: {what}");
        Unreachable::unavailable(Problem::new(message).help(help).at(at))
    }

    fn unwelcome(&self, unwelcome: Unwelcome) -> Unreachable {
        let host = &self.server.host;
        let told = |message: String, at, help: &'static str| {
            Unreachable::unavailable(Problem::new(message).help(help).at(at))
        };
        match unwelcome {
            Unwelcome::Broken(Broken::Io(error)) => self.unreachable(&explain(&error)),
            Unwelcome::Broken(Broken::Malformed(_)) | Unwelcome::OutOfPlace => told(
                format!("what answers at {host} speaks no AMQP that is understood"),
                "url",
                "check the port; where it speaks TLS, write amqps://",
            ),
            Unwelcome::Protocol([b'A', b'M', b'Q', b'P', _, 0, 9, _]) => told(
                format!("the broker at {host} speaks AMQP 0.9.1 and not 1.0"),
                "url",
                "use the connector rabbitmq for it, or a RabbitMQ from 4.0 on",
            ),
            Unwelcome::Protocol(_) => told(
                format!("what answers at {host} does not speak AMQP 1.0 with SASL"),
                "url",
                "check the port; where it speaks TLS, write amqps://",
            ),
            Unwelcome::Credentials(at, why) => {
                let message = format!("the AMQP broker at {host} does not let us in: {why}");
                let help = "check username and password, or the client certificate, and what the \
                            broker allows";
                Unreachable {
                    class: Class::Refused,
                    problem: Problem::new(message).help(help).at(at),
                }
            }
            Unwelcome::Fault(fault) => {
                let what = format!("the AMQP broker at {host} does not take the connection");
                Unreachable::refused(&what, &fault)
            }
        }
    }
}

/// How often something has to be sent.
fn pulse(opened: &Opened) -> Duration {
    let asked = opened
        .idle_ms
        .map(|idle| Duration::from_millis(idle.into()) / 2);
    // One that wants to hear from us all the time hears often enough.
    asked.map_or(PULSE, |asked| {
        asked.clamp(Duration::from_millis(100), PULSE)
    })
}

/// How long nothing may come before the broker is taken to be gone.
pub(super) fn silence_max() -> Duration {
    Duration::from_millis(IDLE_MS.into()) * 2
}

/// The next frame that says something.
async fn frame(wire: &mut Wire) -> Result<Incoming, Broken> {
    loop {
        match wire.take()? {
            Some(Incoming::Nothing) => {}
            Some(frame) => return Ok(frame),
            None => wire.turn(true).await?,
        }
    }
}

/// Waits until the peer speaks this protocol.
async fn protocol(wire: &mut Wire, expected: [u8; 8]) -> Result<(), Unwelcome> {
    loop {
        match wire.take_protocol() {
            Some(protocol) if protocol == expected => return Ok(()),
            Some(protocol) => return Err(Unwelcome::Protocol(protocol)),
            None => wire.turn(true).await?,
        }
    }
}

/// Takes leave of the broker.
pub(super) async fn leave(mut wire: Wire) {
    // Where that does not succeed the broker finds out by itself.
    let _ = timeout(ANSWER_WITHIN, wire.close()).await;
}

/// Attaches the one link of a session that has no other, and returns what the broker says of it.
///
/// # Errors
/// Why it does not.
pub(super) async fn attach(
    wire: &mut Wire,
    asked: Outgoing,
    what: &str,
) -> Result<Attached, Unreachable> {
    wire.put(asked);
    let gone = |why: String| Unreachable::unavailable(Problem::new(why).at("url"));
    let answered = async {
        let mut attached = None;
        loop {
            let frame = frame(wire).await.map_err(|broken| gone(broken.words()))?;
            let fault = match frame {
                Incoming::Attach(answer) if answer.has_terminus => return Ok(answer),
                // Why follows.
                Incoming::Attach(answer) => {
                    attached = Some(answer);
                    continue;
                }
                Incoming::Detach { fault, .. } => fault,
                Incoming::End(fault) | Incoming::Close(fault) => fault,
                _ => continue,
            };
            let fault = fault.unwrap_or_else(|| {
                Fault::new(match attached {
                    Some(_) => "amqp:not-found",
                    None => "",
                })
            });
            return Err(Unreachable::refused(what, &fault));
        }
    };
    timeout(ANSWER_WITHIN, answered)
        .await
        .unwrap_or_else(|_elapsed| Err(gone("the AMQP broker does not answer in time".to_owned())))
}
