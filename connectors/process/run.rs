//! One run of a source's command: started, read, and ended with all that it started.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_schemas::Name;
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::group::{GONE_WITHIN, Group, KILL_GRACE};
use super::lines::{Line, Lines};
use super::{LINE_CHARS_MAX, OUTPUT_GRACE, shown};
use crate::LogLimit;

/// How much is read at once at most: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// So many lines of standard error go into the log in ten seconds; of the others it is told how
/// many there were.
const LOG_LINES_MAX: u32 = 100;

/// A running command. Dropping it kills its group.
#[derive(Debug)]
pub(crate) struct Run {
    child: Child,
    group: Group,
    /// None once everything has been read.
    stdout: Option<ChildStdout>,
    /// How it ended, once it has.
    status: Option<ExitStatus>,
    /// Since when nothing has come although the command has ended: what has left its group may hold
    /// the pipe open.
    quiet_since: Option<Instant>,
    /// When what still runs is killed: set once it has been asked to end.
    kill_at: Option<Instant>,
    is_killed: bool,
    /// When it began.
    pub(crate) began: Instant,
    last_line: Arc<Mutex<Option<String>>>,
    log: AbortOnDropHandle<()>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct RunResult {
    /// True of an exit with 0.
    pub(crate) is_success: bool,
    /// In words, with the last line of standard error.
    pub(crate) how: String,
}

impl Run {
    /// Starts the command in a process group of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(mut command: Command, source: &Name) -> io::Result<Self> {
        command
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let group = Group::of(&child);
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let last_line = Arc::<Mutex<Option<String>>>::default();
        let log = tokio::spawn(log(stderr, source.clone(), Arc::clone(&last_line)));
        let log = AbortOnDropHandle::new(log);
        Ok(Self {
            child,
            group,
            stdout,
            status: None,
            quiet_since: None,
            kill_at: None,
            is_killed: false,
            began: Instant::now(),
            last_line,
            log,
        })
    }

    /// Reads more, and returns true; or false once everything has been read and the command has
    /// ended. May be dropped at any time.
    pub(crate) async fn read(&mut self, lines: &mut Lines) -> bool {
        loop {
            let wake = self.overdue();
            if self.stdout.is_none() && self.status.is_some() {
                return false;
            }
            let read = async {
                match &mut self.stdout {
                    Some(stdout) => stdout.read_buf(lines.more(READ_BYTES)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                status = self.child.wait(), if self.status.is_none() => self.exited(status.unwrap_or_default()),
                // Before the time that is up: what waits in the pipe may have waited there because
                // nobody asked for it.
                read = read => match read {
                    Ok(1..) => {
                        self.quiet_since = self.status.map(|_| Instant::now());
                        return true;
                    }
                    Ok(0) | Err(_) => self.stdout = None,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if self.quiet_since.is_some_and(|since| since.elapsed() >= OUTPUT_GRACE) {
                        self.stdout = None;
                    }
                }
            }
        }
    }

    /// Does what the time has come for, and returns when to look again.
    fn overdue(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| now >= at) && !self.is_killed {
            self.group.signal(Signal::KILL);
            self.is_killed = true;
        }
        // Who writes without an end must not keep a source from ending.
        if self.kill_at.is_some_and(|at| now >= at + OUTPUT_GRACE) {
            self.stdout = None;
        }
        let kill = self
            .kill_at
            .map(|at| {
                if self.is_killed {
                    at + OUTPUT_GRACE
                } else {
                    at
                }
            })
            .filter(|at| *at > now);
        let quiet = self
            .quiet_since
            .filter(|_| self.stdout.is_some())
            .map(|since| since + OUTPUT_GRACE);
        [kill, quiet].into_iter().flatten().min()
    }

    /// The command itself has ended. What it left in its group ends with it, at once unless it is
    /// tidying up.
    fn exited(&mut self, status: ExitStatus) {
        self.status = Some(status);
        self.quiet_since = Some(Instant::now());
        if self.kill_at.is_none() {
            self.group.signal(Signal::KILL);
        }
    }

    /// Asks it to end: what has not ended within the grace is killed.
    pub(crate) fn end(&mut self) {
        if self.kill_at.is_none() && self.status.is_none() {
            self.group.signal(Signal::TERM);
            self.kill_at = Some(Instant::now() + KILL_GRACE);
        }
    }

    /// Waits until nothing of the group is left, and tells how it ended. To be called once
    /// [`Run::read`] has returned false; may be dropped at any time.
    pub(crate) async fn ended(&mut self) -> RunResult {
        let tidies_for = self.kill_at.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
        });
        if !self.group.gone_within(tidies_for).await {
            self.group.signal(Signal::KILL);
            if !self.group.gone_within(GONE_WITHIN).await {
                tracing::warn!(group = ?self.group, "a command was killed and has not ended");
            }
        }
        // Its number may be another group's from now on.
        self.group.0.take();
        if !self.log.is_finished() {
            // What has left the group may hold it open.
            let _ = timeout(OUTPUT_GRACE, &mut self.log).await;
        }
        let status = self.status.unwrap_or_default();
        let how = super::how(status);
        let how = self
            .last_line
            .lock()
            .as_ref()
            .map_or_else(|| how.clone(), |line| format!("{how}: {line}"));
        RunResult {
            is_success: status.success(),
            how,
        }
    }
}

/// Copies standard error into the log, line by line, and keeps the last line.
async fn log(
    stderr: Option<impl AsyncRead + Unpin>,
    source: Name,
    last: Arc<Mutex<Option<String>>>,
) {
    let Some(mut stderr) = stderr else { return };
    let mut lines = Lines::new(4 * LINE_CHARS_MAX);
    let mut limit = LogLimit::lines(LOG_LINES_MAX);
    let left_out = |lines| {
        if lines > 0 {
            tracing::info!(
                %source, lines,
                "further lines of the command's standard error are left out"
            );
        }
    };
    let mut tell = |line: Line| {
        let (Line::Whole(line) | Line::Cut(line)) = line;
        let line = shown(&line);
        if line.trim().is_empty() {
            return;
        }
        if let Some(lines) = limit.admit(1) {
            left_out(lines - 1);
            tracing::info!(%source, line, "standard error of the command");
        }
        *last.lock() = Some(line);
    };
    while stderr
        .read_buf(lines.more(READ_BYTES))
        .await
        .is_ok_and(|read| read > 0)
    {
        while let Some(line) = lines.next() {
            tell(line);
        }
    }
    if let Some(line) = lines.rest() {
        tell(line);
    }
    left_out(limit.take_unlogged());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Log;

    #[tokio::test]
    async fn a_command_cannot_flood_the_log_and_what_is_left_out_is_counted() {
        let (captured, _guard) = Log::capture();
        let last = Arc::default();
        let stderr: String = (1..=LOG_LINES_MAX + 17)
            .map(|number| format!("warning {number}\n\n"))
            .collect();
        let name = Name::new("orders").unwrap();
        log(Some(stderr.as_bytes()), name, Arc::clone(&last)).await;
        let lines = captured.lines();
        assert_eq!(lines.len(), LOG_LINES_MAX as usize + 1, "{lines:?}");
        assert!(lines[99].contains("warning 100"), "{}", lines[99]);
        assert!(lines[100].contains("left out") && lines[100].contains("lines=17"));
        assert_eq!(last.lock().as_deref(), Some("warning 117"));
    }
}
