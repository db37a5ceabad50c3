//! A `pointsman` process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pointsman_test_brokers::{free_port, kill};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Caller, process, until};

/// The binary under test, which Cargo builds with the tests and benchmarks of this package, in
/// their profile and with their dependencies.
///
/// # Panics
/// Where it has not been built, as with `cargo test --lib`.
#[must_use]
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own path");
    // target/<profile>/deps/<test>
    let folder = own
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in target/<profile>/deps");
    let binary = folder.join("pointsman-under-test");
    assert!(
        binary.exists(),
        "{binary:?} is built with `cargo test -p pointsman-integration-tests --test …`, or --bench"
    );
    binary
}

/// The workspace's folder.
///
/// # Panics
/// Never: the crate lies in the workspace.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
}

/// A running `pointsman run`, its rule file and its store, all gone when this is dropped.
#[derive(Debug)]
pub struct Bus {
    folder: TempDir,
    listen: u16,
    /// What `listen` says beside the address, in a YAML mapping without its braces.
    listen_settings: String,
    admin: u16,
    environment: Vec<(String, String)>,
    /// Whether what it prints on standard output is kept with its log.
    keeps_output: bool,
    /// How many descriptors the process may have, where that is not what the test may.
    descriptors: Option<u32>,
    process: Option<Child>,
}

impl Bus {
    /// Starts a bus with a rule file that lacks only `listen`, `admin` and `store`.
    pub async fn start(rules: &str) -> Self {
        Self::start_with(rules, &[]).await
    }

    /// Starts a bus with variables in its environment.
    pub async fn start_with(rules: &str, environment: &[(&str, &str)]) -> Self {
        let mut bus = Self::prepare(rules);
        bus.environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        bus.spawn();
        bus.ready().await;
        bus
    }

    /// Writes the rule file without starting anything.
    ///
    /// # Panics
    /// Where the temporary folder cannot be written.
    #[must_use]
    pub fn prepare(rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let bus = Self {
            folder,
            listen: free_port(),
            listen_settings: String::new(),
            admin: free_port(),
            environment: Vec::new(),
            keeps_output: true,
            descriptors: None,
            process: None,
        };
        bus.write_rules(rules);
        bus
    }

    /// Replaces the rule file; a running bus reloads it.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write_rules(&self, rules: &str) {
        let store = if rules.contains("\nstore:") || rules.starts_with("store:") {
            ""
        } else {
            "store: { path: ./store }\n"
        };
        let text = format!(
            "listen: {{ address: \"127.0.0.1:{}\", {} }}\nadmin: 127.0.0.1:{}\n{store}{rules}",
            self.listen, self.listen_settings, self.admin
        );
        // Renamed into place, so that a reload never sees half a file.
        let draft = self.path("draft");
        std::fs::write(&draft, text).expect("the rule file can be written");
        std::fs::rename(draft, self.path("pointsman.yaml"))
            .expect("the rule file can be put in place");
    }

    /// Sets what `listen` says beside the address in rule files written from now on.
    pub fn set_listen(&mut self, settings: impl Into<String>) {
        self.listen_settings = settings.into();
    }

    /// Sets variables of the processes started from now on.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Throws away what processes started from now on print on standard output, where the target
    /// `stdout` writes.
    pub fn discard_output(&mut self) {
        self.keeps_output = false;
    }

    /// Gives processes started from now on so few descriptors.
    pub fn limit_descriptors(&mut self, descriptors: u32) {
        self.descriptors = Some(descriptors);
    }

    /// A path in the bus's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the process; its output goes to `log` in its folder, which later starts extend.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn spawn(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .expect("the log can be opened");
        let mut command = match self.descriptors {
            None => Command::new(binary()),
            Some(descriptors) => {
                // The shell becomes the bus, so the process's id is the bus's.
                let mut shell = Command::new("sh");
                shell
                    .arg("-c")
                    .arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""))
                    .arg(binary());
                shell
            }
        };
        command
            .args(["run", "pointsman.yaml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        let output = if self.keeps_output {
            log.try_clone().expect("the log can be shared").into()
        } else {
            Stdio::null()
        };
        command.stdout(output).stderr(log);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(command.spawn().expect("pointsman can be started"));
    }

    /// Waits until the bus says that it is ready.
    ///
    /// # Panics
    /// Where it ends instead, with its log.
    pub async fn ready(&mut self) {
        if let Err(ended) = self.try_ready().await {
            panic!("pointsman ended with {ended}:\n{}", self.log());
        }
    }

    /// Waits until the bus says that it is ready.
    ///
    /// # Errors
    /// How it ended instead.
    pub async fn try_ready(&mut self) -> Result<(), ExitStatus> {
        let url = self.admin_url("/readyz");
        let caller = Caller::new();
        let mut ended = Ok(());
        until("the bus is ready", async || {
            if let Some(Ok(Some(status))) = self.process.as_mut().map(Child::try_wait) {
                ended = Err(status);
                return true;
            }
            caller
                .get(&url)
                .await
                .is_ok_and(|(status, _)| status == 200)
        })
        .await;
        ended
    }

    /// What the process has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The process's id.
    ///
    /// # Panics
    /// Where none runs.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the bus runs").id()
    }

    /// The memory of the process that is resident, in MiB, as the kernel counts it (`VmRSS` in
    /// proc_pid_status(5)).
    ///
    /// # Panics
    /// Where none runs, or this is not Linux.
    #[must_use]
    pub fn resident_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the process runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("Linux tells VmRSS");
        line.trim()
            .trim_end_matches(" kB")
            .trim()
            .parse::<u64>()
            .expect("a number of kB")
            / 1_024
    }

    /// The processor time that the process has taken so far (proc_pid_stat(5), in ticks of 10 ms).
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        process::cpu_time(self.pid())
    }

    /// Ends the process at once, as a crash does.
    ///
    /// # Panics
    /// Where none runs.
    pub fn kill(&mut self) {
        kill(&mut self.process.take().expect("the bus runs"));
    }

    /// Asks the process to stop with SIGTERM and waits for it.
    ///
    /// # Panics
    /// Where none runs.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the bus runs");
        signal(process.id(), "TERM");
        let mut status = None;
        until("the bus has stopped", async || {
            status = process.try_wait().expect("a child can be waited for");
            status.is_some()
        })
        .await;
        status.expect("the loop ends with a status")
    }

    /// A URL on the listener.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.listen)
    }

    /// The port of the admin listener.
    #[must_use]
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// A URL on the admin listener.
    #[must_use]
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }

    /// Reads from the admin API.
    ///
    /// # Panics
    /// Where the answer is not 200 with JSON.
    pub async fn api(&self, path: &str) -> Value {
        let (status, body) = Caller::new()
            .get(&self.admin_url(path))
            .await
            .expect("the admin API answers");
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("the admin API speaks JSON")
    }

    /// What the admin API tells of a source.
    ///
    /// # Panics
    /// Where there is no such source.
    pub async fn source(&self, name: &str) -> Value {
        let page = self.api("/api/v1/sources").await;
        let row = rows(&page)
            .iter()
            .find(|row| row.get("name").is_some_and(|own| own == name));
        row.unwrap_or_else(|| panic!("no source {name} in {page}"))
            .clone()
    }

    /// The dead letters.
    pub async fn dead(&self) -> Vec<Value> {
        rows(&self.api("/api/v1/dead").await).to_vec()
    }

    /// A rule's subscription, its counters included.
    ///
    /// # Panics
    /// Where there is no such subscription.
    pub async fn counts(&self, rule: &str) -> Value {
        let page = self.api("/api/v1/subscriptions").await;
        let row = rows(&page)
            .iter()
            .find(|row| row.get("rule").is_some_and(|name| name == rule));
        row.unwrap_or_else(|| panic!("no subscription of {rule} in {page}"))
            .clone()
    }
}

/// The rows of a list that the API gives.
fn rows(page: &Value) -> &[Value] {
    page.as_array()
        .or_else(|| page.get("items").and_then(Value::as_array))
        .expect("a list")
}

impl Drop for Bus {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if let Some(mut process) = self.process.take() {
            if panicking {
                eprintln!("--- the bus's threads ---\n{}", threads(process.id()));
            }
            kill(&mut process);
        }
        if panicking {
            eprintln!("--- the bus's log ---\n{}", self.log());
        }
    }
}

/// What each thread of a process does, for the report of a test that waited in vain: its name, its
/// state, and where in the kernel it waits (proc_pid_stat(5), proc_pid_wchan(5)).
fn threads(pid: u32) -> String {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lines = tasks.map(|task| {
        let stat = read(task.path().join("stat"));
        let state = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest.trim_start())
            .chars()
            .next()
            .unwrap_or('?');
        format!(
            "{} {state} {}\n",
            read(task.path().join("comm")).trim(),
            read(task.path().join("wchan"))
        )
    });
    lines.collect()
}

/// Sends a signal by name.
///
/// # Panics
/// Where `kill` cannot be run.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .expect("kill can be run");
    assert!(status.success(), "kill -{name} {pid}");
}
