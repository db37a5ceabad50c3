//! What PostgreSQL answers where it does not do what it was asked, by the SQLSTATE of its errors.

use std::error::Error as _;

use pointsman_schemas::{Class, Outcome};
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

use crate::net::explain::explain;

/// What follows an error of this code, where nothing was done.
pub(super) fn class(code: &SqlState) -> Class {
    let code = code.code();
    match (code.get(..2).unwrap_or_default(), code) {
        // A role that may not, a login that is wrong.
        ("28", _) | (_, "42501") => Class::Refused,
        // The row that another refers to may yet come.
        (_, "23503") => Class::Failed,
        // A value that its column does not take; what a trigger or a view refuses; a row that is too
        // large for an index.
        ("21" | "22" | "23" | "44" | "54" | "P0", _) => Class::Rejected,
        // Too many connections, or too many locks of a role's: later.
        (_, "53300" | "53400") => Class::Throttled,
        // No room or memory; a server that starts, stops or reads alone; no such table, column,
        // index, schema or database, as before a migration.
        ("53" | "42" | "3D" | "3F", _) | (_, "57P01" | "57P02" | "57P03" | "25006" | "0A000") => {
            Class::Unavailable
        }
        _ => Class::Failed,
    }
}

/// Whether the session, and what was prepared in it, is of no use any more.
pub(super) fn spoils(error: &Error) -> bool {
    let Some(error) = error.as_db_error() else {
        return true;
    };
    let class = error.code().code().get(..2).unwrap_or_default();
    ends(error.parsed_severity()) || !["21", "22", "23", "40", "44", "54", "P0"].contains(&class)
}

/// Whether it is known that the statement that this answers was not carried out.
pub(super) fn is_answer(error: &Error) -> bool {
    let error = error.as_db_error();
    error.is_some_and(|error| !ends(error.parsed_severity()))
}

fn ends(severity: Option<Severity>) -> bool {
    matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// What became of a row whose statement was answered with an error, or not at all. A session that
/// ends may do so between its commit and the answer.
pub(super) fn outcome(error: &Error) -> Outcome {
    let words = words(error);
    match error.code().filter(|_| is_answer(error)) {
        Some(code) => Outcome::new(class(code), format!("{}: {words}", code.code())),
        None => lost(&words),
    }
}

/// What became of a row whose connection was lost.
pub(super) fn lost(why: &str) -> Outcome {
    let message = format!("the connection to PostgreSQL broke: {why}; the row may be there");
    Outcome::new(Class::Failed, message)
}

/// What an error says, without the client's own words around it.
pub(super) fn words(error: &Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(error), _) => {
            let detail = error.detail().map(|detail| format!(" ({detail})"));
            format!("{}{}", error.message(), detail.unwrap_or_default())
        }
        (None, Some(cause)) => explain(cause),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (code, expect) in [
            ("22P02", Class::Rejected),
            ("23505", Class::Rejected),
            ("23502", Class::Rejected),
            ("23503", Class::Failed),
            ("P0001", Class::Rejected),
            ("40001", Class::Failed),
            ("40P01", Class::Failed),
            ("28P01", Class::Refused),
            ("42501", Class::Refused),
            ("42P01", Class::Unavailable),
            ("42P10", Class::Unavailable),
            ("3D000", Class::Unavailable),
            ("25006", Class::Unavailable),
            ("53300", Class::Throttled),
            ("53100", Class::Unavailable),
            ("57P03", Class::Unavailable),
            ("57014", Class::Failed),
            ("XX000", Class::Failed),
        ] {
            assert_eq!(class(&SqlState::from_code(code)), expect, "{code}");
        }
    }
}
