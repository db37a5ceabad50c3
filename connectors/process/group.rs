//! Process groups: ended, and waited for until nothing of them is left.
//!
//! What a command leaves behind belongs to its group, which is named by the command's own process
//! and exists as long as it has a member. A member that has ended and that nobody has collected yet
//! does nothing more: it counts as gone.
//!
//! After a crash of Pointsman its commands go on. They are found by their environment, in which
//! each has the mark of its target ([`OWNER`]) and of the process that started it ([`BUS`]): Linux
//! shows both in `/proc`, of processes of the same user. Elsewhere none is found.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process_group, test_kill_process_group};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

/// The variable that says which target a command belongs to.
pub(crate) const OWNER: &str = "POINTSMAN_OWNER";

/// The variable that says which process started a command: its number, when it began, and its
/// session.
pub(crate) const BUS: &str = "POINTSMAN_BUS";

/// How long a command may tidy up after SIGTERM.
pub(crate) const KILL_GRACE: Duration = Duration::from_secs(2);

/// How long a killed group is waited for: what hangs in the kernel for longer does not run either.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A process group; killed when this is dropped, be it because the runtime ends.
#[derive(Debug)]
pub(crate) struct Group(pub(super) Option<Pid>);

impl Group {
    /// The group of a command that was started in one of its own.
    pub(crate) fn of(leader: &Child) -> Self {
        let id = leader.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // The group being gone already is all that can go wrong.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Whether nothing of it runs.
    fn is_gone(&self) -> bool {
        let Some(pid) = self.0 else { return true };
        test_kill_process_group(pid).is_err() || !has_members(pid)
    }

    /// Waits until nothing of it runs, at most so long. Tells whether that is so.
    pub(crate) async fn gone_within(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        loop {
            if self.is_gone() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Kills what is left, and waits until it is gone.
    pub(crate) async fn kill(self) -> bool {
        self.signal(Signal::KILL);
        let is_gone = self.gone_within(GONE_WITHIN).await;
        if !is_gone {
            tracing::warn!(group = ?self.0, "a command was killed and has not ended");
        }
        is_gone
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// What Linux tells of a process in its `stat` (proc_pid_stat(5)).
struct Stat {
    state: char,
    group: i32,
    session: i32,
    /// When it began, in ticks since the machine did.
    began: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything, brackets included.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse().ok();
    let (group, session) = (number(2)?, number(3)?);
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group,
        session,
        began: fields.get(19)?.parse().ok()?,
    })
}

/// The numbers of all processes, where the system shows them.
fn processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a group has a member that has not ended; where nobody can tell, it has.
fn has_members(group: Pid) -> bool {
    let group = group.as_raw_nonzero().get();
    let mut is_shown = false;
    for pid in processes() {
        is_shown = true;
        if stat(pid).is_some_and(|stat| stat.group == group && !matches!(stat.state, 'Z' | 'X')) {
            return true;
        }
    }
    !is_shown
}

/// Whose a command is, for [`OWNER`]. Two buses with entities of the same name are told apart by
/// the folder of their rule files.
pub(crate) fn owner(what: &str) -> String {
    format!(
        "{what} of {}",
        std::env::current_dir().unwrap_or_default().display()
    )
}

/// The mark of this process for [`BUS`].
pub(crate) fn this_bus() -> String {
    let pid = getpid().as_raw_nonzero().get();
    let stat = stat(pid);
    format!(
        "{pid}:{}:{}",
        stat.as_ref().map_or(0, |stat| stat.began),
        stat.as_ref().map_or(0, |stat| stat.session)
    )
}

/// The groups of a target's commands that an earlier life of Pointsman has left behind. What has
/// left its session goes on on purpose.
fn left_behind(owner: &str) -> Vec<Pid> {
    let mut groups = Vec::new();
    for pid in processes() {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
            continue;
        };
        let find = |name: &str| {
            let mut variables = environment.split(|byte| *byte == 0);
            variables.find_map(|variable| {
                std::str::from_utf8(variable)
                    .ok()?
                    .strip_prefix(name)?
                    .strip_prefix('=')
            })
        };
        let (Some(bus), true) = (find(BUS), find(OWNER) == Some(owner)) else {
            continue;
        };
        let mut parts = bus
            .split(':')
            .map(|part| part.parse::<u64>().unwrap_or_default());
        let (Some(bus_pid), Some(began), Some(session)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let lives = i32::try_from(bus_pid)
            .ok()
            .and_then(stat)
            .is_some_and(|stat| stat.began == began);
        let Some(stat) =
            stat(pid).filter(|stat| !lives && u64::try_from(stat.session) == Ok(session))
        else {
            continue;
        };
        groups.extend(
            Pid::from_raw(stat.group)
                .filter(|group| !groups.contains(group) && !matches!(stat.state, 'Z' | 'X')),
        );
    }
    groups
}

/// Ends what an earlier life of Pointsman has left running for a target. Tells whether nothing of
/// it runs any more.
pub(crate) async fn end_left_behind(owner: &str) -> bool {
    let name = owner.to_owned();
    let groups = tokio::task::spawn_blocking(move || left_behind(&name))
        .await
        .unwrap_or_default();
    let groups: Vec<Group> = groups.into_iter().map(|pid| Group(Some(pid))).collect();
    for group in &groups {
        tracing::warn!(
            owner, group = ?group.0,
            "a command of the last run is still there; it is ended before the next one begins"
        );
        group.signal(Signal::TERM);
    }
    let mut are_gone = true;
    for group in groups {
        group.gone_within(KILL_GRACE).await;
        are_gone &= group.kill().await;
    }
    are_gone
}
