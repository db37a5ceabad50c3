//! Commands: as functions, one process for each attempt; and as sources, see [`ExecSource`].
//!
//! ```yaml
//! convert:
//!   exec: { command: [./convert.sh, "<$.data.key>"], env: { QUALITY: "80" }, cwd: ./functions }
//! ```
//!
//! **Started** without a shell. Without a `/` in it the command is looked for in `PATH`; a relative
//! path counts from `cwd`, and `cwd` from the folder of the rule file, which is Pointsman's own. `{
//! file: … }` is read again once the file has changed. Templates may stand in arguments and in
//! values of `env`, in this order in
//! [`TargetSettings::templates`](crate::TargetSettings::templates); not in the command itself, lest
//! an event choose the program.
//!
//! **Given** the event on standard input, in the JSON format (`input: structured`, the default) or
//! its data alone (`input: data`), which it need not read. Its environment is not Pointsman's: it
//! holds `INHERITED`, the event's attributes (`CE_ID`, `CE_TYPE`, … and extensions in capitals),
//! `POINTSMAN_TASK`, `POINTSMAN_ATTEMPT`, `POINTSMAN_RULE`, `POINTSMAN_DEADLINE`, `TRACEPARENT` and
//! `TRACESTATE` of an event that belongs to a trace, and what `env` sets. `{ env: NAME }` hands on a
//! variable.
//!
//! **Answers** by its exit: 0 delivered, 75 throttled, 64 and 65 rejected, anything else or a
//! signal failed; a command that cannot be started is unavailable. The last 64 KiB of standard
//! output are the response, the last line of standard error the message. With `output: event` a
//! CloudEvent in the JSON format on standard output goes back onto the bus.
//!
//! **Ends** whole: a command runs in a process group of its own. When an attempt is given up the
//! group is asked to end (SIGTERM) and after two seconds killed; when the command has ended, what
//! it left in its group is killed. The attempt is over only once nothing of the group runs any
//! more, so that the next one begins after it; what left the session (`setsid`) goes on. After a
//! crash of Pointsman the first attempt of a target ends what its commands left behind: see
//! `process/group.rs`.

mod command;
mod function;
mod process;
mod settings;
mod source;
mod target;
#[cfg(test)]
mod tests;

pub use settings::ExecTarget;
pub use source::{ExecSource, LINE_TYPE};
