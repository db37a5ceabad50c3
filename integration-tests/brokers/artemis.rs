//! Apache ActiveMQ Artemis, by AMQP 1.0.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::Watch;
use crate::{Server, free_port};

/// Names the folder with Artemis's jars, where it is not the one that `./test` fills.
const JARS: &str = "POINTSMAN_ARTEMIS";

/// The user of a server that asks for one, and his password.
pub const ARTEMIS_LOGIN: (&str, &str) = ("app", "hunter2");

/// What a server asks of those who connect.
#[derive(Clone, Debug, Default)]
pub struct ArtemisSettings {
    /// Whether it asks for [`ARTEMIS_LOGIN`], or by TLS for a certificate. `app` may do anything
    /// but with the queue `closed.a`.
    pub asks_who: bool,
    /// A folder with `ca.pem`, `leaf.pem` and `leaf.key`: it speaks TLS on a second port, and asks
    /// there for a certificate of that authority.
    pub tls: Option<PathBuf>,
}

/// An Artemis that makes queues as they are asked for, and topics below `topics.`; it keeps no more
/// than 1 MiB below `small.`, and rejects the rest. What is rejected, or was tried ten times, goes to the queue `DLQ`.
///
/// Whoever keeps it in a static need not end it: what watches over it does so when the process is
/// gone, however that ends.
#[derive(Debug)]
pub struct ArtemisServer {
    server: Server,
    watch: Option<Watch>,
    port: u16,
    tls_port: u16,
}

impl ArtemisServer {
    /// A server that is ready.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn start() -> Self {
        Self::start_with(ArtemisSettings::default()).await
    }

    /// The same, with settings.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn start_with(settings: ArtemisSettings) -> Self {
        let mut own = Self {
            server: Server::new("ActiveMQ Artemis"),
            watch: None,
            port: free_port(),
            tls_port: free_port(),
        };
        own.configure(&settings);
        own.restart().await;
        own
    }

    /// Where it listens, as `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port by TLS.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://{}", self.address())
    }

    /// Starts it again after [`Self::kill`], on the same port and with what it had on disk.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self) {
        let command = self.java();
        let port = self.port;
        self.server
            .start(command, async || answers(port).await.is_some())
            .await;
        self.watch = Some(Watch::over(&[&self.server]));
    }

    /// Ends it at once, as a crash does, and waits until it is gone. Its data stays.
    pub fn kill(&mut self) {
        self.watch = None;
        self.server.kill();
    }

    fn configure(&self, settings: &ArtemisSettings) {
        let folder = self.server.folder();
        let shown = folder.display();
        let configuration = self.configuration(settings);
        let module = "org.apache.activemq.artemis.spi.core.security.jaas";
        let login = format!(
            "people {{ {module}.PropertiesLoginModule required \
             baseDir=\"{shown}\" org.apache.activemq.jaas.properties.user=\"users\" \
             org.apache.activemq.jaas.properties.role=\"roles\"; }};\n\
             certificates {{ {module}.TextFileCertificateLoginModule required \
             baseDir=\"{shown}\" org.apache.activemq.jaas.textfiledn.user=\"names\" \
             org.apache.activemq.jaas.textfiledn.role=\"roles\"; }};\n"
        );
        let (user, password) = ARTEMIS_LOGIN;
        fs::create_dir_all(folder.join("etc")).expect("the folder can be written");
        for (name, content) in [
            ("etc/broker.xml", configuration),
            ("login", login),
            ("users", format!("{user}={password}\n")),
            ("names", format!("{user}=/.*/\n")),
            ("roles", format!("people={user}\n")),
        ] {
            fs::write(folder.join(name), content).expect("the folder can be written");
        }
    }

    /// Where it listens, and to whom.
    fn acceptors(&self, settings: &ArtemisSettings) -> String {
        let folder = self.server.folder();
        let shown = folder.display();
        let domain = if settings.asks_who {
            ";saslMechanisms=PLAIN;securityDomain=people"
        } else {
            ""
        };
        let mut acceptors = format!(
            "<acceptor name=\"plain\">tcp://127.0.0.1:{}?protocols=AMQP{domain}</acceptor>",
            self.port
        );
        if let Some(tls) = &settings.tls {
            let read = |name: &str| {
                fs::read_to_string(tls.join(name)).expect("the certificates can be read")
            };
            let own = read("leaf.pem") + &read("leaf.key");
            fs::write(folder.join("own.pem"), own).expect("the folder can be written");
            let domain = if settings.asks_who {
                ";saslMechanisms=EXTERNAL;securityDomain=certificates"
            } else {
                ""
            };
            acceptors += &format!(
                "<acceptor name=\"tls\">tcp://127.0.0.1:{}?protocols=AMQP;sslEnabled=true;\
                 keyStoreType=PEM;keyStorePath={shown}/own.pem;trustStoreType=PEMCA;\
                 trustStorePath={}/ca.pem;needClientAuth=true{domain}</acceptor>",
                self.tls_port,
                tls.display()
            );
        }
        acceptors
    }

    fn configuration(&self, settings: &ArtemisSettings) -> String {
        let shown = self.server.folder().display();
        let acceptors = self.acceptors(settings);
        format!(
            "<configuration xmlns=\"urn:activemq\"><core xmlns=\"urn:activemq:core\">\
             <name>tests</name>\
             <journal-type>NIO</journal-type>\
             <journal-directory>{shown}/data/journal</journal-directory>\
             <bindings-directory>{shown}/data/bindings</bindings-directory>\
             <large-messages-directory>{shown}/data/large</large-messages-directory>\
             <paging-directory>{shown}/data/paging</paging-directory>\
             <journal-buffer-timeout>500000</journal-buffer-timeout>\
             <journal-min-files>2</journal-min-files>\
             <journal-file-size>4M</journal-file-size>\
             <max-disk-usage>100</max-disk-usage>\
             <global-max-size>128M</global-max-size>\
             <security-enabled>{secure}</security-enabled>\
             <acceptors>{acceptors}</acceptors>\
             <security-settings>\
             <security-setting match=\"#\">{open}</security-setting>\
             <security-setting match=\"closed.#\">{closed}</security-setting>\
             </security-settings>\
             <address-settings>\
             <address-setting match=\"#\">{usual}</address-setting>\
             <address-setting match=\"topics.#\">\
             <default-address-routing-type>MULTICAST</default-address-routing-type>\
             <default-queue-routing-type>MULTICAST</default-queue-routing-type>\
             </address-setting>\
             <address-setting match=\"small.#\">\
             <max-size-bytes>1048576</max-size-bytes>\
             <address-full-policy>FAIL</address-full-policy>\
             </address-setting>\
             </address-settings>\
             <addresses><address name=\"DLQ\"><anycast><queue name=\"DLQ\"/></anycast></address>\
             <address name=\"closed.a\"><anycast><queue name=\"closed.a\"/></anycast></address>\
             </addresses>\
             </core></configuration>",
            secure = settings.asks_who,
            open = permissions("people"),
            closed = permissions("nobody"),
            usual = "<dead-letter-address>DLQ</dead-letter-address>\
                     <default-address-routing-type>ANYCAST</default-address-routing-type>\
                     <default-queue-routing-type>ANYCAST</default-queue-routing-type>\
                     <auto-delete-queues>false</auto-delete-queues>\
                     <auto-delete-addresses>false</auto-delete-addresses>",
        )
    }

    fn java(&self) -> Command {
        let default =
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/artemis/jars");
        let jars = std::env::var_os(JARS).map_or_else(default, PathBuf::from);
        assert!(
            jars.exists(),
            "Artemis is not there ({}): run ./test --install, or name its jars' folder by {JARS}",
            jars.display()
        );
        let folder = self.server.folder();
        let mut command = Command::new("java");
        command
            // As little of the machine as it can do with: the tests have two cores.
            .args(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC"])
            .args(["-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg(format!(
                "-Djava.security.auth.login.config={}/login",
                folder.display()
            ))
            .arg("-cp")
            .arg(jars.join("*"))
            .arg("org.apache.activemq.artemis.core.server.embedded.Main")
            .arg(folder)
            .current_dir(folder);
        command
    }
}

impl Drop for ArtemisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// That who has this role may do anything.
fn permissions(role: &str) -> String {
    let all = [
        "send",
        "consume",
        "browse",
        "manage",
        "createAddress",
        "deleteAddress",
        "createDurableQueue",
        "deleteDurableQueue",
        "createNonDurableQueue",
        "deleteNonDurableQueue",
    ];
    let each = all.map(|what| format!("<permission type=\"{what}\" roles=\"{role}\"/>"));
    each.concat()
}

/// Whether a client is answered: by the bytes that SASL begins with.
async fn answers(port: u16) -> Option<()> {
    const SASL: [u8; 8] = *b"AMQP\x03\x01\0\0";
    let answer = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(&SASL).await.ok()?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).await.ok()?;
        (answer == SASL).then_some(())
    };
    timeout(Duration::from_secs(1), answer).await.ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_is_there_again_after_a_crash() {
        let mut server = ArtemisServer::start().await;
        let port = server.port;
        assert!(answers(port).await.is_some());
        server.kill();
        assert!(answers(port).await.is_none());
        server.restart().await;
        assert!(answers(port).await.is_some());
    }
}
