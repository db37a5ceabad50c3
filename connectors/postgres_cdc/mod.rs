//! Changes of rows in tables of PostgreSQL, by logical replication.
//!
//! ```yaml
//! sources:
//!   orders:
//!     postgres-cdc:
//!       url: "postgres://db.example.com/shop?sslmode=require"
//!       username: pointsman
//!       password: { env: PGPASSWORD }
//!       tables: [public.orders, public.customers]
//!       slot: pointsman_orders
//!       snapshot: initial
//! ```
//!
//! **Reading** is at least once. The server keeps its write-ahead log for a durable slot, and the
//! built-in plugin `pgoutput` tells of each transaction once it is committed (`pgoutput.rs`). Each
//! batch carries the position behind it, which is stored with it (`position.rs`), so that batches
//! are stored in their order, and what the server sends again after a crash is left out. It is told
//! that it may forget what is stored, and no more (`progress.rs`). While nothing is outstanding, that
//! goes on with what it says of other tables.
//!
//! **A snapshot** at the very first start reads the rows that are there: a temporary slot says which
//! transactions its snapshot has in it, and those behind are streamed (`snapshot.rs`).
//!
//! **Events** are of type `com.pointsman.postgres.row.inserted`, `….updated`, `….deleted`, `….read`
//! (by the snapshot) or `….truncated`, source `/postgres/<name of the source>`, subject
//! `<schema>.<table>/<key>`, which is their `partitionkey`, too; time that of the commit. The id is
//! made of the commit's place in the log, its time, and the place within the transaction: the same
//! whenever it is sent. Their data has `op`, `before` and `after` as those of Debezium.
//!
//! **The client** is one of its own over `postgres-protocol`: tokio-postgres has no replication. See
//! `wire.rs`.

mod change;
mod look;
mod pgoutput;
mod position;
mod progress;
mod refusal;
mod relation;
mod snapshot;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod value;
mod wire;

pub use source::PostgresCdcSource;
