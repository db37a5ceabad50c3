//! An object store with queues: moto, a server in Python that speaks S3, SQS, SNS and EventBridge.
//!
//! It tells a queue of what happens in a bucket, filters by prefix and suffix, and sends `s3:TestEvent`. It keeps everything in memory, so that a restart
//! empties it; it checks no credentials; its records have neither sequencers nor request ids; and it takes some 60 objects a second.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::installed;
use crate::{Server, free_port};

/// An object store. Dropping it ends it.
#[derive(Debug)]
pub struct ObjectStore {
    server: Server,
    port: u16,
}

/// moto's own account.
const ACCOUNT: &str = "123456789012";

impl ObjectStore {
    /// Starts one.
    ///
    /// # Panics
    /// Where moto is not installed or does not start.
    pub async fn start() -> Self {
        let mut store = Self { server: Server::new("moto_server"), port: free_port() };
        store.restart().await;
        store
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a queue.
    #[must_use]
    pub fn queue_url(&self, name: &str) -> String {
        format!("{}/{ACCOUNT}/{name}", self.endpoint())
    }

    /// The ARN of a queue, by which a bucket names it.
    #[must_use]
    pub fn queue_arn(&self, name: &str) -> String {
        format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}")
    }

    /// Ends it at once. Everything in it is gone.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again, empty, at the same address.
    ///
    /// # Panics
    /// As [`ObjectStore::start`].
    pub async fn restart(&mut self) {
        self.server.kill();
        let moto = installed("moto_server", "POINTSMAN_MOTO");
        let mut command = Command::new(if moto.exists() { moto } else { "moto_server".into() });
        command.args(["-H", "127.0.0.1", "-p", &self.port.to_string()]);
        // It looks for credentials of its own otherwise.
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        let port = self.port;
        self.server.start(command, async || answers(port).await).await;
    }
}

/// True once it answers by HTTP: the port is open before that.
async fn answers(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /moto-api/data.json HTTP/1.0\r\n\r\n").await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.ends_with(b" 200"))
    };
    ask.await.unwrap_or(false)
}
