//! A text cut at its `<$…>`.

use pointsman_schemas::Problem;
use pointsman_schemas::template::lexer::{self, Token, Unclosed};

use super::dated::Dated;
use super::{Missing, Piece, Slot};
use crate::path::Path;

/// The pieces of a text; neighbouring texts are one piece, and an empty text has none.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, Problem> {
    let (mut pieces, mut plain) = (Vec::new(), String::new());
    for token in lexer::tokens(text) {
        match token {
            Ok(Token::Text(text)) => plain.push_str(text),
            Ok(Token::Slot { inside, at }) => {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
                }
                pieces.push(Piece::Slot(slot(inside, at)?));
            }
            Err(Unclosed { at }) => {
                let problem =
                    Problem::new("<$ opens a template that is not closed").inside(at..text.len());
                return Err(problem.help("close it with >, or write <$$ for a literal <$"));
            }
        }
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain.into()));
    }
    Ok(pieces)
}

/// Reads what stands between `<` and `>`, which begins at `from` in the whole text.
fn slot(inside: &str, from: usize) -> Result<Slot, Problem> {
    let split = lexer::outside(inside)
        .find(|(_, rest)| rest.starts_with("??"))
        .map(|(at, _)| at);
    let (query, default) = match split {
        None => (inside, None),
        Some(at) => (inside.get(..at).unwrap_or_default(), inside.get(at + 2..)),
    };
    let filters = lexer::outside(query)
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
