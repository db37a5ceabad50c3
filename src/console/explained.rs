//! Why conditions hold or do not, as a list.

use maud::{Markup, html};
use pointsman_rules::Explanation;
use pointsman_rules::explain::Check;

/// How deeply lists within lists are shown.
const DEPTH_MAX: usize = 8;

pub(super) fn explained(explanation: &Explanation) -> Markup {
    html! {
        @if explanation.checks.is_empty() {
            p .note { "There are no conditions: every event is taken." }
        }
        (checks(&explanation.checks, 0))
        @if let Some(note) = &explanation.note { p .note { (note) } }
    }
}

fn is_expression(field: &str) -> bool {
    field == "where" || field == "sql"
}

fn checks(all: &[Check], depth: usize) -> Markup {
    html! {
        ul .checks[depth == 0] {
            @for check in all {
                li {
                    @if check.holds { span .yes { "yes" } } @else { span .no { "no" } }
                    " " code { (check.field) }
                    @match &check.found {
                        // What is expected says itself what is looked at.
                        Some(found) if is_expression(&check.field) => {
                            ": " code { (check.expected) } ": " code { (found) }
                        }
                        Some(found) => {
                            " is " code { (found) } ", expected " code { (check.expected) }
                        }
                        None if is_expression(&check.field) || !check.alternatives.is_empty() => {
                            ": " code { (check.expected) }
                        }
                        None => { " is missing, expected " code { (check.expected) } }
                    }
                    @if let Some(change) = &check.change {
                        div .said { "It would hold " (change) "." }
                    }
                    @if depth < DEPTH_MAX {
                        @for alternative in &check.alternatives {
                            div .said { "Alternative " (alternative.number) }
                            (checks(&alternative.checks, depth + 1))
                        }
                    }
                    @if check.omitted > 0 { div .said { (check.omitted) " more alternatives" } }
                }
            }
        }
    }
}
