//! One run of a command: fed, read, and ended with all that it started.

use std::io;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use pointsman_schemas::outcome::RESPONSE_BYTES_MAX;
use pointsman_schemas::{Event, InvalidEvent, json};
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::process::group::{Group, KILL_GRACE};
use crate::process::{OUTPUT_GRACE, shown};

/// How much is read at once, at least.
const READ_BYTES: usize = 4 * 1024;

/// How a command ended and what it printed.
#[derive(Debug)]
pub(super) struct CommandOutput {
    pub(super) status: ExitStatus,
    pub(super) stdout: Tail,
    pub(super) stderr: Tail,
}

impl CommandOutput {
    /// The event on standard output.
    pub(super) fn reply(&self) -> Result<Event, InvalidEvent> {
        if self.stdout.cut {
            return Err(InvalidEvent::Malformed(format!(
                "it is longer than {RESPONSE_BYTES_MAX} bytes"
            )));
        }
        json::decode(&Bytes::copy_from_slice(&self.stdout.bytes))
    }
}

/// Runs a command until nothing of its group is left. Once `is_over`, or when the future is
/// dropped, it is ended; of that a task of `tracker` takes care.
///
/// # Errors
/// The command cannot be started.
pub(super) async fn run(
    mut command: Command,
    input: Bytes,
    is_over: &CancellationToken,
    tracker: &TaskTracker,
) -> io::Result<CommandOutput> {
    let mut child = command
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let group = Group::of(&child);
    let abandoned = is_over.child_token();
    let _abandon_on_drop = abandoned.clone().drop_guard();
    let watch = tracker.spawn(async move {
        let (mut stdout, mut stderr) = (Tail::default(), Tail::default());
        let transfer = {
            let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let feed = async move {
                if let Some(mut stdin) = stdin {
                    // A command that does not read its input is no mistake; it gets a closed pipe
                    // either way.
                    let _ = stdin.write_all(&input).await;
                }
            };
            let (stdout, stderr) = (&mut stdout, &mut stderr);
            async move { tokio::join!(feed, stdout.fill(out), stderr.fill(err)) }
        };
        let exited = CancellationToken::new();
        let (status, ()) = tokio::join!(
            async {
                let status = end(&mut child, group, &abandoned).await;
                exited.cancel();
                status
            },
            async {
                let late = async {
                    exited.cancelled().await;
                    sleep(OUTPUT_GRACE).await;
                };
                tokio::select! { _ = transfer => {}, () = late => {} }
            }
        );
        status.map(|status| CommandOutput {
            status,
            stdout,
            stderr,
        })
    });
    watch
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Waits for the end, or brings it about once the attempt is abandoned; then ends what is left of
/// the group, and returns when it is gone.
async fn end(
    child: &mut Child,
    group: Group,
    abandoned: &CancellationToken,
) -> io::Result<ExitStatus> {
    let status = tokio::select! {
        status = child.wait() => status,
        () = abandoned.cancelled() => {
            group.signal(Signal::TERM);
            // The command itself may end at once and leave the tidying up to others of its group.
            let (status, _) = tokio::join!(timeout(KILL_GRACE, child.wait()), group.gone_within(KILL_GRACE));
            match status {
                Ok(status) => status,
                Err(_) => {
                    group.signal(Signal::KILL);
                    child.wait().await
                }
            }
        }
    };
    // At once, while nobody else can have got the leader's number: it goes on being taken as long
    // as the group has members.
    group.kill().await;
    status
}

/// The last [`RESPONSE_BYTES_MAX`] bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    /// True where something was left out in front.
    pub(super) cut: bool,
}

impl Tail {
    /// Reads to the end; what cannot be read is left out.
    async fn fill(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        loop {
            self.bytes.reserve(READ_BYTES);
            if !from
                .read_buf(&mut self.bytes)
                .await
                .is_ok_and(|read| read > 0)
            {
                break;
            }
            // Twice the bound, so that each byte is moved at most once.
            if self.bytes.len() > 2 * RESPONSE_BYTES_MAX {
                self.trim();
            }
        }
        self.trim();
    }

    fn trim(&mut self) {
        let over = self.bytes.len().saturating_sub(RESPONSE_BYTES_MAX);
        self.cut |= over > 0;
        self.bytes.drain(..over);
    }

    pub(super) fn is_blank(&self) -> bool {
        !self.cut && self.bytes.trim_ascii().is_empty()
    }

    /// The last line that is not blank, fit to be shown.
    pub(super) fn last_line(&self) -> Option<String> {
        let line = self
            .bytes
            .trim_ascii_end()
            .rsplit(|byte| *byte == b'\n')
            .next()
            .filter(|line| !line.is_empty())?;
        Some(shown(line))
    }

    pub(super) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.bytes)
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.trim();
        self.bytes
    }
}
