//! From a schema to what holds it against data, or to what is wrong with it.

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{Draft, PatternOptions, ReferencingError, ValidationError, Validator};
use pointsman_schemas::suggest::nearest;
use pointsman_schemas::{Problem, Segment};
use serde_json::{Map, Value};

use super::recursion::ambiguous;
use super::visit::{keywords, steps, visit};
use super::{TOLD_BYTES_MAX, plain};

/// The draft that schemas are read in, as `$schema` names it.
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// How deeply a schema may nest: what walks through one does so by recursion.
const DEPTH_MAX: usize = 64;

/// How large a compiled pattern may be: far more than any that a person writes takes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) fn compile(schema: &Value) -> Result<Validator, Vec<Problem>> {
    if depth(schema) > DEPTH_MAX {
        let problem = Problem::new(format!("this schema nests deeper than {DEPTH_MAX} levels"));
        return Err(vec![
            problem.help("put parts of it under `$defs`, and refer to them"),
        ]);
    }
    if let Some(problem) = of_another_draft(schema) {
        return Err(vec![problem]);
    }
    let options = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES_MAX))
        .should_validate_formats(true)
        .offline();
    // What the draft itself finds wrong is all told; else the first thing that stands in the way.
    let meta = jsonschema::draft202012::meta::validator();
    let mut problems: Vec<Problem> = Vec::new();
    for error in meta.iter_errors(schema) {
        let problem = invalid(schema, &error);
        // Several vocabularies of the draft say the same of a value that is no schema at all.
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let built = options.build(schema);
    let validator = built.map_err(|error| vec![invalid(schema, &error)])?;
    match ambiguous(schema) {
        None => Ok(validator),
        Some(path) => {
            let problem = Problem::new(
                "this leads to itself by several ways at once, and the work would double with each \
                 level of the data",
            );
            let help = "refer to it once, beside the alternatives and not within several of them";
            let problem = problem.help(help);
            Err(vec![path.into_iter().rev().fold(problem, Problem::at)])
        }
    }
}

fn depth(value: &Value) -> usize {
    // No more than is asked: what is deeper by far must not be walked through.
    fn below(value: &Value, left: usize) -> usize {
        let Some(left) = left.checked_sub(1) else {
            return 1;
        };
        let deepest = match value {
            Value::Array(items) => items.iter().map(|item| below(item, left)).max(),
            Value::Object(members) => members.values().map(|item| below(item, left)).max(),
            _ => None,
        };
        1 + deepest.unwrap_or(0)
    }
    below(value, DEPTH_MAX + 1)
}

fn of_another_draft(schema: &Value) -> Option<Problem> {
    let named = schema.get("$schema")?.as_str()?;
    if named.trim_end_matches('#') == DRAFT {
        return None;
    }
    let named = plain(named, TOLD_BYTES_MAX);
    let problem = Problem::new(format!(
        "schemas are read as of the draft 2020-12, and this is `{named}`"
    ));
    let help = format!("write it in that draft, with {DRAFT} here, or without `$schema`");
    Some(problem.at("$schema").help(help))
}

/// The problem of what the compiler, or the draft's own schema, says of a schema.
fn invalid(schema: &Value, error: &ValidationError<'_>) -> Problem {
    if let Kind::Referencing(error) = error.kind() {
        return unresolved(schema, error);
    }
    let path = steps(schema, error.instance_path().as_str());
    let is_pattern = match path.as_slice() {
        [.., Segment::Key(last)] if last == "pattern" => true,
        [.., Segment::Key(above), _] => above == "patternProperties",
        _ => false,
    };
    let problem = match error.kind() {
        _ if path.iter().any(|step| *step == Segment::from("type"))
            && error.instance().is_string() =>
        {
            let found = error.instance().as_str().unwrap_or_default();
            let meant = nearest(found, TYPES).map(|meant| format!("did you mean `{meant}`?"));
            let help = meant.unwrap_or_else(|| format!("the types are {}", TYPES.join(", ")));
            Problem::new(format!("`{}` is no type", plain(found, TOLD_BYTES_MAX))).help(help)
        }
        Kind::Type { .. }
            if !error.instance().is_object() && error.schema_path().as_str() == "/type" =>
        {
            Problem::new("this is no schema").help("a schema is a mapping, or `true` or `false`")
        }
        Kind::Format { format } if format == "regex" && is_pattern => {
            let pattern = error.instance().as_str().unwrap_or_default();
            let problem = Problem::new(format!("this is no pattern: {}", not_a_pattern(pattern)));
            problem
                .help("look-around and references back are not known, so that no text takes long")
        }
        _ => Problem::new(format!(
            "this is no schema of the draft 2020-12: {}",
            plain(&error.to_string(), TOLD_BYTES_MAX)
        )),
    };
    let problem = path.into_iter().rev().fold(problem, Problem::at);
    // A pattern that is a key.
    match is_pattern && !error.instance_path().as_str().ends_with("/pattern") {
        true => problem.key(),
        false => problem,
    }
}

/// Why a text is no pattern, in one line.
fn not_a_pattern(pattern: &str) -> String {
    let told = match regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_BYTES_MAX)
        .build()
    {
        Ok(_) => return "it is not one of ECMA-262".to_owned(),
        Err(error) => error.to_string(),
    };
    // Behind the pattern, with a mark below it, stands what is wrong.
    let last = told.lines().next_back().unwrap_or_default();
    plain(last.trim_start_matches("error: "), TOLD_BYTES_MAX)
}

/// A reference that leads nowhere, or out of the schema.
fn unresolved(schema: &Value, error: &ReferencingError) -> Problem {
    let (leads_out, told) = match error {
        ReferencingError::Unretrievable { .. } => (true, String::new()),
        other => (false, plain(&other.to_string(), TOLD_BYTES_MAX)),
    };
    let mut places = Vec::new();
    visit(schema, &mut Vec::new(), &mut |keywords, path| {
        for keyword in ["$ref", "$dynamicRef"] {
            let Some(reference) = keywords.get(keyword).and_then(Value::as_str) else {
                continue;
            };
            let is_own = reference.starts_with('#');
            let target = reference.trim_start_matches('#');
            if is_own != leads_out && (leads_out || told.contains(&format!("'{target}'"))) {
                let mut path = path.to_vec();
                path.push(keyword.into());
                places.push(path);
            }
        }
    });
    let problem = match leads_out {
        true => {
            Problem::new("this leads out of the schema, and nothing is fetched or read for one")
                .help("put what it refers to under `$defs` here, and write #/$defs/its-name")
        }
        false => Problem::new(format!("this leads nowhere: {told}"))
            .help("write #/ and the way to it, such as #/$defs/its-name"),
    };
    let path = places.into_iter().next().unwrap_or_default();
    path.into_iter().rev().fold(problem, Problem::at)
}

/// What a schema has that checks nothing and was probably meant to.
pub(super) fn warnings(schema: &Value) -> Vec<Problem> {
    let options = jsonschema::options();
    let mut warnings = Vec::new();
    visit(schema, &mut Vec::new(), &mut |found, path| {
        let mut warn = |keyword: &str, problem: Problem| {
            let problem = problem.at(keyword).warn();
            warnings.push(path.iter().rev().cloned().fold(problem, Problem::at));
        };
        if let Some(format) = found.get("format").and_then(Value::as_str)
            && !options.is_known_format(Draft::Draft202012, format)
        {
            let problem = Problem::new(format!(
                "the format `{}` is not known and checks nothing",
                plain(format, TOLD_BYTES_MAX)
            ));
            let meant = nearest(format, FORMATS);
            warn(
                "format",
                problem.help(meant.map_or_else(
                    || "remove it, or write a `pattern`".to_owned(),
                    |meant| format!("did you mean `{meant}`?"),
                )),
            );
        }
        for (keyword, meant) in misspelt(found) {
            let problem =
                Problem::new(format!("`{keyword}` is no keyword and checks nothing")).key();
            warn(keyword, problem.help(format!("did you mean `{meant}`?")));
        }
    });
    warnings
}

/// Keys that are no keywords and look like one that is not there.
fn misspelt(found: &Map<String, Value>) -> impl Iterator<Item = (&str, &'static str)> {
    let unknown = found
        .keys()
        .filter(|key| keywords().all(|known| known != *key));
    unknown.filter_map(|key| {
        let meant = nearest(key, keywords())?;
        (!found.contains_key(meant)).then_some((key.as_str(), meant))
    })
}

/// The types that values have.
const TYPES: [&str; 7] = [
    "array", "boolean", "integer", "null", "number", "object", "string",
];

/// The formats that are checked.
const FORMATS: [&str; 18] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];
