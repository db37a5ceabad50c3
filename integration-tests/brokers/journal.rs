//! A journal of systemd, as `systemd-journal-remote` writes it.

use std::io::Write;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use tempfile::TempDir;

/// Where Debian puts it.
const REMOTE: &str = "/lib/systemd/systemd-journal-remote";

/// When the first entry is of, in microseconds: 2026-11-30T08:00:00Z.
const BEGINS: usize = 1_796_025_600_000_000;

/// A journal in a folder of its own, which `journalctl --directory` reads.
#[derive(Debug)]
pub struct JournalWriter {
    folder: TempDir,
    child: Child,
    input: ChildStdin,
    written: usize,
}

impl JournalWriter {
    /// Begins a journal.
    ///
    /// # Panics
    /// Where `systemd-journal-remote` is not installed.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("tests.journal");
        let mut remote = Command::new(REMOTE);
        remote.arg(format!("--output={}", file.display())).arg("-");
        let started = remote.stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = started.expect("systemd-journal-remote runs: ./test --install brings it");
        let input = child.stdin.take().expect("its input is a pipe");
        Self {
            folder,
            child,
            input,
            written: 0,
        }
    }

    /// Where its files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How many entries have been written.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// Writes an entry with further fields, `NAME=value` on a line each, as if the machine had been
    /// started anew.
    ///
    /// # Panics
    /// Where it has ended.
    pub fn write(&mut self, message: &str, fields: &str) {
        self.written += 1;
        let number = self.written;
        let time = BEGINS + number;
        // The journal's export format.
        let entry = format!(
            "__REALTIME_TIMESTAMP={time}\n__MONOTONIC_TIMESTAMP={number}\n_BOOT_ID={number:032x}\n\
             _HOSTNAME=web1\n{fields}\nMESSAGE={message}\n\n"
        );
        let written = self.input.write_all(entry.as_bytes());
        written.expect("the journal takes it");
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        crate::kill(&mut self.child);
    }
}
