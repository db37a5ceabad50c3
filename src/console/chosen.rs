//! What of a list is chosen to have something done to it: the rows that are ticked, or everything
//! that the list's conditions mean. The first time it is posted it is only counted.

use maud::{Markup, html};
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::fields::Fields;
use super::page::count;
use crate::admin::refused::Refused;

/// What is chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Ids, or conditions, or `all`, named as in the API.
    fields: Fields,
    /// The conditions of the list that it was chosen from.
    conditions: Fields,
    /// Whether somebody has seen how many it is.
    pub(super) is_confirmed: bool,
}

impl Chosen {
    /// What a form chooses from a list with these conditions.
    pub(super) fn of(form: &Fields, conditions: &[&str]) -> Result<Self, Failure> {
        let own = form.only(conditions);
        let fields = match form.text("scope") {
            "all" if own.is_empty() => Fields::default().with("all", Some("true")),
            "all" => own.clone(),
            _ => form.only(&["ids"]),
        };
        if fields.is_empty() {
            return Err(Refused::bad_request(
                "nothing is ticked: tick rows, or choose all that the list means",
            )
            .into());
        }
        Ok(Self {
            fields,
            conditions: own,
            is_confirmed: form.has("confirm"),
        })
    }

    /// As a body of the API, without these.
    pub(super) fn body<B: DeserializeOwned>(&self, without: &[&str]) -> Result<B, Failure> {
        let kept = without
            .iter()
            .fold(self.fields.clone(), |fields, name| fields.with(name, None));
        kept.body(&["ids"])
    }

    /// For the log: ids by their number.
    pub(super) fn on(&self) -> String {
        let ids = self.fields.all("ids").count();
        if ids > 0 {
            return format!("ids={ids}");
        }
        let pairs: Vec<_> = self
            .fields
            .pairs()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join(" ")
    }

    /// The same in a form.
    pub(super) fn hidden(&self) -> Markup {
        let scope = if self.fields.has("ids") {
            "ticked"
        } else {
            "all"
        };
        html! {
            input type="hidden" name="scope" value=(scope);
            @for id in self.fields.all("ids") { input type="hidden" name="ids" value=(id); }
            @for (name, value) in self.conditions.pairs() {
                input type="hidden" name=(name) value=(value);
            }
        }
    }

    /// The list that it was chosen from.
    pub(super) fn back(&self, path: &str) -> String {
        self.conditions.at(path)
    }
}

/// A list whose rows can be ticked, with what can be done to them: each with its path behind that
/// of the list, its name, and whether it takes something away for good.
pub(super) fn list_form(
    path: &str,
    conditions: &Fields,
    buttons: &[(&str, &str, bool)],
    list: &Markup,
) -> Markup {
    html! {
        form method="post" {
            @for (name, value) in conditions.pairs() {
                input type="hidden" name=(name) value=(value);
            }
            (list)
            p .buttons {
                label { "Of this list"
                    select name="scope" {
                        option value="ticked" { "those that are ticked" }
                        option value="all" { "all that it means, on every page" }
                    }
                }
                @for (action, name, is_final) in buttons {
                    button .plain[!is_final] .danger[*is_final] formaction={ (path) "/do/" (action) } {
                        (name) " …"
                    }
                }
                span .note { "It is counted first." }
            }
        }
    }
}

/// The box in a list's head, which a script shows.
pub(super) fn tick_all() -> Markup {
    html! { input type="checkbox" data-tick-all hidden aria-label="Tick all on this page"; }
}

/// The way to the next page of a list.
pub(super) fn next_page(path: &str, asked: &Fields, next: Option<&str>) -> Markup {
    html! {
        @if let Some(next) = next {
            p .pages { a href=(asked.with("after", Some(next)).at(path)) { "Next page" } }
        }
    }
}

/// Says how many are meant, and asks whether that is meant.
pub(super) fn count_first(
    chosen: &Chosen,
    action: &str,
    told: &str,
    name: &str,
    number: u64,
    is_final: bool,
) -> Markup {
    html! {
        div .notice .warn[is_final] {
            p { (told) } @if is_final { p { "This cannot be taken back." } }
        }
        form .buttons method="post" action=(action) {
            (chosen.hidden())
            input type="hidden" name="confirm" value="true";
            @if number > 0 { button .danger[is_final] { (name) ": " (count(number)) } }
            @let list = action.split("/do/").next().unwrap_or_default();
            a .button .plain href=(chosen.back(list)) { "Do nothing" }
        }
    }
}
