//! What a target of EventBridge is given: `Input`, `InputPath`, `InputTransformer`.

use pointsman_schemas::template::lexer;
use serde_json::{Map, Value, json};

use super::constant;
use crate::commands::import::draft::{literal, literal_value};

/// What stands for a variable while its template is read as JSON: no text holds this character.
const MARK: char = '\u{E000}';

/// The `transform` of a target, where it has one, and what there is to say of it.
pub(super) fn transform(
    target: &Value,
    rule: &str,
    rule_arn: &str,
) -> Result<(Option<Value>, Vec<String>), String> {
    let text = |key: &str| target.get(key).and_then(Value::as_str);
    if let Some(input) = text("Input") {
        return Ok((Some(json!({ "data": constant(input) })), Vec::new()));
    }
    if let Some(path) = text("InputPath").filter(|path| *path != "$") {
        return Ok((
            Some(json!({ "data": format!("<{}>", query(path)?) })),
            Vec::new(),
        ));
    }
    let Some(transformer) = target.get("InputTransformer") else {
        return Ok((None, Vec::new()));
    };
    let template = transformer
        .get("InputTemplate")
        .and_then(Value::as_str)
        .ok_or("its InputTransformer has no InputTemplate")?;
    let mut variables = Variables {
        queries: Map::new(),
        rule,
        rule_arn,
        notes: Vec::new(),
    };
    for (name, path) in transformer
        .get("InputPathsMap")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = query(path.as_str().unwrap_or_default())
            .map_err(|why| format!("its variable <{name}>: {why}"))?;
        variables.queries.insert(name.clone(), path.into());
    }
    let data = data(template, &mut variables)?;
    Ok((Some(json!({ "data": data })), variables.notes))
}

struct Variables<'r> {
    queries: Map<String, Value>,
    rule: &'r str,
    rule_arn: &'r str,
    notes: Vec<String>,
}

impl Variables<'_> {
    /// What a variable is here: a query, or a constant.
    fn resolve(&mut self, name: &str) -> Result<Resolved, String> {
        if let Some(query) = self.queries.get(name).and_then(Value::as_str) {
            return Ok(Resolved::Query(query.to_owned()));
        }
        match name {
            "aws.events.rule-name" => Ok(Resolved::Constant(self.rule.to_owned())),
            "aws.events.rule-arn" => Ok(Resolved::Constant(self.rule_arn.to_owned())),
            "aws.events.event" | "aws.events.event.json" => {
                self.note("the whole event goes out as a CloudEvent");
                Ok(Resolved::Query("$".to_owned()))
            }
            "aws.events.event.ingestion-time" => Err(
                "its template has <aws.events.event.ingestion-time>, which has no counterpart"
                    .to_owned(),
            ),
            _ => Err(format!(
                "its template has <{name}>, which its InputPathsMap does not"
            )),
        }
    }

    fn note(&mut self, note: &str) {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
        }
    }
}

enum Resolved {
    Query(String),
    Constant(String),
}

/// A template's data: JSON in which variables may stand bare, or texts in quotes, line by line.
fn data(template: &str, variables: &mut Variables<'_>) -> Result<Value, String> {
    let (marked, names) = mark(template);
    if let Ok(value) = serde_json::from_str::<Value>(&marked) {
        return place(&value, &names, variables);
    }
    let lines: Option<Vec<String>> = marked
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line.trim()).ok())
        .collect();
    match lines {
        Some(lines) if !lines.is_empty() => {
            place(&Value::String(lines.join("\n")), &names, variables)
        }
        _ => Err("its InputTemplate is neither JSON nor texts in quotes".to_owned()),
    }
}

/// The template with a text in the place of each variable, and the variables: whether they stood
/// bare, and their names.
fn mark(template: &str) -> (String, Vec<(bool, String)>) {
    let (mut marked, mut names) = (String::new(), Vec::new());
    let (mut quoted, mut rest) = (false, template);
    while let Some(character) = rest.chars().next() {
        let behind = rest.get(character.len_utf8()..).unwrap_or_default();
        match character {
            '\\' => {
                let escaped = behind.chars().next();
                // `\<` is a literal `<`, and no escape of JSON.
                if !matches!(escaped, Some('<' | '>')) {
                    marked.push('\\');
                }
                marked.extend(escaped);
                rest = behind
                    .get(escaped.map_or(0, char::len_utf8)..)
                    .unwrap_or_default();
                continue;
            }
            '"' => quoted = !quoted,
            '<' => {
                let name = behind.split_once('>').map(|(name, _)| name);
                if let Some(name) = name.filter(|name| {
                    !name.is_empty()
                        && name
                            .chars()
                            .all(|part| part.is_ascii_alphanumeric() || "-_.".contains(part))
                }) {
                    let place = format!("{MARK}{}{MARK}", names.len());
                    marked.push_str(&if quoted {
                        place
                    } else {
                        format!("\"{place}\"")
                    });
                    names.push((!quoted, name.to_owned()));
                    rest = behind.get(name.len() + 1..).unwrap_or_default();
                    continue;
                }
            }
            _ => {}
        }
        marked.push(character);
        rest = behind;
    }
    (marked, names)
}

/// The value with templates where the marks are.
fn place(
    value: &Value,
    names: &[(bool, String)],
    variables: &mut Variables<'_>,
) -> Result<Value, String> {
    match value {
        Value::String(text) => place_text(text, names, variables),
        Value::Array(items) => items
            .iter()
            .map(|item| place(item, names, variables))
            .collect(),
        Value::Object(entries) => {
            let mut placed = Map::new();
            for (key, value) in entries {
                if key.contains(MARK) {
                    return Err("its template makes keys of variables".to_owned());
                }
                placed.insert(literal(key), place(value, names, variables)?);
            }
            // A variable that finds nothing does not appear in what EventBridge makes.
            for value in placed.values_mut() {
                if let Value::String(text) = value
                    && let Some(query) = lexer::only_slot(text)
                {
                    *value = format!("<{query} ?? omit>").into();
                }
            }
            Ok(placed.into())
        }
        other => Ok(literal_value(other)),
    }
}

fn place_text(
    text: &str,
    names: &[(bool, String)],
    variables: &mut Variables<'_>,
) -> Result<Value, String> {
    let mut out = String::new();
    let parts: Vec<&str> = text.split(MARK).collect();
    for (index, part) in parts.iter().enumerate() {
        if index % 2 == 0 {
            out.push_str(&literal(part));
            continue;
        }
        let Some((bare, name)) = part
            .parse()
            .ok()
            .and_then(|number: usize| names.get(number))
        else {
            continue;
        };
        match variables.resolve(name)? {
            Resolved::Constant(constant) => out.push_str(&literal(&constant)),
            Resolved::Query(query) => {
                let alone = text.chars().filter(|character| *character == MARK).count() == 2
                    && parts.first() == Some(&"")
                    && parts.last() == Some(&"");
                if alone && !bare && query.starts_with("$.data") {
                    variables.note(&format!(
                        "\"<{name}>\" keeps its JSON type, where EventBridge made a text of it"
                    ));
                }
                out.push_str(&format!("<{query}>"));
            }
        }
    }
    Ok(out.into())
}

/// A path over an EventBridge event as a query over a CloudEvent.
fn query(path: &str) -> Result<String, String> {
    let cannot = || format!("the path {path} has no counterpart");
    let mut rest = path.strip_prefix('$').ok_or_else(cannot)?;
    let mut out = String::from("$");
    let mut first = true;
    while !rest.is_empty() {
        let (step, behind) = if let Some(inside) = rest.strip_prefix('[') {
            let (inside, behind) = inside.split_once(']').ok_or_else(cannot)?;
            (inside.trim_matches(['\'', '"']), behind)
        } else {
            let name = rest.strip_prefix('.').ok_or_else(cannot)?;
            name.split_at(name.find(['.', '[']).unwrap_or(name.len()))
        };
        let is_index = rest.starts_with('[')
            && step.bytes().all(|byte| byte.is_ascii_digit())
            && !step.is_empty();
        let step = match (first, step) {
            (true, "detail-type") => "type",
            (true, "detail") => "data",
            (true, "source" | "id" | "time" | "account" | "region") => step,
            (true, _) => return Err(cannot()),
            (false, step) => step,
        };
        if step.is_empty() || step == "*" {
            return Err(cannot());
        }
        let is_shorthand = step
            .starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
            && step
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match (is_index, is_shorthand) {
            (true, _) => out.push_str(&format!("[{step}]")),
            (false, true) => out.push_str(&format!(".{step}")),
            (false, false) => out.push_str(&format!(
                "['{}']",
                step.replace('\\', "\\\\").replace('\'', "\\'")
            )),
        }
        (rest, first) = (behind, false);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(target: Value) -> String {
        match transform(
            &target,
            "the-rule",
            "arn:aws:events:eu-west-1:1:rule/the-rule",
        ) {
            Ok((transform, notes)) => format!("{} {notes:?}", transform.unwrap_or_default()),
            Err(why) => why,
        }
    }

    #[test]
    fn inputs_become_transforms() {
        let paths = json!({"instance": "$.detail.instance-id", "state": "$.detail.state", "kind": "$.detail-type", "tag": "$.detail.tags[0].Value", "n": "$.detail.n"});
        let transformer = |template: &str| json!({"InputTransformer": {"InputPathsMap": paths, "InputTemplate": template}});
        let told: Vec<String> = [
            json!({}),
            json!({"InputPath": "$.detail"}),
            json!({"InputPath": "$.detail.items[*]"}),
            json!({"InputPath": "$.resources[0]"}),
            json!({"Input": "{\"job\": \"<$nightly\", \"n\": 1}"}),
            transformer(
                "{\"instance\": <instance>, \"state\": \"<state>\", \"note\": \"is <state> now\", \
                 \"tag\": [<tag>, 1], \"kind\": \"<kind>\"}",
            ),
            transformer("{\"n\": <n>, \"in\": {\"n\": <n>}}"),
            transformer("\"Instance <instance> is in <state>\""),
            transformer("\"Instance <instance>\"\n\"is in <state>, \\\"now\\\" \\<$\""),
            transformer("<instance>"),
            transformer(
                "{\"rule\": \"<aws.events.rule-name>\", \"arn\": <aws.events.rule-arn>, \"event\": \
                 <aws.events.event.json>}",
            ),
            transformer("{\"at\": <aws.events.event.ingestion-time>}"),
            transformer("{\"at\": <nowhere>}"),
            transformer("{\"<state>\": 1}"),
            transformer("Instance <instance>"),
            json!({"InputTransformer": {}}),
        ]
        .into_iter()
        .map(made)
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }
}
