//! Mosquitto, which writes its sessions and messages to disk after each change.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{Server, free_port};

/// An MQTT broker, which keeps sessions, messages in flight and retained messages over kills.
///
/// It answers a message before it writes it, in the same round of its loop; what it answers in a
/// later round is answered once it is written.
#[derive(Debug)]
pub struct MqttServer {
    server: Server,
    port: u16,
    /// Lines of its configuration beside those that every server here has.
    settings: String,
}

impl MqttServer {
    /// Starts a broker that lets everybody in.
    ///
    /// # Panics
    /// Where mosquitto cannot be started.
    pub async fn start() -> Self {
        Self::start_with(free_port(), "allow_anonymous true").await
    }

    /// Starts a broker with further lines of its configuration, the first of which are of the
    /// listener at this port.
    ///
    /// # Panics
    /// Where mosquitto cannot be started.
    pub async fn start_with(port: u16, settings: &str) -> Self {
        let mut mqtt = Self {
            server: Server::new("mosquitto"),
            port,
            settings: settings.to_owned(),
        };
        mqtt.restart().await;
        mqtt
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
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
        let folder = self.server.folder();
        let port = self.port;
        let mut settings = format!("listener {port} 127.0.0.1\n{}\n", self.settings);
        writeln!(
            settings,
            "persistence true\npersistence_location {}/",
            folder.display()
        )
        .expect("a text can be written to");
        // The limits are those of a broker for machines, not of one for a few sensors.
        settings.push_str("autosave_on_changes true\nautosave_interval 1\n");
        // It would leave root's rights for those of a user who cannot write here; of others it asks
        // nothing.
        settings.push_str("user root\n");
        settings.push_str("max_queued_messages 0\nmax_inflight_messages 1000\n");
        let file = folder.join("mosquitto.conf");
        std::fs::write(&file, settings).expect("the configuration can be written");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(&file);
        self.server
            .start(command, async || is_ready(port).await)
            .await;
    }
}

/// Whether it takes connections.
async fn is_ready(port: u16) -> bool {
    timeout(
        Duration::from_secs(1),
        TcpStream::connect(("127.0.0.1", port)),
    )
    .await
    .is_ok_and(|connected| connected.is_ok())
}
