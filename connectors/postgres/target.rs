//! The settings of a target.

use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use pointsman_schemas::{Placement, Problem, TemplateText, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use tower::util::BoxCloneSyncService;

use super::client::Client;
use super::refusal::words;
use super::settings::Connection;
use super::statement::{Conflict, insert, is_table};
use super::writer::Writer;
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::tls::TlsSettings;
use crate::parameter::{Parameter, Templates};
use crate::{Called, Files, OpenError, TargetContext, TargetService, TargetSettings};

/// How many columns a table of PostgreSQL has at most.
const COLUMNS_MAX: usize = 1_600;

/// Inserts a row into a table of PostgreSQL for each event.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresTarget {
    /// The server, or several of which one takes writes, as libpq has it: a URL or `key=value`s.
    #[schemars(extend("examples" = ["postgres://bus@127.0.0.1:5432/shop?sslmode=verify-full"]))]
    url: Text,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// Certificates.
    tls: Option<TlsSettings>,
    /// The table, behind its schema or without: `orders`, `shop.orders`.
    #[schemars(length(min = 1))]
    table: String,
    /// The columns that are written, with their values, which may hold templates. One that is a
    /// template alone and finds nothing is NULL.
    #[schemars(extend("minProperties" = 1))]
    columns: IndexMap<String, Text>,
    /// What is done where there is such a row; an error unless it is given, and the event a dead
    /// letter.
    on_conflict: Option<OnConflict>,
}

/// What is done where there is such a row.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OnConflict {
    /// The columns of the key or the unique index that says so; any of the table's unless they are
    /// given.
    #[serde(default)]
    columns: Vec<String>,
    /// Whether the row that is there stays or is written over.
    #[serde(rename = "do")]
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// The row that is there stays.
    Nothing,
    /// Its other columns are written over.
    Update,
}

/// The texts that may hold templates, and which of the filled-in ones each is.
struct Filled {
    columns: Vec<Option<usize>>,
    templates: Templates,
}

impl PostgresTarget {
    fn connection(&self) -> Connection<'_> {
        Connection {
            url: &self.url,
            password: self.password.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    fn filled(&self) -> Filled {
        let mut templates = Templates::default();
        let columns = self.columns.iter().map(|(name, value)| {
            let path = vec!["columns".into(), name.as_str().into()];
            templates.note(value, Placement::Column, path)
        });
        Filled {
            columns: columns.collect(),
            templates,
        }
    }

    fn conflict(&self) -> Conflict<'_> {
        let Some(OnConflict { columns, action }) = &self.on_conflict else {
            return Conflict::Error;
        };
        let columns = columns.iter().map(String::as_str).collect();
        match action {
            Action::Nothing => Conflict::Nothing(columns),
            Action::Update => Conflict::Update(columns),
        }
    }

    fn statement(&self, value: impl Fn(usize) -> String) -> String {
        let columns: Vec<_> = self.columns.keys().map(String::as_str).collect();
        insert(&self.table, &columns, &self.conflict(), value)
    }

    fn client(&self, allow_private_addresses: bool, names: Names) -> Result<Client, OpenError> {
        let settings = self.clone();
        let resolve_address = move || settings.connection().resolve();
        let guard = Guard {
            allow_private_addresses,
        };
        Client::open(resolve_address, guard, names)
    }

    fn writer(&self, client: Client) -> Result<Writer, OpenError> {
        let filled = self.filled();
        let values = self.columns.iter().zip(filled.columns);
        let values = values.map(|((name, value), index)| {
            let path = ["columns".into(), name.as_str().into()];
            Parameter::open(value, index, &path)
        });
        Ok(Writer {
            client,
            statement: self.statement(|number| format!("${number}")),
            values: values.collect::<Result<_, OpenError>>()?,
            texts: filled.templates.count(),
        })
    }

    fn mistakes_in_table(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let is_name = |name: &str| !name.is_empty() && !name.contains('\0');
        if !is_table(&self.table) {
            let problem = Problem::new("this is not the name of a table");
            let help = "write orders, or shop.orders behind the name of its schema";
            problems.push(problem.help(help).at("table"));
        }
        if self.columns.is_empty() || self.columns.len() > COLUMNS_MAX {
            let mistake = format!("a row has 1 to {COLUMNS_MAX} columns");
            let help = "write columns: { id: <$.id>, … }";
            problems.push(Problem::new(mistake).help(help).at("columns"));
        }
        if !self.columns.keys().all(|name| is_name(name)) {
            problems.push(Problem::new("a column has a name").at("columns"));
        }
        problems
    }

    fn mistake_in_conflict(&self) -> Option<Problem> {
        let OnConflict { columns, action } = self.on_conflict.as_ref()?;
        let unknown = columns
            .iter()
            .find(|name| !self.columns.contains_key(*name));
        if let Some(name) = unknown {
            let problem = Problem::new(format!("the column {name} is not written"));
            let help = "name those of columns that are the table's key";
            return Some(problem.help(help).at("columns").at("on_conflict"));
        }
        if *action == Action::Nothing {
            return None;
        }
        if columns.is_empty() {
            let problem = Problem::new("it is not said which row is written over");
            let help = "write on_conflict: { columns: [id], do: update }";
            return Some(problem.help(help).at("columns").at("on_conflict"));
        }
        let others = self.columns.keys().filter(|name| !columns.contains(name));
        (others.count() == 0).then(|| {
            let problem = Problem::new("there is no column besides that could be written over");
            problem.help("write do: nothing").at("do").at("on_conflict")
        })
    }

    /// What is wrong where the server does not take the statement.
    fn untaken(&self, error: &tokio_postgres::Error, place: &str) -> OpenError {
        let message = format!("PostgreSQL at {place}: {}", words(error));
        let (at, help) = match error.code().map(tokio_postgres::error::SqlState::code) {
            Some("42P01" | "3F000") => (
                "table",
                "make the table, or name it behind its schema: shop.orders",
            ),
            Some("42703" | "428C9") => ("columns", "name columns that the table has and takes"),
            Some("42P10") => (
                "on_conflict",
                "make the columns the table's key, or a unique index of them",
            ),
            Some("42501") => (
                "table",
                "GRANT INSERT ON the table to the user, and with on_conflict SELECT and UPDATE, too",
            ),
            _ => (
                "table",
                "have the statement that is made of it tried by psql",
            ),
        };
        OpenError(Problem::new(message).help(help).at(at))
    }
}

#[async_trait]
impl TargetSettings for PostgresTarget {
    fn files(&self) -> Files {
        self.connection().files()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = self.connection().check();
        problems.extend(self.mistakes_in_table());
        problems.extend(self.mistake_in_conflict());
        problems
    }

    fn templates(&self) -> Vec<TemplateText> {
        self.filled().templates.into_texts()
    }

    fn called(&self) -> Called {
        Called::always(format!("insert into {}", self.table))
    }

    fn refuses_batches(&self) -> Option<Problem> {
        None
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let writer = self.writer(self.client(true, Names::default())?)?;
        let connected = writer.client.connect().await;
        let connected = connected.map_err(|unreachable| OpenError(unreachable.problem))?;
        let place = &connected.place;
        // It is planned, which takes the table, the columns, the key and the rights, and not run.
        let statement = self.statement(|_| "NULL".to_owned());
        let statement = format!("EXPLAIN {statement}");
        let planned = connected.client.simple_query(&statement).await;
        planned.map_err(|error| self.untaken(&error, place))?;
        Ok(format!(
            "PostgreSQL {} at {place} takes rows into {}; nothing was written",
            connected.version, self.table
        ))
    }

    async fn open(&self, context: TargetContext) -> Result<TargetService, OpenError> {
        let client = self.client(context.allow_private_addresses, context.names)?;
        let writer = Arc::new(self.writer(client)?);
        Ok(BoxCloneSyncService::new(tower::service_fn(
            move |attempt| {
                let writer = Arc::clone(&writer);
                async move { writer.attempt(&attempt).await }
            },
        )))
    }
}
