//! An Apache Kafka server of its own: one node that is broker and controller (KRaft).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::Watch;
use crate::{Server, free_port};

/// Names the folder with Kafka's jars, where it is not the one that `./test` fills.
const JARS: &str = "POINTSMAN_KAFKA";

/// Any; a store is of one cluster.
const CLUSTER: &str = "MkU3OEVBNTcwNTJENDM2Qg";

/// How clients connect.
#[derive(Clone, Debug, Default)]
pub struct KafkaListener {
    /// `PLAINTEXT`, which is what an empty one is, `SASL_PLAINTEXT`, `SSL` or `SASL_SSL`.
    pub protocol: &'static str,
    /// The port that clients are told, where it is that of a proxy in front of the server.
    pub advertised: Option<u16>,
    /// The port that it listens on; a free one, unless it is given.
    pub port: Option<u16>,
}

/// A Kafka server that topics have to be made on, with the user `scram`, password `hunter2`, for
/// SCRAM.
///
/// Whoever keeps it in a static need not end it: what watches over it does so when the process is
/// gone, however that ends.
#[derive(Debug)]
pub struct KafkaServer {
    server: Server,
    watch: Option<Watch>,
    port: u16,
    protocol: &'static str,
}

impl KafkaServer {
    /// A server that is ready; `settings` are lines of its configuration.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn start(settings: &str, listener: KafkaListener) -> Self {
        let server = Server::new("kafka");
        let port = listener.port.unwrap_or_else(free_port);
        let (controller, inner) = (free_port(), free_port());
        let advertised = listener.advertised.unwrap_or(port);
        let protocol = if listener.protocol.is_empty() {
            "PLAINTEXT"
        } else {
            listener.protocol
        };
        let configuration = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=CLIENT://127.0.0.1:{port},INNER://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=CLIENT://127.0.0.1:{advertised},INNER://127.0.0.1:{inner}\n\
             listener.security.protocol.map=CLIENT:{protocol},INNER:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=INNER\n\
             log.dirs={data}\n\
             auto.create.topics.enable=false\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\n\
             group.initial.rebalance.delay.ms=0\n\
             group.min.session.timeout.ms=1000\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             {settings}\n",
            data = server.folder().join("data").display(),
        );
        fs::write(server.folder().join("properties"), configuration)
            .expect("the folder can be written");
        let mut own = Self {
            server,
            watch: None,
            port,
            protocol,
        };
        own.format();
        own.restart().await;
        own
    }

    /// Where it listens, as `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The process's id.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The CPU time that it has used so far.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.server.cpu()
    }

    /// Starts it again after [`Self::kill`], on the same port and with what it had on disk.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        let mut command = self.java("kafka.Kafka");
        command.arg(self.server.folder().join("properties"));
        let (port, protocol) = (self.port, self.protocol);
        self.server
            .start(command, async || answers(port, protocol).await.is_some())
            .await;
        self.watch = Some(Watch::over(&[&self.server]));
    }

    /// Ends it at once, as a crash does, and waits until it is gone. Its data stays.
    pub fn kill(&mut self) {
        self.watch = None;
        self.server.kill();
    }

    /// Makes the folder of its data, with the users that it knows.
    fn format(&self) {
        let mut command = self.java("kafka.tools.StorageTool");
        command
            .args(["format", "--cluster-id", CLUSTER, "--config"])
            .arg(self.server.folder().join("properties"));
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            command.arg("--add-scram");
            command.arg(format!("{mechanism}=[name=scram,password=hunter2]"));
        }
        let output = command
            .output()
            .expect("java can be run; ./test installs what the tests need");
        assert!(output.status.success(), "cannot format: {output:?}");
    }

    /// Runs one of Kafka's programs.
    fn java(&self, class: &str) -> Command {
        let jars = jars();
        assert!(
            jars.exists(),
            "Kafka is not there ({}): run ./test --install, or name its jars' folder by {JARS}",
            jars.display()
        );
        let mut command = Command::new("java");
        command
            // As little of the machine as it can do with: the tests have two cores.
            .args(["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC"])
            .args(["-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(jars.join("*"))
            .arg(class)
            .current_dir(self.server.folder());
        command
    }
}

impl Drop for KafkaServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn jars() -> PathBuf {
    let default =
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/kafka/jars");
    std::env::var_os(JARS).map_or_else(default, PathBuf::from)
}

/// Whether a client is answered, where one can ask without TLS: what versions of its requests the
/// server knows (ApiVersions, version 0).
async fn answers(port: u16, protocol: &str) -> Option<()> {
    const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let answer = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        if protocol.ends_with("SSL") {
            return Some(());
        }
        stream.write_all(&API_VERSIONS).await.ok()?;
        let _length = stream.read_u32().await.ok()?;
        (stream.read_u32().await.ok()? == 7).then_some(())
    };
    timeout(Duration::from_secs(1), answer).await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_there_again_after_a_crash() {
        let mut server = KafkaServer::start("", KafkaListener::default()).await;
        let port = server.port;
        assert!(answers(port, "PLAINTEXT").await.is_some());
        server.kill();
        assert!(answers(port, "PLAINTEXT").await.is_none());
        server.restart().await;
        assert!(answers(port, "PLAINTEXT").await.is_some());
    }
}
