//! Dates in templates: `<$.time | strftime("%d.%m.%Y"; "Europe/Berlin")>`, in the words of jq.
//!
//! | filter | makes |
//! |---|---|
//! | `strftime(format)`, `strftime(format; zone)` | a text by a format, on the wall clock of a zone, else in UTC |
//! | `todate`, `todate(zone)` | RFC 3339 to the second |
//! | `fromdate` | seconds since 1970-01-01T00:00:00Z, a number |
//! | `now` | those of the attempt, whatever is in front of it: `<$ \| now \| todate>` |
//!
//! What is taken for a point in time says [`crate::date`]. Null is taken for nothing found; of a
//! query that can find several values each is one.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pointsman_schemas::{Problem, suggest};
use serde_json::Value;

use super::RenderError;
use crate::date::{self, Format};
use crate::document::{Document, Node};
use crate::path::{Found, Path};

const FILTERS: [&str; 4] = ["now", "strftime", "todate", "fromdate"];

/// Characters of a value that an error shows.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// What is made of points in time.
#[derive(Clone, Debug)]
pub(super) struct Dated {
    /// Whether it is of the time of the attempt, and not of what a query finds.
    now: bool,
    /// How it is written; where not, it is a number of seconds.
    format: Option<Format>,
}

/// What was made.
pub(super) enum Made {
    One(Value),
    Many(Vec<Value>),
}

impl Made {
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::One(value) => Node::Value(value).to_text().into_owned(),
            Self::Many(values) => crate::path::list(&values.iter().collect::<Vec<_>>()),
        }
    }

    pub(super) fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::One(value) => Node::Value(value).write_json(out),
            Self::Many(values) => out.extend_from_slice(
                crate::path::list(&values.iter().collect::<Vec<_>>()).as_bytes(),
            ),
        }
    }
}

impl Dated {
    /// Reads the filters between two places of what stands between `<` and `>`, which begins at
    /// `from` in the whole text.
    ///
    /// # Errors
    /// A filter that there is not, or that cannot stand there, a broken format, an unknown zone;
    /// each with its place in the whole text.
    pub(super) fn parse(
        inside: &str,
        start: usize,
        end: usize,
        from: usize,
    ) -> Result<Self, Problem> {
        let (mut dated, mut last) = (
            Self {
                now: false,
                format: None,
            },
            "",
        );
        let mut at = start;
        while let Some(rest) = inside.get(at..end).filter(|rest| rest.starts_with('|')) {
            let call = Call::read(
                inside,
                at + rest.len() - rest.get(1..).unwrap_or_default().trim_start().len(),
                end,
            );
            let call = call.map_err(|problem| moved(problem, from))?;
            dated.add(&call, last).map_err(|problem| {
                let within = problem.within.clone().unwrap_or(call.at..call.end);
                moved(problem.inside(within), from)
            })?;
            (at, last) = (call.end, call.name);
            at += inside
                .get(at..end)
                .map_or(0, |rest| rest.len() - rest.trim_start().len());
        }
        match inside.get(at..end).unwrap_or_default() {
            "" => Ok(dated),
            rest => Err(moved(
                Problem::new("a | or the end is wanted here")
                    .inside(at..at + rest.trim_end().len()),
                from,
            )),
        }
    }

    /// Whether it looks at what a query finds.
    pub(super) fn looks(&self) -> bool {
        !self.now
    }

    fn add(&mut self, call: &Call<'_>, last: &str) -> Result<(), Problem> {
        let wants = |most: usize, help: &'static str| {
            let count = call.arguments.len();
            (count <= most).then_some(()).ok_or_else(|| {
                Problem::new(format!("`{}` is given {count} texts here", call.name)).help(help)
            })
        };
        let text = |index: usize| call.arguments.get(index).map(String::as_str);
        if self.format.is_some() || (last == "fromdate" && matches!(call.name, "now" | "fromdate"))
        {
            return Err(Problem::new(format!("nothing can stand behind `{last}`"))
                .help("it makes the text, or the number, that is written"));
        }
        match call.name {
            "now" if !last.is_empty() => {
                return Err(Problem::new("`now` stands first")
                    .help("write <$ | now | strftime(\"%Y-%m-%d\")>"));
            }
            "now" => {
                wants(0, "it takes none")?;
                self.now = true;
            }
            "fromdate" => wants(0, "it takes none")?,
            "todate" => {
                wants(1, "it takes a time zone, or none")?;
                self.format = Some(Format::rfc_3339(text(0))?);
            }
            "strftime" => {
                wants(
                    2,
                    "it takes a format, and a time zone behind a ; where it is not UTC",
                )?;
                let Some(format) = text(0) else {
                    return Err(Problem::new("`strftime` wants a format").help(
                        "write strftime(\"%Y-%m-%d\"), with a zone \
                         strftime(\"%H:%M\"; \"Europe/Berlin\")",
                    ));
                };
                self.format = Some(Format::new(format, text(1))?);
            }
            other => return Err(unknown(other)),
        }
        Ok(())
    }

    /// What is made of what a query finds in a document; none where it finds nothing or null.
    ///
    /// # Errors
    /// [`RenderError::NoDate`].
    pub(super) fn find(
        &self,
        path: &Path,
        document: &Document<'_>,
    ) -> Result<Option<Made>, RenderError> {
        if self.now {
            let now = Timestamp::from_microsecond(document.now().0).unwrap_or_default();
            return self.write(now, path).map(|made| Some(Made::One(made)));
        }
        let one = |node: Node<'_>| self.write(self.moment(node, path)?, path);
        Ok(match path.find(document) {
            Found::Nothing => None,
            Found::One(node) if is_null(node) => None,
            Found::One(node) => Some(Made::One(one(node)?)),
            Found::Many(values) => {
                let values = values
                    .into_iter()
                    .map(Node::Value)
                    .filter(|node| !is_null(*node));
                Some(Made::Many(values.map(one).collect::<Result<_, _>>()?))
            }
        })
    }

    fn moment(&self, node: Node<'_>, path: &Path) -> Result<Timestamp, RenderError> {
        let text = node.to_text();
        let is_number = match node {
            Node::Integer(_) | Node::Value(Value::Number(_)) => true,
            Node::Json(json) => json
                .first()
                .is_some_and(|first| *first == b'-' || first.is_ascii_digit()),
            _ => false,
        };
        let utc = TimeZone::UTC;
        let wall = self.format.as_ref().map_or(&utc, |format| &format.zone);
        let moment = if is_number {
            date::of_number(&text)
        } else {
            date::of_text(&text, wall)
        };
        moment.ok_or_else(|| {
            let mut found: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
            if found.len() < text.len() {
                found.push('…');
            }
            RenderError::NoDate {
                query: path.as_str().to_owned(),
                found: Value::from(found).to_string(),
            }
        })
    }

    fn write(&self, moment: Timestamp, path: &Path) -> Result<Value, RenderError> {
        let Some(format) = &self.format else {
            return Ok(Value::Number(date::seconds(moment)));
        };
        format
            .write(moment)
            .map(Value::from)
            .map_err(|found| RenderError::NoDate {
                query: path.as_str().to_owned(),
                found,
            })
    }
}

fn is_null(node: Node<'_>) -> bool {
    matches!(node, Node::Json(b"null") | Node::Value(Value::Null))
}

fn moved(problem: Problem, by: usize) -> Problem {
    match problem.within.clone() {
        Some(within) => problem.inside(within.start + by..within.end + by),
        None => problem,
    }
}

fn unknown(name: &str) -> Problem {
    let problem = Problem::new(format!("there is no filter `{name}` in templates"));
    match name {
        "" => Problem::new("a filter is wanted behind |")
            .help("there are strftime, todate, fromdate and now; a default stands behind ??"),
        "default" => problem.help("write a default behind ??: <$.a ?? \"x\">"),
        "date" | "format" | "formatDate" | "format_date" => {
            problem.help("write strftime(\"%Y-%m-%d\")")
        }
        _ => problem.help(match suggest::nearest(name, FILTERS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => {
                "there are strftime, todate, fromdate and now; for anything else write the data \
                 as a jq program"
                    .to_owned()
            }
        }),
    }
}

/// One filter as it is written.
struct Call<'t> {
    name: &'t str,
    arguments: Vec<String>,
    at: usize,
    end: usize,
}

impl<'t> Call<'t> {
    fn read(text: &'t str, at: usize, end: usize) -> Result<Self, Problem> {
        let rest = text.get(at..end).unwrap_or_default();
        let length = rest
            .find(|character: char| !character.is_ascii_alphanumeric() && character != '_')
            .unwrap_or(rest.len());
        let name = rest.get(..length).unwrap_or_default();
        let mut call = Self {
            name,
            arguments: Vec::new(),
            at,
            end: at + length,
        };
        if text
            .get(call.end..end)
            .is_some_and(|rest| rest.starts_with('('))
        {
            call.end += 1;
            call.arguments(text, end)?;
        }
        Ok(call)
    }

    /// Reads what stands behind the opening bracket: texts in quotes, with a semicolon between.
    fn arguments(&mut self, text: &str, end: usize) -> Result<(), Problem> {
        loop {
            self.pass_space(text, end);
            let rest = text.get(self.end..end).unwrap_or_default();
            let (argument, length) = quoted(rest).ok_or_else(|| {
                let place = self.end..self.end + rest.chars().next().map_or(0, char::len_utf8);
                Problem::new("a text in quotes is wanted here")
                    .inside(place)
                    .help(format!("write {}(\"…\")", self.name))
            })?;
            self.arguments.push(argument);
            self.end += length;
            self.pass_space(text, end);
            let next = text.get(self.end..end).and_then(|rest| rest.chars().next());
            let place = self.end..self.end + next.map_or(0, char::len_utf8);
            self.end = place.end;
            match next {
                Some(')') => return Ok(()),
                Some(';') => {}
                Some(',') => {
                    return Err(Problem::new("a ; is wanted here")
                        .inside(place)
                        .help("as in jq: strftime(\"%H:%M\"; \"Europe/Berlin\")"));
                }
                _ => return Err(Problem::new("a ; or a ) is wanted here").inside(place)),
            }
        }
    }

    fn pass_space(&mut self, text: &str, end: usize) {
        self.end += text
            .get(self.end..end)
            .map_or(0, |rest| rest.len() - rest.trim_start().len());
    }
}

/// A text in double quotes, as in JSON, or in single ones, as it stands; with the length of all of
/// it.
fn quoted(text: &str) -> Option<(String, usize)> {
    if let Some(rest) = text.strip_prefix('\'') {
        let length = rest.find('\'')?;
        return Some((rest.get(..length)?.to_owned(), length + 2));
    }
    if !text.starts_with('"') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}
