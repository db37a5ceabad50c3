//! What was probably meant by a program that is none.

use pointsman_schemas::{Problem, suggest};

use super::parse;

/// A mended program longer than this is not shown whole.
const SHOWN_BYTES_MAX: usize = 100;

/// Filters of other languages, and values, with what jq has.
const ALSO_KNOWN_AS: [(&[&str], &str); 14] = [
    (&["len", "size", "count"], "length"),
    (
        &["lower", "lowercase", "tolower", "toLowerCase"],
        "ascii_downcase",
    ),
    (
        &["upper", "uppercase", "toupper", "toUpperCase"],
        "ascii_upcase",
    ),
    (&["sum", "concat"], "add"),
    (&["str", "string", "toString"], "tostring"),
    (
        &["int", "float", "number", "parseInt", "parseFloat"],
        "tonumber",
    ),
    (&["json", "tojsonstring", "stringify"], "tojson"),
    (&["parse"], "fromjson"),
    (&["includes"], "contains"),
    (&["filter", "where"], "select"),
    (&["trim_start"], "ltrimstr"),
    (&["nil", "None", "undefined", "Null", "NULL"], "null"),
    (&["True", "TRUE"], "true"),
    (&["False", "FALSE"], "false"),
];

/// A way to mend a program, with what is said of it where the program is too long to be shown.
type Mend = (fn(&str) -> String, &'static str);

const MENDS: [Mend; 8] = [
    (
        |text| text.replace('\'', "\""),
        "texts stand in double quotes",
    ),
    (without_dollars, "a path begins with its dot, without `$`"),
    (
        |text| {
            text.replace("&&", " and ")
                .replace("||", " or ")
                .replace("  ", " ")
        },
        "write `and` and `or`",
    ),
    (|text| text.replace("[*]", "[]"), "write `[]` for all items"),
    (|text| text.replace("===", "=="), "write `==`"),
    (without_last_commas, "no comma stands behind the last item"),
    (|text| text.replace("else if ", "elif "), "write `elif`"),
    (
        |text| {
            let closed = if text.contains("if ") { " end" } else { "" };
            format!("{}{closed}", text.trim_end())
        },
        "an `if` is closed by `end`",
    ),
];

/// Says of a program that could not be read what was probably meant: the program as it can be
/// read, or where what is open begins.
pub(super) fn mended(text: &str, mut problems: Vec<Problem>) -> Vec<Problem> {
    if problems.iter().any(|problem| problem.help.is_some()) {
        return problems;
    }
    let reads = |candidate: &str| candidate != text && parse(candidate).is_ok();
    let shown = |candidate: &str, why: &str| {
        if candidate.len() <= SHOWN_BYTES_MAX && !candidate.contains('\n') {
            format!("write `{candidate}`")
        } else {
            why.to_owned()
        }
    };
    let alone = MENDS.iter().find_map(|(mend, why)| {
        let candidate = mend(text);
        reads(&candidate).then(|| shown(&candidate, why))
    });
    // All but the last, which adds something.
    let together = || {
        let candidate = MENDS
            .iter()
            .take(MENDS.len() - 1)
            .fold(text.to_owned(), |text, (mend, _)| mend(&text));
        reads(&candidate).then(|| shown(&candidate, "this is not written as jq writes it"))
    };
    if let Some(help) = alone.or_else(together) {
        problems.truncate(1);
        return problems
            .into_iter()
            .map(|problem| problem.help(help.clone()))
            .collect();
    }
    match open(text) {
        Some((at, message)) => {
            let end = text
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .map_or(at, |first| at + first.len_utf8());
            vec![Problem::new(message).inside(at..end)]
        }
        None => problems,
    }
}

/// `$.data.x` and `<$.data.x>` as jq writes them.
fn without_dollars(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("$.") {
        let is_template = before.ends_with('<');
        out.push_str(before.strip_suffix('<').unwrap_or(before));
        out.push('.');
        rest = behind;
        if is_template && let Some((path, behind)) = rest.split_once('>') {
            out.push_str(path);
            rest = behind;
        }
    }
    out.push_str(rest);
    out
}

fn without_last_commas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let behind = text.get(at + character.len_utf8()..).unwrap_or_default();
        if character != ',' || !behind.trim_start().starts_with(['}', ']', ')']) {
            out.push(character);
        }
    }
    out
}

/// The first bracket or quote that is not closed, or is by another one, and what to say of it.
fn open(text: &str) -> Option<(usize, String)> {
    let mut stack: Vec<(usize, char)> = Vec::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let in_text = stack.last().is_some_and(|(_, open)| *open == '"');
        match character {
            '\\' if in_text => {
                // `\(` goes back to the program until it is closed.
                if let Some((at, '(')) = characters.next() {
                    stack.push((at, '('));
                }
            }
            '"' if in_text => drop(stack.pop()),
            _ if in_text => {}
            '#' => {
                while characters
                    .next_if(|(_, character)| *character != '\n')
                    .is_some()
                {}
            }
            '"' | '(' | '[' | '{' => stack.push((at, character)),
            ')' | ']' | '}' => match stack.pop() {
                None => return Some((at, format!("this `{character}` closes nothing"))),
                Some((open, bracket)) if closing(bracket) != character => {
                    return Some((open, format!("this `{bracket}` is closed by `{character}`")));
                }
                Some(_) => {}
            },
            _ => {}
        }
    }
    let (at, bracket) = stack.pop()?;
    Some((at, format!("this `{bracket}` is not closed")))
}

fn closing(bracket: char) -> char {
    match bracket {
        '(' => ')',
        '[' => ']',
        '{' => '}',
        other => other,
    }
}

/// Help for a filter that there is not, in front of which `before` stands.
pub(super) fn filter<'n>(
    name: &str,
    before: &str,
    known: impl IntoIterator<Item = &'n str>,
) -> String {
    // `.data.order-id` is a difference.
    let path = before.strip_suffix('-').map(|before| {
        let from = before
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |at| at + 1);
        (
            before.get(..from).unwrap_or_default(),
            before.get(from..).unwrap_or_default(),
        )
    });
    if let Some((way, last)) = path
        && way.ends_with('.')
    {
        let from = way.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let way = way
            .get(from..)
            .unwrap_or_default()
            .trim_start_matches(['(', '[', '{', ',', ':']);
        return format!("a key with a `-` stands in quotes: write `{way}\"{last}-{name}\"`");
    }
    let also = ALSO_KNOWN_AS
        .iter()
        .find(|(also, _)| also.contains(&name))
        .map(|(_, known)| *known);
    let near_another = || {
        let words = ALSO_KNOWN_AS
            .iter()
            .flat_map(|(also, _)| also.iter().copied());
        let word = suggest::nearest(name, words)?;
        let row = ALSO_KNOWN_AS.iter().find(|(also, _)| also.contains(&word));
        row.map(|(_, known)| *known)
    };
    let meant = also
        .or_else(|| suggest::nearest(name, known))
        .or_else(near_another);
    match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') =>
        {
            "the documentation of transforms lists the filters that there are".to_owned()
        }
        None => format!(
            "for the event's own write `.{name}`; the documentation of transforms lists the \
             filters that there are"
        ),
    }
}
