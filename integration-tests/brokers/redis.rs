//! `redis-server`, which writes and syncs each command before it answers.

use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Server, free_port};

/// A Redis server, which keeps its streams and groups in its folder over kills.
#[derive(Debug)]
pub struct RedisServer {
    server: Server,
    port: u16,
    /// Settings beside those that every server here has.
    settings: Vec<String>,
}

impl RedisServer {
    /// Starts a server that lets everybody in.
    ///
    /// # Panics
    /// Where `redis-server` cannot be started.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with further settings, such as `--requirepass hunter2`, a word each.
    ///
    /// # Panics
    /// Where `redis-server` cannot be started.
    pub async fn start_with(settings: &[&str]) -> Self {
        let mut redis = Self {
            server: Server::new("redis-server"),
            port: free_port(),
            settings: settings.iter().map(|word| (*word).to_owned()).collect(),
        };
        redis.restart().await;
        redis
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as a crash does.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again on the same port with what it had; ends it first where it runs.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        self.kill();
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(self.server.folder())
            .args(&self.settings);
        self.server
            .start(command, async || is_ready(&port).await)
            .await;
    }
}

/// Whether it answers, and has read its data. One that wants a password says so.
async fn is_ready(port: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answered = timeout(Duration::from_secs(1), ask).await;
    matches!(answered, Ok(Ok(answer)) if answer.starts_with(b"+PONG") || answer.starts_with(b"-NOAUTH"))
}
