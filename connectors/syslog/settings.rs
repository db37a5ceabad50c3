//! The settings of a source.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use pointsman_schemas::{Problem, Segment, Size, Text, time};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::connection::Transport;
use super::event::Mapper;
use super::receiver::{Bounds, Receiver};
use super::source::Syslog;
use crate::listener::{ADDRESS_PATTERN, connections_max, is_address};
use crate::net::tls::server_config;
use crate::parameter::resolve;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// How short a bound on messages may be: what every receiver must take (RFC 5424, section 6.1).
const MESSAGE_BYTES_MIN: u64 = 480;

/// How long it may be.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// Of the descriptors of the process, connections take a quarter at most.
const DESCRIPTORS_PART: u64 = 4;

/// Takes syslog messages over UDP, TCP and TLS.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{ "required": ["udp"] }, { "required": ["tcp"] }, { "required": ["tls"] }]))]
pub struct SyslogSource {
    /// Where datagrams come in, `host:port`: a message each (RFC 5426).
    #[schemars(extend("pattern" = ADDRESS_PATTERN, "examples" = ["0.0.0.0:514"]))]
    udp: Option<Text>,
    /// Where connections come in, `host:port`: messages behind their lengths, or lines (RFC 6587).
    #[schemars(extend("pattern" = ADDRESS_PATTERN, "examples" = ["0.0.0.0:601"]))]
    tcp: Option<Text>,
    /// Where connections by TLS come in (RFC 5425).
    tls: Option<Tls>,
    /// How long a message may be, 480B to 1MiB; 64KiB unless it is given. What is longer is cut off
    /// and marked.
    #[serde(default = "max_message")]
    max_message: Size,
    /// How many senders are connected at once; 512 unless it is given. Others wait.
    #[serde(default = "max_connections")]
    #[schemars(range(min = 1))]
    max_connections: u32,
    /// The time zone of times that have none, as those of RFC 3164; UTC unless it is given.
    #[schemars(extend("examples" = ["Europe/Berlin", "UTC"]))]
    timezone: Option<Text>,
}

/// Where connections by TLS come in.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// `host:port`.
    #[schemars(extend("pattern" = ADDRESS_PATTERN, "examples" = ["0.0.0.0:6514"]))]
    address: Text,
    /// The certificate chain in PEM, the server's own first.
    certificate: Text,
    /// The private key in PEM.
    #[schemars(extend("writeOnly" = true))]
    key: Text,
    /// Certificates in PEM that vouch for senders, each of which then has to show a certificate; any
    /// may send unless they are given.
    clients: Option<Text>,
}

fn max_message() -> Size {
    Size { bytes: 64 << 10 }
}

fn max_connections() -> u32 {
    512
}

/// Where a setting is.
type Path = &'static [&'static str];

/// A socket that the settings ask for.
struct Wanted {
    transport: Transport,
    address: String,
    path: Path,
    tls: Option<TlsAcceptor>,
}

/// A socket that is there.
enum Bound {
    Datagrams(UdpSocket),
    Listener(TcpListener, Option<TlsAcceptor>),
}

impl Wanted {
    async fn bind(&self) -> io::Result<Bound> {
        Ok(match self.transport {
            Transport::Udp => Bound::Datagrams(UdpSocket::bind(&self.address).await?),
            Transport::Tcp | Transport::Tls => {
                Bound::Listener(TcpListener::bind(&self.address).await?, self.tls.clone())
            }
        })
    }

    /// What is wrong where it cannot be bound.
    fn taken(&self, error: &io::Error) -> OpenError {
        let problem = Problem::new(format!("cannot listen on {}: {error}", self.address));
        let problem = problem.help(match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 take the right to bind them (CAP_NET_BIND_SERVICE); choose \
                 another, such as 5514"
            }
            _ => "choose another port, or stop what has it",
        });
        OpenError(at(problem, self.path))
    }
}

/// Puts the path of a setting in front of a problem.
fn at(problem: Problem, path: Path) -> Problem {
    let path = path.iter().rev();
    path.fold(problem, |problem, key| problem.at(*key))
}

impl SyslogSource {
    /// The addresses, each with its setting.
    fn addresses(&self) -> impl Iterator<Item = (Transport, &Text, Path)> {
        let tls = self.tls.as_ref().map(|tls| &tls.address);
        let all: [(_, _, Path); 3] = [
            (Transport::Udp, self.udp.as_ref(), &["udp"]),
            (Transport::Tcp, self.tcp.as_ref(), &["tcp"]),
            (Transport::Tls, tls, &["tls", "address"]),
        ];
        let given = all.into_iter();
        given.filter_map(|(transport, text, path)| Some((transport, text?, path)))
    }

    /// The sockets that are asked for, with what the settings stand for now.
    fn wanted(&self) -> Result<Vec<Wanted>, OpenError> {
        let mut wanted = Vec::new();
        for (transport, text, path) in self.addresses() {
            let segments: Vec<_> = path.iter().map(|key| Segment::from(*key)).collect();
            let tls = self.tls.as_ref().filter(|_| transport == Transport::Tls);
            wanted.push(Wanted {
                transport,
                address: resolve(text, &segments)?,
                path,
                tls: tls.map(Tls::acceptor).transpose()?,
            });
        }
        Ok(wanted)
    }

    fn zone(&self) -> Result<TimeZone, OpenError> {
        let Some(text) = &self.timezone else {
            return Ok(TimeZone::UTC);
        };
        let zone = time::zone(&resolve(text, &["timezone".into()])?);
        zone.map_err(|problem| OpenError(problem.at("timezone")))
    }
}

impl Tls {
    fn acceptor(&self) -> Result<TlsAcceptor, OpenError> {
        let text = |text: &Text, at: &'static str| resolve(text, &["tls".into(), at.into()]);
        let clients = self
            .clients
            .as_ref()
            .map(|clients| text(clients, "clients"));
        let config = server_config(
            &text(&self.certificate, "certificate")?,
            &text(&self.key, "key")?,
            clients.transpose()?.as_deref(),
        );
        let config = config.map_err(|mistake| OpenError(Problem::new(mistake).at("tls")))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

#[async_trait]
impl SourceSettings for SyslogSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.addresses().next().is_none() {
            let problem = Problem::new("it listens nowhere");
            problems.push(problem.help("write udp: 0.0.0.0:514, tcp: 0.0.0.0:601, or tls"));
        }
        for (_, text, path) in self.addresses() {
            if let Some(address) = text.literal().filter(|address| !is_address(address)) {
                let problem = Problem::new(format!("`{address}` is not an address"));
                let help = "write host:port, such as 0.0.0.0:5514";
                problems.push(at(problem.help(help), path));
            }
        }
        if !(MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&self.max_message.bytes) {
            let problem = Problem::new("a message may be 480B to 1MiB long");
            problems.push(problem.at("max_message"));
        }
        if self.max_connections == 0 {
            let problem = Problem::new("lets nobody in").at("max_connections");
            problems.push(problem.help("write at least 1"));
        }
        let zone = self.timezone.as_ref().and_then(Text::literal);
        let mistaken = zone.and_then(|name| time::zone(name).err());
        problems.extend(mistaken.map(|problem| problem.at("timezone")));
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        false
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtMostOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::Each
    }

    async fn probe(&self) -> Result<String, OpenError> {
        self.zone()?;
        let mut found = Vec::new();
        for wanted in self.wanted()? {
            let (transport, address) = (wanted.transport.as_str(), &wanted.address);
            found.push(match wanted.bind().await {
                Ok(_) => format!("{transport} {address} is free"),
                // It may be this very source that has it.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    format!("{transport} {address} is in use, by this bus if it runs")
                }
                Err(error) => return Err(wanted.taken(&error)),
            });
        }
        Ok(found.join(", "))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let zone = self.zone()?;
        let connections = usize::try_from(self.max_connections).unwrap_or(usize::MAX);
        let bounds = Bounds {
            message_bytes: usize::try_from(self.max_message.bytes).unwrap_or(usize::MAX),
            connections: connections_max(connections, DESCRIPTORS_PART),
        };
        let mut receiver = Receiver::new(bounds, context.link);
        for wanted in self.wanted()? {
            let bound = wanted.bind().await;
            match bound.map_err(|error| wanted.taken(&error))? {
                Bound::Datagrams(socket) => receiver.read(socket),
                Bound::Listener(listener, tls) => receiver.accept(listener, tls),
            }
        }
        let mapper = Mapper::new(context.name, context.mapped, context.clock, zone);
        Ok(Box::new(Syslog::new(receiver, mapper)))
    }
}
