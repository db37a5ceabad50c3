//! Processes that a connector runs beside the bus: what they are started with, and how one is read
//! and ended with all that it started.
//!
//! | file | |
//! |---|---|
//! | `group.rs` | process groups, and what a crash of the bus left running of them |
//! | `run.rs` | one run of a command that is read line by line |
//! | `lines.rs` | a stream of bytes cut into lines |

pub(crate) mod group;
mod lines;
mod run;

use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Command;

pub(crate) use lines::{Line, Lines};
pub(crate) use run::Run;

/// How long output is still read once the command has ended; only a process that left the group can
/// hold it open.
pub(crate) const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// The longest line of standard error that becomes part of a message.
pub(crate) const LINE_CHARS_MAX: usize = 500;

/// What a command takes over of Pointsman's own environment: enough to find programs, a home and a
/// language, and no secrets.
pub(crate) const INHERITED: &[&str] = &[
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
];

/// A command that begins with [`INHERITED`] for its environment.
pub(crate) fn inheriting<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    let inherited = |name: &&'static str| Some((*name, std::env::var_os(name)?));
    command
        .args(arguments)
        .env_clear()
        .envs(INHERITED.iter().filter_map(inherited));
    command
}

/// A line, fit to be shown.
pub(crate) fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line)
        .chars()
        .filter(|c| !c.is_control())
        .take(LINE_CHARS_MAX)
        .collect()
}

/// How a command ended, in words.
pub(crate) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended without a code".to_owned(),
    }
}
