//! A dependency's filters as a logical expression.

use serde_json::Value;

/// The `where` of a dependency, where it has filters.
pub(super) fn condition(
    dependency: &Value,
    unwrapped: &mut bool,
) -> Result<Option<String>, String> {
    let Some(filters) = dependency.get("filters") else {
        return Ok(None);
    };
    for (key, what) in [("script", "a script"), ("time", "a time of day")] {
        if filters.get(key).is_some() {
            return Err(format!("it filters by {what}, which has no counterpart"));
        }
    }
    let operator = |pointer: &str| {
        if filters.get(pointer).and_then(Value::as_str) == Some("or") {
            " || "
        } else {
            " && "
        }
    };
    let list = |key: &str| {
        filters
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut groups = Vec::new();
    let exprs = list("exprs")
        .iter()
        .map(|expr| expression(expr, unwrapped))
        .collect::<Result<Vec<_>, _>>()?;
    groups.push((exprs, operator("exprLogicalOperator")));
    let data = list("data")
        .iter()
        .map(|filter| comparison(filter, unwrapped))
        .collect::<Result<Vec<_>, _>>()?;
    groups.push((data, operator("dataLogicalOperator")));
    let mut context = Vec::new();
    for (key, value) in filters
        .get("context")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
            context.push(format!("{} == {}", attribute(key)?, quoted(value)));
        }
    }
    groups.push((context, " && "));
    groups.retain(|(group, _)| !group.is_empty());
    let alone = groups.len() == 1;
    let groups: Vec<String> = groups
        .into_iter()
        .map(|(group, operator)| {
            let joined = group.join(operator);
            if alone || group.len() == 1 {
                joined
            } else {
                format!("({joined})")
            }
        })
        .collect();
    Ok((!groups.is_empty()).then(|| groups.join(operator("filtersLogicalOperator"))))
}

/// The query of a context attribute.
pub(super) fn attribute(key: &str) -> Result<String, String> {
    match key {
        "type" | "source" | "subject" | "id" | "time" | "datacontenttype" | "specversion" => {
            Ok(format!("$.{key}"))
        }
        _ => Err(format!(
            "it looks at the context's {key}, which has no counterpart"
        )),
    }
}

/// A path as GJSON has it as a query.
pub(super) fn query(path: &str, unwrapped: &mut bool) -> Result<String, String> {
    let cannot = || format!("the path {path} has no counterpart");
    let mut query = String::from("$.data");
    let mut steps = path.split('.').peekable();
    match steps.peek() {
        Some(&"body") => {
            *unwrapped = true;
            steps.next();
        }
        Some(&"header") => {
            return Err(format!(
                "it looks at {path}; headers are no part of an event here, a source's `event` \
                 makes attributes of them"
            ));
        }
        _ => {}
    }
    for step in steps {
        let is_index = !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit());
        let is_shorthand = step
            .starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
            && step
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if step.is_empty() || step.contains(['#', '|', '@', '*', '?', '\\', '\'']) {
            return Err(cannot());
        }
        match (is_index, is_shorthand) {
            (true, _) => query.push_str(&format!("[{step}]")),
            (_, true) => query.push_str(&format!(".{step}")),
            _ => query.push_str(&format!("['{step}']")),
        }
    }
    Ok(query)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A data filter: any of its values will do.
fn comparison(filter: &Value, unwrapped: &mut bool) -> Result<String, String> {
    let text = |key: &str| filter.get(key).and_then(Value::as_str).unwrap_or_default();
    if filter.get("template").is_some() {
        return Err("a data filter has a Go template, which has no counterpart".to_owned());
    }
    let query = query(text("path"), unwrapped)?;
    let comparator = match text("comparator") {
        "" | "=" => "==",
        known @ (">=" | ">" | "<" | "<=" | "!=") => known,
        other => return Err(format!("the comparator {other} is not known")),
    };
    let values = filter
        .get("value")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let one = |value: &Value| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        match text("type") {
            "bool" if ["true", "false"].contains(&value.as_str()) => Ok(there(
                &query,
                comparator,
                format!("{query} {comparator} {value}"),
            )),
            "number" if value.parse::<f64>().is_ok_and(f64::is_finite) => Ok(there(
                &query,
                comparator,
                format!("{query} {comparator} {value}"),
            )),
            "string" => string_test(&query, comparator, &value),
            kind => Err(format!("{value} is no {kind}")),
        }
    };
    let tests = values.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    match tests.as_slice() {
        [] => Err("a data filter has no values".to_owned()),
        [test] => Ok(test.clone()),
        _ => Ok(format!("({})", tests.join(" || "))),
    }
}

/// A test that only a value passes which is there: what is not there is unequal to everything.
fn there(query: &str, comparator: &str, test: String) -> String {
    if comparator == "!=" {
        format!("({} && {test})", exists(query))
    } else {
        test
    }
}

/// That something is there, without the looks of a test for truth.
fn exists(query: &str) -> String {
    format!("count({query}) == 1")
}

/// A text is held against a regular expression, which may match anywhere in it.
fn string_test(query: &str, comparator: &str, value: &str) -> Result<String, String> {
    let not = match comparator {
        "==" => "",
        "!=" => "!",
        other => return Err(format!("texts cannot be compared by {other}")),
    };
    let (start, rest) = value
        .strip_prefix('^')
        .map_or((false, value), |rest| (true, rest));
    let (end, inner) = rest
        .strip_suffix('$')
        .map_or((false, rest), |inner| (true, inner));
    let is_plain = |text: &str| {
        !text.contains([
            '^', '$', '\\', '.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|',
        ])
    };
    if is_plain(inner) && start && end {
        return Ok(there(
            query,
            comparator,
            format!("{query} {comparator} {}", quoted(inner)),
        ));
    }
    // I-Regexp (RFC 9485) has neither anchors nor classes such as \d nor lazy repetition.
    if inner.contains(['^', '$'])
        || inner.contains("\\d")
        || inner.contains("\\w")
        || inner.contains("\\s")
        || inner.contains("\\b")
        || inner.contains("(?")
        || inner.contains("*?")
        || inner.contains("+?")
    {
        return Err(format!("the regular expression {value} has no counterpart"));
    }
    let (before, behind) = (if start { "" } else { ".*" }, if end { "" } else { ".*" });
    let test = match (start, end) {
        (false, false) => format!("{not}search({query}, {})", quoted(inner)),
        _ => format!(
            "{not}match({query}, {})",
            quoted(&format!("{before}({inner}){behind}"))
        ),
    };
    Ok(there(query, comparator, test))
}

/// An expression over named fields: the names become queries, all of which must find something.
fn expression(expr: &Value, unwrapped: &mut bool) -> Result<String, String> {
    let source = expr.get("expr").and_then(Value::as_str).unwrap_or_default();
    let cannot = || format!("the expression {source} has no counterpart");
    let fields = expr
        .get("fields")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let tokens = tokens(source).ok_or_else(cannot)?;
    let compares = |token: Option<&Token<'_>>| {
        matches!(
            token,
            Some(Token::Operator("==" | "!=" | ">=" | "<=" | ">" | "<"))
        )
    };
    let (mut out, mut queries) = (String::new(), Vec::new());
    for (index, token) in tokens.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        match token {
            Token::Operator("!" | "(" | ")") => out.push_str(token.text()),
            Token::Operator(operator) => out.push_str(&format!(" {operator} ")),
            Token::Text(text) => out.push_str(&quoted(text)),
            Token::Number(number) => out.push_str(number),
            Token::Word(word) => {
                let path = fields
                    .iter()
                    .find(|field| field.get("name").and_then(Value::as_str) == Some(word))
                    .and_then(|field| field.get("path"));
                match (path.and_then(Value::as_str), *word) {
                    (Some(path), _) => {
                        let query = query(path, unwrapped)?;
                        let compared = compares(before) || compares(tokens.get(index + 1));
                        // A path alone would ask whether it is there.
                        out.push_str(&if compared {
                            query.clone()
                        } else {
                            format!("({query} == true)")
                        });
                        if !queries.contains(&query) {
                            queries.push(query);
                        }
                    }
                    (None, "true" | "false") => out.push_str(word),
                    (None, _) => return Err(cannot()),
                }
            }
        }
    }
    if queries.is_empty() {
        return Err(cannot());
    }
    let there: Vec<String> = queries.iter().map(|query| exists(query)).collect();
    Ok(format!("({} && ({out}))", there.join(" && ")))
}

enum Token<'e> {
    Operator(&'e str),
    Text(&'e str),
    Number(&'e str),
    Word(&'e str),
}

impl<'e> Token<'e> {
    fn text(&self) -> &'e str {
        match self {
            Self::Operator(text) | Self::Text(text) | Self::Number(text) | Self::Word(text) => text,
        }
    }
}

/// The tokens of an expression; none where it has others than comparisons and logic have.
fn tokens(source: &str) -> Option<Vec<Token<'_>>> {
    const OPERATORS: [&str; 11] = ["==", "!=", ">=", "<=", "&&", "||", ">", "<", "!", "(", ")"];
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        // Regular expressions (`=~`, `!~`) have no counterpart: `~` is no token.
        let length =
            |is: fn(char) -> bool| rest.find(|letter: char| !is(letter)).unwrap_or(rest.len());
        let (token, behind) = if let Some(operator) = OPERATORS
            .into_iter()
            .find(|operator| rest.starts_with(operator))
        {
            (Token::Operator(operator), rest.get(operator.len()..)?)
        } else if first == '"' || first == '\'' {
            let (text, behind) = rest
                .get(1..)?
                .split_once(first)
                .filter(|(text, _)| !text.contains('\\'))?;
            (Token::Text(text), behind)
        } else if first.is_ascii_digit() || first == '-' {
            let (number, behind) = rest.split_at(length(|letter| {
                letter.is_ascii_digit() || letter == '.' || letter == '-'
            }));
            number.parse::<f64>().ok()?;
            (Token::Number(number), behind)
        } else if first.is_ascii_alphabetic() || first == '_' {
            let (word, behind) = rest.split_at(length(|letter| {
                letter.is_ascii_alphanumeric() || letter == '_'
            }));
            (Token::Word(word), behind)
        } else {
            return None;
        };
        tokens.push(token);
        rest = behind.trim_start();
    }
    Some(tokens)
}
