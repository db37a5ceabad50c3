//! Tables of PostgreSQL, written to.
//!
//! ```yaml
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
//! **A target** inserts a row for each delivery. Values are parameters of a prepared statement, in
//! PostgreSQL's text format: the server reads each as the type of its column, as it reads a quoted
//! constant, and no event writes SQL. See `writer.rs` for what an answer means.
//!
//! **Connections** are a few of the target's own; see `client.rs`. They lead to the first server of
//! the URL that takes writes.

mod client;
mod refusal;
mod settings;
mod statement;
mod target;
#[cfg(test)]
mod tests;
mod url;
mod writer;

pub use target::PostgresTarget;
