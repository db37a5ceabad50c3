//! Events by templates.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::webhook::attributes::Attributes;
use crate::webhook::signature::{Call, Scope, Template};

/// Where a provider's calls have the attributes of an event. Of several templates the first one
/// counts of which nothing is missing.
#[derive(Debug)]
pub(in crate::webhook) struct Rows {
    /// Colons, slashes and spaces in it become dots.
    pub(super) ty: &'static [&'static str],
    pub(super) source: &'static [&'static str],
    pub(super) id: &'static [&'static str],
    pub(super) subject: &'static [&'static str],
    pub(super) time: &'static [&'static str],
    /// The list of which each item is an event, by its path; the body itself is one event where
    /// there is none.
    pub(super) items: Option<&'static str>,
    /// The field that is the event's data; all of it where there is none.
    pub(super) data: Option<&'static str>,
    /// Where no id is found, it is made of the body, which has a time in it: so the same body is
    /// the same event.
    pub(super) id_of_body: bool,
    /// What is taken out of the type, such as a `jira:` that says again who sends.
    pub(super) strip: &'static str,
}

impl Rows {
    /// Nothing but what is written out.
    pub(super) const NONE: Self = Self {
        ty: &[],
        source: &[],
        id: &[],
        subject: &[],
        time: &[],
        items: None,
        data: None,
        id_of_body: false,
        strip: "",
    };
}

/// Rows, read.
#[derive(Debug)]
pub(in crate::webhook) struct Templates {
    ty: Vec<Template>,
    source: Vec<Template>,
    id: Vec<Template>,
    subject: Vec<Template>,
    time: Vec<Template>,
    rows: &'static Rows,
}

impl Templates {
    /// Reads the rows.
    ///
    /// # Errors
    /// One is no template, which the tests of the table would find.
    pub(in crate::webhook) fn read(rows: &'static Rows) -> Result<Self, String> {
        let read = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| Template::parse(text))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            ty: read(rows.ty)?,
            source: read(rows.source)?,
            id: read(rows.id)?,
            subject: read(rows.subject)?,
            time: read(rows.time)?,
            rows,
        })
    }

    /// The path of the list of which each item is an event.
    pub(in crate::webhook) fn items(&self) -> Option<&'static str> {
        self.rows.items
    }

    /// The path of what is the event's data.
    pub(in crate::webhook) fn data(&self) -> Option<&'static str> {
        self.rows.data
    }

    fn ty(&self, found: &str) -> String {
        let stripped = if self.rows.strip.is_empty() {
            found.to_owned()
        } else {
            found.replacen(self.rows.strip, "", 1)
        };
        stripped.replace([':', '/', ' '], ".")
    }

    /// The attributes of one event; `item` is what its fields are looked up in.
    pub(in crate::webhook) fn attributes(
        &self,
        call: &Call<'_>,
        item: &Value,
        raw: &[u8],
    ) -> Attributes {
        let first = |templates: &[Template]| {
            templates.iter().find_map(|template| {
                call.text(template, Scope::of(item))
                    .ok()
                    .map(|text| text.trim().to_owned())
                    .filter(|text| !text.is_empty())
            })
        };
        let body_id = || {
            hex::encode(Sha256::digest(raw))
                .get(..32)
                .map(str::to_owned)
        };
        Attributes {
            ty: self.ty(&first(&self.ty).unwrap_or_default()),
            source: first(&self.source).unwrap_or_default(),
            id: first(&self.id).or_else(|| {
                if self.rows.id_of_body {
                    body_id()
                } else {
                    None
                }
            }),
            subject: first(&self.subject),
            time: first(&self.time),
        }
    }
}
