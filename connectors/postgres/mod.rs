//! Tables of PostgreSQL, written to, and transactional outboxes, read.
//!
//! ```yaml
//! sources:
//!   orders:
//!     postgres:
//!       url: "postgres://bus@db.example.com/shop?sslmode=verify-full"
//!       password: { env: PGPASSWORD }
//!       outbox: { table: outbox }              # id, order_by, columns, mark
//!       listen: outbox
//! targets:
//!   orders:
//!     postgres:
//!       url: "postgres://bus@db.example.com/shop?sslmode=verify-full"
//!       password: { env: PGPASSWORD }
//!       table: orders
//!       columns: { id: <$.id>, customer: <$.subject>, total: <$.data.total> }
//!       on_conflict: { columns: [id], do: nothing }
//! ```
//!
//! **An outbox** is a table into which an application inserts a row for each event, in the
//! transaction that is its cause. Rows are read in their order, and deleted once they are stored;
//! see `queue.rs` for who keeps whom from reading. `outbox.rs` says which column is which attribute.
//!
//! **A target** inserts a row for each delivery. Values are parameters of a prepared statement, in
//! PostgreSQL's text format: the server reads each as the type of its column, as it reads a quoted
//! constant, and no event writes SQL. See `writer.rs` for what an answer means.
//!
//! **Connections** are a few of the target's own; see `client.rs`. They lead to the first server of
//! the URL that takes writes.

mod client;
mod outbox;
mod queue;
mod refusal;
mod row;
mod settings;
mod source;
mod statement;
mod target;
#[cfg(test)]
mod tests;
mod url;
mod writer;

pub use source::PostgresSource;
pub use target::PostgresTarget;
