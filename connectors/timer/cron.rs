//! Reads a cron line as a person writes it, and says what is wrong with it in that person's own
//! terms.
//!
//! What comes out has only numbers in it and each range at its full length: names, nicknames and
//! the short forms of Quartz are understood here, so that nothing is left to be read in two ways.

use std::ops::Range;

use pointsman_schemas::{Problem, suggest};

use super::foreign;

/// A cron line in its full form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CronExpression {
    /// Five to seven fields.
    pub(super) fields: String,
    /// The zone that stood in front of it, with its place.
    pub(super) zone: Option<(String, Range<usize>)>,
}

/// One of the fields.
#[derive(Debug)]
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// Names of values, the first one's value and all of them in order.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const FIELDS: [Field; 7] = [
    Field {
        name: "second",
        min: 0,
        max: 59,
        names: &[],
    },
    Field {
        name: "minute",
        min: 0,
        max: 59,
        names: &[],
    },
    Field {
        name: "hour",
        min: 0,
        max: 23,
        names: &[],
    },
    Field {
        name: "day of the month",
        min: 1,
        max: 31,
        names: &[],
    },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &MONTHS,
    },
    Field {
        name: "day of the week",
        min: 0,
        max: 7,
        names: &DAYS,
    },
    Field {
        name: "year",
        min: 1970,
        max: 2199,
        names: &[],
    },
];

const DAY_OF_MONTH: usize = 3;
const DAY_OF_WEEK: usize = 5;

const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// The form of the lines that [`read`] takes, as a regular expression for the JSON Schema: each
/// field by its numbers and names.
pub(super) fn pattern() -> String {
    let mut fields = [const { String::new() }; FIELDS.len()];
    for (index, (field, pattern)) in FIELDS.iter().zip(&mut fields).enumerate() {
        let numbers = match field.name {
            "hour" => "0*(?:[0-9]|1[0-9]|2[0-3])",
            "day of the month" => "0*(?:[1-9]|[12][0-9]|3[01])",
            "month" => "0*(?:[1-9]|1[0-2])",
            "day of the week" => "0*[0-7]",
            "year" => "0*(?:19[7-9][0-9]|2[01][0-9][0-9])",
            _ => "0*[1-5]?[0-9]",
        };
        // Names go in either case, and this dialect has no flag for that.
        let folded = |name: &&str| {
            name.chars()
                .map(|c| format!("[{c}{}]", c.to_ascii_lowercase()))
                .collect::<String>()
        };
        let value = field
            .names
            .iter()
            .map(folded)
            .fold(numbers.to_owned(), |all, name| format!("{all}|{name}"));
        let value = format!("(?:{value})");
        let special = match index {
            DAY_OF_MONTH => format!("|[Ll][Ww]?|{value}[Ww]"),
            DAY_OF_WEEK => format!("|{value}(?:[Ll]|#[1-5Ll])"),
            _ => String::new(),
        };
        let item =
            format!("(?:(?:\\*|{value}(?:-{value})?)(?:/0*[1-9][0-9]*)?|/0*[1-9][0-9]*{special})");
        let (and, any) = match index {
            DAY_OF_MONTH => ("", "|\\?"),
            DAY_OF_WEEK => ("\\+?", "|\\?"),
            _ => ("", ""),
        };
        *pattern = format!("(?:{and}{item}(?:,{item})*{any})");
    }
    let [second, minute, hour, day, month, weekday, year] = fields;
    let five = [minute, hour, day, month, weekday].join("\\s+");
    let nicknames = NICKNAMES.map(|(name, _)| {
        name.chars()
            .map(|c| match c {
                '@' => "@".to_owned(),
                c => format!("[{}{c}]", c.to_ascii_uppercase()),
            })
            .collect::<String>()
    });
    // Years that were past when this was written are past for ever.
    const PAST: &str =
        "0*(?:19[7-9][0-9]|20[01][0-9]|202[0-5])(?:-0*(?:19[7-9][0-9]|20[01][0-9]|202[0-5]))?";
    let year = format!("(?!{PAST}(?:,{PAST})*\\s*$){year}");
    format!(
        "^\\s*(?:(?:CRON_)?TZ=\\S+\\s+)?(?:{}|(?:{second}\\s+)?{five}|{second}\\s+{five}\\s+{year})\\s*$",
        nicknames.join("|")
    )
}

/// Reads a line of five fields, six (seconds first) or seven (years last), or a nickname, behind
/// `CRON_TZ=` where that stands there.
///
/// # Errors
/// The first thing that is wrong, with its place in the line.
pub(super) fn read(text: &str) -> Result<CronExpression, Problem> {
    let mut rest = text.trim();
    let mut zone = None;
    if let Some((first, behind)) = rest.split_once(char::is_whitespace)
        && let Some(name) = first
            .strip_prefix("CRON_TZ=")
            .or_else(|| first.strip_prefix("TZ="))
    {
        zone = Some((name.to_owned(), place(text, name)));
        rest = behind.trim_start();
    }
    if rest.is_empty() {
        return Err(Problem::new("the cron line is empty").help(
            "write minute, hour, day, month and day of the week, such as \"0 9 * * MON-FRI\"",
        ));
    }
    if let Some(nickname) = rest.strip_prefix('@').map(|_| rest) {
        return Ok(CronExpression {
            fields: self::nickname(nickname, text)?.to_owned(),
            zone,
        });
    }
    if let Some((name, _)) = rest
        .split_once('(')
        .filter(|(name, _)| ["cron", "rate", "at"].contains(name))
    {
        return Err(eventbridge(name, rest));
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let offset = match fields.len() {
        5 => 1,
        6 | 7 => 0,
        number => {
            let problem = Problem::new(format!(
                "a cron line has five fields, and this one {number}"
            ));
            return Err(problem.help(
                "minute, hour, day of the month, month, day of the week; a second may stand in \
                 front, a year behind",
            ));
        }
    };
    foreign_fields(&fields)?;
    let read = fields.iter().enumerate().map(|(index, field)| {
        FieldReader {
            index: index + offset,
            text,
        }
        .field(field)
    });
    Ok(CronExpression {
        fields: read.collect::<Result<Vec<_>, _>>()?.join(" "),
        zone,
    })
}

/// Where a part of a text lies in it.
fn place(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

fn nickname(word: &str, text: &str) -> Result<&'static str, Problem> {
    if let Some((_, fields)) = NICKNAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
    {
        return Ok(fields);
    }
    if let Some(period) = word.strip_prefix("@every") {
        let period = Some(period.trim())
            .filter(|period| !period.is_empty())
            .unwrap_or("30s");
        return Err(Problem::new("a period is no cron line")
            .inside(place(text, word))
            .help(format!("write `every: {period}` in the place of `cron`")));
    }
    let problem = Problem::new(format!("there is no `{word}`")).inside(place(text, word));
    let known = NICKNAMES.map(|(name, _)| name);
    Err(problem.help(match nearest(word, &known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!(
            "there is {}",
            known.map(|name| format!("`{name}`")).join(", ")
        ),
    }))
}

/// A line in the words of EventBridge.
fn eventbridge(name: &str, expression: &str) -> Problem {
    let problem = Problem::new(format!("`{name}(…)` is how EventBridge writes a schedule"));
    problem.help(match foreign::of_eventbridge(expression) {
        Ok(foreign::Schedule::Cron(line)) => format!("write `cron: \"{line}\"`"),
        Ok(foreign::Schedule::Every(period)) => {
            format!("write `every: {period}` in the place of `cron`")
        }
        Err(why) => format!(
            "{why}; write minute, hour, day, month and day of the week, such as \"0 9 * * MON-FRI\""
        ),
    })
}

/// Refuses lines whose numbers mean other days, or whose fields other things, where they come from.
fn foreign_fields(fields: &[&str]) -> Result<(), Problem> {
    let asks = |index: usize| fields.get(index).is_some_and(|field| *field == "?");
    let problem = |whose: &str, line: Result<String, String>| {
        let problem = Problem::new(format!("this looks like a line of {whose}"));
        Err(problem.help(line.map_or_else(|why| why, |line| format!("write `cron: \"{line}\"`"))))
    };
    if fields.len() == 6 && (asks(2) || asks(4)) {
        return problem(
            "EventBridge, whose last field is the year",
            foreign::of_eventbridge_fields(fields),
        );
    }
    let weekday = if fields.len() == 5 { 4 } else { 5 };
    let counted = fields
        .get(weekday)
        .is_some_and(|field| field.starts_with(|c: char| c.is_ascii_digit()));
    if counted && fields.contains(&"?") {
        let seconds: Vec<&str> = if fields.len() == 5 {
            std::iter::once("0").chain(fields.iter().copied()).collect()
        } else {
            fields.to_vec()
        };
        return problem(
            "Quartz, where day 1 of the week is Sunday",
            foreign::of_quartz_fields(&seconds),
        );
    }
    Ok(())
}

/// The known word that one was probably meant to be.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = word.to_lowercase();
    let begins = known
        .iter()
        .find(|known| known.len() >= 3 && folded.starts_with(&known.to_lowercase()))
        .copied();
    begins.or_else(|| suggest::nearest(word, known.iter().copied()))
}

/// Reads one field.
#[derive(Clone, Copy)]
struct FieldReader<'l> {
    /// Of [`FIELDS`].
    index: usize,
    /// The whole line, for places in it.
    text: &'l str,
}

impl FieldReader<'_> {
    fn of(self) -> &'static Field {
        FIELDS.get(self.index).unwrap_or(&FIELDS[0])
    }

    fn wrong(self, part: &str, message: String) -> Problem {
        Problem::new(message).inside(place(self.text, part))
    }

    fn field(self, field: &str) -> Result<String, Problem> {
        let is_day = [DAY_OF_MONTH, DAY_OF_WEEK].contains(&self.index);
        if is_day && field == "?" {
            return Ok("*".to_owned());
        }
        // `+` in front of the days of the week: both days must fit.
        let (and, items) = match field
            .strip_prefix('+')
            .filter(|_| self.index == DAY_OF_WEEK)
        {
            Some(items) => ("+", items),
            None => ("", field),
        };
        let read = items.split(',').map(|item| self.item(item, field));
        Ok(format!(
            "{and}{}",
            read.collect::<Result<Vec<_>, _>>()?.join(",")
        ))
    }

    fn item(self, item: &str, field: &str) -> Result<String, Problem> {
        if item.is_empty() {
            return Err(self.wrong(
                field,
                format!("the {} `{field}` has a comma too many", self.of().name),
            ));
        }
        if let Some(special) = self.special(item)? {
            return Ok(special);
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some((step, self.step(step, item)?))),
            None => (item, None),
        };
        let last = if self.index == DAY_OF_WEEK {
            6
        } else {
            self.of().max
        };
        let read = match range.split_once('-') {
            // `/5` is `*/5`.
            _ if range == "*" || range.is_empty() && step.is_some() => "*".to_owned(),
            Some((from, to)) => {
                let (first, mut second) = (self.value(from)?, self.value(to)?);
                // Sunday ends a week as well as it begins one.
                if self.index == DAY_OF_WEEK && second == 0 && first > 0 {
                    second = 7;
                }
                if first > second {
                    let problem = self.wrong(
                        item,
                        format!("the {} `{range}` runs backwards", self.of().name),
                    );
                    let (least, most) = match (self.of().names.first(), self.of().names.last()) {
                        (Some(least), Some(most)) => ((*least).to_owned(), (*most).to_owned()),
                        _ => (self.of().min.to_string(), last.to_string()),
                    };
                    return Err(problem.help(format!("write `{from}-{most},{least}-{to}`")));
                }
                format!("{first}-{second}")
            }
            None => {
                let value = self.value(range)?;
                let value = if self.index == DAY_OF_WEEK {
                    value % 7
                } else {
                    value
                };
                // `2/5` begins at 2, and ends with its field.
                if step.is_some() {
                    format!("{value}-{last}")
                } else {
                    value.to_string()
                }
            }
        };
        Ok(step.map_or_else(|| read.clone(), |(_, step)| format!("{read}/{step}")))
    }

    /// `L`, `15W`, `FRI#2`, `5L`: what only days have.
    fn special(self, item: &str) -> Result<Option<String>, Problem> {
        let upper = item.to_ascii_uppercase();
        if self.index == DAY_OF_MONTH {
            let weekday = upper.strip_suffix('W').filter(|day| !day.is_empty());
            return match weekday {
                Some(day) if day != "L" => Ok(Some(format!(
                    "{}W",
                    self.value(item.get(..day.len()).unwrap_or_default())?
                ))),
                _ => Ok((upper == "L" || upper == "LW").then_some(upper)),
            };
        }
        if self.index != DAY_OF_WEEK {
            return Ok(None);
        }
        if let Some((day, number)) = item.split_once('#') {
            if !["1", "2", "3", "4", "5", "L", "l"].contains(&number) {
                return Err(self.wrong(
                    item,
                    format!(
                        "`{item}` names no week: behind `#` stands 1 to 5, or L for the last one"
                    ),
                ));
            }
            return Ok(Some(format!(
                "{}#{}",
                self.value(day)? % 7,
                number.to_ascii_uppercase()
            )));
        }
        match upper.strip_suffix('L').filter(|day| !day.is_empty()) {
            Some(day) => Ok(Some(format!(
                "{}#L",
                self.value(item.get(..day.len()).unwrap_or_default())? % 7
            ))),
            None => Ok(None),
        }
    }

    fn step(self, step: &str, item: &str) -> Result<u16, Problem> {
        let of = self.of();
        let number = step
            .parse::<u16>()
            .ok()
            .filter(|number| *number > 0 && step.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(number) = number else {
            return Err(self.wrong(item, format!("the step of `{item}` is no number from 1")));
        };
        if number > of.max - of.min + 1 {
            let problem = self.wrong(
                item,
                format!("the step of `{item}` is longer than the {} goes", of.name),
            );
            return Err(
                problem.help("a longer period is written `every: 90m`, in the place of `cron`")
            );
        }
        Ok(number)
    }

    fn value(self, value: &str) -> Result<u16, Problem> {
        let of = self.of();
        if let Some(at) = of
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(value))
        {
            return Ok(of.min + u16::try_from(at).unwrap_or_default());
        }
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(number) = value
            .parse::<u16>()
            .ok()
            .filter(|number| is_number && (of.min..=of.max).contains(number))
        {
            return Ok(number);
        }
        let names = match (of.names.first(), of.names.last()) {
            (Some(first), Some(last)) => format!(", or {first} to {last}"),
            _ => String::new(),
        };
        let goes = format!("it goes from {} to {}{names}", of.min, of.max);
        let problem = self.wrong(value, format!("`{value}` is no {}", of.name));
        Err(
            problem.help(match nearest(value, of.names).filter(|_| !is_number) {
                Some(name) => format!("did you mean `{name}`? {goes}"),
                None => goes,
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_into_numbers() {
        for (line, expect) in [
            ("0 9 * * MON-FRI", "0 9 * * 1-5"),
            ("  0  9 1,15 jan,Dec sun ", "0 9 1,15 1,12 0"),
            ("5/15 * * * *", "5-59/15 * * * *"),
            ("/10 * * * *", "*/10 * * * *"),
            ("0 0 * * 1/2", "0 0 * * 1-6/2"),
            ("0 0 * * MON/2", "0 0 * * 1-6/2"),
            ("0 0 * * 7/2", "0 0 * * 0-6/2"),
            ("0 0 * * */2", "0 0 * * */2"),
            ("0 0 * * FRI-SUN", "0 0 * * 5-7"),
            ("0 0 * * 1-7/2", "0 0 * * 1-7/2"),
            ("0 0 * * 7", "0 0 * * 0"),
            ("0 0 * * fri#2,MON#L", "0 0 * * 5#2,1#L"),
            ("0 0 * * FRIL", "0 0 * * 5#L"),
            ("0 0 L * *", "0 0 L * *"),
            ("0 0 15w * *", "0 0 15W * *"),
            ("0 0 1 * +MON", "0 0 1 * +1"),
            ("0 0 9 ? * MON-FRI", "0 0 9 * * 1-5"),
            ("0 0 0 29 2 * 2096", "0 0 0 29 2 * 2096"),
            ("@Midnight", "0 0 * * *"),
            ("0 0 1 3/2 *", "0 0 1 3-12/2 *"),
        ] {
            assert_eq!(
                read(line).map(|line| line.fields),
                Ok(expect.to_owned()),
                "{line}"
            );
        }
        let zoned = read("CRON_TZ=Europe/Berlin  0 9 * * *").unwrap();
        assert_eq!(
            (&*zoned.fields, zoned.zone),
            ("0 9 * * *", Some(("Europe/Berlin".to_owned(), 8..21)))
        );
        assert_eq!(read("TZ=UTC @daily").unwrap().fields, "0 0 * * *");
    }

    #[test]
    fn what_is_wrong_is_told_in_the_users_own_words() {
        for (line, part, message, help) in [
            ("", None, "the cron line is empty", "such as"),
            (
                "CRON_TZ=UTC ",
                None,
                "five fields, and this one 1",
                "minute",
            ),
            (
                "* * * *",
                None,
                "a cron line has five fields, and this one 4",
                "minute, hour",
            ),
            ("* * * * * * * *", None, "this one 8", "a year behind"),
            (
                "61 9 * * *",
                Some("61"),
                "`61` is no minute",
                "it goes from 0 to 59",
            ),
            ("0 25 * * *", Some("25"), "`25` is no hour", "0 to 23"),
            (
                "0 9 0 * *",
                Some("0"),
                "`0` is no day of the month",
                "1 to 31",
            ),
            (
                "0 9 * * MON-FRY",
                Some("FRY"),
                "`FRY` is no day of the week",
                "did you mean `FRI`?",
            ),
            (
                "0 9 * * monday",
                Some("monday"),
                "`monday` is no day of the week",
                "did you mean `MON`?",
            ),
            (
                "0 9 * SEPT *",
                Some("SEPT"),
                "`SEPT` is no month",
                "did you mean `SEP`?",
            ),
            (
                "0 9 * 13 *",
                Some("13"),
                "`13` is no month",
                "it goes from 1 to 12, or JAN to DEC",
            ),
            (
                "0 9 * * 8",
                Some("8"),
                "`8` is no day of the week",
                "0 to 7, or SUN to SAT",
            ),
            (
                "0 22-2 * * *",
                Some("22-2"),
                "the hour `22-2` runs backwards",
                "write `22-23,0-2`",
            ),
            (
                "0 0 * * FRI-MON",
                Some("FRI-MON"),
                "runs backwards",
                "write `FRI-SAT,SUN-MON`",
            ),
            (
                "1,,2 * * * *",
                Some("1,,2"),
                "the minute `1,,2` has a comma too many",
                "",
            ),
            (
                "*/0 * * * *",
                Some("*/0"),
                "the step of `*/0` is no number from 1",
                "",
            ),
            (
                "*/90 * * * *",
                Some("*/90"),
                "longer than the minute goes",
                "every: 90m",
            ),
            ("0 0 * * MON#6", Some("MON#6"), "names no week", ""),
            ("a b c d e", Some("a"), "`a` is no minute", "0 to 59"),
            ("ü * * * *", Some("ü"), "`ü` is no minute", ""),
            ("-5 * * * *", Some(""), "`` is no minute", ""),
            (
                "@reboot",
                Some("@reboot"),
                "there is no `@reboot`",
                "`@hourly`",
            ),
            (
                "@dayly",
                Some("@dayly"),
                "there is no `@dayly`",
                "did you mean `@daily`?",
            ),
            (
                "@every 90s",
                Some("@every 90s"),
                "a period is no cron line",
                "write `every: 90s`",
            ),
            (
                "cron(0 9 ? * 2-6 *)",
                None,
                "is how EventBridge writes a schedule",
                "write `cron: \"0 9 * * 1-5\"`",
            ),
            (
                "rate(5 minutes)",
                None,
                "is how EventBridge writes a schedule",
                "write `every: 5m`",
            ),
            (
                "0 9 ? * MON-FRI *",
                None,
                "EventBridge, whose last field is the year",
                "write `cron: \"0 9 * * MON-FRI\"`",
            ),
            (
                "0 0 9 ? * 2-6",
                None,
                "Quartz, where day 1 of the week is Sunday",
                "write `cron: \"0 9 * * 1-5\"`",
            ),
            ("0 9 ? * 2", None, "Quartz", "write `cron: \"0 9 * * 1\"`"),
        ] {
            let problem = read(line).unwrap_err();
            assert!(problem.message.contains(message), "{line}: {problem:?}");
            assert!(
                problem.help.as_deref().unwrap_or_default().contains(help),
                "{line}: {problem:?}"
            );
            let inside = problem.within.as_ref().map(|place| &line[place.clone()]);
            assert_eq!(inside, part, "{line}");
        }
    }
}
