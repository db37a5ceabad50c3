//! `deduplicate`, of sources, rules and the HTTP ingress.

use std::time::Duration;

use pointsman_rules::TextTemplate;
use pointsman_schemas::{Duplicates, Placement, TemplateText, schedule};

use super::addresses;
use crate::config::Deduplicate;
use crate::config::reader::{Piece, read};

/// How long a key is remembered unless something else is said.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads what a source, a rule or the listener says of duplicates.
pub(super) fn deduplicate(piece: Piece<'_>) -> Option<Deduplicate> {
    let at = piece.get("deduplicate")?;
    let raw = read::<Duplicates>(at)?;
    let window = raw.window.map_or(WINDOW, |interval| interval.0);
    if let Some(place) = at.get("window") {
        if window.is_zero() {
            place.report(
                "nothing is remembered for no time",
                "give a window such as 24h, or remove `deduplicate`",
            );
        } else if window > schedule::AHEAD_MAX {
            place.report(
                "nothing is remembered for longer than 366 days",
                "give a window such as 24h",
            );
        }
    }
    let Some(text) = raw.by else {
        if !at.mistakes.was_meant(at.node, "by") && at.is_whole() {
            at.report(
                "`by` is missing here: what makes a duplicate?",
                "write { by: <$.id>, window: 24h }",
            );
        }
        return None;
    };
    let place = at.get("by").unwrap_or(at);
    let by = TextTemplate::compile(&text, Placement::Address)
        .map_err(|problem| place.report_problems([problem]))
        .ok()?;
    if by.is_constant() {
        place.report(
            "this key is the same for every event: all but the first would be left out",
            "write what tells events apart, such as <$.id> or <$.data.order>",
        );
        return None;
    }
    let written = TemplateText {
        path: Vec::new(),
        text,
        placement: Placement::Address,
    };
    addresses::in_no_event(place, &written, &by);
    Some(Deduplicate { by, window })
}
