//! What a proxy knows of us over a connection: the stream of telemetry, by which it is told who
//! reads or sends what and by which it sends commands, and the heartbeats.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use pointsman_schemas::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::client::ANSWER_WITHIN;
use super::grpc::{Answers, CallError, Channel, framed};
use super::identity::Identity;
use super::proto::{
    ClientType, Command, Endpoints, FilterExpression, HeartbeatRequest, Nonce,
    NotifyClientTerminationRequest, PubSub, Publishing, Resource, Settings, Status, StatusResponse,
    Subscription, SubscriptionEntry, TelemetryCommand, ThreadStackTrace, UserAgent,
};
use super::refusal::{Refusal, UNSUPPORTED};

/// How often a proxy hears that we are there; it forgets whom it has not heard for two minutes.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// How long a proxy may take to hear that we go.
const LEFT_WITHIN: Duration = Duration::from_secs(1);

/// Answers to commands that wait to be sent.
const COMMANDS_MAX: usize = 16;

/// Rust, among the languages of `definition.proto`.
const LANGUAGE: i32 = 5;

/// What we are to a proxy.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// One that sends, to this topic where it is always the same.
    Producer(Option<Resource>),
    /// One of a group that reads a topic.
    Consumer {
        group: Resource,
        topic: Resource,
        filter: FilterExpression,
    },
}

impl Role {
    fn client_type(&self) -> ClientType {
        match self {
            Self::Producer(_) => ClientType::Producer,
            Self::Consumer { .. } => ClientType::SimpleConsumer,
        }
    }

    fn group(&self) -> Option<Resource> {
        match self {
            Self::Producer(_) => None,
            Self::Consumer { group, .. } => Some(group.clone()),
        }
    }

    fn settings(&self, access_point: Endpoints) -> Settings {
        let pub_sub = match self {
            Self::Producer(topic) => PubSub::Publishing(Publishing {
                topics: topic.iter().cloned().collect(),
            }),
            Self::Consumer {
                group,
                topic,
                filter,
            } => PubSub::Subscription(Subscription {
                group: Some(group.clone()),
                subscriptions: vec![SubscriptionEntry {
                    topic: Some(topic.clone()),
                    expression: Some(filter.clone()),
                }],
                fifo: None,
            }),
        };
        Settings {
            client_type: Some(self.client_type().into()),
            access_point: Some(access_point),
            backoff_policy: None,
            request_timeout: Some(ANSWER_WITHIN.into()),
            pub_sub: Some(pub_sub),
            user_agent: Some(UserAgent {
                language: LANGUAGE,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                platform: std::env::consts::OS.to_owned(),
            }),
        }
    }
}

/// What a proxy says of the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Whether messages of one group come one after the other.
    pub(super) is_fifo: bool,
    /// How often a message is handed out before RocketMQ gives it up; zero where it does not say.
    pub(super) attempts_max: i32,
}

impl Told {
    fn read(settings: &Settings) -> Self {
        let is_fifo = match &settings.pub_sub {
            Some(PubSub::Subscription(subscription)) => subscription.fifo.unwrap_or(false),
            _ => false,
        };
        let policy = settings.backoff_policy;
        Self {
            is_fifo,
            attempts_max: policy.map_or(0, |policy| policy.max_attempts),
        }
    }
}

/// A connection over which a proxy knows us. Dropped, it is closed.
pub(super) struct Session {
    pub(super) channel: Arc<Channel>,
    identity: Arc<Identity>,
    told: Arc<Mutex<Told>>,
    group: Option<Resource>,
    driving: AbortOnDropHandle<()>,
}

impl Session {
    /// Tells a proxy who we are, and waits until it knows.
    pub(super) async fn begin(
        channel: Channel,
        identity: Identity,
        role: &Role,
        access_point: Endpoints,
    ) -> Result<Self, CallError> {
        let channel = Arc::new(channel);
        let (commands, sent) = mpsc::channel(COMMANDS_MAX);
        let settings = TelemetryCommand {
            status: None,
            command: Some(Command::Settings(role.settings(access_point))),
        };
        // There is room for it: it is the first.
        let _ = commands.try_send(framed(&settings));
        let headers = identity.headers(Timestamp::now());
        let mut answers = channel.both_ways("Telemetry", headers, sent).await?;
        let told = loop {
            let answer: Option<TelemetryCommand> = answers.next().await?;
            let ended = || CallError::Cut("it has ended the session".to_owned());
            let TelemetryCommand { status, command } = answer.ok_or_else(ended)?;
            if status.is_some() {
                Refusal::check(status.as_ref()).map_err(CallError::Refused)?;
            }
            if let Some(Command::Settings(settings)) = command {
                break Arc::new(Mutex::new(Told::read(&settings)));
            }
        };
        let identity = Arc::new(identity);
        let group = role.group();
        let driver = Driver {
            channel: Arc::clone(&channel),
            identity: Arc::clone(&identity),
            told: Arc::clone(&told),
            heartbeat: HeartbeatRequest {
                group: group.clone(),
                client_type: role.client_type().into(),
            },
            commands,
        };
        let driving = tokio::spawn(driver.run(answers));
        Ok(Self {
            channel,
            identity,
            told,
            group,
            driving: AbortOnDropHandle::new(driving),
        })
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.driving.is_finished() && !self.channel.is_closed()
    }

    pub(super) fn told(&self) -> Told {
        *self.told.lock()
    }

    /// The headers of a call at this moment.
    pub(super) fn headers(&self) -> HeaderMap {
        self.identity.headers(Timestamp::now())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_usable() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (channel, headers) = (Arc::clone(&self.channel), self.headers());
        let leaving = NotifyClientTerminationRequest {
            group: self.group.clone(),
        };
        runtime.spawn(async move {
            let method = "NotifyClientTermination";
            let left = channel.ask::<StatusResponse>(method, headers, &leaving, LEFT_WITHIN);
            // It forgets us by itself where it does not hear this.
            let _ = left.await;
        });
    }
}

/// Keeps a session.
struct Driver {
    channel: Arc<Channel>,
    identity: Arc<Identity>,
    told: Arc<Mutex<Told>>,
    heartbeat: HeartbeatRequest,
    commands: mpsc::Sender<Bytes>,
}

impl Driver {
    /// Runs until the session is of no use any more.
    async fn run(self, mut answers: Answers<TelemetryCommand>) {
        let mut beats = interval(HEARTBEAT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is now, and the proxy has just heard of us.
        beats.tick().await;
        let why = loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Ok(Some(command)) => if let Err(why) = self.obey(command) {
                        break why;
                    },
                    Ok(None) => break "the proxy has ended it".to_owned(),
                    Err(error) => break error.to_string(),
                },
                _ = beats.tick() => if let Err(why) = self.beat().await {
                    break why;
                },
            }
        };
        tracing::debug!(why, "a session with RocketMQ has ended");
        // What waits for messages would wait for long where the proxy hangs.
        self.channel.close();
    }

    async fn beat(&self) -> Result<(), String> {
        let headers = self.identity.headers(Timestamp::now());
        let beat = &self.heartbeat;
        let answer = self
            .channel
            .ask::<StatusResponse>("Heartbeat", headers, beat, ANSWER_WITHIN);
        let answer = timeout(ANSWER_WITHIN, answer).await;
        let answer = answer.map_err(|_| "no answer to a heartbeat".to_owned())?;
        match answer {
            Ok(answer) => match Refusal::check(answer.status.as_ref()) {
                Err(refusal) if refusal.is_of_unknown_client() => Err(refusal.to_string()),
                // Calls tell of it.
                _ => Ok(()),
            },
            Err(error) => Err(error.to_string()),
        }
    }

    /// Does what the proxy asks for. What is not done here is answered so: whoever has asked does
    /// not wait.
    fn obey(&self, TelemetryCommand { status, command }: TelemetryCommand) -> Result<(), String> {
        let answer = match command {
            Some(Command::Settings(settings)) => {
                *self.told.lock() = Told::read(&settings);
                return Ok(());
            }
            Some(Command::ReconnectEndpoints(_)) => {
                return Err("the proxy asks for another connection".to_owned());
            }
            Some(Command::PrintThreadStackTrace(Nonce { nonce })) => {
                Command::ThreadStackTrace(ThreadStackTrace { nonce })
            }
            Some(Command::VerifyMessage(nonce)) => Command::VerifyMessageResult(nonce),
            // Nothing that is sent here waits for an end of its transaction.
            Some(
                Command::RecoverOrphanedTransaction(_)
                | Command::ThreadStackTrace(_)
                | Command::VerifyMessageResult(_),
            ) => return Ok(()),
            None => {
                return match status {
                    Some(_) => {
                        Refusal::check(status.as_ref()).map_err(|refusal| refusal.to_string())
                    }
                    None => Ok(()),
                };
            }
        };
        let answer = TelemetryCommand {
            status: Some(Status {
                code: UNSUPPORTED,
                message: "not supported by this client".to_owned(),
            }),
            command: Some(answer),
        };
        // Whoever asks more often than it reads answers has to do without.
        let _ = self.commands.try_send(framed(&answer));
        Ok(())
    }
}
