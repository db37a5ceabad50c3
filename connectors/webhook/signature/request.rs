//! A request as templates see it.

use std::borrow::Cow;
use std::cell::OnceCell;

use http::header::{AsHeaderName, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use super::canonical;
use super::template::{Part, Ref, Template};
use crate::webhook::content;

/// A request whose signature is looked at, or of which an event is made. The body is parsed only
/// where a template asks for a field of it.
pub(in crate::webhook) struct Call<'c> {
    head: &'c Parts,
    body: &'c [u8],
    /// The public address that the settings name.
    url: Option<&'c str>,
    fields: OnceCell<Value>,
}

/// What beside the request a template may ask for.
#[derive(Clone, Copy, Default)]
pub(in crate::webhook) struct Scope<'s> {
    /// What fields are looked up in, where it is not the whole body.
    pub(super) item: Option<&'s Value>,
    pub(super) timestamp: Option<&'s str>,
    /// The text that the signature was found in, and what separates its pairs.
    pub(super) pairs: Option<(&'s str, &'s str)>,
    pub(super) secret: Option<&'s str>,
}

impl<'s> Scope<'s> {
    /// Where fields are looked up in one item of the body.
    pub(in crate::webhook) fn of(item: &'s Value) -> Self {
        Self {
            item: Some(item),
            ..Self::default()
        }
    }
}

impl<'c> Call<'c> {
    pub(in crate::webhook) fn new(head: &'c Parts, body: &'c [u8], url: Option<&'c str>) -> Self {
        Self {
            head,
            body,
            url,
            fields: OnceCell::new(),
        }
    }

    pub(in crate::webhook) fn headers(&self) -> &'c HeaderMap {
        &self.head.headers
    }

    pub(in crate::webhook) fn body(&self) -> &'c [u8] {
        self.body
    }

    /// The body as JSON, a form as an object; null where it is neither.
    pub(in crate::webhook) fn fields(&self) -> &Value {
        self.fields
            .get_or_init(|| content::fields(&self.head.headers, self.body))
    }

    /// A parameter of the query, the first of its name.
    pub(in crate::webhook) fn query(&self, name: &str) -> Option<String> {
        let query = self.head.uri.query()?;
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// A header that is there once. Of two, nobody could tell which is signed.
    pub(in crate::webhook) fn header(&self, name: impl AsHeaderName) -> Option<&'c HeaderValue> {
        let mut values = self.head.headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    }

    /// Path and query as the sender called them.
    fn target(&self) -> String {
        let uri = &self.head.uri;
        let own = self.url.and_then(|url| url::Url::parse(url).ok());
        let mut target = own.as_ref().map_or(uri.path(), |url| url.path()).to_owned();
        if let Some(query) = uri.query() {
            target.push('?');
            target.push_str(query);
        }
        target
    }

    /// Fills a template in, in pieces so that the body is not copied.
    ///
    /// # Errors
    /// What is missing, in words for the sender.
    pub(super) fn pieces(
        &self,
        template: &'c Template,
        scope: Scope<'_>,
    ) -> Result<Vec<Cow<'c, [u8]>>, String> {
        let mut pieces = Vec::with_capacity(template.parts().len());
        for part in template.parts() {
            match part {
                Part::Literal(text) => pieces.push(Cow::Borrowed(text.as_bytes())),
                Part::Ref(reference, optional) => match self.find(reference, scope) {
                    Some(found) => pieces.push(found),
                    None if *optional => {}
                    None => return Err(self.missing(reference)),
                },
            }
        }
        Ok(pieces)
    }

    /// Fills a template in.
    ///
    /// # Errors
    /// As [`pieces`](Self::pieces); or it is not UTF-8.
    pub(in crate::webhook) fn text(
        &self,
        template: &'c Template,
        scope: Scope<'_>,
    ) -> Result<String, String> {
        String::from_utf8(self.pieces(template, scope)?.concat())
            .map_err(|_| "what is signed is not UTF-8".to_owned())
    }

    fn find(&self, reference: &Ref, scope: Scope<'_>) -> Option<Cow<'c, [u8]>> {
        let owned = |text: String| Cow::Owned(text.into_bytes());
        match reference {
            Ref::Body => Some(Cow::Borrowed(self.body)),
            Ref::Timestamp => scope.timestamp.map(|time| owned(time.to_owned())),
            Ref::Url => self.public_url().map(owned),
            Ref::Method => Some(Cow::Borrowed(self.head.method.as_str().as_bytes())),
            Ref::Path => Some(Cow::Borrowed(self.head.uri.path().as_bytes())),
            Ref::SortedForm => self.sorted_form().map(owned),
            Ref::Crc32 => Some(owned(crc32fast::hash(self.body).to_string())),
            Ref::Secret => scope.secret.map(|secret| owned(secret.to_owned())),
            Ref::AwsSns => canonical::aws_sns(self.fields()).map(owned),
            Ref::AlibabaMns => canonical::alibaba_mns(self.head, &self.target()).map(Cow::Owned),
            Ref::Header(name) => self
                .header(name)
                .map(|value| Cow::Borrowed(value.as_bytes())),
            Ref::Query(name) => self.query(name).map(owned),
            Ref::Field(path) => scalar(at(
                scope.item.unwrap_or_else(|| self.fields()),
                path.iter().map(String::as_str),
            )?)
            .map(owned),
            Ref::Pair(name) => {
                let (text, separator) = scope.pairs?;
                let mut pairs = text
                    .split(separator)
                    .filter_map(|pair| pair.trim().split_once('='));
                pairs
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| owned(value.to_owned()))
            }
        }
    }

    /// What a place lacks, in words for the sender.
    fn missing(&self, reference: &Ref) -> String {
        match reference {
            Ref::Header(name) if self.head.headers.contains_key(name) => {
                format!("the header {name} is there more than once")
            }
            Ref::Header(name) => format!("the header {name} is missing"),
            Ref::Query(name) => format!("the query parameter {name} is missing"),
            Ref::Field(path) => format!("the body has no field {}", path.join(".")),
            Ref::Pair(name) => format!("there is no {name}= beside the signature"),
            Ref::Timestamp => "the signed time is missing".to_owned(),
            Ref::SortedForm => "the body is not a form".to_owned(),
            Ref::Url => "the Host header is missing".to_owned(),
            Ref::AwsSns => "the body is not a message of Amazon SNS with all its fields".to_owned(),
            Ref::AlibabaMns => {
                "the headers date and content-md5 are not there once each".to_owned()
            }
            Ref::Body | Ref::Method | Ref::Path | Ref::Crc32 | Ref::Secret => {
                "the request has no such part".to_owned()
            }
        }
    }

    /// The address that the sender called, as far as it can be told: a proxy may have changed host
    /// and scheme, so that the settings can name it.
    fn public_url(&self) -> Option<String> {
        let uri = &self.head.uri;
        let mut url = match self.url {
            Some(url) => url.to_owned(),
            None => {
                let host = self
                    .head
                    .headers
                    .get(HOST)
                    .and_then(|host| host.to_str().ok())
                    .or_else(|| uri.host())?;
                format!("https://{host}{}", uri.path())
            }
        };
        if let Some(query) = uri.query() {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(query);
        }
        Some(url)
    }

    /// Names and values of a form, sorted by name and of one name by value, one after the other;
    /// none where the body is no form.
    fn sorted_form(&self) -> Option<String> {
        let declared = self
            .head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|declared| declared.to_str().ok());
        if !declared.is_some_and(content::is_form) {
            return None;
        }
        let mut fields: Vec<_> = url::form_urlencoded::parse(self.body).collect();
        fields.sort();
        // One that is there twice with the same value counts once, as the providers' own libraries
        // have it.
        fields.dedup();
        Some(
            fields
                .into_iter()
                .flat_map(|(name, value)| [name, value])
                .collect(),
        )
    }
}

/// What a dotted path leads to; numbers count the items of a list.
pub(in crate::webhook) fn at<'v, 'p>(
    value: &'v Value,
    mut path: impl Iterator<Item = &'p str>,
) -> Option<&'v Value> {
    path.try_fold(value, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        value => value.get(key),
    })
}

/// A text itself, of a number or a boolean its JSON.
pub(in crate::webhook) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
