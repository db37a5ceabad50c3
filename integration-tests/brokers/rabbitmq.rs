//! A RabbitMQ server of its own: nothing of the installed service is used but its programs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Server, free_port};

/// Where Debian's package puts the scripts that do not switch to a user of their own.
const PROGRAMS: &str = "/usr/lib/rabbitmq/lib";

/// A RabbitMQ node with the user `guest`, password `guest`, and no plugins.
///
/// Whoever keeps it in a static need not end it: what watches over it does so when the process is gone, however that ends.
#[derive(Debug)]
pub struct RabbitServer {
    server: Server,
    /// The node's own port mapper, so that no daemon is left behind by it.
    mapper: Server,
    watch: Option<Child>,
    port: u16,
    node_port: u16,
    mapper_port: u16,
}

impl RabbitServer {
    /// A server that is ready; `configuration` are lines of its `rabbitmq.conf` and `advanced` the terms of its `advanced.config`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn start(configuration: &str, advanced: &str) -> Self {
        let server = Server::new("rabbitmq-server");
        let write = |name: &str, text: &str| fs::write(server.folder().join(name), text).expect("the folder can be written");
        let secret: String = server.folder().to_string_lossy().chars().filter(char::is_ascii_alphanumeric).collect();
        write(".erlang.cookie", &secret);
        fs::set_permissions(server.folder().join(".erlang.cookie"), Permissions::from_mode(0o400)).expect("the cookie can be hidden");
        write("plugins", "[].\n");
        write("rabbitmq.conf", &format!("log.console = true\nlog.console.level = warning\nlog.file = false\n{configuration}\n"));
        write("advanced.config", &format!("[{advanced}].\n"));
        let mapper = Server::new("epmd");
        let mut own = Self { server, mapper, watch: None, port: free_port(), node_port: free_port(), mapper_port: free_port() };
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &own.mapper_port.to_string()]);
        let mapper_port = own.mapper_port;
        own.mapper.start(command, async || TcpStream::connect(("127.0.0.1", mapper_port)).await.is_ok()).await;
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

    /// Starts it again after [`Self::kill`], on the same port and with what it had on disk.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        let mut command = Command::new(program("rabbitmq-server"));
        self.environment(&mut command);
        let port = self.port;
        self.server.start(command, async || greets(port).await.is_some()).await;
        self.watch = Some(self.watched());
    }

    /// Ends it at once, as a crash does, and waits until it is gone. Its data stays.
    pub fn kill(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            let _ = watch.kill();
            let _ = watch.wait();
        }
        self.server.kill();
    }

    /// Runs `rabbitmqctl` against it and tells what that printed.
    ///
    /// # Panics
    /// Where the command fails.
    #[must_use]
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("rabbitmqctl"));
        self.environment(&mut command);
        let output = command.arg("--quiet").args(arguments).output().expect("rabbitmqctl can be run");
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn environment(&self, command: &mut Command) {
        let folder = self.server.folder();
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
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
            // Then the script becomes the node instead of starting it, so that the child is what is killed.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_NODENAME", "x@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.node_port.to_string())
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none -start_epmd false");
    }

    /// A shell that ends the server and deletes its data once this process has gone without doing so.
    fn watched(&self) -> Child {
        let script = "trap '' INT TERM HUP; read -r _; kill -9 \"$1\" \"$2\"; sleep 1; rm -rf -- \"$3\" \"$4\"";
        let pids = [self.server.pid(), self.mapper.pid()].map(|pid| pid.to_string());
        let mut command = Command::new("sh");
        command.args(["-c", script, "watch"]).args(pids).arg(self.server.folder()).arg(self.mapper.folder());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell can be started")
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir(PROGRAMS).into_iter().flatten().flatten().map(|version| version.path().join("sbin").join(name));
    versions.filter(|path| path.exists()).max().unwrap_or_else(|| Path::new(name).to_owned())
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
