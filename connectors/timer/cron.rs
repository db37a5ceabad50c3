//! Reads a cron line as a person writes it, and says what is wrong with it in that person's own
//! terms.
//!
//! What comes out has only numbers in it and each range at its full length: names, nicknames and
//! the short forms of Quartz are understood here, so that nothing is left to be read in two ways.

mod field;

use std::ops::Range;

use pointsman_schemas::Problem;

use self::field::{DAY_OF_MONTH, DAY_OF_WEEK, FIELDS, FieldReader, nearest, place};
use super::foreign;

/// A cron line in its full form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CronExpression {
    /// Five to seven fields.
    pub(super) fields: String,
    /// The zone that stood in front of it, with its place.
    pub(super) zone: Option<(String, Range<usize>)>,
}

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
