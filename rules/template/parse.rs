//! A text cut at its `<$…>`.

use pointsman_schemas::Problem;

use super::dated::Dated;
use super::{Missing, Piece, Slot};
use crate::path::Path;

/// The pieces of a text; neighbouring texts are one piece, and an empty text has none.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, Problem> {
    let mut pieces = Vec::new();
    let (mut literal, mut at) = (String::new(), 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find("<$")) {
        let open = at + found;
        literal.push_str(text.get(at..open).unwrap_or_default());
        let inside = open + 1;
        if text
            .get(open + 2..)
            .is_some_and(|rest| rest.starts_with('$'))
        {
            literal.push_str("<$");
            at = open + 3;
            continue;
        }
        let close = closing(text, inside).ok_or_else(|| {
            let problem =
                Problem::new("<$ opens a template that is not closed").inside(open..text.len());
            problem.help("close it with >, or write <$$ for a literal <$")
        })?;
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
        }
        pieces.push(Piece::Slot(slot(
            text.get(inside..close).unwrap_or_default(),
            inside,
        )?));
        at = close + 1;
    }
    literal.push_str(text.get(at..).unwrap_or_default());
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal.into()));
    }
    Ok(pieces)
}

/// Where the template that begins at `from` is closed: the first `>` outside brackets and quotes.
fn closing(text: &str, from: usize) -> Option<usize> {
    outside(text, from)
        .find(|(_, rest)| rest.starts_with('>'))
        .map(|(at, _)| at)
}

/// The places outside brackets and quotes, each with the text from there on.
fn outside(text: &str, from: usize) -> impl Iterator<Item = (usize, &str)> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    text.get(from..)
        .unwrap_or_default()
        .char_indices()
        .filter_map(move |(at, character)| {
            match (quote, character) {
                (Some(_), _) if escaped => escaped = false,
                (Some(_), '\\') => escaped = true,
                (Some(mark), _) if mark == character => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(character),
                (None, '[' | '(' | '{') => depth += 1,
                (None, ']' | ')' | '}') => depth = depth.saturating_sub(1),
                (None, _) if depth == 0 => {
                    return text.get(from + at..).map(|rest| (from + at, rest));
                }
                (None, _) => {}
            }
            None
        })
}

/// Reads what stands between `<` and `>`, which begins at `from` in the whole text.
fn slot(inside: &str, from: usize) -> Result<Slot, Problem> {
    let split = outside(inside, 0)
        .find(|(_, rest)| rest.starts_with("??"))
        .map(|(at, _)| at);
    let (query, default) = match split {
        None => (inside, None),
        Some(at) => (inside.get(..at).unwrap_or_default(), inside.get(at + 2..)),
    };
    let filters = outside(query, 0)
        .find(|(_, rest)| rest.starts_with('|'))
        .map(|(at, _)| at);
    let (query, dated) = match filters {
        None => (query, None),
        Some(at) => (
            query.get(..at).unwrap_or_default(),
            Some(Dated::parse(inside, at, query.len(), from)?),
        ),
    };
    let path = Path::parse(query.trim_end()).map_err(|mut problem| {
        problem.within = Some(match problem.within {
            Some(within) => within.start + from..within.end + from,
            None => from..from + query.trim_end().len(),
        });
        problem
    })?;
    let missing = match default {
        None => Missing::Unsaid,
        Some(default) if default.trim() == "omit" => Missing::Omit,
        Some(default) => serde_json::from_str(default.trim())
            .map(Missing::Default)
            .map_err(|error| {
                let start = from + inside.len() - default.len();
                let problem = Problem::new(format!("the default behind ?? is not JSON: {error}"))
                    .inside(start..from + inside.len());
                problem.help(r#"write a text in quotes: ?? "x"; or ?? omit"#)
            })?,
    };
    Ok(Slot {
        path,
        dated: dated.map(Box::new),
        missing,
    })
}
