//! CloudFormation's intrinsic functions, as far as the template itself tells their values.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// What the names of a template stand for.
pub(super) struct Resolver {
    /// The defaults of parameters.
    known: HashMap<String, String>,
    mappings: Value,
}

impl Resolver {
    /// Of a CloudFormation template.
    pub(super) fn of_template(template: &Value) -> Self {
        let mut known = HashMap::new();
        for (name, parameter) in template
            .get("Parameters")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if let Some(default) = parameter.get("Default").and_then(plain) {
                known.insert(name.clone(), default);
            }
        }
        for (id, resource) in template
            .get("Resources")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            for key in ["BucketName", "QueueName", "FunctionName"] {
                if let Some(name) = resource
                    .pointer(&format!("/Properties/{key}"))
                    .and_then(plain)
                {
                    known.insert(id.clone(), name);
                }
            }
        }
        Self {
            known,
            mappings: template.get("Mappings").cloned().unwrap_or_default(),
        }
    }

    /// The value without functions. What the template does not tell stands there as `${Name}`, and
    /// its name in `unresolved`.
    pub(super) fn resolve(&self, value: &Value, unresolved: &mut Vec<String>) -> Value {
        match value {
            Value::Array(items) => items
                .iter()
                .map(|item| self.resolve(item, unresolved))
                .collect(),
            Value::Object(entries) => {
                let single = entries.iter().next().filter(|(key, _)| {
                    entries.len() == 1 && (*key == "Ref" || key.starts_with("Fn::"))
                });
                if let Some((function, argument)) = single {
                    return self.call(function, argument, unresolved);
                }
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), self.resolve(value, unresolved)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            other => other.clone(),
        }
    }

    fn call(&self, function: &str, argument: &Value, unresolved: &mut Vec<String>) -> Value {
        match (function, argument) {
            ("Ref", Value::String(name)) => self.name(name, unresolved).into(),
            ("Fn::GetAtt", Value::Array(parts)) => self
                .attribute(
                    parts.first().and_then(Value::as_str).unwrap_or_default(),
                    unresolved,
                )
                .into(),
            ("Fn::GetAtt", Value::String(path)) => self
                .attribute(path.split('.').next().unwrap_or_default(), unresolved)
                .into(),
            ("Fn::Sub", Value::String(text)) => {
                self.substitute(text, &Map::new(), unresolved).into()
            }
            ("Fn::Sub", Value::Array(parts)) => {
                let none = Map::new();
                let text = parts.first().and_then(Value::as_str).unwrap_or_default();
                self.substitute(
                    text,
                    parts.get(1).and_then(Value::as_object).unwrap_or(&none),
                    unresolved,
                )
                .into()
            }
            ("Fn::Join", Value::Array(parts)) => {
                let by = parts.first().and_then(Value::as_str).unwrap_or_default();
                let items = self.resolve(parts.get(1).unwrap_or(&Value::Null), unresolved);
                let items: Vec<String> = items
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(plain)
                    .collect();
                items.join(by).into()
            }
            ("Fn::FindInMap", Value::Array(path)) => {
                let path: Vec<String> = path
                    .iter()
                    .filter_map(|step| plain(&self.resolve(step, unresolved)))
                    .collect();
                let found = path
                    .iter()
                    .try_fold(&self.mappings, |at, step| at.get(step));
                found
                    .cloned()
                    .unwrap_or_else(|| untold(&path.join("."), unresolved).into())
            }
            _ => untold(function.trim_start_matches("Fn::"), unresolved).into(),
        }
    }

    fn name(&self, name: &str, unresolved: &mut Vec<String>) -> String {
        self.known
            .get(name)
            .cloned()
            .unwrap_or_else(|| untold(name, unresolved))
    }

    /// An attribute of a resource, such as its ARN, goes by the resource's own name.
    fn attribute(&self, of: &str, unresolved: &mut Vec<String>) -> String {
        untold(of, unresolved)
    }

    fn substitute(
        &self,
        text: &str,
        with: &Map<String, Value>,
        unresolved: &mut Vec<String>,
    ) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, behind)) = behind.split_once('}') else {
                rest = behind;
                break;
            };
            match (name.strip_prefix('!'), with.get(name)) {
                // `${!x}` is a literal `${x}`.
                (Some(literal), _) => out.push_str(&format!("${{{literal}}}")),
                (None, Some(value)) => {
                    out.push_str(&plain(&self.resolve(value, unresolved)).unwrap_or_default())
                }
                (None, None) => match name.split_once('.') {
                    Some((of, _)) => out.push_str(&self.attribute(of, unresolved)),
                    None => out.push_str(&self.name(name, unresolved)),
                },
            }
            rest = behind;
        }
        out.push_str(rest);
        out
    }
}

/// What stands in the place of a value that nobody knows.
fn untold(name: &str, unresolved: &mut Vec<String>) -> String {
    unresolved.push(name.to_owned());
    format!("${{{name}}}")
}

/// A single value as a text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}
