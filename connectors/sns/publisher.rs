//! Publishes messages: one with a call of its own, several with one call.

use pointsman_schemas::{Class, Outcome};

use crate::aws::api::{Api, Entries, Refusal, by_id};
use crate::aws::fifo::Sequenced;
use crate::aws::{Mode, Written};
use crate::net::answer::Deadlines;
use crate::parameter::{Parameter, check_texts};
use crate::xml::Element;
use crate::{Attempt, Delivery};

/// The version of SNS's API.
pub(super) const VERSION: &str = "2010-03-31";

/// What publishes to one topic.
pub(super) struct Publisher {
    pub(super) api: Api,
    pub(super) topic: String,
    pub(super) subject: Option<Parameter>,
    pub(super) sequenced: Sequenced,
    /// What is said where it fails.
    pub(super) what: String,
    pub(super) mode: Mode,
    /// How many texts a delivery carries.
    pub(super) texts: usize,
}

/// Fields of a form.
pub(super) type Fields = Vec<(String, String)>;

impl Publisher {
    fn message(&self, delivery: &Delivery, written: Written) -> Result<Fields, Outcome> {
        let (group, deduplication) = self.sequenced.of(delivery)?;
        let subject = self.subject.as_ref().map(|subject| subject.text(delivery));
        let optional = [
            (
                "Subject",
                subject
                    .filter(|subject| !subject.is_empty())
                    .map(str::to_owned),
            ),
            ("MessageGroupId", group),
            ("MessageDeduplicationId", deduplication),
        ];
        let mut fields = vec![("Message".to_owned(), written.body)];
        for (name, value) in optional {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
        for (number, (name, value)) in (1..).zip(written.attributes) {
            let entry = format!("MessageAttributes.entry.{number}");
            fields.push((format!("{entry}.Name"), name));
            fields.push((format!("{entry}.Value.DataType"), "String".to_owned()));
            fields.push((format!("{entry}.Value.StringValue"), value));
        }
        Ok(fields)
    }

    async fn act(
        &self,
        action: &str,
        mut fields: Fields,
        deadlines: Deadlines,
    ) -> Result<Element, Box<Outcome>> {
        fields.push(("TopicArn".to_owned(), self.topic.clone()));
        let told = self.api.query(action, VERSION, &fields, deadlines);
        told.await.map_err(|failure| failure.outcome(&self.what))
    }
}

impl Entries for Publisher {
    type Entry = Fields;

    fn entry(&self, attempt: &Attempt, delivery: &Delivery) -> Result<(Fields, usize), Outcome> {
        check_texts(delivery, self.texts)?;
        let written = Written::of(attempt, delivery, self.mode)
            .map_err(|why| Outcome::new(Class::Rejected, why))?;
        let bytes = written.size_bytes();
        Ok((self.message(delivery, written)?, bytes))
    }

    async fn send(
        &self,
        entries: &[Fields],
        deadlines: Deadlines,
    ) -> Result<Vec<Outcome>, Box<Outcome>> {
        if let [alone] = entries {
            self.act("Publish", alone.clone(), deadlines).await?;
            return Ok(vec![Outcome::delivered()]);
        }
        let mut fields = Fields::new();
        for (index, entry) in entries.iter().enumerate() {
            let member = format!("PublishBatchRequestEntries.member.{}", index + 1);
            fields.push((format!("{member}.Id"), index.to_string()));
            let named =
                |(name, value): &(String, String)| (format!("{member}.{name}"), value.clone());
            fields.extend(entry.iter().map(named));
        }
        let told = self.act("PublishBatch", fields, deadlines).await?;
        Ok(outcomes(entries.len(), &told, &self.what))
    }
}

/// What became of each entry of a batch.
fn outcomes(count: usize, told: &Element, what: &str) -> Vec<Outcome> {
    let members = |of: &str| -> &[Element] {
        let found = told
            .find("PublishBatchResult")
            .and_then(|result| result.find(of));
        found.map_or(&[], |list| list.children.as_slice())
    };
    let taken = members("Successful")
        .iter()
        .filter_map(|member| member.text_of("Id"));
    let refused = members("Failed").iter().filter_map(|member| {
        let text = |name| member.text_of(name).unwrap_or_default();
        let is_senders = text("SenderFault") == "true";
        let refusal = Refusal::of_entry(text("Code"), text("Message"), is_senders);
        Some((member.text_of("Id")?, refusal))
    });
    by_id(count, taken, refused, what)
}
