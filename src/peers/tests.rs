//! Shards asked over real sockets: what goes over, and what each failure is told as.

use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;
use pointsman_connectors::listener::Refusal;
use pointsman_journal::memory::{MemoryJournal, MemoryOptions, RuntimeClock};
use pointsman_journal::sharded::Sharded;
use pointsman_journal::suite::{START, append_of, entry, stored, wanted};
use pointsman_journal::{Append, DeadSelection, EventsFrom, Journal, JournalError, Shard};
use pointsman_peer::{Remote, Shards};
use pointsman_schemas::{Clock, JournalId, Reject, Sequence, SystemClock, Text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::admin::spare::Joined;
use crate::admin::testing::TestBus;
use crate::admin::{AdminListener, AdminSettings};

const KEY: &str = "a-key-of-the-cluster-77";

fn number(number: u16) -> ShardNumber {
    ShardNumber::new(number).unwrap()
}

/// A node that owns one shard, as long as it does.
#[derive(Debug)]
struct Owner(Mutex<Option<Arc<MemoryJournal>>>);

impl Owner {
    fn new() -> (Arc<Self>, Arc<MemoryJournal>) {
        let clock = Arc::new(RuntimeClock::new(START));
        let own = MemoryJournal::shard(clock, MemoryOptions::default(), number(3));
        (Arc::new(Self(Mutex::new(Some(Arc::clone(&own))))), own)
    }
}

impl Shards for Owner {
    fn here(&self, number: ShardNumber) -> Option<Arc<dyn Shard>> {
        let own = self.0.lock().clone()? as Arc<dyn Shard>;
        (own.number() == Some(number)).then_some(own)
    }
}

fn remote_at(address: impl ToString, key: Option<&str>) -> Remote {
    let key = key.map(|key| Secret::new(key.to_owned()));
    let node = PeerNode::new(&address.to_string(), key.as_ref()).unwrap();
    Remote::new(number(3), Arc::new(node))
}

fn one(id: &str) -> Append {
    append_of(vec![entry(id, &[])])
}

/// What an append, a command and a read are told: each the same.
async fn told(remote: &Remote) -> JournalError {
    let append = remote.append(one("1")).await.unwrap_err();
    assert_eq!(remote.cancel(&[]).await.unwrap_err(), append);
    assert_eq!(remote.reader().totals().await.unwrap_err(), append);
    append
}

fn away(address: impl std::fmt::Display, why: &str) -> JournalError {
    JournalError::Away(format!("shard 3: cannot ask the node at {address}: {why}"))
}

#[tokio::test]
async fn a_shard_of_another_node_is_asked_over_its_admin_listener() {
    let (owner, own) = Owner::new();
    let bus = TestBus::start_with(Some(owner), &[KEY]).await;
    let remote = remote_at(bus.address, Some(KEY));
    let numbers = remote.subscribe(vec![wanted("r")]).await.unwrap();
    let ids: Vec<_> = (0..600).map(|id| id.to_string()).collect();
    let each = ids
        .iter()
        .map(|id| remote.append(append_of(vec![entry(id, &numbers)])));
    let appended = join_all(each).await;
    let sequences: Vec<_> = appended
        .into_iter()
        .map(|appended| stored(appended.unwrap()[0]))
        .collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    let pending = remote
        .reader()
        .pending(numbers[0], None, 1_000)
        .await
        .unwrap();
    assert_eq!(pending.len(), 600);
    assert_eq!(remote.cancel(&[pending[7].id]).await, Ok(1));
    let from = EventsFrom::After(Sequence(0));
    let page = own.reader().events(from, 1_000, usize::MAX).await.unwrap();
    assert!(page.events.iter().map(|stored| stored.event.id()).eq(&ids));

    // Larger than what the rest of the API takes.
    let raw = Bytes::from(vec![b'x'; 4 << 20]);
    let reason = "large".to_owned();
    let rejects = vec![Reject {
        raw: raw.clone(),
        reason,
    }];
    let large = Append {
        rejects,
        ..one("large")
    };
    remote.append(large).await.unwrap();
    let dead = remote
        .reader()
        .dead(&DeadSelection::default(), None, 9)
        .await
        .unwrap();
    assert_eq!(dead[0].raw, raw);
}

#[tokio::test]
async fn who_does_not_own_the_shard_or_does_not_know_the_key_has_done_nothing() {
    let (owner, own) = Owner::new();
    let bus = TestBus::start_with(Some(Arc::clone(&owner) as _), &[KEY]).await;
    let remote = remote_at(bus.address, Some(KEY));
    remote.append(one("0")).await.unwrap();
    *owner.0.lock() = None;
    let not_owned = "shard 3: the node that was asked does not own it";
    assert_eq!(
        told(&remote).await,
        JournalError::Away(not_owned.to_owned())
    );

    let wrong = remote_at(bus.address, Some("another-key-of-22-bytes"));
    let refused = "it answered 401 Unauthorized: the key is not one of this bus's";
    assert_eq!(told(&wrong).await, away(bus.address, refused));
    let none = remote_at(bus.address, None);
    let refused = "it answered 401 Unauthorized: this bus wants a key; send Authorization: Bearer \
                   and the key";
    assert_eq!(told(&none).await, away(bus.address, refused));

    let alone = TestBus::start(&[]).await;
    let refused = "it answered 404 Not Found: there is no shard here: this bus runs on one machine";
    assert_eq!(
        told(&remote_at(alone.address, None)).await,
        away(alone.address, refused)
    );

    let settings = AdminSettings {
        address: "127.0.0.1:0".into(),
        auth: vec![Text::from(KEY)],
        viewers: Vec::new(),
    };
    let spare = AdminListener::bind(&settings).await.unwrap();
    let (address, stop) = (spare.address(), CancellationToken::new());
    let serving = tokio::spawn(spare.serve_spare(Joined::default(), stop.clone()));
    let of_spare = told(&remote_at(address, Some(KEY))).await;
    assert_eq!(of_spare, JournalError::Away(not_owned.to_owned()));
    stop.cancel();
    serving.await.unwrap();
    assert_eq!(own.reader().totals().await.unwrap().events, 1);
}

#[tokio::test]
async fn what_is_no_call_is_refused_before_a_shard_is_asked() {
    let (owner, _own) = Owner::new();
    let bus = TestBus::start_with(Some(owner), &[]).await;
    for (path, expect) in [
        ("/api/v1/shards/3/calls", 200),
        ("/api/v1/shards/4/calls", 200),
        ("/api/v1/shards/32768/calls", 400),
        ("/api/v1/shards/x/calls", 400),
    ] {
        let answer = bus.ask("POST", path, &[], "garbage").await;
        assert_eq!(answer.status, expect, "{path}");
        let is_problem = answer.headers["content-type"] == Refusal::MEDIA_TYPE;
        assert_eq!(is_problem, expect != 200, "{path}");
    }
    let large = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let answer = bus.ask("POST", "/api/v1/shards/3/calls", &[], &large).await;
    assert_eq!(answer.status, 413);
    let elsewhere = [("origin", "https://evil.example")];
    let answer = bus
        .ask("POST", "/api/v1/shards/3/calls", &elsewhere, "")
        .await;
    assert_eq!(answer.status, 403);
}

/// What becomes of a node that was asked.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It dies before it has read anything.
    Unread,
    /// It dies once it has the whole call.
    Unanswered,
    /// It dies within its answer.
    Cut,
    /// It answers this with 200.
    Says(&'static [u8]),
    /// It answers this, as HTTP.
    Answers(&'static str),
}

/// A node to whom that happens with every call.
async fn doomed(fate: Fate) -> std::net::SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            // Whoever asks has gone, mostly.
            let _ = meet(stream, fate).await;
        }
    });
    address
}

async fn meet(mut stream: TcpStream, fate: Fate) -> std::io::Result<()> {
    if let Fate::Unread = fate {
        return Ok(());
    }
    let mut call = Vec::new();
    while !is_whole(&call) {
        stream.read_buf(&mut call).await?;
    }
    let answer = match fate {
        Fate::Unread | Fate::Unanswered => Vec::new(),
        Fate::Cut => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\x01".to_vec(),
        Fate::Says(bytes) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
            [head.as_bytes(), bytes].concat()
        }
        Fate::Answers(text) => text.as_bytes().to_vec(),
    };
    stream.write_all(&answer).await
}

/// Whether all of a request is there, by its Content-Length.
fn is_whole(call: &[u8]) -> bool {
    let text = String::from_utf8_lossy(call);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.to_ascii_lowercase();
    let length = length.split_once("content-length: ").unwrap().1;
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    call.len() == head.len() + 4 + length
}

#[tokio::test]
async fn what_was_sent_to_a_node_that_dies_may_have_happened() {
    for fate in [
        Fate::Unread,
        Fate::Unanswered,
        Fate::Cut,
        Fate::Says(b""),
        Fate::Says(b"\x01\x07"),
        Fate::Says(b"\x09whatever"),
        Fate::Says(b"<html>a page</html>"),
        Fate::Answers("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        Fate::Answers("nonsense\r\n\r\n"),
    ] {
        let remote = remote_at(doomed(fate).await, None);
        let told = remote.append(one("1")).await.unwrap_err();
        assert!(matches!(told, JournalError::Io(_)), "{fate:?}: {told:?}");
        let told = remote.reader().totals().await.unwrap_err();
        assert!(matches!(told, JournalError::Io(_)), "{fate:?}: {told:?}");
    }
}

#[tokio::test]
async fn a_node_that_dies_while_it_numbers_subscriptions_is_asked_again_elsewhere() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (journal, slots) = Sharded::of_slots(1, JournalId(7), &clock).unwrap();
    let dying = remote_at(doomed(Fate::Unanswered).await, None);
    slots[0].put_there(Some(Arc::new(dying)));
    let refused = journal.subscribe(vec![wanted("r")]).await.unwrap_err();
    assert!(matches!(refused, JournalError::Away(_)), "{refused:?}");

    let (owner, _own) = Owner::new();
    let bus = TestBus::start_with(Some(owner), &[]).await;
    slots[0].put_there(Some(Arc::new(remote_at(bus.address, None))));
    let numbers = journal.subscribe(vec![wanted("r")]).await.unwrap();
    assert_eq!(numbers.len(), 1);
}

#[tokio::test]
async fn what_never_reached_a_node_has_not_happened() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let refused = told(&remote_at(address, None)).await;
    let JournalError::Away(why) = &refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_node_that_was_asked_before_and_is_gone_has_done_nothing() {
    let (owner, _own) = Owner::new();
    let bus = TestBus::start_with(Some(owner), &[]).await;
    let (address, remote) = (bus.address, remote_at(bus.address, None));
    remote.append(one("1")).await.unwrap();
    drop(bus);
    // Its listener is closed once it has stopped; until then it answers.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let gone = told(&remote).await;
    assert!(matches!(gone, JournalError::Away(_)), "{gone:?}");
}

#[tokio::test]
async fn a_node_that_does_not_accept_is_not_waited_for_long() {
    // Nothing accepts here, so calls wait for an answer and the rest for their turn.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = PeerNode::new(&silent.local_addr().unwrap().to_string(), None).unwrap();
    let node = Arc::new(node);
    let ask = |shard| {
        let node = Arc::clone(&node);
        async move { node.call(number(shard), Bytes::new()).await }
    };
    let mut under_way = tokio::task::JoinSet::new();
    for _ in 0..CALLS_MAX {
        under_way.spawn(ask(1));
    }
    while node.turns.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let refused = ask(2).await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Unsent(why) if why.contains("under way")),
        "{refused}"
    );
}

#[test]
fn what_is_no_address_or_no_key_is_refused_and_no_key_is_shown() {
    assert!(PeerNode::new("no address", None).is_err());
    let key = Secret::new("hunter2\n".to_owned());
    let refused = PeerNode::new("127.0.0.1:1", Some(&key)).unwrap_err();
    assert!(!refused.contains("hunter2"), "{refused}");
    let key = Secret::new("hunter2".to_owned());
    let node = PeerNode::new("127.0.0.1:1", Some(&key)).unwrap();
    assert!(!format!("{node:?}").contains("hunter2"));
}
