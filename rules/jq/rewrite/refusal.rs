//! Calls of what a program may not call, refused with what to write instead.

use jaq_core::load::parse::Term;

use super::{PATH, Rewriting};
use crate::jq::meant;

/// What is wrong with a program, at a place of its text.
#[derive(Debug)]
pub(in crate::jq) struct Refusal<'s> {
    pub(in crate::jq) at: &'s str,
    pub(in crate::jq) message: String,
    pub(in crate::jq) help: String,
}

impl<'s> Rewriting<'s, '_> {
    /// Notes what is wrong at a name, and stands for its call.
    pub(super) fn refuse(&mut self, at: &'s str, message: String, help: &str) -> Term<&'s str> {
        self.refusals.push(Refusal {
            at,
            message,
            help: help.to_owned(),
        });
        Term::Id
    }

    /// Refuses a filter that is not offered with so many arguments.
    pub(super) fn refuse_unknown(&mut self, name: &'s str, given: usize) -> Term<&'s str> {
        let counts: Vec<String> = self.counts(name).iter().map(ToString::to_string).collect();
        let unknown = self.meant(name);
        let mut refuse = |message, help: &str| self.refuse(name, message, help);
        match name {
            _ if !counts.is_empty() => refuse(
                format!(
                    "`{name}` is given {} arguments here, and takes {}",
                    given,
                    counts.join(" or ")
                ),
                "arguments are separated by ;",
            ),
            "repeat" | "while" | "until" | "recurse" | "combinations" => refuse(
                format!("`{name}` may go on for ever, and is not offered here"),
                "say it with reduce, foreach, range or ..",
            ),
            "localtime" | "strflocaltime" => refuse(
                format!("`{name}` goes by a local time, and there is none here"),
                "name the zone: strftime(\"%H:%M\"; \"Europe/Berlin\")",
            ),
            "env" | "input" | "inputs" | "input_filename" | "input_line_number" | "debug"
            | "stderr" | "halt" | "halt_error" | "get_search_list" => refuse(
                format!("`{name}` looks beyond the event, and is not offered here"),
                "a transform sees the event alone",
            ),
            "path" => refuse(
                format!("`{name}` is not offered here"),
                "use paths, getpath, setpath or del",
            ),
            "test" | "match" | "capture" | "scan" | "splits" | "sub" | "gsub" => refuse(
                format!("`{name}` is not offered here"),
                "use split, startswith, endswith, ltrimstr, rtrimstr or contains",
            ),
            _ => refuse(format!("there is no filter `{name}` here"), &unknown),
        }
    }

    /// Help for a filter that there is not.
    fn meant(&self, name: &str) -> String {
        let bytes = self.text.as_bytes().as_ptr_range();
        let before = if bytes.contains(&name.as_ptr()) {
            let at = jaq_core::load::span(self.text, name).start;
            self.text.get(..at).unwrap_or_default()
        } else {
            ""
        };
        let filters = self.filters.iter().map(|(known, ..)| *known);
        let known = self.known.iter().map(|((known, _), _)| *known);
        let prelude = self.prelude.iter().map(|(known, _)| *known);
        let named = |known: &&str| {
            known.starts_with(|first: char| first.is_ascii_alphabetic()) && *known != PATH
        };
        let mut all: Vec<&str> = filters.chain(known).chain(prelude).filter(named).collect();
        all.sort_unstable();
        meant::filter(name, before, all)
    }

    /// How many arguments a name takes.
    fn counts(&self, name: &str) -> Vec<usize> {
        let filters = self
            .filters
            .iter()
            .map(|(known, count, _)| (*known, *count));
        let known = self
            .known
            .iter()
            .map(|(known, _)| *known)
            .chain(self.prelude.iter().copied());
        let mut counts: Vec<usize> = filters
            .chain(known)
            .filter(|(known, _)| *known != PATH)
            .filter(|(known, _)| *known == name)
            .map(|(_, count)| count)
            .collect();
        counts.sort_unstable();
        counts.dedup();
        counts
    }
}
