//! A load generator that costs little, for the benchmarks: prebuilt HTTP/1.1 requests over kept
//! connections, one in flight on each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How wide the id in a request is.
const ID_DIGITS: usize = 12;

/// What the id of an event of a paced load begins with; the rest is when it was sent.
const PACED: u8 = b't';

/// Times of sending are told modulo this many microseconds, more than a day.
const TIMES: u64 = 100_000_000_000;

/// What a load came to.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Requests answered 2xx.
    pub answered: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
}

impl Measured {
    /// Answers per second.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate needs no more than 52 bits"
    )]
    pub fn per_second(self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }
}

/// How long a load lasts.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// Until this time is over.
    For(Duration),
    /// Until this many requests have been made.
    Requests(u64),
}

/// An event of about `bytes` in binary mode, as a request with a place for its id.
#[must_use]
pub fn binary_request(address: &str, ty: &str, bytes: usize) -> (Vec<u8>, usize) {
    let data = format!(
        r#"{{"customer":"c-1042","total":250,"status":"paid","note":"{}"}}"#,
        noise(bytes.saturating_sub(200))
    );
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: {address}\r\nce-specversion: 1.0\r\nce-source: /bench\r\nce-type: {ty}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nce-id: ",
        data.len()
    );
    let at = head.len();
    (
        format!("{head}{}\r\n\r\n{data}", "0".repeat(ID_DIGITS)).into_bytes(),
        at,
    )
}

/// Text that cannot be packed, the same each time (a linear congruential generator, Knuth's).
fn noise(length: usize) -> String {
    let mut state = 1_u64;
    let digit = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from_digit((state >> 32) as u32 % 36, 36)
    };
    (0..length).filter_map(digit).collect()
}

/// Sends a request over and over, with a new id each time, on `connections` connections, and waits
/// for each answer.
///
/// # Panics
/// Where the server breaks off, or answers something that is not HTTP/1.1 with a length.
pub async fn run(
    address: &str,
    request: &(Vec<u8>, usize),
    connections: usize,
    amount: Amount,
) -> Measured {
    let begin = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let (address, (mut request, at), next) =
            (address.to_owned(), request.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address)
                .await
                .expect("the server listens");
            stream.set_nodelay(true).expect("a socket takes options");
            let (mut answer, mut answered) = (vec![0; 4_096], 0_u64);
            loop {
                let id = next.fetch_add(1, Ordering::Relaxed);
                let over = match amount {
                    Amount::For(time) => begin.elapsed() >= time,
                    Amount::Requests(count) => id >= count,
                };
                if over {
                    return answered;
                }
                write_id(&mut request, at, &format!("{id:0ID_DIGITS$}"));
                stream.write_all(&request).await.expect("the server reads");
                answered += u64::from(read_answer(&mut stream, &mut answer).await);
            }
        });
    }
    let answered = tasks.join_all().await.into_iter().sum();
    Measured {
        answered,
        elapsed: begin.elapsed(),
    }
}

/// Sends a request at a pace, whatever the server answers meanwhile, on `connections` connections.
/// Each event's id says when it was to be sent.
///
/// # Panics
/// As [`run`].
pub async fn paced(
    address: &str,
    request: &(Vec<u8>, usize),
    connections: u32,
    per_second: f64,
    time: Duration,
) -> Measured {
    let requests = Arc::from([request.clone()]);
    paced_in_turn(address, requests, connections, per_second, time).await
}

/// As [`paced`], with several requests that take turns.
///
/// # Panics
/// As [`run`], and where there is none.
pub async fn paced_in_turn(
    address: &str,
    requests: Arc<[(Vec<u8>, usize)]>,
    connections: u32,
    per_second: f64,
    time: Duration,
) -> Measured {
    let begin = Instant::now();
    let step = Duration::from_secs_f64(f64::from(connections) / per_second);
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let (address, requests) = (address.to_owned(), Arc::clone(&requests));
        let mut turns = (number as usize..).step_by(connections as usize);
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address)
                .await
                .expect("the server listens");
            stream.set_nodelay(true).expect("a socket takes options");
            let (mut answer, mut answered) = (vec![0; 4_096], 0_u64);
            let mut due = begin + step * number / connections;
            while due - begin < time {
                let turn = turns.next().unwrap_or_default() % requests.len();
                let (mut request, at) = requests.get(turn).cloned().expect("there is one");
                // A timer rings up to a millisecond late, which is no delay of the server's; an
                // answer that comes after the next request was due is.
                let sent = if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                    now_micros()
                } else {
                    let late = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                    (now_micros() + TIMES).saturating_sub(late) % TIMES
                };
                let digits = ID_DIGITS - 1;
                write_id(
                    &mut request,
                    at,
                    &format!("{}{sent:0digits$}", char::from(PACED)),
                );
                stream.write_all(&request).await.expect("the server reads");
                answered += u64::from(read_answer(&mut stream, &mut answer).await);
                due += step;
            }
            answered
        });
    }
    let answered = tasks.join_all().await.into_iter().sum();
    Measured {
        answered,
        elapsed: begin.elapsed(),
    }
}

fn write_id(request: &mut [u8], at: usize, id: &str) {
    request
        .get_mut(at..at + ID_DIGITS)
        .expect("the id has its place")
        .copy_from_slice(id.as_bytes());
}

/// The time of day in microseconds, without the days.
#[must_use]
pub fn now_micros() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_micros() % u128::from(TIMES)).unwrap_or_default()
}

/// How long ago an event of a paced load was sent, in microseconds; nothing where it is of another
/// load.
#[must_use]
pub fn micros_since_sent(id: &HeaderValue) -> Option<u64> {
    let sent: u64 = id
        .to_str()
        .ok()?
        .strip_prefix(char::from(PACED))?
        .parse()
        .ok()?;
    Some((now_micros() + TIMES - sent) % TIMES)
}

/// Reads one answer and tells whether it was a 2xx.
async fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    let mut filled = 0;
    loop {
        let read = stream
            .read(buffer.get_mut(filled..).expect("an answer is short"))
            .await
            .expect("the server answers");
        assert!(read > 0, "the server broke off");
        filled += read;
        let so_far = buffer.get(..filled).expect("what was read is there");
        let Some(end) = so_far.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(so_far.get(..end).expect("the end lies inside"))
            .to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |text| text.trim().parse().expect("a length is a number"));
        if filled >= end + 4 + length {
            return head.get(9..10) == Some("2");
        }
    }
}

/// The figure that so large a part of all figures, of 1, does not exceed.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place among the figures"
)]
pub fn quantile(mut figures: Vec<f64>, part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let place = (figures.len() as f64 * part).ceil() as usize;
    figures
        .get(place.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The middle one of several figures.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
