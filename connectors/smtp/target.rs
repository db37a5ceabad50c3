//! The settings of a target.

use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Placement, Problem, Segment, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::client::{Address, Client};
use super::letter::{Letter, RECIPIENTS_MAX, mailbox};
use super::sender::Sender;
use super::settings::{Connection, Encryption, Login};
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::tls::TlsSettings;
use crate::parameter::{Parameter, Templates, called, located};
use crate::texts::Texts;
use crate::{AttemptError, Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// Sends a mail for each event, by SMTP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmtpTarget {
    /// The host name or address of the mail server.
    #[schemars(extend("examples" = ["smtp.example.com"]))]
    server: Text,
    /// Its port; 587 with STARTTLS, 465 with implicit TLS and 25 without encryption unless it is
    /// given.
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// How the connection is encrypted; by STARTTLS unless it is given.
    #[serde(default)]
    encryption: Encryption,
    /// Whether mail may go without encryption to a server that is not on this machine.
    #[serde(default)]
    allow_plaintext: bool,
    /// Certificates.
    tls: Option<TlsSettings>,
    /// The login, where the server asks for one.
    auth: Option<Login>,
    /// The name that this machine has in the DNS, which the server is told.
    hello: Option<Text>,
    /// Who it is from, an address, which may hold templates.
    #[schemars(extend("examples" = ["Orders <orders@example.com>"]))]
    from: Text,
    /// Who gets it: an address or several, which may hold templates. A template that finds the empty
    /// text is nobody.
    #[serde(default)]
    to: Texts,
    /// Who gets a copy.
    #[serde(default)]
    cc: Texts,
    /// Who gets a copy without the others knowing.
    #[serde(default)]
    bcc: Texts,
    /// Where answers go, in place of the sender.
    #[serde(default)]
    reply_to: Texts,
    /// The subject, which may hold templates.
    subject: Text,
    /// The text, which may hold templates.
    body: Option<Text>,
    /// The text as HTML, which may hold templates: what they find is escaped. Beside body it is
    /// what programs show that can.
    html: Option<Text>,
}

/// A text that may hold templates, where it stands, and which of the filled-in ones it is.
struct Place<'s> {
    path: Vec<Segment>,
    text: &'s Text,
    index: Option<usize>,
}

impl Place<'_> {
    fn open(&self) -> Result<Parameter, OpenError> {
        Parameter::open(self.text, self.index, &self.path)
    }

    /// What is wrong with an address that is written out.
    fn mistake(&self) -> Option<Problem> {
        let text = self.text.literal().filter(|_| self.index.is_none())?;
        let mistake = mailbox(text).err()?;
        let help = "write one address, with a name or without: Ada <ada@example.com>; several are \
                    a list";
        Some(located(Problem::new(mistake).help(help), &self.path))
    }
}

/// What a message is made of.
struct Filled<'s> {
    from: Place<'s>,
    to: Vec<Place<'s>>,
    cc: Vec<Place<'s>>,
    bcc: Vec<Place<'s>>,
    reply_to: Vec<Place<'s>>,
    subject: Place<'s>,
    body: Option<Place<'s>>,
    html: Option<Place<'s>>,
    templates: Templates,
}

impl SmtpTarget {
    fn connection(&self) -> Connection<'_> {
        Connection {
            server: &self.server,
            port: self.port,
            encryption: self.encryption,
            allow_plaintext: self.allow_plaintext,
            tls: self.tls.as_ref(),
            auth: self.auth.as_ref(),
            hello: self.hello.as_ref(),
        }
    }

    fn filled(&self) -> Filled<'_> {
        let mut templates = Templates::default();
        let from = place(&mut templates, "from", &self.from, Placement::Header);
        let [to, cc, bcc, reply_to] = [
            ("to", &self.to),
            ("cc", &self.cc),
            ("bcc", &self.bcc),
            ("reply_to", &self.reply_to),
        ]
        .map(|(name, texts)| addresses(&mut templates, name, texts));
        let subject = place(&mut templates, "subject", &self.subject, Placement::Header);
        let [body, html] = [
            ("body", &self.body, Placement::Argument),
            ("html", &self.html, Placement::Html),
        ]
        .map(|(name, text, placement)| {
            let text = text.as_ref()?;
            Some(place(&mut templates, name, text, placement))
        });
        Filled {
            from,
            to,
            cc,
            bcc,
            reply_to,
            subject,
            body,
            html,
            templates,
        }
    }

    fn letter(&self) -> Result<Letter, OpenError> {
        let filled = self.filled();
        let all = |places: &[Place<'_>]| {
            places
                .iter()
                .map(Place::open)
                .collect::<Result<Vec<_>, _>>()
        };
        let open = |place: &Option<Place<'_>>| place.as_ref().map(Place::open).transpose();
        Ok(Letter {
            from: filled.from.open()?,
            reply_to: all(&filled.reply_to)?,
            to: all(&filled.to)?,
            cc: all(&filled.cc)?,
            bcc: all(&filled.bcc)?,
            subject: filled.subject.open()?,
            body: open(&filled.body)?,
            html: open(&filled.html)?,
            texts: filled.templates.count(),
        })
    }

    fn client(
        &self,
        allow_private_addresses: bool,
        names: Names,
    ) -> Result<(Client, Address), OpenError> {
        let settings = self.clone();
        let resolve_address = move || settings.connection().resolve();
        let guard = Guard {
            allow_private_addresses,
        };
        Client::open(resolve_address, guard, names)
    }
}

fn place<'s>(
    templates: &mut Templates,
    name: &'static str,
    text: &'s Text,
    placement: Placement,
) -> Place<'s> {
    let path: Vec<Segment> = vec![name.into()];
    Place {
        index: templates.note(text, placement, path.clone()),
        path,
        text,
    }
}

fn addresses<'s>(
    templates: &mut Templates,
    name: &'static str,
    texts: &'s Texts,
) -> Vec<Place<'s>> {
    let place = |(index, text)| {
        // A text alone may stand at the setting itself, and its place is near enough to it.
        let of_list = (texts.0.len() > 1).then(|| Segment::from(index));
        let path: Vec<Segment> = [name.into()].into_iter().chain(of_list).collect();
        Place {
            index: templates.note(text, Placement::Header, path.clone()),
            path,
            text,
        }
    };
    texts.0.iter().enumerate().map(place).collect()
}

#[async_trait]
impl TargetSettings for SmtpTarget {
    fn files(&self) -> Files {
        self.connection().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.connection().check();
        let filled = self.filled();
        let recipients = [&filled.to, &filled.cc, &filled.bcc].into_iter().flatten();
        match recipients.clone().count() {
            0 => {
                let problem = Problem::new("nobody gets the mail");
                problems.push(problem.help("write to, cc or bcc").at("to"));
            }
            1..=RECIPIENTS_MAX => {}
            many => {
                let mistake = format!("{many} recipients are too many, {RECIPIENTS_MAX} can be");
                problems.push(Problem::new(mistake).at("to"));
            }
        }
        let addresses = recipients.chain(&filled.reply_to).chain([&filled.from]);
        problems.extend(addresses.filter_map(Place::mistake));
        let subject = self.subject.literal();
        if subject.is_some_and(|subject| subject.contains(char::is_control)) {
            let problem = Problem::new("a subject is one line, without control characters");
            problems.push(problem.at("subject"));
        }
        if self.body.is_none() && self.html.is_none() {
            let problem = Problem::new("there is no text");
            problems.push(problem.help("write body, html, or both").at("body"));
        }
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().templates.into_texts()
    }

    fn called(&self) -> Called {
        let filled = self.filled();
        let first = [&filled.to, &filled.cc, &filled.bcc].into_iter().flatten();
        match first.clone().next() {
            Some(first) => called([(first.text, first.index)], |[to]| format!("mail to {to}")),
            None => Called::always("mail"),
        }
    }

    async fn probe(&self) -> Result<String, OpenError> {
        self.letter()?;
        let (client, Address { host, .. }) = self.client(true, Names::default())?;
        let mut connection = client.connect().await.map_err(|it| OpenError(it.problem))?;
        // Whether it says goodbye or not, it has told what was asked.
        let _ = connection.quit().await;
        let how = match self.encryption {
            Encryption::Starttls | Encryption::Implicit => "by TLS",
            Encryption::None => "without encryption",
        };
        let who = match self.auth {
            Some(_) => "takes the login",
            None => "takes the connection, without a login",
        };
        Ok(format!(
            "the mail server {host} {who}, {how}; nothing was sent"
        ))
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let letter = self.letter()?;
        let (client, _) = self.client(context.allow_private_addresses, context.names)?;
        let sender = Arc::new(Sender { client, letter });
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let sender = Arc::clone(&sender);
                async move { Ok::<_, AttemptError>(sender.attempt(&attempt).await) }
            },
        )))
    }
}
