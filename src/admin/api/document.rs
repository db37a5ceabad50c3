//! The document that describes the API: OpenAPI 3.1, whose schemas are JSON Schema 2020-12.

use axum::http::Method;
use pointsman_connectors::listener::{ProblemDocument, Refusal};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::input::InPath;

/// Where the API's own paths begin.
pub(super) const BASE: &str = "/api/v1";

/// Where schemas stand in the document.
const SCHEMAS: &str = "/components/schemas";

const JSON: &str = "application/json";

/// What every operation may answer besides its own, by status.
const ALWAYS: [&str; 5] = ["400", "401", "421", "500", "503"];

/// What one that changes something may answer as well.
const OF_CHANGES: [&str; 5] = ["403", "409", "413", "415", "422"];

/// The answers that refuse, by status: their names among the components, and what they say.
const PROBLEMS: [(&str, &str, &str); 11] = [
    (
        "400",
        "BadRequest",
        "Something in the request is wrong, or not known here",
    ),
    (
        "401",
        "Unauthorized",
        "The bus wants a key, and none of its own was shown",
    ),
    (
        "403",
        "Forbidden",
        "A page of another origin may change nothing",
    ),
    ("404", "NotFound", "There is no such thing"),
    (
        "409",
        "Conflict",
        "The first request with this Idempotency-Key is still being carried out",
    ),
    ("413", "TooLarge", "The body is larger than is taken here"),
    (
        "415",
        "UnsupportedMediaType",
        "The body is not declared as JSON",
    ),
    (
        "421",
        "Misdirected",
        "The host that was asked for is not this machine",
    ),
    (
        "422",
        "Unprocessable",
        "This Idempotency-Key was used for another request",
    ),
    (
        "500",
        "InternalError",
        "A stored record is damaged, or the bus has made a mistake",
    ),
    (
        "503",
        "Unavailable",
        "The store cannot be used at the moment, or it took too long",
    ),
];

/// An operation as it is registered.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
}

impl Operation {
    pub(super) fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            id,
            summary,
        }
    }
}

/// The document itself as an answer: an object.
pub(super) struct Itself;

impl JsonSchema for Itself {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Document".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

/// The schema of a type, such as `SchemaGenerator::subschema_for::<T>`.
pub(in crate::admin) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The document while operations are added to it.
pub(super) struct Document {
    paths: Map<String, Value>,
    /// Makes the schemas of what is sent.
    sent: SchemaGenerator,
    /// Makes the schemas of what is answered.
    answered: SchemaGenerator,
}

impl Default for Document {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12()
            .with(|settings| settings.definitions_path = SCHEMAS.into());
        Self {
            paths: Map::new(),
            sent: settings.clone().for_deserialize().into_generator(),
            answered: settings.for_serialize().into_generator(),
        }
    }
}

impl Document {
    pub(super) fn read<P: InPath, Q: JsonSchema, A: JsonSchema>(&mut self, operation: Operation) {
        let mut parameters = in_path::<P>();
        parameters.extend(in_query(&Q::json_schema(&mut self.sent)));
        let answer = self.answered.subschema_for::<A>();
        let responses = responses(json_content(&answer), P::SEGMENT.is_some(), &[]);
        let path = format!("{BASE}{}", operation.path);
        self.add(
            &path,
            &operation,
            json!({ "parameters": parameters, "responses": responses }),
        );
    }

    pub(super) fn change<P: InPath, B: JsonSchema, A: JsonSchema>(&mut self, operation: Operation) {
        let body = B::json_schema(&mut self.sent);
        let is_required = body.get("required").is_some();
        let body = self.sent.subschema_for::<B>();
        let answer = self.answered.subschema_for::<A>();
        let mut responses = responses(json_content(&answer), true, &OF_CHANGES);
        if let Some(success) = responses.get_mut("200").and_then(Value::as_object_mut) {
            success.insert("headers".to_owned(), replayed());
        }
        let mut parameters = in_path::<P>();
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
        let path = format!("{BASE}{}", operation.path);
        let described = json!({
            "parameters": parameters,
            "requestBody": { "required": is_required, "content": json_content(&body) },
            "responses": responses,
        });
        self.add(&path, &operation, described);
    }

    pub(super) fn stream<Q: JsonSchema>(
        &mut self,
        operation: Operation,
        items: &[(&str, SchemaOf)],
    ) {
        let parameters = in_query(&Q::json_schema(&mut self.sent));
        let items = items.iter().map(|(name, schema)| {
            let data = schema(&mut self.answered);
            json!({ "properties": { "event": { "const": name }, "data": data } })
        });
        let items: Vec<Value> = items.collect();
        // What stands in the events has no place in OpenAPI before 3.2, which calls it the same.
        let content = json!({
            "text/event-stream": { "schema": { "type": "string" }, "x-itemSchema": { "oneOf": items } },
        });
        let path = format!("{BASE}{}", operation.path);
        let responses = responses(content, false, &[]);
        self.add(
            &path,
            &operation,
            json!({ "parameters": parameters, "responses": responses }),
        );
    }

    pub(super) fn other(&mut self, operation: Operation, media_type: &str) {
        let kind = if media_type == JSON {
            "object"
        } else {
            "string"
        };
        let content = json!({ media_type: { "schema": { "type": kind } } });
        let path = operation.path;
        let described = json!({ "responses": responses(content, false, &[]) });
        self.add(path, &operation, described);
    }

    fn add(&mut self, path: &str, operation: &Operation, described: Value) {
        let tag = operation.path.trim_matches('/').split('/').next();
        let mut entry = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "tags": [tag],
        });
        if let (Some(entry), Value::Object(described)) = (entry.as_object_mut(), described) {
            entry.extend(described);
        }
        let methods = self.paths.entry(path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(operation.method.as_str().to_ascii_lowercase(), entry);
        }
    }

    /// The document as text, laid out for a person.
    pub(super) fn finish(mut self) -> String {
        let problem = self.answered.subschema_for::<ProblemDocument<'_>>();
        let refusals = PROBLEMS.iter().map(|(_, name, description)| {
            let content = json!({ Refusal::MEDIA_TYPE: { "schema": problem } });
            let response = json!({ "description": description, "content": content });
            ((*name).to_owned(), response)
        });
        let refusals: Map<String, Value> = refusals.collect();
        let mut schemas = self.answered.take_definitions(true);
        schemas.extend(self.sent.take_definitions(true));
        schemas.sort_keys();
        self.paths.sort_keys();
        let mut document = json!({
            "openapi": "3.1.1",
            "info": {
                "title": "Pointsman",
                "summary": "The admin API of an event bus",
                "version": "1",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "http://127.0.0.1:8081", "description": "Where it listens unless asked otherwise" }],
            // Keys are wanted where `admin.auth` has some.
            "security": [{}, { "key": [] }],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "parameters": { "IdempotencyKey": idempotency_key() },
                "responses": refusals,
                "securitySchemes": {
                    "key": { "type": "http", "scheme": "bearer", "description": "A key of `admin.auth`" },
                },
            },
        });
        bound(&mut document);
        format!("{document:#}\n")
    }
}

/// Says of each number that is no float how large it can be.
fn bound(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let maximum = match object.get("format").and_then(Value::as_str) {
                Some("uint32") => Some(u64::from(u32::MAX)),
                Some("uint" | "uint64") => Some(u64::MAX),
                _ => None,
            };
            if let Some(maximum) = maximum
                && !object.contains_key("maximum")
            {
                object.insert("maximum".to_owned(), maximum.into());
            }
            object.values_mut().for_each(bound);
        }
        Value::Array(values) => values.iter_mut().for_each(bound),
        _ => {}
    }
}

fn json_content(schema: &Schema) -> Value {
    json!({ JSON: { "schema": schema } })
}

/// The parameter that makes a request one that can be sent twice.
fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "required": false,
        "description": "A string in double quotes of the caller's own choice, a new one for each change: \
            where the same request comes with it again within 24 hours, nothing is changed and the \
            first answer is given once more",
        "schema": { "type": "string", "pattern": super::idempotency::PATTERN },
    })
}

/// The header of an answer that was given before.
fn replayed() -> Value {
    json!({
        "Idempotent-Replayed": {
            "description": "There where this is the answer of an earlier request with the same key",
            "schema": { "const": "true" },
        },
    })
}

/// The answers of an operation, by status.
fn responses(content: Value, may_be_missing: bool, also: &[&str]) -> Map<String, Value> {
    let success = json!({ "description": "It is done, or here it is", "content": content });
    let refuses = |status: &str| {
        ALWAYS.contains(&status) || also.contains(&status) || (may_be_missing && status == "404")
    };
    let refusals =
        PROBLEMS
            .iter()
            .filter(|(status, ..)| refuses(status))
            .map(|(status, name, _)| {
                let place = format!("#/components/responses/{name}");
                ((*status).to_owned(), json!({ "$ref": place }))
            });
    [("200".to_owned(), success)]
        .into_iter()
        .chain(refusals)
        .collect()
}

fn in_path<P: InPath>() -> Vec<Value> {
    let segment = P::SEGMENT.into_iter();
    let parameter = segment.map(|(name, description)| {
        json!({
            "name": name, "in": "path", "required": true, "description": description,
            "schema": P::schema(),
        })
    });
    parameter.collect()
}

/// A parameter for each field of what the query is read into.
fn in_query(schema: &Schema) -> Vec<Value> {
    let Some(Value::Object(properties)) = schema.get("properties") else {
        return Vec::new();
    };
    let required = schema.get("required").and_then(Value::as_array);
    let parameters = properties.iter().map(|(name, schema)| {
        let is_required = required.is_some_and(|all| all.contains(&json!(name)));
        let mut schema = without_null(schema);
        let description = schema
            .as_object_mut()
            .and_then(|schema| schema.remove("description"));
        let mut parameter = json!({ "name": name, "in": "query", "required": is_required });
        if let Some(parameter) = parameter.as_object_mut() {
            parameter.extend(description.map(|text| ("description".to_owned(), text)));
            if schema.get("type") == Some(&json!("array")) {
                // Several values stand behind one name, with commas between them.
                parameter.insert("style".to_owned(), json!("form"));
                parameter.insert("explode".to_owned(), json!(false));
            }
            parameter.insert("schema".to_owned(), schema);
        }
        parameter
    });
    parameters.collect()
}

/// What may be left out is left out of a query: there is no way to write null.
fn without_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let Some(object) = schema.as_object_mut() else {
        return schema;
    };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.remove("anyOf") {
        let mut choices = choices.into_iter().filter(|one| one["type"] != "null");
        match (choices.next(), choices.next()) {
            (Some(Value::Object(only)), None) => object.extend(only),
            (first, second) => {
                let all = first.into_iter().chain(second).chain(choices).collect();
                object.insert("anyOf".to_owned(), Value::Array(all));
            }
        }
    }
    schema
}
