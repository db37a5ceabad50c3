//! Which queue or topic, and where it is.

use std::time::Duration;

use pointsman_schemas::{Problem, Text};
use tokio::time::timeout;

use super::client::{Client, ELEMENTS_MAX};
use crate::OpenError;
use crate::alibaba::{AccessKey, Endpoint, Signer, check_endpoint, http, unreachable};
use crate::files::Files;
use crate::net::Names;
use crate::parameter::resolve;
use crate::xml::{self, Element};

/// How long MNS may take to say what it knows of a queue or a topic.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The longest name.
const NAME_CHARS_MAX: usize = 256;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Queue,
    Topic,
}

impl Kind {
    /// The setting that names it, which is what it is called as well.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Topic => "topic",
        }
    }

    /// What the credentials have to be allowed.
    pub(super) fn rights(self) -> &'static str {
        match self {
            Self::Queue => {
                "allow them mns:GetQueueAttributes, mns:BatchReceiveMessage, \
                 mns:BatchDeleteMessage and mns:ChangeMessageVisibility to read, mns:SendMessage \
                 and mns:BatchSendMessage to write"
            }
            Self::Topic => "allow them mns:PublishMessage, and mns:GetTopicAttributes to look",
        }
    }
}

/// Which queue or topic, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'s> {
    pub(super) kind: Kind,
    pub(super) name: &'s Text,
    pub(super) endpoint: &'s Text,
    pub(super) credentials: Option<&'s AccessKey>,
}

/// A queue or a topic that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) client: Client,
    pub(super) name: String,
}

fn name_mistake(kind: Kind, name: &str) -> Option<Problem> {
    let setting = kind.setting();
    if name.contains("://") {
        return Some(Problem::new("this is a URL").help(format!(
            "write the {setting}'s name alone, and the account's address into endpoint"
        )));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(is_allowed) {
        return Some(Problem::new(format!(
            "a {setting}'s name has 1 to 256 characters of a-z, A-Z, 0-9, - and _"
        )));
    }
    None
}

impl Place<'_> {
    /// Every mistake in what is written out.
    pub(super) fn check(self) -> Vec<Problem> {
        let setting = self.kind.setting();
        let name = self.name.literal();
        let name = name.and_then(|name| name_mistake(self.kind, name));
        let keys = self.credentials.iter().flat_map(|keys| keys.check());
        check_endpoint(self.endpoint)
            .into_iter()
            .chain(name.map(|problem| problem.at(setting)))
            .chain(keys)
            .collect()
    }

    /// The files that the credentials are taken from.
    pub(super) fn files(self) -> Files {
        self.credentials
            .map_or_else(|| Files::of([]), AccessKey::files)
    }

    /// Makes a client, and calls nobody.
    ///
    /// # Errors
    /// A text cannot be resolved, or is none of what it should be.
    pub(super) fn open(
        self,
        allow_private_addresses: bool,
        names: Names,
    ) -> Result<Found, OpenError> {
        let setting = self.kind.setting();
        let name = resolve(self.name, &[setting.into()])?;
        if let Some(problem) = name_mistake(self.kind, &name) {
            return Err(OpenError(problem.at(setting)));
        }
        let endpoint = Endpoint::open(self.endpoint)?;
        let http = http(&endpoint, allow_private_addresses, names)?;
        Ok(Found {
            kind: self.kind,
            client: Client {
                http,
                endpoint,
                signer: Signer::open(self.credentials)?,
            },
            name,
        })
    }
}

impl Found {
    /// Its path.
    pub(super) fn resource(&self) -> String {
        format!("/{}s/{}", self.kind.setting(), self.name)
    }

    /// What MNS says of it.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) async fn attributes(&self) -> Result<Element, OpenError> {
        let resource = self.resource();
        let asked = self.client.get(&resource);
        let answered = match timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(Ok(answered))) => answered,
            Ok(Ok(Err(refusal))) => return Err(OpenError(refusal.problem(self.kind, &self.name))),
            Ok(Err(unanswered)) => return Err(OpenError(unreachable("MNS", &unanswered.words()))),
            Err(_elapsed) => return Err(OpenError(unreachable("MNS", "no answer in time"))),
        };
        let expected = match self.kind {
            Kind::Queue => "Queue",
            Kind::Topic => "Topic",
        };
        let text = String::from_utf8_lossy(&answered.body);
        let read = xml::read(&text, ELEMENTS_MAX).filter(|root| root.name == expected);
        read.ok_or_else(|| {
            let problem = Problem::new("what answers there is not MNS").at("endpoint");
            OpenError(problem.help("check the address"))
        })
    }
}
