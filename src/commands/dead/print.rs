//! Dead letters as a person reads them: a table of many, a sheet of one.

use pointsman_schemas::Name;

use crate::admin::view::{DeadContent, DeadView};
use crate::output::{self, plain, shortened};

/// How much of a message a table shows.
const MESSAGE_CHARACTERS_MAX: usize = 80;

/// Dead letters, a line each.
pub(super) fn as_table(letters: &[DeadView]) -> String {
    let name = |name: &Option<Name>| name.as_ref().map_or("-", Name::as_str).to_owned();
    let row = |letter: &DeadView| {
        [
            letter.id.clone(),
            letter.at.clone(),
            letter.reason.as_str().to_owned(),
            name(&letter.rule),
            name(&letter.target),
            letter.attempts.to_string(),
            shortened(said(letter), MESSAGE_CHARACTERS_MAX).into_owned(),
        ]
    };
    output::table(
        [
            "ID", "DIED", "REASON", "RULE", "TARGET", "ATTEMPTS", "MESSAGE",
        ],
        letters.iter().map(row),
    )
}

/// What there is to say about a letter: what was said of itself, else of its last attempt.
fn said(letter: &DeadView) -> &str {
    if letter.message.is_empty() {
        letter.last.as_ref().map_or("", |last| &last.message)
    } else {
        &letter.message
    }
}

pub(super) fn as_sheet(letter: &DeadView, content: &DeadContent) -> String {
    let mut lines = vec![
        format!("id        {}", letter.id),
        format!("died      {} ({})", letter.at, letter.reason.as_str()),
    ];
    let mut line = |name: &str, value: &str| {
        // A line break in what somebody sent must not begin what looks like a line of this sheet.
        for (number, part) in value.lines().enumerate() {
            lines.push(format!("{:<10}{part}", if number == 0 { name } else { "" }));
        }
    };
    if letter
        .last
        .as_ref()
        .is_none_or(|last| last.message != letter.message)
    {
        line("message", &letter.message);
    }
    line("tenant", letter.tenant.as_str());
    line("from", letter.origin.as_str());
    line("rule", letter.rule.as_ref().map_or("", Name::as_str));
    line("target", letter.target.as_ref().map_or("", Name::as_str));
    if let Some(last) = &letter.last {
        let code = last
            .code
            .map_or_else(String::new, |code| format!(" {code}"));
        line(
            "attempts",
            &format!("{}, the last one at {}", letter.attempts, last.at),
        );
        line(
            "outcome",
            &format!("{}{code}: {}", last.class.as_str(), last.message),
        );
        line("response", &last.response);
    }
    line(
        "event",
        content.event.as_ref().map_or("", |event| event.get()),
    );
    line(
        "edited to",
        content.edited.as_ref().map_or("", |event| event.get()),
    );
    line(
        "event",
        content.event_missing.as_deref().unwrap_or_default(),
    );
    line("raw", content.raw.as_deref().unwrap_or_default());
    line("base64", content.raw_base64.as_deref().unwrap_or_default());
    format!("{}\n", plain(&lines.join("\n")))
}
