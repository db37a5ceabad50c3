//! Object stores: moto, a server in Python that speaks S3, SQS, SNS and EventBridge, and SeaweedFS,
//! a store that people run.
//!
//! moto tells a queue of what happens in a bucket, filters by prefix and suffix, and sends
//! `s3:TestEvent`. It keeps everything in memory, so that a restart empties it; it checks no
//! credentials; its records have neither sequencers nor request ids; and it takes some 60 objects a
//! second.
//!
//! SeaweedFS checks signatures, lists as S3 does, and keeps what it has on disk. It has no queues.

use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::expected;
use crate::{Server, free_port};

/// An object store. Dropping it ends it.
#[derive(Debug)]
pub struct ObjectStore {
    server: Server,
    port: u16,
    kind: Kind,
}

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Moto,
    SeaweedFs,
}

/// moto's own account.
const ACCOUNT: &str = "123456789012";

/// Who may do what at SeaweedFS: the key and the secret are `test`.
const IDENTITIES: &str = r#"{"identities":[{"name":"test","credentials":[{"accessKey":"test","secretKey":"test"}],
    "actions":["Admin","Read","List","Tagging","Write"]}]}"#;

impl ObjectStore {
    /// Starts moto.
    ///
    /// # Panics
    /// Where it is not installed or does not start.
    pub async fn start() -> Self {
        Self::of(Server::new("moto_server"), Kind::Moto).await
    }

    /// Starts SeaweedFS. Its only key and secret are `test`.
    ///
    /// # Panics
    /// Where it is not installed or does not start.
    pub async fn seaweedfs() -> Self {
        Self::of(Server::new("weed"), Kind::SeaweedFs).await
    }

    async fn of(server: Server, kind: Kind) -> Self {
        let mut store = Self {
            server,
            port: free_port(),
            kind,
        };
        store.restart().await;
        store
    }

    /// Whether it has queues.
    #[must_use]
    pub fn has_queues(&self) -> bool {
        self.kind == Kind::Moto
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

    /// Ends it at once. Of moto everything is gone with it.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again at the same address: moto empty, SeaweedFS with what it had.
    ///
    /// # Panics
    /// As [`ObjectStore::start`].
    pub async fn restart(&mut self) {
        self.server.kill();
        let (command, path) = match self.kind {
            Kind::Moto => (self.moto(), "/moto-api/data.json"),
            Kind::SeaweedFs => (self.weed(), "/status"),
        };
        let port = self.port;
        self.server
            .start(command, async || answers(port, path).await)
            .await;
    }

    fn moto(&self) -> Command {
        let mut command = Command::new(expected("moto_server", "POINTSMAN_MOTO"));
        command.args(["-H", "127.0.0.1", "-p", &self.port.to_string()]);
        let read_first = concat!(env!("CARGO_MANIFEST_DIR"), "/object_storage");
        command.env("PYTHONPATH", read_first);
        // It looks for credentials of its own otherwise.
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }

    fn weed(&self) -> Command {
        let (data, identities) = (
            self.server.folder().join("data"),
            self.server.folder().join("identities.json"),
        );
        std::fs::create_dir_all(&data).expect("the folder of the data can be made");
        std::fs::write(&identities, IDENTITIES).expect("the identities can be written");
        let mut command = Command::new(expected("weed", "POINTSMAN_WEED"));
        command.args([
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.iam=false",
            "-volume.max=20",
        ]);
        command.args([
            "-master.volumeSizeLimitMB=64",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]);
        command
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", identities.display()));
        command.arg(format!("-s3.port={}", self.port));
        for port in ["master.port", "volume.port", "filer.port", "s3.port"]
            .map(|port| format!("{port}.grpc"))
        {
            command.arg(format!("-{port}={}", free_port()));
        }
        for port in ["master.port", "volume.port", "filer.port"] {
            command.arg(format!("-{port}={}", free_port()));
        }
        command
    }
}

/// True once it answers by HTTP: the port is open before that.
async fn answers(port: u16, path: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.ends_with(b" 200"))
    };
    ask.await.unwrap_or(false)
}
