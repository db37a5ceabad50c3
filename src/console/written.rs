//! The rule files, read only: as they are in force, with what is odd in them and what is wrong with
//! a change of them. Secrets that are written out are `***`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use pointsman_schemas::Name;

use super::Console;
use super::failure::Failure;
use super::fields::{Asked, Fields};
use super::page::{self, Section, Viewer, count, table};
use super::parts::{paged, paged_by};
use crate::admin::refused::Refused;
use crate::config::{Defined, Written, WrittenFile};

/// Where they are.
pub(super) const PATH: &str = "/rules/files";

/// Lines of a page.
const LINES_MAX: usize = 500;

/// Lines before the one that a way leads to.
const LINES_BEFORE: usize = 5;

/// How many lines of one source, target or rule its page shows.
const PASSAGE_LINES_MAX: usize = 100;

/// All of them, or one.
pub(super) async fn page(
    State(console): State<Console>,
    viewer: Viewer,
    Asked(asked): Asked,
) -> Result<Response, Failure> {
    let written = console.admin.overview.written();
    let wanted = asked.text("file");
    let one = match (written.files.as_slice(), wanted) {
        ([only], "") => Some(only),
        (_, "") => None,
        (files, name) => {
            let found = files.iter().find(|file| file.name == name);
            Some(found.ok_or_else(|| Refused::not_found(format!("rule file {name}")))?)
        }
    };
    let body = html! {
        (notices(&console, &written))
        @match one {
            Some(file) => (text(file, &written, &asked)),
            None => (list(&written, &asked)),
        }
    };
    let title = one.map_or("Rule files", |file| &file.name);
    Ok(page::page(viewer, Section::Rules, title, &body).into_response())
}

/// What keeps a change of the files from being in force, and how much is odd in those that are.
pub(super) fn notices(console: &Console, written: &Written) -> Markup {
    html! {
        @if let Some(refused) = console.admin.refused_change() {
            div .notice .bad role="alert" {
                p { strong { "The rule files have been changed, and that is not in force:" } }
                pre tabindex="0" { (refused) }
            }
        }
        @if !written.notes.is_empty() {
            details .notice .warn {
                summary { (count(written.notes.len() as u64)) " warnings" }
                ul {
                    @for note in &written.notes {
                        li { a href=(way_to(&note.file, note.line)) { (note.text) } }
                    }
                }
            }
        }
    }
}

fn list(written: &Written, asked: &Fields) -> Markup {
    let (shown, ways) = paged(&written.files, PATH, asked);
    html! {
        div .sheet {
            (table("Rule files", &html! {
                thead { tr { th scope="col" { "File" } th .number scope="col" { "Lines" } } }
                tbody {
                    @for file in shown {
                        tr {
                            td .name { a href=(way_to(&file.name, 1)) { (file.name) } }
                            td .number { (count(file.text.lines().count() as u64)) }
                        }
                    }
                }
            }))
            (ways)
        }
    }
}

fn text(file: &WrittenFile, written: &Written, asked: &Fields) -> Markup {
    let lines: Vec<(usize, &str)> = (1..).zip(file.text.lines()).collect();
    let (shown, ways) = paged_by(LINES_MAX, &lines, PATH, asked);
    let noted = |number: usize| {
        let own = written.notes.iter();
        own.filter(move |note| note.file == file.name && note.line == number)
    };
    html! {
        div .sheet {
            pre .lines .whole tabindex="0" {
                @for (number, line) in shown {
                    (numbered(*number, line))
                    @for note in noted(*number) { span .noted { (note.text) "\n" } }
                }
            }
            (ways)
        }
    }
}

/// The part of the files that defines one source, target or rule; nothing where none does.
pub(super) fn passage(console: &Console, defined: Defined, tenant: &Name, name: &Name) -> Markup {
    let written = console.admin.overview.written();
    let Some(passage) = written.of(defined, tenant, name) else {
        return html! {};
    };
    let way = way_to(passage.file, passage.first);
    html! {
        section .sheet {
            h2 { "As it is written" }
            p .note { a href=(way) { (passage.file) ":" (passage.first) } }
            pre .lines tabindex="0" {
                @for (number, line) in (passage.first..).zip(&passage.lines).take(PASSAGE_LINES_MAX) {
                    (numbered(number, line))
                }
            }
            @if passage.lines.len() > PASSAGE_LINES_MAX {
                p .note { (count((passage.lines.len() - PASSAGE_LINES_MAX) as u64)) " more lines" }
            }
        }
    }
}

/// A line whose number is not copied with it.
fn numbered(number: usize, line: &str) -> Markup {
    html! { span data-line=(number) { (line) "\n" } }
}

fn way_to(file: &str, line: usize) -> String {
    let after = line.saturating_sub(1 + LINES_BEFORE);
    let asked = Fields::default().with("file", Some(file));
    match after {
        0 => asked.at(PATH),
        _ => asked.with("after", Some(&after.to_string())).at(PATH),
    }
}
