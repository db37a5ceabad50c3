//! `rate(…)` and `cron(…)`.

use serde_json::{Value, json};

/// The timer of a schedule expression.
pub(super) fn timer(expression: &str) -> Result<Value, String> {
    let inside = |name: &str| expression.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(rate) = inside("rate") {
        let (number, unit) = rate.trim().split_once(' ').ok_or("a rate is a number and a unit")?;
        let unit = match unit.trim().trim_end_matches('s') {
            "minute" => "m",
            "hour" => "h",
            "day" => "d",
            _ => return Err(format!("the unit {unit} is not known")),
        };
        let number: u32 = number.parse().map_err(|_| format!("{number} is no number"))?;
        return Ok(json!({ "every": format!("{number}{unit}") }));
    }
    let Some(cron) = inside("cron") else { return Err("only rate(…) and cron(…) are known".to_owned()) };
    let fields: Vec<&str> = cron.split_whitespace().collect();
    let [minute, hour, day, month, weekday, year] = fields.as_slice() else {
        return Err(format!("a cron line of EventBridge has six fields, and this one {}", fields.len()));
    };
    let any = |field: &str| if field == "?" { "*".to_owned() } else { field.to_owned() };
    let weekday = weekdays(&any(weekday))?;
    let line = format!("{minute} {hour} {} {month} {weekday}", any(day));
    Ok(json!({ "cron": if *year == "*" { line } else { format!("0 {line} {year}") } }))
}

/// The days of a week, which EventBridge counts from 1 for Sunday and others from 0.
fn weekdays(field: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = field;
    let mut counts = true;
    while let Some(first) = rest.chars().next() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        if number.is_empty() {
            // What follows a # or a / is no day.
            counts = !['#', '/'].contains(&first);
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
            continue;
        }
        let day: u8 = number.parse().map_err(|_| format!("{number} is no day of a week"))?;
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
    fn schedules_become_timers() {
        for (expression, expect) in [
            ("rate(5 minutes)", Ok(json!({ "every": "5m" }))),
            ("rate(1 day)", Ok(json!({ "every": "1d" }))),
            ("cron(0 9 ? * MON-FRI *)", Ok(json!({ "cron": "0 9 * * MON-FRI" }))),
            ("cron(15 10 ? * 2-6 2026)", Ok(json!({ "cron": "0 15 10 * * 1-5 2026" }))),
            ("cron(0 8 1 * ? *)", Ok(json!({ "cron": "0 8 1 * *" }))),
            ("cron(0 8 ? * 6#3 *)", Ok(json!({ "cron": "0 8 * * 5#3" }))),
            ("cron(0 8 * *)", Err("a cron line of EventBridge has six fields, and this one 4")),
            ("cron(0 8 ? * 9 *)", Err("9 is no day of a week")),
            ("rate(5 fortnights)", Err("the unit fortnights is not known")),
            ("at(2026-11-20T13:00:00)", Err("only rate(…) and cron(…) are known")),
        ] {
            assert_eq!(timer(expression).as_ref().map_err(String::as_str), expect.as_ref().map_err(|expect| *expect), "{expression}");
        }
    }
}
