//! What the bus asks of a source.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::client::Client;
use super::outbox::Outbox;
use super::queue::{CALL_ROWS_MAX, Table};
use super::row::Decoder;
use super::settings::Connection;
use crate::leased::{Reader, Way, settings};
use crate::net::Names;
use crate::net::guard::Guard;
use crate::net::tls::TlsSettings;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};

/// How long is waited before a table that is empty is looked at again.
const EVERY: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(600);

/// So many rows a batch holds at most.
pub(super) const BATCH_ROWS_MAX: usize = CALL_ROWS_MAX;

/// Reads a transactional outbox, a table of PostgreSQL.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSource {
    /// The server, or several of which one takes writes, as libpq has it: a URL or `key=value`s.
    #[schemars(extend("examples" = ["postgres://bus@127.0.0.1:5432/shop?sslmode=verify-full"]))]
    url: Text,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Option<Text>,
    /// Certificates.
    tls: Option<TlsSettings>,
    /// The table.
    outbox: Outbox,
    /// The channel on which the application notifies (`NOTIFY`) of new rows, so that they are read
    /// at once. The table is looked at all the same.
    #[schemars(length(min = 1))]
    listen: Option<String>,
    /// How often the table is looked at while it is empty; 1s unless it is given.
    #[serde(default = "second")]
    every: Interval,
    /// How many rows are in hand at most, 256 to 20000.
    #[serde(default = "settings::prefetch")]
    #[schemars(range(min = 256, max = 20_000))]
    prefetch: usize,
}

fn second() -> Interval {
    Interval(Duration::from_secs(1))
}

impl PostgresSource {
    fn connection(&self) -> Connection<'_> {
        Connection {
            url: &self.url,
            password: self.password.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    fn table(&self) -> Result<Table, OpenError> {
        let settings = self.clone();
        // The operator names the address, and no event has a part in it.
        let guard = Guard {
            allow_private_addresses: true,
        };
        let resolve_address = move || settings.connection().resolve();
        let client = Client::open(resolve_address, guard, Names::default())?;
        Ok(Table::new(self.outbox.clone(), client, self.listen.clone()))
    }
}

#[async_trait]
impl SourceSettings for PostgresSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.connection().check();
        let of_table = self.outbox.check().into_iter();
        problems.extend(of_table.map(|problem| problem.at("outbox")));
        if self.listen.as_deref() == Some("") {
            problems.push(Problem::new("a channel has a name").at("listen"));
        }
        if !EVERY.contains(&self.every.0) {
            let mistake = "the table is looked at every 50ms to 10m";
            problems.push(Problem::new(mistake).at("every"));
        }
        // Rows are not kept from others for a time, but for as long as they are in hand.
        problems.extend(settings::check(
            "the source",
            settings::visibility(),
            self.prefetch,
            CALL_ROWS_MAX,
        ));
        problems
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::One
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let looked = self.table()?.look().await;
        looked.map_err(|unreachable| OpenError(unreachable.problem))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let table = self.table()?;
        let begun = table.begin().await;
        begun.map_err(|unreachable| OpenError(unreachable.problem))?;
        let decoder = Decoder {
            name: context.name,
            table: self.outbox.table.clone(),
            mapped: context.mapped,
            clock: context.clock,
        };
        let way = Way {
            wait: self.every.0,
            prefetch: self.prefetch,
            batch_messages_max: BATCH_ROWS_MAX,
        };
        Ok(Reader::begin(table, decoder, way, context.link))
    }
}
