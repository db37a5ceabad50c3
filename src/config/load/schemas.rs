//! Schemas of events, and the files that they lie in.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use pointsman_rules::EventSchema;
use pointsman_rules::schema::AskedTypes;
use pointsman_schemas::setting::read_regular;
use pointsman_schemas::{Name, Problem};

use super::Document;
use super::addresses::report_at_query;
use crate::config::diagnostic::Diagnostic;
use crate::config::event_schema::{RawEventSchema, SchemaFile, is_below};
use crate::config::files::{Found, may_pass};
use crate::config::loose::Loose;
use crate::config::reader::{Piece, read};
use crate::config::yaml::{Entry, Value};
use crate::config::{Rule, Test};
use crate::router::TypeSchema;

/// The largest schema file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The schemas of all rule files together, and what was found on the way to them.
#[derive(Default)]
pub(super) struct Schemas {
    pub(super) all: Vec<TypeSchema>,
    /// The texts of the files that have them, by their names.
    pub(super) files: Vec<SchemaFile>,
    /// Mistakes in those files.
    pub(super) mistakes: Vec<Diagnostic>,
}

impl Schemas {
    pub(super) fn of(documents: &[Document<'_>]) -> Self {
        let Some(first) = documents.first().map(|document| document.file) else {
            return Self::default();
        };
        let mut reading = Reading {
            first,
            found: Self::default(),
            compiled: HashMap::new(),
            places: HashMap::new(),
        };
        for document in documents {
            for entry in document.section("schemas") {
                let schema = reading.schema(document, entry);
                reading.found.all.extend(schema);
            }
        }
        let mut found = reading.found;
        found.files.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }
}

struct Reading<'d> {
    /// The first rule file: paths begin where it lies.
    first: &'d Found,
    found: Schemas,
    /// What each file came to, so that two types may share one.
    compiled: HashMap<String, Option<Arc<EventSchema>>>,
    /// Where the schema of a tenant's type is.
    places: HashMap<(&'d Name, &'d str), String>,
}

impl<'d> Reading<'d> {
    /// Reads one of `schemas`. None where something is wrong with it, which is told.
    fn schema(&mut self, document: &'d Document<'_>, entry: &'d Entry) -> Option<TypeSchema> {
        let piece = document.entity(entry);
        let raw = self.raw(document, entry, piece)?;
        let schema = match (piece.get("file"), piece.get("schema")) {
            (Some(file), Some(_)) => {
                file.report_key(
                    "there is a `file` and a `schema` here",
                    "keep one of them: the schema, or the file that has it",
                );
                None
            }
            (Some(at), None) => self.of_file(at, &raw.file?),
            (None, Some(at)) if at.is_whole() => {
                let compiled = EventSchema::compile(&raw.schema?);
                let compiled = compiled
                    .map_err(|problems| at.report_problems(problems))
                    .ok()?;
                at.report_problems(compiled.warnings());
                Some(Arc::new(compiled))
            }
            (None, Some(_)) => None,
            (None, None) => {
                let missed = ["file", "schema"]
                    .iter()
                    .any(|key| piece.mistakes.was_meant(piece.node, key));
                if !missed {
                    piece.report_key(
                        format!("there is no schema for `{}`", entry.key),
                        "add `schema: { … }`, or `file: schemas/its-name.json`",
                    );
                }
                None
            }
        }?;
        Some(TypeSchema {
            tenant: document.tenant.clone(),
            ty: entry.key.as_str().into(),
            schema,
            on_mismatch: raw.on_mismatch.unwrap_or_default(),
        })
    }

    fn raw(
        &mut self,
        document: &'d Document<'_>,
        entry: &'d Entry,
        piece: Piece<'_>,
    ) -> Option<RawEventSchema> {
        let ty = entry.key.as_str();
        if ty.is_empty() || ty.contains('*') {
            piece.report_key(
                "a schema is for the events of one type, and this is none",
                "write the type out, such as order.paid; `*` stands for nothing here",
            );
            return None;
        }
        if piece.node.value == Value::Null {
            piece.report_key(
                format!("there is no schema for `{ty}`"),
                "add `schema: { … }`, or `file: schemas/its-name.json`",
            );
            return None;
        }
        let place = document.place(entry.key_span);
        let first = self.places.insert((&document.tenant, ty), place);
        if let Some(first) = first {
            piece.report_key(
                format!("`{ty}` has a schema already"),
                format!("it is at {first}; keep one of them"),
            );
            return None;
        }
        read(piece)
    }

    fn of_file(&mut self, at: Piece<'_>, name: &str) -> Option<Arc<EventSchema>> {
        if let Some(known) = self.compiled.get(name) {
            return known.clone();
        }
        let schema = self
            .text(at, name)
            .and_then(|text| self.compile(name, text));
        self.compiled.insert(name.to_owned(), schema.clone());
        schema
    }

    fn compile(&mut self, name: &str, text: String) -> Option<Arc<EventSchema>> {
        self.found.files.push(SchemaFile {
            name: name.to_owned(),
            text: text.clone(),
        });
        let loose = Loose::read(self.shown(name), text);
        let mistakes = &mut self.found.mistakes;
        let loose = loose.map_err(|wrong| mistakes.extend(wrong)).ok()?;
        match EventSchema::compile(&loose.value) {
            Ok(schema) => {
                mistakes.extend(loose.mistakes(schema.warnings()));
                Some(Arc::new(schema))
            }
            Err(problems) => {
                mistakes.extend(loose.mistakes(problems));
                None
            }
        }
    }

    /// The text of a file, wherever it is.
    fn text(&mut self, at: Piece<'_>, name: &str) -> Option<String> {
        if !is_below(Path::new(name)) {
            at.report(
                "a schema lies below the folder of the rule file",
                "write a path such as schemas/order.json, without `..` and not from the root",
            );
            return None;
        }
        if let Some(attached) = &self.first.attached {
            let found = attached.get(name);
            if found.is_none() {
                at.report(
                    "this file is not among those that came with the rules",
                    "put the rules from the folder that has it, or write it out under `schema`",
                );
            }
            return found.cloned();
        }
        let read = read_regular(&self.first.folder.join(name), FILE_BYTES_MAX);
        let text = read.and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
        });
        let unmarked = |text: String| text.trim_start_matches('\u{feff}').to_owned();
        text.map(unmarked)
            .map_err(|error| self.unreadable(at, name, &error))
            .ok()
    }

    /// How a file is called in what is said of it.
    fn shown(&self, name: &str) -> String {
        let folder = Path::new(&self.first.name)
            .parent()
            .unwrap_or(Path::new(""));
        folder.join(name).display().to_string()
    }

    fn unreadable(&mut self, at: Piece<'_>, name: &str, error: &io::Error) {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => Problem::new("there is no such file").help(format!(
                "paths of schemas begin where {} lies",
                self.first.name
            )),
            io::ErrorKind::FileTooLarge => Problem::new("this file is larger than 1 MiB")
                .help("a schema is a few kilobytes; is it the right file?"),
            io::ErrorKind::InvalidInput => Problem::new("this is not a regular file")
                .help("a folder, a pipe, a socket or a device holds no schema"),
            io::ErrorKind::InvalidData => {
                Problem::new("this file is not UTF-8").help("save it as UTF-8")
            }
            // Nobody may take this for a mistake in the rules.
            _ if may_pass(error) => {
                let message = format!("cannot read this file now: {error}");
                let diagnostic =
                    Diagnostic::may_pass_of_file(self.shown(name), message, "try again");
                return self.found.mistakes.push(diagnostic);
            }
            _ => {
                Problem::new(format!("cannot read this file: {error}")).help("is it yours to read?")
            }
        };
        at.report_problems([problem]);
    }
}

/// What schemas say of the fields that rules ask for.
pub(super) struct Asked<'s>(HashMap<(&'s Name, &'s str), &'s EventSchema>);

impl<'s> Asked<'s> {
    pub(super) fn of(schemas: &'s [TypeSchema]) -> Self {
        let by_type = schemas
            .iter()
            .map(|one| ((&one.tenant, &*one.ty), &*one.schema));
        Self(by_type.collect())
    }

    /// Warns of fields that a rule asks for and that events of its types do not have.
    pub(super) fn warn(&self, piece: Piece<'_>, rule: &Rule) {
        if self.0.is_empty() {
            return;
        }
        let pattern = rule
            .conditions
            .get("match")
            .and_then(serde_json::Value::as_object);
        let condition = rule.filter.condition.as_ref();
        let schema_of = |ty: &str| self.0.get(&(&rule.tenant, ty)).copied();
        let asked = AskedTypes::of(pattern, condition, schema_of);
        if let (Some(at), Some(pattern)) = (piece.get("match"), pattern) {
            at.report_problems(asked.warnings_of_pattern(pattern));
        }
        if let (Some(at), Some(condition)) = (piece.get("where"), condition) {
            at.report_problems(asked.warnings_of_condition(condition));
        }
        let transforms = rule.to.iter().filter_map(|to| to.transform.as_ref());
        for path in transforms.flat_map(|transform| transform.queries()) {
            if let Some(problem) = asked.warning_of_query(path) {
                report_at_query(piece, path, problem);
            }
        }
    }
}

impl Asked<'_> {
    /// Warns of a test's event that would not come through, or not as it is.
    pub(super) fn warn_of_test(&self, piece: Piece<'_>, test: &Test) {
        let schema = self.0.get(&(&test.tenant, test.event.ty()));
        let checked = schema.map(|schema| schema.check(&test.event));
        if let (Some(Err(mismatch)), Some(at)) = (checked, piece.get("event")) {
            let problem = Problem::new(format!(
                "this event does not fit the schema of its type: {mismatch}"
            ));
            let help = "the test tries the rules as if it did; mend the event, or the schema";
            at.report_problems([problem.warn().help(help)]);
        }
    }
}
