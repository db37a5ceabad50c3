//! The settings of a source.

use async_trait::async_trait;
use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::client::leave;
use super::frame::Terminus;
use super::reader::Opening;
use super::settings::{Access, Kind};
use crate::files::Files;
use crate::net::guard::Guard;
use crate::net::server::ServerSettings;
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// Messages in hand at most.
const PREFETCH_MAX: usize = 10_000;

/// Reads an address of a broker by AMQP 1.0.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AmqpSource {
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
    /// The name that the broker knows this connection by; one made of the source's name unless it
    /// is given.
    container_id: Option<Text>,
    /// The address: a queue or a topic. RabbitMQ writes `/queues/<name>`, Artemis also
    /// `<address>::<queue>`.
    #[schemars(extend("minLength" = 1))]
    address: Text,
    /// What the address is, for brokers that make it by themselves.
    kind: Option<Kind>,
    /// The name of a durable subscription to the address, which is a topic: the broker keeps it,
    /// with what comes while nobody is connected.
    #[schemars(extend("minLength" = 1))]
    subscription: Option<Text>,
    /// Which messages are wanted: a selector, in the words of JMS.
    #[schemars(extend("minLength" = 1))]
    selector: Option<Text>,
    /// How many messages may be in hand, handed over and not yet settled, 1 to 10000.
    #[serde(default = "prefetch")]
    #[schemars(range(min = 1, max = 10_000))]
    prefetch: usize,
    /// Whether senders never use a CloudEvent's `source` and `id`, or a message's id, twice: then
    /// what comes again within 24 h is stored once.
    #[serde(default)]
    deduplicate: bool,
}

fn prefetch() -> usize {
    500
}

/// The operator names the address, and no event has a part in it.
pub(super) const GUARD: Guard = Guard {
    allow_private_addresses: true,
};

impl AmqpSource {
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

    /// Whether each who reads gets every message.
    fn is_topic(&self) -> bool {
        self.kind == Some(Kind::Topic) || self.subscription.is_some()
    }

    fn opening(&self, container: &str) -> Result<Opening, OpenError> {
        let text = |text: Option<&Text>, at: &str| {
            text.map(|text| resolve(text, &[at.into()])).transpose()
        };
        let subscription = text(self.subscription.as_ref(), "subscription")?;
        let kind = match subscription {
            Some(_) => Some(Kind::Topic),
            None => self.kind,
        };
        let terminus = Terminus {
            address: resolve(&self.address, &["address".into()])?,
            selector: text(self.selector.as_ref(), "selector")?,
            is_durable: subscription.is_some(),
            capabilities: kind.map(Kind::capability).into_iter().collect(),
        };
        Ok(Opening {
            plan: self.access().plan(container)?,
            files: self.access().server.files(),
            link: subscription
                .unwrap_or_else(|| format!("pointsman-{:032x}", rand::random::<u128>())),
            terminus,
            prefetch: self.prefetch,
        })
    }
}

#[async_trait]
impl SourceSettings for AmqpSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
        if self.address.literal() == Some("") {
            let problem = Problem::new("a source reads an address").help("name a queue or a topic");
            problems.push(problem.at("address"));
        }
        for (text, at) in [
            (&self.subscription, "subscription"),
            (&self.selector, "selector"),
        ] {
            if text.as_ref().and_then(Text::literal) == Some("") {
                let problem = Problem::new("nothing stands there").help("leave it out");
                problems.push(problem.at(at));
            }
        }
        if self.subscription.is_some() && self.kind == Some(Kind::Queue) {
            let problem = Problem::new("a subscription is to a topic, and not to a queue");
            problems.push(problem.help("leave out one of the two").at("kind"));
        }
        if !(1..=PREFETCH_MAX).contains(&self.prefetch) {
            let mistake = format!("1 to {PREFETCH_MAX} messages are in hand");
            problems.push(Problem::new(mistake).at("prefetch"));
        }
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        self.deduplicate
    }

    fn guarantee(&self) -> Guarantee {
        match (self.kind, &self.subscription) {
            // Nobody keeps what comes while nobody is connected.
            (Some(Kind::Topic), None) => Guarantee::AtMostOnce,
            _ => Guarantee::AtLeastOnce,
        }
    }

    fn runs_on(&self) -> RunsOn {
        match self.is_topic() {
            true => RunsOn::One,
            false => RunsOn::EachUnlessOrdered,
        }
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let opening = self.opening("pointsman check")?;
        let host = &opening.plan.server.host;
        let address = &opening.terminus.address;
        let (wire, product, found) = if self.is_topic() {
            // To look at a subscription would be to make it, or to take it from whoever has it.
            let connected = opening
                .plan
                .connect(GUARD, crate::net::Names::default())
                .await?;
            let found = "whether there is such a topic shows when it is read";
            (connected.wire, connected.product, found.to_owned())
        } else {
            let (connected, _) = opening.connect().await?;
            (
                connected.wire,
                connected.product,
                format!("it lets us read {address}"),
            )
        };
        leave(wire).await;
        let product = product.unwrap_or_else(|| "the AMQP broker".to_owned());
        Ok(format!("{product} at {host}: {found}"))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let container = format!("pointsman/{}/{}", context.tenant, context.name);
        // What it is read from is looked at before it is read: what changes meanwhile is read again.
        let files: Files = self.access().server.files();
        let opening = Opening {
            files,
            ..self.opening(&container)?
        };
        Ok(Box::new(opening.open(context).await?))
    }
}
