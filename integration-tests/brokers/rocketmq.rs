//! Apache RocketMQ 5: a name server, and one process that is broker and proxy.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::server::Watch;
use crate::{Server, free_port};

/// Names the folder with RocketMQ's jars, where it is not the one that `./test` fills.
const JARS: &str = "POINTSMAN_ROCKETMQ";

/// How long a broker may take to do what it is told, and until the name server knows of it: they
/// speak every 30 s.
const DONE_WITHIN: Duration = Duration::from_secs(60);

/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Codes of what a broker is told by (`RequestCode.java`).
const SEND_MESSAGE: u32 = 10;
const UPDATE_TOPIC: u32 = 17;
const ROUTE: u32 = 105;
const UPDATE_GROUP: u32 = 200;

/// The keys of a server that asks for some, access key and secret key.
pub const ROCKETMQ_KEYS: (&str, &str) = ("app", "hunter2");

/// What a proxy asks of those who call it.
#[derive(Clone, Debug, Default)]
pub struct RocketmqSettings {
    /// Whether it asks for [`ROCKETMQ_KEYS`].
    pub asks_for_keys: bool,
    /// Its certificate and key, in PEM: it speaks TLS beside plain text, on the same port.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A RocketMQ that topics have to be made on.
///
/// Whoever keeps it in a static need not end it: what watches over it does so when the process is
/// gone, however that ends.
#[derive(Debug)]
pub struct RocketmqServer {
    names: Server,
    server: Server,
    watch: Option<Watch>,
    names_port: u16,
    /// Of the proxy, for gRPC.
    port: u16,
    /// Of the broker, which is told what to do by it.
    broker_port: u16,
}

impl RocketmqServer {
    /// A server that is ready.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn start() -> Self {
        Self::start_with(RocketmqSettings::default()).await
    }

    /// The same, with settings.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn start_with(settings: RocketmqSettings) -> Self {
        let mut own = Self {
            names: Server::new("the name server of RocketMQ"),
            server: Server::new("RocketMQ"),
            watch: None,
            broker_port: broker_port(),
            names_port: free_port(),
            port: free_port(),
        };
        own.configure(&settings);
        own.start_names().await;
        own.restart().await;
        own
    }

    /// Where the proxy listens, as `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port of the proxy.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the proxy.
    #[must_use]
    pub fn url(&self) -> String {
        format!("rocketmq://{}", self.address())
    }

    /// Where the name server listens, which speaks another protocol.
    #[must_use]
    pub fn names_address(&self) -> String {
        format!("127.0.0.1:{}", self.names_port)
    }

    /// The port of the broker, which speaks another protocol.
    #[must_use]
    pub fn broker_port(&self) -> u16 {
        self.broker_port
    }

    /// The process's id.
    ///
    /// # Panics
    /// Where it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Starts broker and proxy again after [`Self::kill`], on the same ports and with what it had
    /// on disk.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        let mut command = java(self.server.folder(), "-Xmx512m");
        command
            .arg("-XX:MaxDirectMemorySize=192m")
            .arg("org.apache.rocketmq.proxy.ProxyStartup")
            .arg("-pc")
            .arg(self.server.folder().join("proxy.json"));
        let log = self.server.log();
        let starts = starts(&log);
        // It says so once everything in it listens.
        let is_ready = async || self::starts(&log) > starts;
        self.server.start(command, is_ready).await;
        self.watch = Some(Watch::over(&[&self.names, &self.server]));
    }

    /// Ends broker and proxy at once, as a crash does, and waits until they are gone. Their data
    /// stays.
    pub fn kill(&mut self) {
        self.watch = None;
        self.server.kill();
    }

    /// Makes a topic of this type (`NORMAL`, `FIFO`, `DELAY`) with so many queues.
    ///
    /// # Panics
    /// Where the broker does not.
    pub async fn make_topic(&self, name: &str, kind: &str, queues: u32) {
        let fields = format!(
            "{{\"topic\":\"{name}\",\"defaultTopic\":\"TBW102\",\"readQueueNums\":\"{queues}\",\
             \"writeQueueNums\":\"{queues}\",\"perm\":\"6\",\"topicFilterType\":\"SINGLE_TAG\",\
             \"topicSysFlag\":\"0\",\"order\":\"false\",\"attributes\":\"+message.type={kind}\"}}"
        );
        self.tell(self.broker_port, UPDATE_TOPIC, &fields, "").await;
        // The broker tells the name server, and tells it again in a while where that did not go.
        let fields = format!("{{\"topic\":\"{name}\"}}");
        self.tell(self.names_port, ROUTE, &fields, "").await;
    }

    /// Makes a consumer group, whose messages are handed out so often at most.
    ///
    /// # Panics
    /// Where the broker does not.
    pub async fn make_group(&self, name: &str, is_orderly: bool, retries: u32) {
        let group = format!(
            "{{\"groupName\":\"{name}\",\"consumeEnable\":true,\"consumeMessageOrderly\":{is_orderly},\
             \"retryMaxTimes\":{retries},\"retryQueueNums\":1}}"
        );
        self.tell(self.broker_port, UPDATE_GROUP, "{}", &group)
            .await;
    }

    /// Has the broker or the name server do something, once it can.
    async fn tell(&self, port: u16, code: u32, fields: &str, body: &str) {
        let until = Instant::now() + DONE_WITHIN;
        loop {
            let told = tell(port, code, fields, body).await;
            if told.is_ok() {
                return;
            }
            assert!(Instant::now() < until, "RocketMQ does not: {told:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn configure(&self, settings: &RocketmqSettings) {
        let folder = self.server.folder().display();
        let (user, password) = ROCKETMQ_KEYS;
        let user = format!("{{\"username\":\"{user}\",\"password\":\"{password}\"}}");
        let broker = format!(
            "brokerClusterName=DefaultCluster\n\
             brokerName=broker\n\
             brokerId=0\n\
             brokerIP1=127.0.0.1\n\
             listenPort={port}\n\
             haListenPort={ha}\n\
             namesrvAddr=127.0.0.1:{names}\n\
             storePathRootDir={folder}/store\n\
             storePathCommitLog={folder}/store/commitlog\n\
             mappedFileSizeCommitLog=16777216\n\
             mappedFileSizeConsumeQueue=240000\n\
             mappedFileSizeTimerLog=1024000\n\
             diskMaxUsedSpaceRatio=99\n\
             diskSpaceWarningLevelRatio=0.99\n\
             diskSpaceCleanForciblyRatio=0.99\n\
             flushDiskType=ASYNC_FLUSH\n\
             flushConsumerOffsetInterval=500\n\
             autoCreateTopicEnable=false\n\
             enablePropertyFilter=true\n\
             authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider\n\
             authConfigPath={folder}/auth\n\
             initAuthenticationUser={user}\n",
            port = self.broker_port,
            ha = free_port(),
            names = self.names_port,
        );
        let mut proxy = format!(
            "{{\"rocketMQClusterName\":\"DefaultCluster\",\"namesrvAddr\":\"127.0.0.1:{names}\",\
             \"grpcServerPort\":{port},\"remotingListenPort\":{remoting},\"proxyMode\":\"local\",\
             \"localServeAddr\":\"127.0.0.1\",\"grpcClientConsumerMinLongPollingTimeoutMillis\":300,\"brokerConfigPath\":\"{folder}/broker.conf\"",
            names = self.names_port,
            port = self.port,
            remoting = free_port(),
        );
        if settings.asks_for_keys {
            proxy.push_str(
                ",\"authenticationEnabled\":true,\"authenticationMetadataProvider\":\
                 \"org.apache.rocketmq.proxy.auth.ProxyAuthenticationMetadataProvider\"",
            );
        }
        if let Some((certificate, key)) = &settings.tls {
            let (certificate, key) = (certificate.display(), key.display());
            write!(
                proxy,
                ",\"tlsTestModeEnable\":false,\"tlsCertPath\":\"{certificate}\",\"tlsKeyPath\":\"{key}\""
            )
            .expect("a text takes any text");
        }
        proxy.push('}');
        for (name, content) in [("broker.conf", broker), ("proxy.json", proxy)] {
            fs::write(self.server.folder().join(name), content).expect("the folder can be written");
        }
    }

    async fn start_names(&mut self) {
        let folder = self.names.folder();
        let shown = folder.display();
        let port = self.names_port;
        let configuration = format!(
            "listenPort={port}\nkvConfigPath={shown}/kv.json\nconfigStorePath={shown}/properties\n"
        );
        fs::write(folder.join("names.conf"), configuration).expect("the folder can be written");
        let mut command = java(folder, "-Xmx96m");
        command
            .arg("org.apache.rocketmq.namesrv.NamesrvStartup")
            .arg("-c")
            .arg(folder.join("names.conf"));
        let answers = async || TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        self.names.start(command, answers).await;
    }
}

/// Sends an event in structured mode to a topic of the broker at a port, not by its proxy; returns
/// whether the broker has it.
pub async fn rocketmq_send(broker_port: u16, topic: &str, id: &str, event: &str) -> bool {
    // Of all of them the broker wants to hear, and of few it does anything with.
    let fields = format!(
        "{{\"producerGroup\":\"tests\",\"topic\":\"{topic}\",\"defaultTopic\":\"TBW102\",\
         \"defaultTopicQueueNums\":\"4\",\"queueId\":\"0\",\"sysFlag\":\"0\",\"bornTimestamp\":\"1\",\
         \"flag\":\"0\",\"reconsumeTimes\":\"0\",\"properties\":\"UNIQ_KEY\\u0001{id}\"}}"
    );
    tell(broker_port, SEND_MESSAGE, &fields, event)
        .await
        .is_ok()
}

/// Has a broker do something, by the protocol that it speaks with its tools.
async fn tell(port: u16, code: u32, fields: &str, body: &str) -> Result<(), String> {
    match timeout(ANSWERED_WITHIN, ask(port, code, fields, body)).await {
        Ok(Ok(answer)) if answer.contains("\"code\":0,") => Ok(()),
        told => Err(format!("{told:?}")),
    }
}

/// The head of an answer.
async fn ask(port: u16, code: u32, fields: &str, body: &str) -> std::io::Result<String> {
    let head = format!(
        "{{\"code\":{code},\"language\":\"OTHER\",\"version\":0,\"opaque\":1,\"flag\":0,\
         \"extFields\":{fields}}}"
    );
    let length = u32::try_from(4 + head.len() + body.len()).expect("a command is short");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_u32(length).await?;
    let length = u32::try_from(head.len()).expect("it is part of that");
    stream.write_u32(length).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let _length = stream.read_u32().await?;
    // Above it stands how the head is written.
    let length = stream.read_u32().await? & 0x00ff_ffff;
    let mut head = vec![0; usize::try_from(length).expect("it fits")];
    stream.read_exact(&mut head).await?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

impl Drop for RocketmqServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port for a broker, which listens two below it as well.
fn broker_port() -> u16 {
    let mut last = [free_port(), free_port(), free_port()];
    while last[0] + 2 != last[2] {
        last = [last[1], last[2], free_port()];
    }
    last[2]
}

/// How often a log says that it was started.
fn starts(log: &Path) -> usize {
    let told = fs::read_to_string(log).unwrap_or_default();
    told.matches("rocketmq-proxy startup successfully").count()
}

/// Runs one of RocketMQ's programs, whose class is to be added.
fn java(folder: &Path, heap: &str) -> Command {
    let default =
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/rocketmq/jars");
    let jars = std::env::var_os(JARS).map_or_else(default, PathBuf::from);
    assert!(
        jars.exists(),
        "RocketMQ is not there ({}): run ./test --install, or name its jars' folder by {JARS}",
        jars.display()
    );
    let mut command = Command::new("java");
    let home = folder.display();
    command
        // As little of the machine as it can do with: the tests have two cores.
        .args([
            "-Xms32m",
            heap,
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
        ])
        // Its logs go below that.
        .arg(format!("-Duser.home={home}"))
        .arg(format!("-Drocketmq.home.dir={home}"))
        .env("RMQ_PROXY_HOME", folder)
        .arg("-cp")
        .arg(jars.join("*"))
        .current_dir(folder);
    command
}
