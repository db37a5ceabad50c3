//! Files that grow, line by line: logs.
//!
//! ```yaml
//! sources:
//!   app:
//!     file: { paths: ["/var/log/app/*.log"], format: json, existing: skip }
//! targets:
//!   archive:
//!     file: { path: ./events.jsonl, rotate: { size: 100MiB, keep: 5 } }
//! ```
//!
//! **Followed** is every regular file that a pattern leads to, from its beginning on, through
//! renames: a file is known by its inode and by what it begins with, so that it is read to its end
//! where it has been rotated away, also while nothing ran, and begun anew where it has been truncated
//! or another one lies in its place (`follow.rs`).
//!
//! **A record** is a line, or with `multiline` several: one that matches begins a record, and the
//! others go on with it. It is told once it is whole (`records.rs`). One that is too long is a dead
//! letter with its beginning.
//!
//! **Events** are of type `com.pointsman.file.line`, source `/files/<name>`, subject the path; id made
//! of the file's inode, its number in the source's position, and the place of the record: the same
//! whenever it is told. Data is `{ "message", "path", "offset" }`; with `format: json` the line itself,
//! and with `format: cloudevents` the line is the event. With an `event:` mapping these are its
//! defaults; its root has `path` and `offset` beside `body`.
//!
//! **Position**: one row for each file, stored in the append that has its lines (`position.rs`).
//!
//! **The target** appends each event as a line, synced before it counts as delivered, and rotates the
//! file where it is told to (`append.rs`).

mod append;
mod follow;
mod position;
mod records;
mod source;
mod stream;
mod target;
#[cfg(test)]
mod tests;

pub use follow::BATCH_FILES_MAX;
pub use source::FileSource;
pub use target::FileTarget;
