//! Who sends events to a cluster, who is given them, and what is held against it.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use pointsman_integration_tests::Caller;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// How long an attempt takes, and how long one that outlasts a takeover by far.
const ATTEMPTS: [Duration; 2] = [Duration::from_millis(2), Duration::from_secs(7)];

/// How long it may take that another event arrives once everything is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause of a sender between two events of a subject: about what can be delivered meanwhile.
const PAUSE: Duration = Duration::from_millis(150);

/// An event: of which subject, and the how manieth.
pub type Event = (String, u64);

/// An attempt as the function saw it.
#[derive(Clone, Debug)]
struct Seen {
    node: String,
    task: String,
    subject: String,
    number: u64,
    began: Instant,
    /// None while it is under way.
    ended: Option<Instant>,
    /// Its node is stopped or dead meanwhile, and does nothing.
    is_frozen: bool,
}

#[derive(Debug, Default)]
struct Book {
    attempts: Vec<Seen>,
    /// What was answered.
    arrived: HashSet<Event>,
    frozen: Option<String>,
}

/// A function that takes its time, remembers who called it when, and whether the caller was still
/// there.
pub struct Jury {
    url: String,
    book: Arc<Mutex<Book>>,
    takes: Arc<AtomicBool>,
    server: JoinHandle<()>,
}

/// Ends an attempt: with its answer, or with the caller's hanging up.
struct Attempt(Arc<Mutex<Book>>, usize);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.lock().attempts[self.1].ended = Some(Instant::now());
    }
}

impl Jury {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (book, takes) = (
            Arc::<Mutex<Book>>::default(),
            Arc::new(AtomicBool::new(true)),
        );
        let server = tokio::spawn(serve(listener, Arc::clone(&book), Arc::clone(&takes)));
        Self {
            url,
            book,
            takes,
            server,
        }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Whether it takes what it is given, or answers 503.
    pub fn take(&self, takes: bool) {
        self.takes.store(takes, Ordering::Relaxed);
    }

    /// What a node has under way, or begins until it is thawed, it does not do itself: it is
    /// stopped or dead.
    pub fn freeze(&self, node: usize) {
        let name = format!("node-{node}");
        let mut book = self.book.lock();
        for attempt in &mut book.attempts {
            attempt.is_frozen |= attempt.node == name && attempt.ended.is_none();
        }
        book.frozen = Some(name);
    }

    pub fn thaw(&self) {
        self.book.lock().frozen = None;
    }

    /// Waits until all of these have been delivered; returns what is missing where nothing comes any
    /// more.
    pub async fn missing(&self, acknowledged: &[Acknowledged]) -> Vec<Event> {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let arrived = self.book.lock().arrived.len();
            if arrived >= acknowledged.len() || since.elapsed() > PATIENCE {
                let missing = self.not_delivered(acknowledged);
                if missing.is_empty() || since.elapsed() > PATIENCE {
                    return missing;
                }
            }
            if arrived > before {
                (before, since) = (arrived, Instant::now());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn not_delivered(&self, acknowledged: &[Acknowledged]) -> Vec<Event> {
        let book = self.book.lock();
        let events = acknowledged.iter().map(|of| &of.event);
        events
            .filter(|event| !book.arrived.contains(event))
            .cloned()
            .collect()
    }

    /// When an event was attempted that had been attempted before.
    pub fn repeats(&self) -> Vec<Instant> {
        let book = self.book.lock();
        let mut seen = HashSet::new();
        let repeats = book.attempts.iter().filter_map(|attempt| {
            let is_first = seen.insert((&attempt.subject, attempt.number));
            (!is_first).then_some(attempt.began)
        });
        repeats.collect()
    }

    /// Holds against the cluster what it has done: order of each subject, and no two nodes with the
    /// same task at once.
    pub fn judge(&self) {
        let book = self.book.lock();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        let mut tasks: BTreeMap<&str, Vec<&Seen>> = BTreeMap::new();
        for attempt in &book.attempts {
            // Again is right, back is not.
            let before = last.entry(&attempt.subject).or_default();
            let own = |one: &&Seen| one.subject == attempt.subject;
            assert!(
                attempt.number >= *before,
                "out of order: {attempt:?} after {before}; all of them: {:#?}",
                book.attempts.iter().filter(own).collect::<Vec<_>>()
            );
            *before = attempt.number;
            tasks.entry(&attempt.task).or_default().push(attempt);
        }
        for attempts in tasks.values() {
            for two in attempts.windows(2) {
                let [first, second] = two else { continue };
                let is_over = first.ended.is_some_and(|ended| ended <= second.began);
                assert!(
                    first.node == second.node || is_over || first.is_frozen || second.is_frozen,
                    "two owners at once: {first:?}, {second:?}"
                );
            }
        }
    }
}

impl Drop for Jury {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, book: Arc<Mutex<Book>>, takes: Arc<AtomicBool>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (book, takes) = (Arc::clone(&book), Arc::clone(&takes));
        let service = service_fn(move |request: Request<Incoming>| {
            let (book, takes) = (Arc::clone(&book), takes.load(Ordering::Relaxed));
            async move { Ok::<_, Infallible>(answer(&request, book, takes).await) }
        });
        connections.spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            // The caller has hung up.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    book: Arc<Mutex<Book>>,
    takes: bool,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if !takes {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        return response;
    }
    let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    let number: u64 = header("ce-id").rsplit('-').next().unwrap().parse().unwrap();
    let attempt = {
        let mut own = book.lock();
        let node = header("x-node");
        let is_frozen = own.frozen.as_ref() == Some(&node);
        own.attempts.push(Seen {
            task: header("pointsman-task"),
            subject: header("ce-subject"),
            number,
            began: Instant::now(),
            ended: None,
            is_frozen,
            node,
        });
        let at = own.attempts.len() - 1;
        drop(own);
        Attempt(book, at)
    };
    let [short, long] = ATTEMPTS;
    // One in a hundred of each subject, at other times than those of others.
    let subject = header("ce-subject").bytes().last().map_or(0, u64::from);
    let is_long = (number + 12 * subject) % 100 == 7;
    sleep(if is_long { long } else { short }).await;
    let event = (header("ce-subject"), number);
    attempt.0.lock().arrived.insert(event);
    drop(attempt);
    response
}

/// An event that a node said it has.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub event: Event,
    pub at: Instant,
    /// How long its sender had to try.
    pub waited: Duration,
}

/// Sends the events of some subjects, of each one after the other, to whichever node takes them.
pub struct Sender {
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    stops: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Sender {
    pub fn start(urls: &[String], subjects: usize) -> Self {
        let mut sender = Self {
            acknowledged: Arc::default(),
            stops: Arc::default(),
            tasks: JoinSet::new(),
        };
        let caller = Caller::new();
        for subject in 0..subjects {
            let one = Subject {
                name: format!("s{subject}"),
                urls: urls.to_vec(),
                caller: caller.clone(),
                acknowledged: Arc::clone(&sender.acknowledged),
                stops: Arc::clone(&sender.stops),
            };
            sender.tasks.spawn(one.send());
        }
        sender
    }

    /// How many were acknowledged so far.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().len()
    }

    /// Sends what is begun to its end, and returns all that was acknowledged.
    pub async fn stop(mut self) -> Vec<Acknowledged> {
        self.stops.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut self.acknowledged.lock())
    }
}

struct Subject {
    name: String,
    urls: Vec<String>,
    caller: Caller,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    stops: Arc<AtomicBool>,
}

impl Subject {
    async fn send(self) {
        // Whoever took the last one takes the next.
        let mut urls = self.urls.iter().cycle();
        let mut url = urls.next().unwrap();
        for number in 1.. {
            if self.stops.load(Ordering::Relaxed) {
                return;
            }
            let began = Instant::now();
            // The same event again until somebody has it: it is known by its id.
            while !self.is_taken(url, number).await {
                url = urls.next().unwrap();
                sleep(Duration::from_millis(30)).await;
            }
            self.acknowledged.lock().push(Acknowledged {
                event: (self.name.clone(), number),
                at: Instant::now(),
                waited: began.elapsed(),
            });
            sleep(PAUSE).await;
        }
    }

    async fn is_taken(&self, url: &str, number: u64) -> bool {
        let id = format!("{}-{number}", self.name);
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", id.as_str()),
            ("ce-source", "/jury"),
            ("ce-type", "t"),
            ("ce-subject", self.name.as_str()),
        ];
        let sent = self.caller.call(Method::POST, url, &headers, "x");
        let sent = tokio::time::timeout(Duration::from_secs(5), sent).await;
        matches!(sent, Ok(Ok((202, ..))))
    }
}
