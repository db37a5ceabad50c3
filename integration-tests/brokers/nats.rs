//! `nats-server` with JetStream, in an old and a current release, alone or as a cluster.

mod cluster;

pub use cluster::NatsCluster;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::expected;
use crate::{Server, free_port};

/// Which `nats-server`: servers differ in what they say to one who pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatsRelease {
    /// The one on PATH, which is 2.9 where Debian 12 brings it.
    Old,
    /// The one that `./test` installs into the build folder, unless `POINTSMAN_NATS_SERVER` names
    /// another.
    Current,
}

impl NatsRelease {
    fn program(self) -> PathBuf {
        match self {
            Self::Old => "nats-server".into(),
            Self::Current => expected("nats-server", "POINTSMAN_NATS_SERVER"),
        }
    }

    /// True where it is there. That the old one is not is said once on standard error, past the
    /// test harness, which keeps what passing tests print.
    ///
    /// # Panics
    /// Where the current one is not there, which `./test --install` brings.
    #[must_use]
    pub fn is_there(self) -> bool {
        static THERE: OnceLock<bool> = OnceLock::new();
        let program = self.program();
        if self == Self::Current {
            return true;
        }
        *THERE.get_or_init(|| {
            let version = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            let there = version.is_ok();
            if !there {
                let _ = writeln!(
                    std::io::stderr(),
                    "there is no nats-server on PATH: the tests of an old one do nothing; ./test --install installs it"
                );
            }
            there
        })
    }
}

/// Makes a test of each named `async fn(NatsRelease)` for the old and for the current
/// `nats-server`, as `name::old` and `name::current`.
#[macro_export]
macro_rules! nats_tests {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn old() {
                if $crate::NatsRelease::Old.is_there() {
                    super::$test($crate::NatsRelease::Old).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn current() {
                if $crate::NatsRelease::Current.is_there() {
                    super::$test($crate::NatsRelease::Current).await;
                }
            }
        })+
    };
}

/// A NATS server with JetStream, which keeps its streams in its folder over kills.
#[derive(Debug)]
pub struct NatsServer {
    release: NatsRelease,
    server: Server,
    port: u16,
    monitor: u16,
}

impl NatsServer {
    /// Starts a server that lets everybody in.
    ///
    /// # Panics
    /// Where `nats-server` cannot be started.
    pub async fn start(release: NatsRelease) -> Self {
        Self::start_with(release, "").await
    }

    /// Starts a server with further lines in its configuration; relative paths in them count from
    /// its folder.
    ///
    /// # Panics
    /// Where `nats-server` cannot be started.
    pub async fn start_with(release: NatsRelease, configuration: &str) -> Self {
        Self::start_prepared(release, |_| configuration.to_owned()).await
    }

    /// As [`NatsServer::start_with`], where the lines name files that are first written into the
    /// server's folder.
    ///
    /// # Panics
    /// Where `nats-server` cannot be started.
    pub async fn start_prepared(
        release: NatsRelease,
        prepare: impl FnOnce(PathBuf) -> String,
    ) -> Self {
        let mut nats = Self::new(release);
        let configuration = prepare(nats.server.folder().to_owned());
        nats.configure(&configuration);
        nats.restart().await;
        nats
    }

    fn new(release: NatsRelease) -> Self {
        Self {
            release,
            server: Server::new("nats-server"),
            port: free_port(),
            monitor: free_port(),
        }
    }

    /// Gives it other further lines, which are in force after [`NatsServer::reload`] or
    /// [`NatsServer::restart`].
    ///
    /// # Panics
    /// Where they cannot be written.
    pub fn configure(&self, configuration: &str) {
        let store = self.server.folder().join("store");
        let lines = format!(
            "listen: 127.0.0.1:{}\nhttp: 127.0.0.1:{}\njetstream {{ store_dir: {store:?} }}\n{configuration}\n",
            self.port, self.monitor
        );
        std::fs::write(self.configuration(), lines).expect("the configuration can be written");
    }

    /// Has it read its configuration again, as it runs.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn reload(&self) {
        let told = Command::new("kill")
            .args(["-HUP", &self.server.pid().to_string()])
            .status()
            .expect("there is a kill");
        assert!(told.success(), "the server does not run");
    }

    fn configuration(&self) -> PathBuf {
        self.server.folder().join("nats.conf")
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Server {
        &self.server
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port with the same streams; ends it first where it runs.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        self.kill();
        let mut command = Command::new(self.release.program());
        command
            .arg("-c")
            .arg(self.configuration())
            .current_dir(self.server.folder());
        let monitor = self.monitor;
        self.server
            .start(command, async || is_healthy(monitor).await)
            .await;
    }
}

/// Asks `/healthz`, which says no more than that it is well once JetStream has read its streams.
async fn is_healthy(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    matches!(timeout(Duration::from_secs(1), ask).await, Ok(Ok(answer)) if answer.contains(" 200 "))
}
