//! From senders of syslog through the bus to a function.

use pointsman_integration_tests::{Answer, Bus, Sink, until};
use pointsman_test_brokers::free_port;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Messages of each sender.
const MESSAGES: usize = 500;

/// A source, whose messages call the function by what they say.
fn rules(port: u16, function: u16) -> String {
    format!(
        "sources:
  network:
    syslog: {{ tcp: \"127.0.0.1:{port}\" }}
    event: {{ id: <$.body.message> }}
targets:
  function:
    http: {{ url: \"http://127.0.0.1:{function}/\" }}
    delivery: {{ retry: {{ backoff: {{ initial: 20ms, max: 200ms }} }} }}
rules:
  all: {{ from: network, to: function }}
"
    )
}

async fn send(port: u16, round: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let lines = (0..MESSAGES).map(|number| format!("<14>1 - h app - - - {round}-{number}\n"));
    let lines: String = lines.collect();
    stream.write_all(lines.as_bytes()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_outlives_kills_and_what_is_on_its_way_at_a_stop_is_read() {
    let (port, function) = (free_port(), free_port());
    let mut bus = Bus::start(&rules(port, function)).await;
    for round in 0..2 {
        send(port, round).await;
        until("they are stored", async || {
            bus.source("network").await["events"] == MESSAGES
        })
        .await;
        bus.kill();
        bus.spawn();
        bus.ready().await;
    }
    send(port, 2).await;
    assert!(bus.terminate().await.success());
    bus.spawn();
    bus.ready().await;
    // Until now there was nobody to call.
    let sink = Sink::on_port(function, |_| Answer::status(204)).await;
    until("all have arrived", async || {
        sink.ids().len() == 3 * MESSAGES
    })
    .await;
    assert_eq!(bus.counts("all").await["dead"], 0);
}
