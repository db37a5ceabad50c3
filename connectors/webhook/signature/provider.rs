//! What the providers are given whose keys are fetched.

use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::hosts::{self, HostPattern};
use super::scheme::{Requirement, Scheme, Values};
use super::template::Template;

/// Amazon's Simple Notification Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sns {
    /// The ARNs of the topics that are taken, and whose subscription is confirmed; all of
    /// everybody's by default.
    #[serde(default)]
    pub topics: Values,
    /// Where certificates may be fetched and subscriptions confirmed, in the place of Amazon's own
    /// hosts.
    pub certificate_hosts: Option<Vec<HostPattern>>,
}

/// Google Pub/Sub's push with authentication.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PubSub {
    /// The audience of the subscription's tokens; where it sets none, the address that it pushes
    /// to.
    pub audience: Values,
    /// The service account that the subscription pushes as.
    pub email: Values,
    /// Where the issuer's keys are, in the place of Google's.
    pub jwks: Option<String>,
}

/// PayPal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paypal {
    /// The id of the webhook, which is signed with each call.
    pub webhook_id: Text,
    /// The one before it, which is still taken.
    pub previous: Option<Text>,
    /// Where certificates may be fetched, in the place of PayPal's own hosts.
    pub certificate_hosts: Option<Vec<HostPattern>>,
}

/// Alibaba Cloud's EventBridge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventBridge {
    /// The token that the target is configured with.
    #[schemars(extend("writeOnly" = true))]
    pub secret: Text,
    /// The one before it, which is still taken.
    #[schemars(extend("writeOnly" = true))]
    pub previous: Option<Text>,
    /// Where certificates may be fetched, in the place of Alibaba's own hosts.
    pub certificate_hosts: Option<Vec<HostPattern>>,
}

/// Alibaba Cloud's Message Service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mns {
    /// The ids of the accounts whose topics are taken; everybody's by default.
    #[serde(default)]
    pub accounts: Values,
    /// Where certificates may be fetched, in the place of Alibaba's own host.
    pub certificate_hosts: Option<Vec<HostPattern>>,
}

/// Sets other hosts than the provider's own.
pub(super) fn set_hosts(scheme: &mut Scheme, hosts: Option<&[HostPattern]>) {
    if let (Some(certificate), Some(hosts)) = (&mut scheme.certificate, hosts) {
        certificate.hosts = hosts.to_vec();
    }
}

/// Takes what has one of these values at a place, or anything where there are none.
fn require(scheme: &mut Scheme, place: &str, values: &Values) {
    if let (false, Ok(value)) = (values.0.is_empty(), Template::parse(place)) {
        scheme.require.push(Requirement {
            value,
            is: values.clone(),
        });
    }
}

/// Whose signature says nothing of whose message it is.
fn open_to_all(key: &str, help: &str) -> Problem {
    Problem::new(
        "whoever has an account there can have messages sent here, and they are signed too",
    )
    .at(key)
    .warn()
    .help(help.to_owned())
}

impl Sns {
    pub(super) fn apply(&self, scheme: &mut Scheme) {
        set_hosts(scheme, self.certificate_hosts.as_deref());
        require(scheme, "<$.fields.TopicArn>", &self.topics);
    }

    pub(super) fn check(&self) -> Vec<Problem> {
        if self.topics.0.is_empty() {
            return vec![open_to_all("topics", "add topics: [arn:aws:sns:…]")];
        }
        self.topics.check("topics").into_iter().collect()
    }
}

impl PubSub {
    pub(super) fn apply(&self, scheme: &mut Scheme) {
        if let Some(jwt) = &mut scheme.jwt {
            jwt.audience = self.audience.clone();
            jwt.claims.insert("email".to_owned(), self.email.clone());
            if let Some(jwks) = &self.jwks {
                jwt.jwks = Some(jwks.clone());
            }
        }
    }

    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = self
            .audience
            .check("audience")
            .into_iter()
            .chain(self.email.check("email"))
            .collect();
        if let Some(Err(message)) = self.jwks.as_deref().map(hosts::own) {
            problems.push(Problem::new(message).at("jwks"));
        }
        problems
    }
}

impl Mns {
    pub(super) fn apply(&self, scheme: &mut Scheme) {
        set_hosts(scheme, self.certificate_hosts.as_deref());
        require(scheme, "<$.headers.x-mns-topic-owner>", &self.accounts);
    }

    pub(super) fn check(&self) -> Vec<Problem> {
        if self.accounts.0.is_empty() {
            return vec![open_to_all(
                "accounts",
                "add accounts: [\"1234567890123456\"], the id of the account that owns the topic",
            )];
        }
        self.accounts.check("accounts").into_iter().collect()
    }
}
