//! PostgreSQL, alone or with a standby that follows it.

mod pair;

pub use pair::PostgresPair;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Server, free_port};

/// Where Debian puts its programs, of which only some are on PATH.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// Names another folder of programs.
const VARIABLE: &str = "POINTSMAN_POSTGRES";

/// Who runs it where the tests run as root, which it refuses to run as.
const USER: &str = "nobody";

/// How long the processes of a killed server may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// A PostgreSQL server with the user and the database `postgres`, which keeps its data over kills.
/// Everybody on this machine is let in, unless its configuration says otherwise.
#[derive(Debug)]
pub struct PostgresServer {
    server: Server,
    port: u16,
    environment: Vec<(String, String)>,
}

impl PostgresServer {
    /// Starts a server; `configuration` are further lines of its `postgresql.conf`, in which
    /// relative paths count from [`PostgresServer::data`].
    ///
    /// # Panics
    /// Where it is not installed or cannot be started.
    pub async fn start(configuration: &str) -> Self {
        let mut own = Self::new();
        own.run(
            "initdb",
            &["--no-sync", "--no-instructions", "--auth=trust"],
            &["--username=postgres", "--encoding=UTF8", "--locale=C"],
        );
        own.write_configuration(configuration);
        own.restart().await;
        own
    }

    /// Starts a server that follows this one and is called `name` in its `synchronous_standby_names`.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    pub async fn standby(&self, name: &str) -> Self {
        let mut own = Self::new();
        own.copy(self, name);
        own.restart().await;
        own
    }

    /// Has this one follow another, from a copy of it in place of its own data, as
    /// [`PostgresServer::standby`] does on a new port; ends it first where it runs.
    ///
    /// # Panics
    /// As [`PostgresServer::start`].
    pub async fn follow(&mut self, primary: &Self, name: &str) {
        self.kill();
        fs::remove_dir_all(self.data()).expect("the data can be removed");
        self.make_data();
        self.copy(primary, name);
        self.restart().await;
    }

    fn copy(&self, primary: &Self, name: &str) {
        let source = format!("{} application_name={name}", primary.parameters());
        self.run(
            "pg_basebackup",
            &["--no-sync", "--checkpoint=fast", "--write-recovery-conf"],
            &["--dbname", &source],
        );
        self.write_configuration("");
    }

    fn new() -> Self {
        let server = Server::new("postgres");
        // Its own user has to get there.
        fs::set_permissions(server.folder(), Permissions::from_mode(0o755))
            .expect("the folder's permissions can be set");
        let own = Self {
            server,
            port: free_port(),
            environment: Vec::new(),
        };
        own.make_data();
        own
    }

    fn make_data(&self) {
        fs::create_dir(self.data()).expect("the folder of the data can be made");
        fs::set_permissions(self.data(), Permissions::from_mode(0o700))
            .expect("the data's permissions can be set");
        give(&self.data());
    }

    /// The folder of its data, which belongs to it.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.server.folder().join("data")
    }

    /// Hides a file in the folder of its data from everybody but itself, as it wants a key to be.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn protect(&self, file: &str) {
        let path = self.data().join(file);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("the file is there");
        give(&path);
    }

    /// Gives it other further lines, which are in force after [`PostgresServer::reload`] or
    /// [`PostgresServer::restart`].
    ///
    /// # Panics
    /// Where they cannot be written.
    pub fn write_configuration(&self, configuration: &str) {
        // A standby starts from a copy of the other's file, and of what ends it the last line holds.
        let lines = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n\
             max_wal_size = 256MB\nwal_level = replica\n{configuration}\n",
            self.port
        );
        fs::write(self.data().join("postgresql.conf"), lines)
            .expect("the configuration can be written");
    }

    /// Gives it variables, which it has after [`PostgresServer::restart`].
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Has it read its configuration again, as it runs.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn reload(&self) {
        self.run("pg_ctl", &["reload", "--silent"], &[]);
    }

    /// Makes a standby a server of its own, which takes writes.
    ///
    /// # Panics
    /// Where it is none.
    pub fn promote(&self) {
        self.run("pg_ctl", &["promote", "--silent", "--wait"], &[]);
    }

    /// Whether commits wait for a standby that follows it now.
    ///
    /// # Panics
    /// Where it cannot be asked.
    #[must_use]
    pub fn has_synchronous_standby(&self) -> bool {
        self.ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
    }

    /// Runs a statement, and returns what it prints.
    ///
    /// # Panics
    /// Where it fails.
    pub fn ask(&self, statement: &str) -> String {
        let mut ask = program("psql");
        ask.args(["--dbname", &self.url(), "--no-psqlrc", "--tuples-only"]);
        ask.args(["--no-align", "--command", statement]);
        let told = ask.output().expect("psql can be run");
        assert!(told.status.success(), "psql: {told:?}");
        String::from_utf8_lossy(told.stdout.trim_ascii()).into_owned()
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn parameters(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres", self.port)
    }

    /// The CPU time that all of its processes have used so far, those that have ended included.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let postmaster = self.server.pid();
        let own = crate::server::cpu(postmaster, true);
        let children = children(postmaster).into_iter();
        own + children
            .map(|child| crate::server::cpu(child, false))
            .sum::<Duration>()
    }

    /// Ends all of its processes at once, as a crash does, and waits until they are gone.
    ///
    /// # Panics
    /// Where they do not end.
    pub fn kill(&mut self) {
        let Some(postmaster) = self.server.running() else {
            return;
        };
        // They end by themselves once they notice, and until then a new one does not start.
        let children = children(postmaster);
        self.server.kill();
        let until = Instant::now() + GONE_WITHIN;
        for child in children {
            let _ = Command::new("kill")
                .args(["-9", &child.to_string()])
                .stderr(Stdio::null())
                .status();
            while runs(child) {
                assert!(Instant::now() < until, "process {child} does not end");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Starts it again on the same port with the same data; ends it first where it runs.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        self.kill();
        let mut command = program("postgres");
        command.arg("-D").arg(self.data());
        command.envs(self.environment.iter().cloned());
        let port = self.port;
        self.server
            .start(command, async || {
                let mut ask = program("pg_isready");
                ask.args(["--quiet", "--host=127.0.0.1", &format!("--port={port}")]);
                ask.status().is_ok_and(|status| status.success())
            })
            .await;
    }

    /// Runs one of its programs on its data.
    fn run(&self, name: &str, first: &[&str], second: &[&str]) {
        let mut command = program(name);
        command.arg("-D").arg(self.data()).args(first).args(second);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
        assert!(output.status.success(), "{name} {first:?}: {output:?}");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One of the programs, as a user that it runs as.
fn program(name: &str) -> Command {
    let path = folder().join(name);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", "nogroup", "--clear-groups"]);
        command.arg(path);
        command
    } else {
        Command::new(path)
    };
    // The tests may run in a folder that nobody else may look into.
    command.current_dir("/");
    command
}

/// The newest of the installed releases.
fn folder() -> PathBuf {
    if let Some(named) = std::env::var_os(VARIABLE) {
        return named.into();
    }
    let releases = fs::read_dir(PROGRAMS).into_iter().flatten().flatten();
    let newest = releases
        .filter_map(|release| release.file_name().to_str()?.parse::<u32>().ok())
        .max();
    let newest = newest.unwrap_or_else(|| {
        panic!(
            "{PROGRAMS} has no PostgreSQL: run ./test --install, or name its programs by {VARIABLE}"
        )
    });
    Path::new(PROGRAMS).join(newest.to_string()).join("bin")
}

/// Makes something belong to who runs it.
fn give(path: &Path) {
    if is_root() {
        let given = Command::new("chown").arg(USER).arg(path).status();
        assert!(given.is_ok_and(|status| status.success()), "no {USER}");
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn children(process: u32) -> Vec<u32> {
    let told = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let told = told.unwrap_or_default();
    told.split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// False also for one that has ended and that nobody has waited for.
fn runs(process: u32) -> bool {
    crate::server::stat(process).is_some_and(|stat| stat.first().is_some_and(|state| state != "Z"))
}
