//! A function as a bus calls it: it hands on what it is given and answers as it was told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_schemas::http::{decode, encode_structured, is_cloudevent};
use pointsman_schemas::{Event, Interval, Timestamp, json};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::commands::error::CommandError;
use crate::server;

/// What is taken from one request: well past what a bus sends.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events taken from one request.
const EVENTS_MAX: usize = 10_000;

/// Calls that nobody has taken yet; past that callers wait.
const CALLS_MAX: usize = 1_024;

/// How a function answers.
#[derive(Clone, Debug, clap::Args)]
pub struct Behaviour {
    /// The status to answer with
    #[arg(long, default_value = "200")]
    pub status: StatusCode,
    /// The part of the calls that fail, from 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = part, value_name = "PART")]
    pub fail: f64,
    /// How many calls fail before any succeeds
    #[arg(long, default_value_t = 0, value_name = "CALLS")]
    pub fail_first: u64,
    /// The status of those that fail
    #[arg(long, default_value = "500", value_name = "STATUS")]
    pub fail_status: StatusCode,
    /// How long to wait before each answer, such as 2s
    #[arg(long, value_name = "DURATION")]
    pub slow: Option<Interval>,
    /// The Retry-After of answers that are no success, in seconds
    #[arg(long, value_name = "SECONDS")]
    pub retry_after: Option<u64>,
    /// A file with a CloudEvent in JSON to answer with
    #[arg(long, value_name = "FILE")]
    pub reply: Option<PathBuf>,
    /// Makes the calls that --fail picks the same in every run
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            status: StatusCode::OK,
            fail: 0.0,
            fail_first: 0,
            fail_status: StatusCode::INTERNAL_SERVER_ERROR,
            slow: None,
            retry_after: None,
            reply: None,
            seed: None,
        }
    }
}

fn part(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|part| (0.0..=1.0).contains(part))
        .ok_or_else(|| format!("{text:?} does not lie between 0 and 1"))
}

/// A call that the function got.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// When.
    pub at: Timestamp,
    /// The request's method.
    pub method: Method,
    /// The request's path and query.
    pub uri: Uri,
    /// The request's headers.
    pub headers: HeaderMap,
    /// What it brought.
    pub content: Content,
    /// What it is answered with.
    pub status: StatusCode,
}

/// What a call brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// CloudEvents.
    Events(Vec<Event>),
    /// Something else, perhaps with why it is no CloudEvent though it says that it is one.
    Other(Bytes, Option<String>),
}

impl Call {
    /// A header as text; empty where it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// A function that runs.
#[derive(Debug)]
pub struct Function {
    /// Where it is called.
    pub address: SocketAddr,
    /// Its calls, in the order in which they came. Callers wait while nobody takes them.
    pub calls: mpsc::Receiver<Call>,
    /// Ends after the stop.
    pub task: JoinHandle<()>,
}

impl Function {
    /// Starts a function that runs until `stop`.
    ///
    /// # Errors
    /// The address cannot be had, or the file of the reply holds no CloudEvent.
    pub async fn start(
        address: SocketAddr,
        behaviour: Behaviour,
        stop: CancellationToken,
    ) -> Result<Self, CommandError> {
        let reply = behaviour.reply.as_deref().map(read_reply).transpose()?;
        let failed = |error| {
            CommandError::new(format!("cannot listen on {address}: {error}"))
                .help("stop whoever holds it, or give another --port")
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let (told, calls) = mpsc::channel(CALLS_MAX);
        let random = behaviour
            .seed
            .map_or_else(rand::make_rng, StdRng::seed_from_u64);
        let answering = Arc::new(Answering {
            behaviour,
            reply,
            told,
            state: Mutex::new((0, random)),
        });
        let router = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(answering);
        Ok(Self {
            address,
            calls,
            task: tokio::spawn(server::serve(socket, router, &[], Arc::default(), stop)),
        })
    }
}

#[derive(Debug)]
struct Answering {
    behaviour: Behaviour,
    reply: Option<Event>,
    told: mpsc::Sender<Call>,
    /// Calls so far, and the dice.
    state: Mutex<(u64, StdRng)>,
}

impl Answering {
    fn fails(&self) -> bool {
        let (calls, random) = &mut *self.state.lock();
        *calls += 1;
        // Thrown for every call, so that a seed picks the same ones whatever `fail_first` is.
        let unlucky = random.random_bool(self.behaviour.fail);
        unlucky || *calls <= self.behaviour.fail_first
    }
}

async fn answer(
    State(function): State<Arc<Answering>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let behaviour = &function.behaviour;
    let status = if function.fails() {
        behaviour.fail_status
    } else {
        behaviour.status
    };
    let content = match is_cloudevent(&headers).then(|| decode(&headers, body.clone(), EVENTS_MAX))
    {
        None => Content::Other(body, None),
        Some(Ok(decoded)) => Content::Events(decoded.events),
        Some(Err(error)) => Content::Other(body, Some(error.to_string())),
    };
    // Told when it comes, not when it is answered: a caller who gives up has called all the same.
    let call = Call {
        at: Timestamp::now(),
        method,
        uri,
        headers,
        content,
        status,
    };
    if function.told.send(call).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the function is ending").into_response();
    }
    if let Some(Interval(slow)) = behaviour.slow {
        tokio::time::sleep(slow).await;
    }
    let mut response = match &function.reply {
        Some(reply) if status.is_success() => (status, encode_structured(reply)).into_response(),
        _ => status.into_response(),
    };
    if let Some(seconds) = behaviour.retry_after.filter(|_| !status.is_success()) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn read_reply(path: &Path) -> Result<Event, CommandError> {
    let wrong =
        |error: String| CommandError::new(format!("cannot reply with {}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    json::decode(&bytes.into()).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use clap::Parser;

    use super::*;
    use crate::commands::client::{Answer, Client};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        behaviour: Behaviour,
    }

    struct Running {
        function: Function,
        client: Client,
        stop: CancellationToken,
    }

    impl Running {
        async fn start(line: &str) -> Self {
            let words = format!("listen {line}");
            let behaviour = Line::try_parse_from(words.split_whitespace())
                .unwrap()
                .behaviour;
            let stop = CancellationToken::new();
            let function = Function::start(([127, 0, 0, 1], 0).into(), behaviour, stop.clone())
                .await
                .unwrap();
            let client = Client::new(
                format!("http://{}/function?x=1", function.address)
                    .parse()
                    .unwrap(),
                None,
            )
            .unwrap();
            Self {
                function,
                client,
                stop,
            }
        }

        async fn call(&mut self) -> (Answer, Call) {
            let event = Event::builder("1", "/camera", "photo")
                .subject("a.jpg")
                .build()
                .unwrap();
            let (mut headers, body) = encode_structured(&event);
            for (name, value) in [
                ("pointsman-task", "aa-1-1-0"),
                ("pointsman-attempt", "2"),
                ("pointsman-rule", "thumbnails"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            let answer = self.client.send(Method::POST, headers, body).await.unwrap();
            (answer, self.function.calls.recv().await.unwrap())
        }

        async fn statuses(&mut self, calls: usize) -> Vec<u16> {
            let mut statuses = Vec::new();
            for _ in 0..calls {
                let (answer, call) = self.call().await;
                assert_eq!(answer.status, call.status);
                statuses.push(answer.status.as_u16());
            }
            statuses
        }
    }

    #[tokio::test]
    async fn it_answers_as_it_was_told() {
        for (line, expect) in [
            ("", [200, 200, 200, 200]),
            ("--status 202", [202; 4]),
            ("--fail 1", [500; 4]),
            ("--fail 1 --fail-status 503", [503; 4]),
            ("--fail-first 2", [500, 500, 200, 200]),
            (
                "--fail-first 1 --fail-status 429 --status 204",
                [429, 204, 204, 204],
            ),
        ] {
            assert_eq!(
                Running::start(line).await.statuses(4).await,
                expect,
                "{line}"
            );
        }
        let picked = Running::start("--fail 0.5 --seed 7")
            .await
            .statuses(32)
            .await;
        assert!(picked.contains(&200) && picked.contains(&500));
        assert_eq!(
            Running::start("--fail 0.5 --seed 7")
                .await
                .statuses(32)
                .await,
            picked
        );
    }

    #[tokio::test]
    async fn it_asks_to_be_left_alone_only_where_it_failed() {
        let mut running = Running::start("--fail-first 1 --retry-after 2").await;
        assert_eq!(running.call().await.0.headers["retry-after"], "2");
        assert_eq!(running.call().await.0.headers.get("retry-after"), None);
    }

    #[tokio::test]
    async fn it_is_slow_and_tells_of_a_call_before_it_answers() {
        let mut running = Running::start("--slow 50ms").await;
        let began = Instant::now();
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        let answer = running
            .client
            .send(Method::POST, headers.clone(), body.clone());
        let told = running.function.calls.recv();
        let (answer, told) = tokio::join!(answer, told);
        assert!(answer.is_ok() && told.is_some() && began.elapsed() >= Duration::from_millis(50));
        // One who goes away before the answer has called all the same.
        let mut running = Running::start("--slow 1h").await;
        tokio::select! {
            answer = running.client.send(Method::POST, headers, body) => panic!("answered {answer:?}"),
            told = running.function.calls.recv() => assert!(told.is_some()),
        }
    }

    #[tokio::test]
    async fn it_replies_with_an_event() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("reply.json");
        std::fs::write(
            &file,
            r#"{"specversion":"1.0","id":"r","source":"/f","type":"made"}"#,
        )
        .unwrap();
        let mut running =
            Running::start(&format!("--fail-first 1 --reply {}", file.display())).await;
        assert!(running.call().await.0.body.is_empty());
        let (answer, _) = running.call().await;
        assert_eq!(
            decode(&answer.headers, answer.body, 1).unwrap().events[0].ty(),
            "made"
        );
        let behaviour = Behaviour {
            reply: Some(folder.path().join("none.json")),
            ..Behaviour::default()
        };
        assert!(
            Function::start(
                ([127, 0, 0, 1], 0).into(),
                behaviour,
                CancellationToken::new()
            )
            .await
            .is_err()
        );
    }

    #[tokio::test]
    async fn what_was_called_before_the_stop_is_answered() {
        let Running {
            mut function,
            client,
            stop,
        } = Running::start("--slow 20ms").await;
        let called = tokio::spawn(async move {
            client
                .send(Method::POST, HeaderMap::new(), Bytes::new())
                .await
        });
        function.calls.recv().await.unwrap();
        stop.cancel();
        assert_eq!(called.await.unwrap().unwrap().status, 200);
        function.task.await.unwrap();
    }

    #[tokio::test]
    async fn it_ends_when_stopped_and_says_who_holds_its_port() {
        let running = Running::start("").await;
        let address = running.function.address;
        let error = Function::start(address, Behaviour::default(), CancellationToken::new())
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot listen on {address}: "))
        );
        running.stop.cancel();
        running.function.task.await.unwrap();
    }
}
