//! What a message is made of: the texts of the settings, and what is said of an event without any.

use pointsman_schemas::{DataKind, Event};

/// How many characters of an event's data a message shows.
const DATA_CHARS_MAX: usize = 1500;

/// What a message is made of.
pub(crate) struct Message<'d> {
    pub(super) texts: Vec<(&'static str, &'d str)>,
    pub(super) event: &'d Event,
}

impl<'d> Message<'d> {
    /// The text of a setting, if it is given.
    ///
    /// # Errors
    /// Its templates have found nothing.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'d str>, String> {
        let found = self.texts.iter().find(|(found, _)| *found == name);
        match found {
            Some((_, text)) if text.trim().is_empty() => Err(format!(
                "{name} is empty; write what it is where nothing is found: <$.data.x ?? \"none\">"
            )),
            found => Ok(found.map(|(_, text)| *text)),
        }
    }

    /// What is said of an event beside its type.
    pub(super) fn facts(&self) -> impl Iterator<Item = (&'static str, &'d str)> {
        let event = self.event;
        let facts = [
            ("Source", Some(event.source())),
            ("Subject", event.subject()),
            ("Time", event.time()),
        ];
        let given = |(name, fact): (_, Option<&'d str>)| Some((name, fact?));
        facts.into_iter().filter_map(given)
    }

    /// The event's data in short, if it has any.
    pub(super) fn data(&self) -> Option<String> {
        let data = self.event.data()?;
        Some(match data.kind() {
            DataKind::Binary => format!("{} bytes", data.bytes().len()),
            DataKind::Json | DataKind::Text => {
                cut(&String::from_utf8_lossy(data.bytes()), DATA_CHARS_MAX)
            }
        })
    }

    /// The event for services that show Markdown of some kind: its type in bold between `bold`, and
    /// its data as code, from which nothing in it gets out.
    pub(super) fn described(&self, bold: &str, escape: impl Fn(&str) -> String) -> String {
        let mut text = format!("{bold}{}{bold}", escape(self.event.ty()));
        for (name, fact) in self.facts() {
            text.push_str(&format!("\n{name}: {}", escape(fact)));
        }
        if let Some(data) = self.data() {
            let data = data.replace("```", "`\u{200b}``");
            text.push_str(&format!("\n```\n{}\n```", escape(&data)));
        }
        text
    }
}

/// A text with as many characters as may be.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.chars().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => {
            let kept = text.chars().take(chars_max.saturating_sub(1));
            kept.chain(['…']).collect()
        }
    }
}
