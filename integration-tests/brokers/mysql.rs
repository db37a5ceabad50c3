//! MariaDB, or MySQL where it is there.
//!
//! MySQL is not in Debian's releases. `POINTSMAN_MYSQL` names a whole Debian in a folder with
//! `mysql-server-core` in it, as `debootstrap` makes one of `sid`. It is run by chroot(8), so that
//! only root can.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::server::Watch;
use crate::{Server, free_port};

/// Names a Debian in a folder, whose MySQL is used in the place of MariaDB.
const ROOT: &str = "POINTSMAN_MYSQL";

/// Lets in who tests, from this machine and without a password.
const USERS: &str = "CREATE USER IF NOT EXISTS root@'127.0.0.1';\n\
                     GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n";

/// A server of MariaDB or MySQL that writes a binary log of rows, which keeps its data over kills.
/// The user `root` has no password.
///
/// Whoever keeps it in a static need not end it: what watches over it does so when the process is
/// gone.
#[derive(Debug)]
pub struct MysqlServer {
    server: Server,
    watch: Option<Watch>,
    port: u16,
    options: Vec<String>,
    root: Option<PathBuf>,
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

impl MysqlServer {
    /// Starts a server with further options, such as `--gtid-mode=OFF`.
    ///
    /// # Panics
    /// Where it is not installed or cannot be started.
    pub async fn start(options: &[&str]) -> Self {
        let root = std::env::var_os(ROOT).map(PathBuf::from);
        let server = match &root {
            Some(root) => Server::within("mysqld", &root.join("tmp")),
            None => Server::new("mariadbd"),
        };
        fs::set_permissions(server.folder(), Permissions::from_mode(0o755))
            .expect("the folder's permissions can be set");
        let mut own = Self {
            server,
            watch: None,
            port: free_port(),
            options: options.iter().map(ToString::to_string).collect(),
            root,
        };
        let folder = own.server.folder();
        fs::create_dir(folder.join("tmp")).expect("the folder can be written");
        let users = folder.join("users.sql");
        fs::write(users, USERS).expect("the folder can be written");
        own.install();
        own.restart().await;
        own
    }

    /// Whether there is one of MySQL; what is started is of MariaDB otherwise.
    #[must_use]
    pub fn has_mysql() -> bool {
        std::env::var_os(ROOT).is_some()
    }

    /// Whether it is MySQL.
    #[must_use]
    pub fn is_mysql(&self) -> bool {
        self.root.is_some()
    }

    /// A path in its folder, as it calls it.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        let path = self.server.folder().join(name);
        let inside = self
            .root
            .as_ref()
            .and_then(|root| path.strip_prefix(root).ok());
        match inside {
            Some(inside) => format!("/{}", inside.display()),
            None => path.display().to_string(),
        }
    }

    /// Writes a file into its folder, and returns what it calls it.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[must_use]
    pub fn write(&self, name: &str, content: &[u8]) -> String {
        fs::write(self.server.folder().join(name), content).expect("the folder can be written");
        self.path(name)
    }

    /// Gives it other further options, which it has after [`MysqlServer::restart`].
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(ToString::to_string).collect();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = match &self.root {
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(program);
                command
            }
            None => Command::new(program),
        };
        // A server that starts removes what it takes for left over there.
        command.env("TMPDIR", self.path("tmp"));
        command.arg("--no-defaults");
        command.arg(format!("--datadir={}", self.path("data")));
        if is_root() {
            command.arg("--user=root");
        }
        command
    }

    fn install(&self) {
        let mut command = match self.is_mysql() {
            true => {
                let mut command = self.command("/usr/sbin/mysqld");
                command.args(["--initialize-insecure", "--innodb-redo-log-capacity=8M"]);
                command
            }
            false => {
                let mut command = self.command("mariadb-install-db");
                command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
                command.args(["--skip-log-bin", "--innodb-log-file-size=8M"]);
                command
            }
        };
        let done = command.output();
        let done =
            done.unwrap_or_else(|error| panic!("{command:?}: {error}: run ./test --install"));
        assert!(done.status.success(), "{command:?}: {done:?}");
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements as `root`, and returns what they print.
    ///
    /// # Panics
    /// Where one fails.
    pub fn ask(&self, database: &str, statements: &str) -> String {
        let told = self.client(database, statements).output();
        let told = told.expect("mariadb can be run");
        assert!(told.status.success(), "{statements}: {told:?}");
        String::from_utf8_lossy(told.stdout.trim_ascii()).into_owned()
    }

    fn client(&self, database: &str, statements: &str) -> Command {
        let mut ask = Command::new("mariadb");
        ask.args([
            "--no-defaults",
            "--host=127.0.0.1",
            "--user=root",
            "--batch",
        ]);
        ask.args(["--skip-column-names", "--default-character-set=utf8mb4"]);
        ask.arg(format!("--port={}", self.port));
        ask.args(["--execute", statements, database]);
        ask.stdin(Stdio::null());
        ask
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.watch = None;
        self.server.kill();
    }

    /// Starts it again on the same port with the same data; ends it first where it runs.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        self.kill();
        let mut command = self.command(match self.is_mysql() {
            true => "/usr/sbin/mysqld",
            false => "mariadbd",
        });
        let own = match self.is_mysql() {
            true => [
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--innodb-redo-log-capacity=8M",
                "--mysqlx=OFF",
            ],
            false => [
                "--binlog-format=ROW",
                "--innodb-log-file-size=8M",
                "--innodb-flush-log-at-trx-commit=2",
                "--sync-binlog=0",
            ],
        };
        command.args(own);
        command.args(["--log-bin=binlog", "--server-id=1", "--skip-name-resolve"]);
        command.args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=16M"]);
        command.arg("--performance-schema=OFF");
        command.arg(format!("--port={}", self.port));
        command.arg(format!("--socket={}", self.path("socket")));
        command.arg(format!("--pid-file={}", self.path("pid")));
        command.arg(format!("--init-file={}", self.path("users.sql")));
        command.args(&self.options);
        let client = self
            .client("", "SELECT 1")
            .get_args()
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>();
        self.server
            .start(command, async || {
                let mut ask = Command::new("mariadb");
                ask.args(&client).stdin(Stdio::null());
                ask.stdout(Stdio::null()).stderr(Stdio::null());
                ask.status().is_ok_and(|status| status.success())
            })
            .await;
        self.watch = Some(Watch::over(&[&self.server]));
    }
}
