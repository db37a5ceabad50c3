//! Connections to a proxy, and what is asked over them.
//!
//! A connection is made when it is first needed, and anew once it or its session has ended, or was
//! not answered in time. What its address and certificates are made of is read again for each, its
//! keys whenever their files have changed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Class, Problem};
use prost::Message;
use tokio::time::timeout;

use super::grpc::{Answers, CallError, Channel};
use super::identity::Identity;
use super::proto::{Address, AddressScheme, Endpoints};
use super::refusal::Refusal;
use super::session::{Role, Session};
use crate::OpenError;
use crate::alibaba::Signer;
use crate::net::Names;
use crate::net::explain::explain;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::server::Server;
use crate::net::shared::SharedConnection;
use crate::net::stream::{self, Host};

/// How long an answer may take, where it does not wait for messages.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What is said and done about each fault on the way to a proxy.
const SETTINGS: fault::Settings = fault::Settings {
    url: "url",
    tls: "tls",
    trust: "name that authority: tls: { ca: { file: … } }",
    no_tls: "write rocketmq://, or name the port that speaks TLS",
    closed: "check that it is the proxy of RocketMQ 5 that listens there; where it speaks TLS \
             alone, write rocketmqs://",
};

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(super) struct Unreachable {
    pub(super) class: Class,
    pub(super) problem: Problem,
}

impl Unreachable {
    fn unavailable(problem: Problem) -> Self {
        Self {
            class: Class::Unavailable,
            problem,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Unanswered {
    /// Nothing was sent.
    Unreachable(Unreachable),
    /// The connection broke, or nothing came in time: it may have been done.
    Cut(String),
    /// It is refused.
    Refused(Refusal),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(unreachable) => f.write_str(&unreachable.problem.message),
            Self::Cut(why) => f.write_str(why),
            Self::Refused(refusal) => f.write_str(&refusal.words()),
        }
    }
}

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unsent(why) => {
                let why = format!("the connection to RocketMQ has gone: {why}");
                Self::Unreachable(Unreachable::unavailable(Problem::new(why).at("url")))
            }
            CallError::Cut(why) | CallError::Foreign(why) => {
                Self::Cut(format!("RocketMQ has not answered: {why}"))
            }
            CallError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Unanswered {
    /// The problem of a source or target that cannot be opened.
    pub(super) fn problem(self) -> OpenError {
        OpenError(match self {
            Self::Unreachable(Unreachable { problem, .. }) => problem,
            Self::Cut(why) => Problem::new(why).at("url"),
            Self::Refused(refusal) => refusal.problem(),
        })
    }

    /// Whether another connection may do better.
    fn spoils(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Cut(_) => true,
            Self::Refused(refusal) => refusal.is_of_unknown_client(),
        }
    }
}

/// Where a proxy is and who asks it. It holds secrets and shows none.
pub(super) struct Place {
    pub(super) server: Server,
    pub(super) namespace: String,
    pub(super) signer: Option<Signer>,
}

impl Place {
    async fn connect(
        &self,
        role: &Role,
        guard: Guard,
        names: Names,
    ) -> Result<Session, Unreachable> {
        let Server { host, tls, .. } = &self.server;
        let tls = tls.as_ref().map(|tls| {
            let mut tls = tls.as_ref().clone();
            tls.alpn_protocols = vec![b"h2".to_vec()];
            Arc::new(tls)
        });
        let is_secure = tls.is_some();
        let stream = stream::connect(host, tls, guard, names)
            .await
            .map_err(|error| self.unreachable(&explain(&*error)))?;
        let channel = match timeout(ANSWER_WITHIN, Channel::begin(stream, host, is_secure)).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(self.unreachable(&explain(&error))),
            Err(_elapsed) => return Err(self.is_silent()),
        };
        let identity = Identity::new(self.namespace.clone(), self.signer.clone());
        let begun = Session::begin(channel, identity, role, endpoints(host));
        match timeout(ANSWER_WITHIN, begun).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(self.unwelcome(error)),
            Err(_elapsed) => Err(self.is_silent()),
        }
    }

    fn is_silent(&self) -> Unreachable {
        self.unreachable("it takes the connection and says nothing")
    }

    fn unwelcome(&self, error: CallError) -> Unreachable {
        let host = &self.server.host;
        let no_proxy = || {
            let problem = Problem::new(format!("what answers at {host} is no proxy of RocketMQ 5"));
            let help = "name the proxy, whose usual port is 8081, and neither a name server nor a \
                        broker";
            Unreachable::unavailable(problem.help(help).at("url"))
        };
        match error {
            CallError::Refused(refusal) if refusal.is_of_no_proxy() => no_proxy(),
            CallError::Refused(refusal) => Unreachable {
                class: match refusal.class() {
                    Class::Refused => Class::Refused,
                    // No message is at fault.
                    _ => Class::Unavailable,
                },
                problem: refusal.problem(),
            },
            CallError::Foreign(_) => no_proxy(),
            CallError::Unsent(why) | CallError::Cut(why) => self.unreachable(&why),
        }
    }

    /// What is wrong where no connection was made.
    fn unreachable(&self, words: &str) -> Unreachable {
        let advice = fault::advice(words, &SETTINGS, self.server.shows_certificate);
        let Advice { at, what, help } = advice.unwrap_or_else(|| Advice {
            at: "url",
            what: words.to_owned(),
            help: "check that the proxy of RocketMQ 5 runs and listens there: its usual port is \
                   8081",
        });
        let host = &self.server.host;
        let message = format!("cannot connect to RocketMQ at {host}: {what}");
        Unreachable::unavailable(Problem::new(message).help(help).at(at))
    }
}

/// A host as the protocol has it.
pub(super) fn endpoints(host: &Host) -> Endpoints {
    let scheme = match host.name.parse() {
        Ok(std::net::IpAddr::V4(_)) => AddressScheme::Ipv4,
        Ok(std::net::IpAddr::V6(_)) => AddressScheme::Ipv6,
        Err(_) => AddressScheme::DomainName,
    };
    Endpoints {
        scheme: scheme.into(),
        addresses: vec![Address {
            host: host.name.clone(),
            port: host.port.into(),
        }],
    }
}

/// Makes connections, and keeps one that all share.
pub(super) struct Client {
    resolve: Box<dyn Fn() -> Result<Place, OpenError> + Send + Sync>,
    guard: Guard,
    names: Names,
    role: Role,
    pub(super) host: Host,
    shared: SharedConnection<Session, Unreachable>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that reads by `resolve` whom to connect to.
    ///
    /// # Errors
    /// What is missing now.
    pub(super) fn open(
        resolve: impl Fn() -> Result<Place, OpenError> + Send + Sync + 'static,
        role: Role,
        guard: Guard,
        names: Names,
    ) -> Result<Self, OpenError> {
        let host = resolve()?.server.host;
        Ok(Self {
            resolve: Box::new(resolve),
            guard,
            names,
            role,
            host,
            shared: SharedConnection::default(),
        })
    }

    async fn connect(&self) -> Result<Session, Unreachable> {
        let resolved = (self.resolve)();
        let place = resolved.map_err(|OpenError(problem)| Unreachable::unavailable(problem))?;
        place
            .connect(&self.role, self.guard, self.names.clone())
            .await
    }

    /// The session of this moment.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn session(&self) -> Result<Arc<Session>, Unanswered> {
        let session = self.shared.get(Session::is_usable, self.connect()).await;
        session.map_err(Unanswered::Unreachable)
    }

    /// Answers a call, over the connection that all share.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn ask<A: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
        within: Duration,
    ) -> Result<A, Unanswered> {
        let session = self.session().await?;
        let asked = session
            .channel
            .ask(method, session.headers(), message, within);
        let answered = asked.await.map_err(Unanswered::from);
        if let Err(unanswered) = &answered {
            self.told(&session, unanswered).await;
        }
        answered
    }

    /// Answers a call with several messages.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn stream<A: Message + Default>(
        &self,
        method: &str,
        message: &impl Message,
        within: Duration,
    ) -> Result<(Answers<A>, Arc<Session>), Unanswered> {
        let session = self.session().await?;
        let asked = session
            .channel
            .stream(method, session.headers(), message, within);
        match asked.await.map_err(Unanswered::from) {
            Ok(answers) => Ok((answers, session)),
            Err(unanswered) => {
                self.told(&session, &unanswered).await;
                Err(unanswered)
            }
        }
    }

    /// Looks at what a call over a session came to: another one is made where that may help.
    pub(super) async fn told(&self, session: &Arc<Session>, unanswered: &Unanswered) {
        if unanswered.spoils() {
            self.shared.forget(session).await;
        }
    }
}
