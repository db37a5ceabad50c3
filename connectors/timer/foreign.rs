//! Schedules as other systems write them: EventBridge and Quartz, which count the days of the week
//! from 1 for Sunday.

/// What a timer has in the place of such a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// A period, as `every` takes it.
    Every(String),
    /// A cron line, as `cron` takes it.
    Cron(String),
}

/// The counterpart of a schedule expression of EventBridge: `rate(…)`, `cron(…)`, or `at(…)`, which
/// is a line with a year.
///
/// # Errors
/// What in it has none.
pub fn of_eventbridge(expression: &str) -> Result<Schedule, String> {
    let inside = |name: &str| {
        expression
            .trim()
            .strip_prefix(name)?
            .strip_prefix('(')?
            .strip_suffix(')')
    };
    if let Some(rate) = inside("rate") {
        let (number, unit) = rate
            .trim()
            .split_once(' ')
            .ok_or("a rate is a number and a unit")?;
        let unit = match unit.trim().trim_end_matches('s') {
            "minute" => "m",
            "hour" => "h",
            "day" => "d",
            _ => return Err(format!("the unit {unit} is not known")),
        };
        let number: u32 = number
            .parse()
            .map_err(|_| format!("{number} is no number"))?;
        return Ok(Schedule::Every(format!("{number}{unit}")));
    }
    if let Some(at) = inside("at") {
        let at: jiff::civil::DateTime = at
            .trim()
            .parse()
            .map_err(|_| format!("{at} is no time such as 2030-12-24T18:00:00"))?;
        let time = [at.second(), at.minute(), at.hour(), at.day(), at.month()]
            .map(|part| part.to_string())
            .join(" ");
        return Ok(Schedule::Cron(format!("{time} * {}", at.year())));
    }
    let Some(cron) = inside("cron") else {
        return Err("only rate(…), cron(…) and at(…) are known".to_owned());
    };
    let fields: Vec<&str> = cron.split_whitespace().collect();
    if fields.len() != 6 {
        return Err(format!(
            "a cron line of EventBridge has six fields, and this one {}",
            fields.len()
        ));
    }
    of_eventbridge_fields(&fields).map(Schedule::Cron)
}

/// The cron line for six fields of EventBridge: minute, hour, day, month, day of the week, year.
pub(super) fn of_eventbridge_fields(fields: &[&str]) -> Result<String, String> {
    let [minute, hour, day, month, weekday, year] = fields else {
        return Err("six fields are needed".to_owned());
    };
    let line = format!(
        "{minute} {hour} {} {month} {}",
        any(day),
        weekdays(&any(weekday))?
    );
    Ok(if *year == "*" {
        line
    } else {
        format!("0 {line} {year}")
    })
}

/// The cron line for the fields of Quartz, whose first is the second and whose seventh, where there
/// is one, the year.
pub(super) fn of_quartz_fields(fields: &[&str]) -> Result<String, String> {
    let mut fields: Vec<String> = fields.iter().map(|field| any(field)).collect();
    if let Some(weekday) = fields.get_mut(5) {
        *weekday = weekdays(weekday)?;
    }
    let line = fields.join(" ");
    // The shorter line says the same.
    Ok(line
        .strip_prefix("0 ")
        .filter(|_| fields.len() == 6)
        .map(str::to_owned)
        .unwrap_or(line))
}

fn any(field: &str) -> String {
    if field == "?" {
        "*".to_owned()
    } else {
        field.to_owned()
    }
}

/// The days of a week, which they count from 1 for Sunday and others from 0.
pub(super) fn weekdays(field: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = field;
    let mut counts = true;
    while let Some(first) = rest.chars().next() {
        let digits = rest
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        if number.is_empty() {
            // What follows a # or a / is no day.
            counts = !['#', '/'].contains(&first);
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let day: u8 = number
            .parse()
            .map_err(|_| format!("{number} is no day of a week"))?;
        match (counts, day) {
            (false, _) => out.push_str(number),
            (true, 1..=7) => out.push_str(&(day - 1).to_string()),
            (true, _) => return Err(format!("{day} is no day of a week")),
        }
        (rest, counts) = (behind, true);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_of_eventbridge_have_counterparts() {
        let every = |period: &str| Ok(Schedule::Every(period.to_owned()));
        let cron = |line: &str| Ok(Schedule::Cron(line.to_owned()));
        for (expression, expect) in [
            ("rate(5 minutes)", every("5m")),
            ("rate(1 day)", every("1d")),
            ("cron(0 9 ? * MON-FRI *)", cron("0 9 * * MON-FRI")),
            ("cron(15 10 ? * 2-6 2026)", cron("0 15 10 * * 1-5 2026")),
            ("cron(0 8 1 * ? *)", cron("0 8 1 * *")),
            ("cron(0 8 ? * 6#3 *)", cron("0 8 * * 5#3")),
            ("cron(0 9 ? * 2/2 *)", cron("0 9 * * 1/2")),
            (
                "cron(0 8 * *)",
                Err("a cron line of EventBridge has six fields, and this one 4"),
            ),
            ("cron(0 8 ? * 9 *)", Err("9 is no day of a week")),
            (
                "rate(5 fortnights)",
                Err("the unit fortnights is not known"),
            ),
            ("at(2026-11-20T13:05:00)", cron("0 5 13 20 11 * 2026")),
            (
                "at(tomorrow)",
                Err("tomorrow is no time such as 2030-12-24T18:00:00"),
            ),
            (
                "every(1h)",
                Err("only rate(…), cron(…) and at(…) are known"),
            ),
        ] {
            assert_eq!(
                of_eventbridge(expression),
                expect.map_err(str::to_owned),
                "{expression}"
            );
        }
    }
}
