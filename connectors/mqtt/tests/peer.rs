//! Others at the broker: mosquitto's own client, and one that looks at what comes.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::super::client::{Connected, Plan, subscribe};
use super::super::packet::{Incoming, Outgoing, Publish, Qos, Retained, Subscribe, Version};
use super::super::settings::PROTOCOL;
use super::super::source::GUARD;
use super::super::wire::Wire;
use super::LONG;
use crate::net::Names;
use crate::net::server::ServerSettings;

/// Publishes each line to a topic by mosquitto's own client, with options such as `-q 2`.
pub(super) async fn publish(port: u16, topic: &str, lines: &[String], options: &[&str]) {
    let mut client = Command::new("mosquitto_pub")
        .args(["-p", &port.to_string(), "-t", topic, "-l"])
        .args(options)
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("./test installs mosquitto_pub");
    let mut input = client.stdin.take().unwrap();
    let mut text = lines.join("\n");
    text.push('\n');
    input.write_all(text.as_bytes()).await.unwrap();
    drop(input);
    let ended = timeout(LONG, client.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
}

/// A client that is subscribed to everything.
pub(super) struct Peer {
    wire: Wire,
    received: Vec<Publish>,
    turns: usize,
}

impl Peer {
    pub(super) async fn new(url: &str) -> Self {
        let url = url.into();
        let server = ServerSettings {
            url: &url,
            username: None,
            password: None,
            tls: None,
        };
        let plan = Plan {
            server: server.resolve(&PROTOCOL).ok().unwrap(),
            version: Version::V5,
            client_id: String::new(),
            is_clean: true,
            numbers: Vec::new(),
        };
        let connected = plan.passing().connect(GUARD, Names::default()).await;
        let Connected { mut wire, .. } = connected.unwrap();
        let all = Subscribe {
            filters: vec!["#".to_owned()],
            qos: Qos::AtMostOnce,
            retained: Retained::Never,
        };
        subscribe(&mut wire, &all, |_| Ok(())).await.unwrap();
        Self {
            wire,
            received: Vec::new(),
            turns: 0,
        }
    }

    /// What has come so far: all that the broker had acknowledged before.
    pub(super) async fn received(&mut self) -> &[Publish] {
        self.turns += 1;
        let turn = self.turns.to_string();
        self.send("turn", turn.as_bytes());
        loop {
            let publish = self.next().await;
            if publish.topic == "turn" && publish.payload == turn {
                return &self.received;
            }
            self.received.push(publish);
        }
    }

    /// Publishes with QoS 0.
    pub(super) fn send(&mut self, topic: &str, payload: &[u8]) {
        let publish = Publish {
            qos: Qos::AtMostOnce,
            retain: false,
            again: false,
            id: 0,
            topic: topic.as_bytes().to_vec().into(),
            properties: Default::default(),
            payload: payload.to_vec().into(),
            unreadable: None,
        };
        self.wire.put(Outgoing::Publish(&publish)).unwrap();
    }

    async fn next(&mut self) -> Publish {
        loop {
            match self.wire.take().unwrap() {
                Some(Incoming::Publish(publish)) => return publish,
                Some(_) => {}
                None => timeout(LONG, self.wire.turn(true)).await.unwrap().unwrap(),
            }
        }
    }
}
