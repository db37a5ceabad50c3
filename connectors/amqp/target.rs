//! The settings of a target.

use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Placement, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::client::{attach, leave};
use super::frame::Outgoing;
use super::mapping::Mode;
use super::sender::Sender;
use super::settings::{Access, Kind};
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::server::ServerSettings;
use crate::net::shared::SharedConnection;
use crate::net::tls::TlsSettings;
use crate::parameter::{Parameter, Templates, called};
use crate::{Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// Sends each event to an address of a broker by AMQP 1.0.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmqpTarget {
    /// The broker: `amqp://127.0.0.1:5672`, or `amqps://…`.
    #[schemars(extend("pattern" = "^amqps?://", "examples" = ["amqp://127.0.0.1:5672"]))]
    url: Text,
    /// The user. Without one, a client certificate says who connects, or nobody does.
    username: Option<Text>,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// Certificates, for `amqps`.
    tls: Option<TlsSettings>,
    /// The host that the broker is asked to be; that of the URL unless it is given. RabbitMQ takes
    /// `vhost:<name>`.
    hostname: Option<Text>,
    /// The name that the broker knows this connection by; one made of the target's name unless it
    /// is given.
    container_id: Option<Text>,
    /// The address, which may hold templates: a queue or a topic. RabbitMQ writes `/queues/<name>`
    /// and `/exchanges/<name>/<key>`.
    #[schemars(extend("minLength" = 1))]
    address: Text,
    /// What the address is, for brokers that make it by themselves.
    kind: Option<Kind>,
    /// The message's subject, which may hold templates.
    subject: Option<Text>,
    /// The message's group, which may hold templates: brokers keep the order within it.
    group_id: Option<Text>,
    /// How the event is written: as application properties and a body, as one JSON document, or its
    /// data alone.
    #[serde(default)]
    mode: Mode,
    /// Whether messages outlive a restart of the broker.
    #[serde(default = "yes")]
    durable: bool,
    /// How urgent messages are, 0 to 255; 4 is the usual.
    priority: Option<u8>,
    /// How long the broker keeps each message.
    ttl: Option<Interval>,
}

fn yes() -> bool {
    true
}

/// The texts that may hold templates, and which of the filled-in ones each is.
struct Filled {
    address: Option<usize>,
    subject: Option<usize>,
    group: Option<usize>,
    templates: Templates,
}

impl AmqpTarget {
    fn access(&self) -> Access<'_> {
        Access {
            server: ServerSettings {
                url: &self.url,
                username: self.username.as_ref(),
                password: self.password.as_ref(),
                tls: self.tls.as_ref(),
            },
            host_name: self.hostname.as_ref(),
            container: self.container_id.as_ref(),
        }
    }

    fn filled(&self) -> Filled {
        let mut templates = Templates::default();
        let mut note = |text: Option<&Text>, placement, at: &str| {
            text.and_then(|text| templates.note(text, placement, vec![at.into()]))
        };
        let address = note(Some(&self.address), Placement::Address, "address");
        let subject = note(self.subject.as_ref(), Placement::Argument, "subject");
        let group = note(self.group_id.as_ref(), Placement::Argument, "group_id");
        Filled {
            address,
            subject,
            group,
            templates,
        }
    }

    fn sender(
        &self,
        container: String,
        allow_private_addresses: bool,
        names: Names,
    ) -> Result<Sender, OpenError> {
        let filled = self.filled();
        let open = |text: Option<&Text>, index, at: &'static str| {
            text.map(|text| Parameter::open(text, index, &[at.into()]))
                .transpose()
        };
        // Read once, to find what is missing, and again for each connection.
        self.access().plan(&container)?;
        let settings = self.clone();
        Ok(Sender {
            plan: Box::new(move || settings.access().plan(&container)),
            guard: Guard {
                allow_private_addresses,
            },
            names,
            line: SharedConnection::default(),
            address: Parameter::open(&self.address, filled.address, &["address".into()])?,
            subject: open(self.subject.as_ref(), filled.subject, "subject")?,
            group: open(self.group_id.as_ref(), filled.group, "group_id")?,
            kind: self.kind,
            mode: self.mode,
            is_durable: self.durable,
            priority: self.priority,
            ttl_ms: self.ttl_ms(),
            texts: filled.templates.count(),
        })
    }

    fn ttl_ms(&self) -> Option<u32> {
        let Interval(ttl) = self.ttl?;
        Some(u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX))
    }
}

#[async_trait]
impl TargetSettings for AmqpTarget {
    fn files(&self) -> Files {
        self.access().server.files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        if self.address.literal() == Some("") {
            let problem = Problem::new("a target sends to an address");
            problems.push(problem.help("name a queue or a topic").at("address"));
        }
        let milliseconds = self.ttl.map(|Interval(ttl)| ttl.as_millis());
        if milliseconds.is_some_and(|ttl| !(1..=u128::from(u32::MAX)).contains(&ttl)) {
            let problem = Problem::new("a message is kept for 1ms to 49d");
            problems.push(
                problem
                    .help("leave it out, and it is kept for ever")
                    .at("ttl"),
            );
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().templates.into_texts()
    }

    fn called(&self) -> Called {
        let address = self.filled().address;
        called([(&self.address, address)], |[address]| {
            format!("send to {address}")
        })
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let sender = self.sender("pointsman check".to_owned(), true, Names::default())?;
        let mut connected = sender.connect().await?;
        let host = (sender.plan)()?.server.host;
        let product = connected.product.as_deref().unwrap_or("the AMQP broker");
        let found = match &sender.address {
            Parameter::Constant(address) => {
                let name = format!("pointsman-{:032x}", rand::random::<u128>());
                let capability = self.kind.map(Kind::capability);
                let asked = Outgoing::sender(&name, 0, address, capability);
                let what = format!("{product} at {host} takes no messages for {address}");
                attach(&mut connected.wire, asked, &what).await?;
                format!("it takes messages for {address}")
            }
            Parameter::Filled(_) => {
                "it takes connections; the address depends on the event".to_owned()
            }
        };
        let found = format!("{product} at {host}: {found}");
        leave(connected.wire).await;
        Ok(found)
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let container = format!("pointsman/{}/{}", context.tenant, context.name);
        let sender = self.sender(container, context.allow_private_addresses, context.names)?;
        let sender = Arc::new(sender);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let sender = Arc::clone(&sender);
                async move { sender.attempt(&attempt).await }
            },
        )))
    }
}
