//! Makes a message of a delivery.

use lettre::Address;
use lettre::Message;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use pointsman_schemas::{Class, Outcome};
use url::Host;

use crate::Delivery;
use crate::parameter::{Parameter, check_texts};

/// How many people one message goes to at most: what servers must take (RFC 5321, section
/// 4.5.3.1.8).
pub(super) const RECIPIENTS_MAX: usize = 100;

/// What the messages of a target are made of.
pub(super) struct Letter {
    pub(super) from: Parameter,
    pub(super) reply_to: Vec<Parameter>,
    pub(super) to: Vec<Parameter>,
    pub(super) cc: Vec<Parameter>,
    pub(super) bcc: Vec<Parameter>,
    pub(super) subject: Parameter,
    pub(super) body: Option<Parameter>,
    pub(super) html: Option<Parameter>,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

/// Tells programs that nobody wrote the message, so that they do not answer it (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// The one address that a text is.
///
/// # Errors
/// It is none, in words.
pub(super) fn mailbox(text: &str) -> Result<Mailbox, String> {
    if text.contains(char::is_control) {
        return Err(format!("{text:?} is no address: a control character"));
    }
    let mistake = || format!("{text:?} is no address such as ada@example.com");
    let Mailbox { name, email } = text.parse().map_err(|_| mistake())?;
    if email.domain().is_ascii() {
        return Ok(Mailbox::new(name, email));
    }
    // Every server takes a domain in the form that the DNS has, and not every one another.
    let host = Host::parse(email.domain()).map_err(|_| mistake())?;
    let email = Address::new(email.user(), host.to_string()).map_err(|_| mistake())?;
    Ok(Mailbox::new(name, email))
}

impl Letter {
    /// The message of a delivery.
    ///
    /// # Errors
    /// It never can be sent: an address is none, or there is nobody to send it to.
    pub(super) fn write(&self, delivery: &Delivery) -> Result<Message, Outcome> {
        check_texts(delivery, self.texts)?;
        self.message(delivery)
            .map_err(|why| Outcome::new(Class::Rejected, why))
    }

    fn message(&self, delivery: &Delivery) -> Result<Message, String> {
        let from = one("from", &self.from, delivery)?;
        let id = format!("<{}@{}>", delivery.id, from.email.domain());
        let mut builder = Message::builder()
            .message_id(Some(id))
            .date_now()
            .header(AutoSubmitted)
            .subject(subject(self.subject.text(delivery))?)
            .from(from);
        for mailbox in all("reply_to", &self.reply_to, delivery)? {
            builder = builder.reply_to(mailbox);
        }
        let (to, cc, bcc) = (
            all("to", &self.to, delivery)?,
            all("cc", &self.cc, delivery)?,
            all("bcc", &self.bcc, delivery)?,
        );
        match to.len() + cc.len() + bcc.len() {
            0 => return Err("there is nobody to send it to: to, cc and bcc are empty".to_owned()),
            1..=RECIPIENTS_MAX => {}
            many => {
                return Err(format!(
                    "{many} recipients are too many, {RECIPIENTS_MAX} can be"
                ));
            }
        }
        builder = to.into_iter().fold(builder, |builder, to| builder.to(to));
        builder = cc.into_iter().fold(builder, |builder, cc| builder.cc(cc));
        builder = bcc
            .into_iter()
            .fold(builder, |builder, bcc| builder.bcc(bcc));
        let text = |part: &Option<Parameter>| Some(lines(part.as_ref()?.text(delivery)));
        let written = match (text(&self.body), text(&self.html)) {
            (Some(body), Some(html)) => {
                builder.multipart(MultiPart::alternative_plain_html(body, html))
            }
            (None, Some(html)) => builder.singlepart(SinglePart::html(html)),
            (body, None) => builder.singlepart(SinglePart::plain(body.unwrap_or_default())),
        };
        written.map_err(|error| format!("the message cannot be written: {error}"))
    }
}

fn one(setting: &str, text: &Parameter, delivery: &Delivery) -> Result<Mailbox, String> {
    mailbox(text.text(delivery)).map_err(|mistake| format!("{setting}: {mistake}"))
}

/// The addresses of a setting. An empty text is none: what a template may find or not.
fn all(setting: &str, texts: &[Parameter], delivery: &Delivery) -> Result<Vec<Mailbox>, String> {
    let given = texts
        .iter()
        .filter(|text| !text.text(delivery).trim().is_empty());
    given.map(|text| one(setting, text, delivery)).collect()
}

/// A text whose lines all end alike. Servers disagree about what a carriage return alone is, and
/// one that takes it for the end of a line could read a message's end where there is none.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn subject(text: &str) -> Result<&str, String> {
    match text.contains(char::is_control) {
        true => Err(format!("subject: {text:?} holds a control character")),
        false => Ok(text),
    }
}
