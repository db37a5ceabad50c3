//! Puts entries onto a bus, several with one call.

use pointsman_schemas::{Class, DataKind, Event, Outcome};
use serde::Deserialize;
use serde_json::{Value, json};

use super::target::Mode;
use crate::aws::api::{Api, Entries, Failure, JsonVersion, Refusal};
use crate::net::answer::Deadlines;
use crate::parameter::{Parameter, check_texts};
use crate::{Attempt, Delivery, tracked};

/// What a time counts for in the size of an entry.
const TIME_BYTES: usize = 14;

/// What puts onto one bus.
pub(super) struct Putter {
    pub(super) api: Api,
    pub(super) bus: String,
    /// None for the event's own, and so the type.
    pub(super) source: Option<Parameter>,
    pub(super) detail_type: Option<Parameter>,
    pub(super) resources: Vec<Parameter>,
    /// What is said where it fails.
    pub(super) what: String,
    pub(super) mode: Mode,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

/// What became of the entries, in their order.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    entries: Vec<One>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    #[serde(default)]
    error_code: Option<String>,
    #[serde(default)]
    error_message: Option<String>,
}

impl Putter {
    fn detail(&self, delivery: &Delivery) -> Result<String, &'static str> {
        let data = delivery.event.data();
        let detail = match self.mode {
            Mode::Structured => {
                let mut detail = Vec::with_capacity(delivery.event.size_bytes());
                tracked::encode(delivery, &mut detail);
                detail
            }
            Mode::Data => match data.filter(|data| data.kind() == DataKind::Json) {
                Some(data) if data.bytes().trim_ascii_start().starts_with(b"{") => {
                    data.bytes().to_vec()
                }
                _ => {
                    return Err(
                        "EventBridge's detail is a JSON object, which this event's data is \
                                not; make one with a transform, or use mode: structured",
                    );
                }
            },
        };
        String::from_utf8(detail).map_err(|_| "the event is no UTF-8")
    }

    fn outcome(&self, told: &One) -> Outcome {
        let Some(code) = &told.error_code else {
            return Outcome::delivered();
        };
        let message = told.error_message.as_deref().unwrap_or_default();
        let is_senders = !code.starts_with("Internal");
        Refusal::of_entry(code, message, is_senders).outcome(&self.what)
    }
}

impl Entries for Putter {
    type Entry = Value;

    fn entry(&self, _: &Attempt, delivery: &Delivery) -> Result<(Value, usize), Outcome> {
        check_texts(delivery, self.texts)?;
        let event = &delivery.event;
        let text = |parameter: &Option<Parameter>, own: &str| match parameter {
            Some(parameter) => parameter.text(delivery).to_owned(),
            None => own.to_owned(),
        };
        let source = text(&self.source, event.source());
        let detail_type = text(&self.detail_type, event.ty());
        let detail = self
            .detail(delivery)
            .map_err(|why| Outcome::new(Class::Rejected, why))?;
        let resources = self
            .resources
            .iter()
            .map(|resource| resource.text(delivery));
        let resources: Vec<&str> = resources.filter(|resource| !resource.is_empty()).collect();
        let mut bytes = source.len() + detail_type.len() + detail.len();
        bytes += resources
            .iter()
            .map(|resource| resource.len())
            .sum::<usize>();
        let mut entry = json!({
            "EventBusName": self.bus,
            "Source": source,
            "DetailType": detail_type,
            "Detail": detail,
            "Resources": resources,
        });
        if let (Some(time), Some(fields)) = (time(event), entry.as_object_mut()) {
            fields.insert("Time".to_owned(), time.into());
            bytes += TIME_BYTES;
        }
        Ok((entry, bytes))
    }

    async fn send(
        &self,
        entries: &[Value],
        deadlines: Deadlines,
    ) -> Result<Vec<Outcome>, Box<Outcome>> {
        let body = json!({ "Entries": entries });
        let told = self
            .api
            .act("AWSEvents.PutEvents", JsonVersion::V11, &body, deadlines)
            .await
            .map_err(|failure| failure.outcome(&self.what))?;
        let told: Told = serde_json::from_value(told)
            .map_err(|error| Failure::unreadable(error).outcome(&self.what))?;
        Ok(told.entries.iter().map(|one| self.outcome(one)).collect())
    }
}

/// The event's time in seconds, where it has one.
fn time(event: &Event) -> Option<f64> {
    let time: jiff::Timestamp = event.time()?.parse().ok()?;
    Some(time.as_duration().as_secs_f64())
}
