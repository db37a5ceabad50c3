//! One server process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long the system may take to end a process that it was told to kill.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// Where `./test` installs a program, unless the variable says otherwise. None on PATH stands in
/// for it: it would be another than the tests were written against.
///
/// # Panics
/// Where it is not there.
pub(crate) fn expected(program: &str, variable: &str) -> PathBuf {
    let default = || {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../target/test-tools/servers/bin")
            .join(program)
    };
    let path = std::env::var_os(variable).map_or_else(default, PathBuf::from);
    assert!(
        path.exists(),
        "{program} is not there ({}): run ./test --install, or name another by {variable}",
        path.display()
    );
    path
}

/// Ends a process at once, as a crash does, and waits until it is gone.
///
/// # Panics
/// Where it is still there after 20 seconds: it hangs in the kernel.
pub fn kill(process: &mut Child) {
    // It may have ended by itself, which is as good.
    let _ = process.kill();
    let until = std::time::Instant::now() + GONE_WITHIN;
    while let Ok(None) = process.try_wait() {
        assert!(
            std::time::Instant::now() < until,
            "process {} does not end though it was killed",
            process.id()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the system tells of a process from its state on, proc_pid_stat(5); nothing once it is gone.
pub(crate) fn stat(process: u32) -> Option<Vec<String>> {
    let told = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = told.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(ToOwned::to_owned).collect())
}

/// The CPU time that a process has used; with that of its ended children where they are asked for.
pub(crate) fn cpu(process: u32, with_ended: bool) -> Duration {
    // The system counts in hundredths of a second wherever Linux runs: USER_HZ.
    const TICK: Duration = Duration::from_millis(10);
    let fields = stat(process).unwrap_or_default();
    let last = if with_ended { 15 } else { 13 };
    let ticks = fields.get(11..last).unwrap_or_default().iter();
    TICK * ticks.filter_map(|ticks| ticks.parse::<u32>().ok()).sum()
}

/// A server process and the folder of its data. Dropping it kills the process and deletes the
/// folder.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    folder: TempDir,
    process: Option<Child>,
}

impl Server {
    /// A server that has not been started, with an empty folder.
    ///
    /// # Panics
    /// Where no temporary folder can be made.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self::within(name, &std::env::temp_dir())
    }

    /// The same, with its folder in another one.
    ///
    /// # Panics
    /// Where none can be made there.
    #[must_use]
    pub fn within(name: &'static str, parent: &Path) -> Self {
        Self {
            name,
            folder: tempfile::tempdir_in(parent).expect("a temporary folder can be made"),
            process: None,
        }
    }

    /// The folder of its data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its output goes; each start adds to it.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    /// The process's id.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// The process's id, where it runs.
    pub(crate) fn running(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The CPU time that the process has used so far, that of its ended children included.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        cpu(self.pid(), true)
    }

    /// Starts it and waits until `ready` holds.
    ///
    /// # Panics
    /// Where it cannot be started, ends, or takes longer than a minute; with its log.
    pub async fn start(&mut self, mut command: Command, ready: impl AsyncFn() -> bool) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .expect("the log can be opened");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log);
        let spawned = command.spawn();
        self.process = Some(spawned.unwrap_or_else(|error| {
            panic!(
                "cannot start {}: {error}; ./test installs what the tests need",
                self.name
            )
        }));
        let until = Instant::now() + READY_WITHIN;
        while !ready().await {
            let ended = self
                .process
                .as_mut()
                .and_then(|process| process.try_wait().ok().flatten());
            let told = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(
                ended.is_none(),
                "{} ended with {ended:?}:\n{}",
                self.name,
                told()
            );
            assert!(
                Instant::now() < until,
                "{} is not ready:\n{}",
                self.name,
                told()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it at once, as a crash does, and waits until it is gone. Its data stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill(&mut process);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell that ends servers and deletes their data once this process has gone without doing so,
/// however it ended. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct Watch(Child);

impl Watch {
    /// Over servers that run.
    ///
    /// # Panics
    /// Where no shell can be started, or one of them does not run.
    pub(crate) fn over(servers: &[&Server]) -> Self {
        const SCRIPT: &str = "trap '' INT TERM HUP; read -r _; \
            for it; do case $it in /*) rm -rf -- \"$it\" ;; *) kill -9 \"$it\"; sleep 1 ;; esac; done";
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "watch"]);
        command.args(servers.iter().map(|server| server.pid().to_string()));
        command.args(servers.iter().map(|server| server.folder()));
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(spawned.expect("a shell can be started"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Before its input ends, which is what it waits for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
