//! The text of OpenMetrics, as far as this bus writes it.

use std::borrow::Cow;

/// A family of metrics.
#[derive(Debug, PartialEq)]
pub(super) struct Family<'t> {
    pub(super) name: &'t str,
    pub(super) help: &'t str,
    pub(super) kind: &'t str,
    pub(super) samples: Vec<Sample<'t>>,
}

pub(super) type Labels<'t> = Vec<(&'t str, Cow<'t, str>)>;

/// A line with a number.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'t> {
    pub(super) name: &'t str,
    pub(super) labels: Labels<'t>,
    pub(super) value: &'t str,
    pub(super) exemplar: Option<Exemplar<'t>>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Exemplar<'t> {
    pub(super) labels: Labels<'t>,
    pub(super) value: &'t str,
    pub(super) at: &'t str,
}

impl Sample<'_> {
    /// Whether it is the sum of a histogram.
    pub(super) fn is_sum(&self) -> bool {
        self.name.ends_with("_sum")
    }

    pub(super) fn number(&self) -> f64 {
        self.value.parse().unwrap_or(f64::NAN)
    }
}

/// The families of a text that have numbers.
pub(super) fn families(text: &str) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = described(line, "# HELP ") {
            families.push(Family {
                name,
                help,
                kind: "",
                samples: Vec::new(),
            });
            continue;
        }
        let Some(family) = families.last_mut() else {
            continue;
        };
        match described(line, "# TYPE ") {
            Some((_, kind)) => family.kind = kind,
            None => family.samples.extend(sample(line)),
        }
    }
    families.retain(|family| !family.samples.is_empty());
    families
}

fn described<'t>(line: &'t str, what: &str) -> Option<(&'t str, &'t str)> {
    line.strip_prefix(what)?.split_once(' ')
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let name = line.split(['{', ' ']).next()?;
    let rest = line.strip_prefix(name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let rest = rest.strip_prefix(' ')?;
    let (value, exemplar) = match rest.split_once(" # {") {
        Some((value, rest)) => (value, exemplar(rest)),
        None => (rest, None),
    };
    Some(Sample {
        name,
        labels,
        value,
        exemplar,
    })
}

fn exemplar(text: &str) -> Option<Exemplar<'_>> {
    let (labels, rest) = labels(text)?;
    let (value, at) = rest.trim_start().split_once(' ')?;
    Some(Exemplar { labels, value, at })
}

/// The labels of a text behind its opening brace, and what is behind the closing one.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, value) = rest.split_once("=\"")?;
        let (value, behind) = value.split_at_checked(end_of_value(value)?)?;
        labels.push((name, unescaped(value)));
        rest = behind.strip_prefix('"')?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn end_of_value(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let (mut plain, mut characters) = (String::new(), text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(
                characters
                    .next()
                    .map(|next| if next == 'n' { '\n' } else { next }),
            ),
            other => plain.push(other),
        }
    }
    plain.into()
}
