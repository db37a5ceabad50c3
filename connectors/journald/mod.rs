//! The journal of systemd.
//!
//! ```yaml
//! sources:
//!   machine:
//!     journald: { units: [nginx.service, sshd.service], priority: warning, existing: skip }
//! ```
//!
//! **Reading** is done by `journalctl --follow`, which knows the journal's files with all their
//! compressions and rotations, and prints each entry as a line of JSON. When it ends, it is started
//! again behind the last entry.
//!
//! **The cursor** of each entry is the journal's own, and is stored with the entry's batch: the next
//! start goes on behind it, also after the journal has been rotated.
//!
//! **Events** are of type `com.pointsman.journald.entry`, source `/journald/<name of the source>`,
//! id the entry's cursor, subject `<host>/<program>`, time that of the entry; data is the entry as
//! `journalctl` prints it. A line that is none, or longer than 1 MiB, is a dead letter.

mod entry;
mod settings;
mod source;
#[cfg(test)]
mod tests;

pub use settings::JournaldSource;
