//! A RabbitMQ server of its own: nothing of the installed service is used but its programs.
//!
//! Another release is tried by `POINTSMAN_RABBITMQ`, which names a whole Debian in a folder with
//! `rabbitmq-server` in it, as `debootstrap` makes one. It is run by chroot(8), so that only root
//! can.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::Watch;
use crate::{Server, free_port};

/// Where Debian's package puts the scripts that do not switch to a user of their own.
const PROGRAMS: &str = "usr/lib/rabbitmq/lib";

/// Names a Debian in a folder, whose RabbitMQ is used in the place of the system's.
const ROOT: &str = "POINTSMAN_RABBITMQ";

/// A RabbitMQ node with the user `guest`, password `guest`, and no plugins.
///
/// Whoever keeps it in a static need not end it: what watches over it does so when the process is
/// gone, however that ends.
#[derive(Debug)]
pub struct RabbitServer {
    server: Server,
    /// The node's own port mapper, so that no daemon is left behind by it.
    mapper: Server,
    watch: Option<Watch>,
    port: u16,
    node_port: u16,
    mapper_port: u16,
    root: Root,
}

/// The Debian whose RabbitMQ is used.
#[derive(Debug)]
struct Root(PathBuf);

impl Root {
    /// The one that is asked for, or the system's.
    fn get() -> Self {
        let path = std::env::var_os(ROOT).map_or_else(|| "/".into(), PathBuf::from);
        Self(
            path.canonicalize()
                .unwrap_or_else(|error| panic!("{ROOT} names {}: {error}", path.display())),
        )
    }

    fn is_own(&self) -> bool {
        self.0 != Path::new("/")
    }

    /// A path as it is called in there.
    fn inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.0)
            .map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
    }

    /// The folder of the installed release, such as `rabbitmq_server-3.10.8`.
    fn release(&self) -> Option<PathBuf> {
        let folders = fs::read_dir(self.0.join(PROGRAMS))
            .into_iter()
            .flatten()
            .flatten()
            .map(|folder| folder.path());
        folders
            .filter(|folder| folder.join("sbin/rabbitmq-server").exists())
            .max()
    }

    /// Runs one of its programs.
    fn command(&self, name: &str) -> Command {
        let script = self
            .release()
            .map(|release| release.join("sbin").join(name))
            .filter(|script| script.exists());
        let program = script.map_or_else(|| name.into(), |script| self.inside(&script));
        if !self.is_own() {
            return Command::new(program);
        }
        let mut command = Command::new("chroot");
        command.arg(&self.0).arg(program);
        command
    }
}

impl RabbitServer {
    /// A server that is ready; `configuration` are lines of its `rabbitmq.conf` and `advanced` the
    /// terms of its `advanced.config`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn start(configuration: &str, advanced: &str) -> Self {
        let root = Root::get();
        let server = if root.is_own() {
            Server::within("rabbitmq-server", &root.0.join("tmp"))
        } else {
            Server::new("rabbitmq-server")
        };
        let write = |name: &str, text: &str| {
            fs::write(server.folder().join(name), text).expect("the folder can be written")
        };
        let secret: String = server
            .folder()
            .to_string_lossy()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        write(".erlang.cookie", &secret);
        fs::set_permissions(
            server.folder().join(".erlang.cookie"),
            Permissions::from_mode(0o400),
        )
        .expect("the cookie can be hidden");
        write("plugins", "[].\n");
        let configuration: String = configuration
            .lines()
            .map(|line| format!("{}\n", brought(line, server.folder(), &root)))
            .collect();
        write(
            "rabbitmq.conf",
            &format!(
                "log.console = true\nlog.console.level = warning\nlog.file = false\n{configuration}\n"
            ),
        );
        write("advanced.config", &format!("[{advanced}].\n"));
        let mapper = Server::new("epmd");
        let mut own = Self {
            server,
            mapper,
            watch: None,
            port: free_port(),
            node_port: free_port(),
            mapper_port: free_port(),
            root,
        };
        let mut command = own.root.command("epmd");
        command.args([
            "-address",
            "127.0.0.1",
            "-port",
            &own.mapper_port.to_string(),
        ]);
        let mapper_port = own.mapper_port;
        own.mapper
            .start(command, async || {
                TcpStream::connect(("127.0.0.1", mapper_port)).await.is_ok()
            })
            .await;
        own.restart().await;
        own
    }

    /// Where clients connect, as `amqp://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    /// The port of [`Self::url`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its major and minor version.
    ///
    /// # Panics
    /// Where its folder does not say it.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        let release = self
            .root
            .release()
            .expect("RabbitMQ is installed as Debian does it");
        let numbers = release.to_string_lossy().rsplit('-').next().map(|version| {
            version
                .split('.')
                .map_while(|n| n.parse().ok())
                .collect::<Vec<_>>()
        });
        match numbers.as_deref() {
            Some([major, minor, ..]) => (*major, *minor),
            _ => panic!("{release:?} names no version"),
        }
    }

    /// Starts it again after [`Self::kill`], on the same port and with what it had on disk.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        let mut command = self.root.command("rabbitmq-server");
        self.environment(&mut command);
        let port = self.port;
        self.server
            .start(command, async || greets(port).await.is_some())
            .await;
        self.watch = Some(Watch::over(&[&self.server, &self.mapper]));
    }

    /// Ends it at once, as a crash does, and waits until it is gone. Its data stays.
    pub fn kill(&mut self) {
        self.watch = None;
        self.server.kill();
    }

    /// Runs `rabbitmqctl` against it and tells what that printed.
    ///
    /// # Panics
    /// Where the command fails.
    #[must_use]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = self.root.command("rabbitmqctl");
        self.environment(&mut command);
        let output = command
            .arg("--quiet")
            .args(arguments)
            .output()
            .expect("rabbitmqctl can be run");
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {output:?}"
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn environment(&self, command: &mut Command) {
        let folder = &self.root.inside(self.server.folder());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder);
        for (name, file) in [
            ("MNESIA_BASE", "mnesia"),
            ("LOG_BASE", "logs"),
            ("PID_FILE", "pid"),
            ("ENABLED_PLUGINS_FILE", "plugins"),
            ("CONFIG_FILE", "rabbitmq.conf"),
            ("ADVANCED_CONFIG_FILE", "advanced.config"),
            // There is none: the installed service's is not to be read.
            ("CONF_ENV_FILE", "no-environment"),
        ] {
            command.env(format!("RABBITMQ_{name}"), folder.join(file));
        }
        command
            // Then the script becomes the node instead of starting it, so that the child is what is
            // killed.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_NODENAME", "x@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.node_port.to_string())
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none -start_epmd false",
            );
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A line of the configuration; the file that it names is brought to where the server can see it.
fn brought(line: &str, folder: &Path, root: &Root) -> String {
    let Some((key, file)) = line
        .split_once(" = ")
        .filter(|(key, _)| root.is_own() && key.ends_with("file"))
    else {
        return line.to_owned();
    };
    let copy = folder.join(key);
    fs::copy(file, &copy).unwrap_or_else(|error| panic!("{file} cannot be copied: {error}"));
    format!("{key} = {}", root.inside(&copy).display())
}

/// What the server says first to a client.
async fn greets(port: u16) -> Option<u8> {
    let greeting = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"AMQP\0\0\x09\x01").await.ok()?;
        stream.read_u8().await.ok()
    };
    timeout(Duration::from_secs(1), greeting).await.ok()?
}
