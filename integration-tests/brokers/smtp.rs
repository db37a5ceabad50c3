//! A mail server: aiosmtpd, a server in Python, with STARTTLS or TLS from the beginning and logins
//! (`me`, `hunter2`). `smtp/server.py` says which addresses it answers how.

use std::path::Path;
use std::process::Command;

use tokio::net::TcpStream;

use crate::server::expected;
use crate::{Server, free_port};

/// A mail server, which keeps what it took over kills. Its certificate is made out to `localhost`
/// and 127.0.0.1.
#[derive(Debug)]
pub struct SmtpServer {
    server: Server,
    port: u16,
    settings: Vec<String>,
}

impl SmtpServer {
    /// Starts a server with `starttls`, `implicit` or `none`, that asks for a login or does not.
    ///
    /// # Panics
    /// Where it is not installed or does not start.
    pub async fn start(encryption: &str, with_login: bool) -> Self {
        let settings = ["--encryption", encryption]
            .into_iter()
            .chain(with_login.then_some("--auth"));
        let mut smtp = Self {
            server: Server::new("aiosmtpd"),
            port: free_port(),
            settings: settings.map(str::to_owned).collect(),
        };
        smtp.restart().await;
        smtp
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The mail that it has taken, a JSON object each: `connection`, `encrypted`, `user`, `from`,
    /// `to`, `content`.
    #[must_use]
    pub fn taken(&self) -> Vec<String> {
        let taken = std::fs::read_to_string(self.server.folder().join("taken"));
        let taken = taken.unwrap_or_default();
        taken.lines().map(str::to_owned).collect()
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port; ends it first where it runs.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        self.kill();
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let certificates = here.join("../../connectors/net/tls");
        let mut command = Command::new(expected("python", "POINTSMAN_SMTP_PYTHON"));
        command
            .arg(here.join("smtp/server.py"))
            .args(["--port", &self.port.to_string(), "--log"])
            .arg(self.server.folder().join("taken"))
            .arg("--cert")
            .arg(certificates.join("leaf.pem"))
            .arg("--key")
            .arg(certificates.join("leaf.key"))
            .args(&self.settings);
        let address = format!("127.0.0.1:{}", self.port);
        let is_ready = async || TcpStream::connect(&address).await.is_ok();
        self.server.start(command, is_ready).await;
    }
}
