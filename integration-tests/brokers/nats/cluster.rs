//! Three `nats-server`s that keep streams together.

use std::process::Command;

use super::{NatsRelease, NatsServer};
use crate::free_port;

/// Three current NATS servers with JetStream, which sync before they acknowledge. They are called
/// `nats-0` to `nats-2`, and tell clients of no other addresses than those they were given.
#[derive(Debug)]
pub struct NatsCluster {
    servers: [NatsServer; 3],
    paused: Vec<usize>,
}

impl NatsCluster {
    /// Starts the servers, and waits until JetStream has a leader.
    ///
    /// # Panics
    /// Where `nats-server` cannot be started.
    pub async fn start() -> Self {
        let servers = [(); 3].map(|()| NatsServer::new(NatsRelease::Current));
        let routes = [(); 3].map(|()| free_port());
        let urls = routes.map(|port| format!("nats-route://127.0.0.1:{port}"));
        for (number, (server, port)) in servers.iter().zip(routes).enumerate() {
            let store = server.server.folder().join("store");
            server.configure(&format!(
                "server_name: nats-{number}\n\
                 jetstream {{ store_dir: {store:?}, sync_interval: always }}\n\
                 cluster {{ name: test, listen: \"127.0.0.1:{port}\", no_advertise: true, routes: [{}] }}",
                urls.join(", ")
            ));
        }
        let mut cluster = Self {
            servers,
            paused: Vec::new(),
        };
        cluster.restart_all().await;
        cluster
    }

    /// The port of each.
    #[must_use]
    pub fn ports(&self) -> [u16; 3] {
        self.servers.each_ref().map(NatsServer::port)
    }

    /// The addresses of all.
    #[must_use]
    pub fn urls(&self) -> [String; 3] {
        self.servers.each_ref().map(NatsServer::url)
    }

    /// Ends one at once, as a crash does.
    pub fn kill(&mut self, number: usize) {
        self.server(number).kill();
    }

    /// Starts one again with the streams that it had, and waits until it has what it has missed;
    /// ends it first where it runs.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn restart(&mut self, number: usize) {
        self.server(number).restart().await;
    }

    /// Ends all at once, as a power cut does but for what the system has not written yet, and
    /// starts them again with the streams that they had.
    ///
    /// # Panics
    /// Where they cannot be started.
    pub async fn restart_all(&mut self) {
        for server in &mut self.servers {
            server.kill();
        }
        self.paused.clear();
        // None is well before there are enough of them.
        let [first, second, third] = &mut self.servers;
        tokio::join!(first.restart(), second.restart(), third.restart());
    }

    /// Has one do nothing until [`NatsCluster::mend`]: nobody is told of it.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn pause(&mut self, number: usize) {
        signal(self.server(number), "-STOP");
        self.paused.push(number);
    }

    /// Has those go on that were paused, and starts those again that were killed.
    ///
    /// # Panics
    /// Where one cannot be started.
    pub async fn mend(&mut self) {
        for number in std::mem::take(&mut self.paused) {
            signal(self.server(number), "-CONT");
        }
        for server in &mut self.servers {
            if server.process().running().is_none() {
                server.restart().await;
            }
        }
    }

    fn server(&mut self, number: usize) -> &mut NatsServer {
        self.servers.get_mut(number).expect("there are three")
    }
}

fn signal(server: &NatsServer, signal: &str) {
    let process = server.process().pid();
    let told = Command::new("kill")
        .args([signal, &process.to_string()])
        .status();
    assert!(told.is_ok_and(|status| status.success()), "no {process}");
}
