//! A client of PostgreSQL that adds rows, a connection for each.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Config, Error, NoTls};

/// How long a commit may take; without it the row is added again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

async fn insert(port: u16, table: &str, id: &str) -> Result<(), Error> {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    let sql = format!(
        "INSERT INTO {table} (id, data) VALUES ($1, '{}') ON CONFLICT DO NOTHING",
        crate::storm::DATA
    );
    let inserted = async {
        client.execute(sql.as_str(), &[&id]).await?;
        drop(client);
        Ok(())
    };
    let (inserted, _closed) = tokio::join!(inserted, connection);
    inserted
}

/// Adds a row with this key, unless it is there, and tells whether it is committed.
pub async fn publish(port: u16, table: &str, id: &str) -> bool {
    matches!(
        timeout(ANSWERED_WITHIN, insert(port, table, id)).await,
        Ok(Ok(()))
    )
}
