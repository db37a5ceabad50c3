//! Changes of rows in tables of MySQL and MariaDB, from the binary log.
//!
//! ```yaml
//! sources:
//!   orders:
//!     mysql-cdc:
//!       url: "mysql://db.example.com/shop?ssl-mode=required"
//!       username: pointsman
//!       password: { env: MYSQL_PWD }
//!       tables: [shop.orders, "shop.customer_*"]
//!       snapshot: initial
//! ```
//!
//! **Reading** is at least once. The source asks for the binary log as a replica does, from behind
//! the transactions that it has read (`gtid.rs`), or, where a MySQL server has no GTIDs, from a
//! place in a file. Each batch carries the position behind it, which is stored with it
//! (`position.rs`); in the middle of a transaction that is the place before it and how many of its
//! changes are read. While nothing comes for us, the position goes on with what is written of other
//! tables, so that the server's log does not run away from it.
//!
//! **A snapshot** at the very first start reads the rows that are there in one transaction, of
//! which it is known which transactions it has in it (`snapshot.rs`).
//!
//! **Names and types** of columns are those that the log has, which has all of them with
//! `binlog_row_metadata=FULL`, and those of the catalog where it says nothing (`table.rs`). Where
//! the two do not fit together, the rows are dead letters of the source that say why.
//!
//! **Events** are of type `com.pointsman.mysql.row.inserted`, `….updated`, `….deleted`, `….read`
//! (by the snapshot) or `….truncated`, source `/mysql/<name of the source>`, subject
//! `<database>.<table>/<key>`, which is their `partitionkey`, too. The id is made of the
//! transaction, its time, and the place within it: the same whenever it is sent. Their data has
//! `op`, `before` and `after` as those of Debezium.
//!
//! **The client** is one of its own: none there is knows both servers, or takes a connection that
//! is dialled here. See docs/develop/dependencies.md.

mod catalog;
mod change;
mod charset;
mod dump;
mod event;
mod gtid;
mod inflate;
mod jsonb;
mod kind;
mod login;
mod look;
mod packed;
mod position;
mod refusal;
mod rows;
mod snapshot;
mod source;
mod statement;
mod stream;
mod table;
mod table_map;
mod take;
#[cfg(test)]
mod tests;
mod transaction;
mod value;
mod wire;

pub use source::MysqlCdcSource;
