//! One field of a cron line: its names and numbers, ranges, steps, and what only days have.

use std::ops::Range;

use pointsman_schemas::{Problem, suggest};

/// One of the fields.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    min: u16,
    max: u16,
    /// Names of values, the first one's value and all of them in order.
    pub(super) names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

pub(super) const FIELDS: [Field; 7] = [
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

pub(super) const DAY_OF_MONTH: usize = 3;
pub(super) const DAY_OF_WEEK: usize = 5;

/// Reads one field.
#[derive(Clone, Copy)]
pub(super) struct FieldReader<'l> {
    /// Of [`FIELDS`].
    pub(super) index: usize,
    /// The whole line, for places in it.
    pub(super) text: &'l str,
}

impl FieldReader<'_> {
    fn of(self) -> &'static Field {
        FIELDS.get(self.index).unwrap_or(&FIELDS[0])
    }

    fn wrong(self, part: &str, message: String) -> Problem {
        Problem::new(message).inside(place(self.text, part))
    }

    pub(super) fn field(self, field: &str) -> Result<String, Problem> {
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

/// The known word that one was probably meant to be.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let folded = word.to_lowercase();
    let begins = known
        .iter()
        .find(|known| known.len() >= 3 && folded.starts_with(&known.to_lowercase()))
        .copied();
    begins.or_else(|| suggest::nearest(word, known.iter().copied()))
}

/// Where a part of a text lies in it.
pub(super) fn place(whole: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}
