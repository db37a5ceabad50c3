//! Writes the messages of one target.

use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_schemas::{Class, Data, Event, Name, Outcome, Segment, Text};
use serde_json::Value;

use super::Service;
use super::message::Message;
use crate::parameter::{Parameter, Templates, check_texts, is_template};
use crate::{Delivery, Files, OpenError, TargetContext, TargetSettings};

/// The templates of a service: those of its texts, with the index of each, and behind them those
/// within its body, in the order in which they stand there.
pub(super) fn templates<S: Service>(service: &S) -> (Vec<Option<usize>>, Templates) {
    let mut templates = Templates::default();
    let indexes = service
        .texts()
        .into_iter()
        .map(|(name, text)| templates.note(text, S::PLACEMENT, vec![name.into()]))
        .collect();
    for (name, value) in service.body().into_iter().flatten() {
        let mut path = vec!["body".into(), name.as_str().into()];
        note::<S>(value, &mut path, &mut templates);
    }
    (indexes, templates)
}

/// Notes the templates within a value. As deep as the rule file's reader lets it be.
fn note<S: Service>(value: &Value, path: &mut Vec<Segment>, templates: &mut Templates) {
    let mut within = |segment: Segment, value: &Value| {
        path.push(segment);
        note::<S>(value, path, templates);
        path.pop();
    };
    match value {
        Value::String(text) => {
            templates.note(&Text::Literal(text.clone()), S::PLACEMENT, path.clone());
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, item)| within(index.into(), item));
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            fields.for_each(|(name, value)| within(name.as_str().into(), value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Puts what was filled in in the place of the templates within a value.
fn fill<'t>(value: &mut Value, filled: &mut impl Iterator<Item = &'t String>) {
    match value {
        Value::String(text) if is_template(text) => {
            *text = filled.next().cloned().unwrap_or_default();
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, filled)),
        Value::Object(fields) => fields.values_mut().for_each(|value| fill(value, filled)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Writes messages.
pub(super) struct Writer<S> {
    service: S,
    texts: Vec<(&'static str, Parameter)>,
    /// How many texts a delivery carries, and how many of them are not the body's.
    count: usize,
    outside_body: usize,
}

impl<S: Service> Writer<S> {
    /// Resolves the texts.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn open(service: &S) -> Result<Self, OpenError> {
        let (indexes, templates) = templates(service);
        let outside_body = indexes.iter().flatten().count();
        let texts = service.texts().into_iter().zip(indexes);
        let texts = texts.map(|((name, text), index)| {
            let opened = Parameter::open(text, index, &[name.into()])?;
            Ok((name, opened))
        });
        Ok(Self {
            texts: texts.collect::<Result<_, OpenError>>()?,
            count: templates.count(),
            outside_body,
            service: service.clone(),
        })
    }

    /// The delivery with the message as its data.
    ///
    /// # Errors
    /// The service never would take it.
    pub(super) fn write(&self, delivery: &Delivery) -> Result<Delivery, Outcome> {
        check_texts(delivery, self.count)?;
        let event = self
            .message(delivery)
            .map_err(|why| Outcome::new(Class::Rejected, why))?;
        Ok(Delivery {
            event: Arc::new(event),
            texts: Vec::new(),
            ..delivery.clone()
        })
    }

    fn message(&self, delivery: &Delivery) -> Result<Event, String> {
        let texts = self.texts.iter();
        let message = Message {
            texts: texts
                .map(|(name, text)| (*name, text.text(delivery)))
                .collect(),
            event: &delivery.event,
        };
        let body = match self.service.body() {
            None => self.service.write(&message)?,
            Some(body) => {
                let mut body = body.clone();
                let mut filled = delivery.texts.iter().skip(self.outside_body);
                body.values_mut().for_each(|value| fill(value, &mut filled));
                self.service.complete(&mut body, &message)?;
                Value::Object(body)
            }
        };
        let body = body.to_string();
        let (name, bytes, max) = (S::NAME, body.len(), S::BYTES_MAX);
        if bytes > max {
            return Err(format!(
                "the message has {bytes} bytes, and {name} takes {max} at most"
            ));
        }
        let data = Data::json(body.into()).map_err(|error| error.to_string())?;
        let event = delivery.event.as_ref().clone().into_builder();
        let event = event.datacontenttype("application/json").data(data);
        event.build().map_err(|error| error.to_string())
    }
}

/// A writer whose texts are read again when the files that they are taken from change.
pub(super) struct Renewed<S> {
    service: S,
    target: Name,
    current: Mutex<(Arc<Writer<S>>, Files)>,
}

impl<S: Service> Renewed<S> {
    pub(super) fn open(service: S, context: &TargetContext) -> Result<Self, OpenError> {
        let files = service.files();
        let writer = Arc::new(Writer::open(&service)?);
        Ok(Self {
            service,
            target: context.name.clone(),
            current: Mutex::new((writer, files)),
        })
    }

    /// What writes messages, by what the files hold now.
    pub(super) fn writer(&self) -> Arc<Writer<S>> {
        let mut current = self.current.lock();
        let (writer, files) = &mut *current;
        // A change may be what lets the next attempt in, so that it is looked for each time.
        if files.have_changed(true) {
            match Writer::open(&self.service) {
                Ok(renewed) => *writer = Arc::new(renewed),
                Err(error) => tracing::warn!(
                    target = %self.target, %error,
                    "the target goes on with what its settings were before"
                ),
            }
        }
        Arc::clone(writer)
    }
}
