//! The built-in functions (section 3.5).

use std::borrow::Cow;

use pointsman_schemas::{Problem, suggest};

use super::Type;
use super::evaluate::EvaluationError;

/// The longest string that a function puts together.
const STRING_BYTES_MAX: usize = 64 * 1024;

/// A built-in function, found by its name and the number of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Length,
    Concat,
    ConcatWs,
    Lower,
    Upper,
    Trim,
    Left,
    Right,
    Substring,
    Abs,
    Int,
    Bool,
    String,
    IsInt,
    IsBool,
}

/// Each with its name, the fewest arguments that it takes, and the most.
const FUNCTIONS: [(Function, &str, usize, usize); 15] = [
    (Function::Length, "LENGTH", 1, 1),
    (Function::Concat, "CONCAT", 0, usize::MAX),
    (Function::ConcatWs, "CONCAT_WS", 1, usize::MAX),
    (Function::Lower, "LOWER", 1, 1),
    (Function::Upper, "UPPER", 1, 1),
    (Function::Trim, "TRIM", 1, 1),
    (Function::Left, "LEFT", 2, 2),
    (Function::Right, "RIGHT", 2, 2),
    (Function::Substring, "SUBSTRING", 2, 3),
    (Function::Abs, "ABS", 1, 1),
    (Function::Int, "INT", 1, 1),
    (Function::Bool, "BOOL", 1, 1),
    (Function::String, "STRING", 1, 1),
    (Function::IsInt, "IS_INT", 1, 1),
    (Function::IsBool, "IS_BOOL", 1, 1),
];

impl Function {
    /// The function of a name, in any case, that takes so many arguments.
    pub(crate) fn find(name: &str, arguments: usize) -> Option<Self> {
        let fits = |(_, known, least, most): &&(Self, &str, usize, usize)| {
            known.eq_ignore_ascii_case(name) && (*least..=*most).contains(&arguments)
        };
        FUNCTIONS.iter().find(fits).map(|(function, ..)| *function)
    }

    /// The type of what it gives.
    pub(crate) fn gives(self) -> Type {
        match self {
            Self::Length | Self::Abs | Self::Int => Type::Integer,
            Self::Bool | Self::IsInt | Self::IsBool => Type::Boolean,
            _ => Type::String,
        }
    }
}

/// The problem of a call to a function that there is not.
pub(super) fn unknown(name: &str, arguments: usize) -> Problem {
    let known = FUNCTIONS
        .iter()
        .find(|(_, known, ..)| known.eq_ignore_ascii_case(name));
    if let Some((_, known, least, most)) = known {
        let takes = match (*least, *most) {
            (1, 1) => "one argument".to_owned(),
            (least, usize::MAX) => format!("at least {least}"),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} or {most} arguments"),
        };
        return Problem::new(format!("{known} takes {takes}, and here are {arguments}"));
    }
    let lower: Vec<String> = FUNCTIONS
        .iter()
        .map(|(_, known, ..)| known.to_lowercase())
        .collect();
    let problem = Problem::new(format!("there is no function {name:?}"));
    problem.help(
        match suggest::nearest(name, lower.iter().map(String::as_str)) {
            Some(meant) => format!("write {}", meant.to_uppercase()),
            None => format!(
                "there is {}",
                FUNCTIONS.map(|(_, known, ..)| known).join(", ")
            ),
        },
    )
}

/// What a function gives: the value, and with an error what stands for it.
pub(super) type Outcome<'a> = Result<Cow<'a, str>, (Cow<'a, str>, EvaluationError<'a>)>;

/// Strings one after the other, with a delimiter between them.
pub(super) fn concat<'a>(delimiter: &str, texts: &[Cow<'_, str>]) -> Outcome<'a> {
    let length = texts
        .iter()
        .map(|text| text.len())
        .chain(std::iter::repeat_n(
            delimiter.len(),
            texts.len().saturating_sub(1),
        ));
    if length.fold(0, usize::saturating_add) > STRING_BYTES_MAX {
        return Err((
            Cow::Borrowed(""),
            EvaluationError::TooLong {
                bytes_max: STRING_BYTES_MAX,
            },
        ));
    }
    Ok(Cow::Owned(texts.join(delimiter)))
}

/// The first characters of a string.
pub(super) fn left(text: Cow<'_, str>, characters: i32) -> Outcome<'_> {
    match usize::try_from(characters) {
        Ok(characters) => {
            let end = offset(&text, characters);
            Ok(part(text, 0, end))
        }
        Err(_) => Err((
            text,
            EvaluationError::Argument("LEFT takes no negative length"),
        )),
    }
}

/// The last characters of a string.
pub(super) fn right(text: Cow<'_, str>, characters: i32) -> Outcome<'_> {
    match usize::try_from(characters) {
        Ok(characters) => {
            let (start, end) = (
                offset(&text, text.chars().count().saturating_sub(characters)),
                text.len(),
            );
            Ok(part(text, start, end))
        }
        Err(_) => Err((
            text,
            EvaluationError::Argument("RIGHT takes no negative length"),
        )),
    }
}

/// A part of a string from a position, which counts from 1, or from the end where it is negative.
pub(super) fn substring(text: Cow<'_, str>, position: i32, length: Option<i32>) -> Outcome<'_> {
    let wrong = |message| Err((Cow::Borrowed(""), EvaluationError::Argument(message)));
    let Ok(length) = length.map(usize::try_from).transpose() else {
        return wrong("SUBSTRING takes no negative length");
    };
    if position == 0 {
        return Ok(Cow::Borrowed(""));
    }
    let (characters, distance) = (
        text.chars().count(),
        usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX),
    );
    if distance > characters {
        return wrong("SUBSTRING begins outside of the text");
    }
    let from = if position > 0 {
        distance - 1
    } else {
        characters - distance
    };
    let start = offset(&text, from);
    let end = length.map_or(text.len(), |length| {
        offset(&text, from.saturating_add(length))
    });
    Ok(part(text, start, end))
}

/// Where the character of an index from 0 begins; the end where there is none.
fn offset(text: &str, characters: usize) -> usize {
    text.char_indices()
        .nth(characters)
        .map_or(text.len(), |(at, _)| at)
}

/// Part of a string, without a copy where it is borrowed.
pub(super) fn part(text: Cow<'_, str>, start: usize, end: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(start..end).unwrap_or_default()),
        Cow::Owned(text) => Cow::Owned(text.get(start..end).unwrap_or_default().to_owned()),
    }
}
