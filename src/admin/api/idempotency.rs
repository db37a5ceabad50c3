//! Requests that may be sent twice: the HTTP header field `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header-07).
//!
//! The first request with a key is carried out, whether its sender waits for the answer or not, and
//! its answer is kept. What comes with the same key later is given that answer and changes nothing.
//! Keys are told apart by whoever uses them: one caller's never meets another's.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use pointsman_connectors::listener::Refusal;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::admin::refused::Refused;

/// The header that a caller sends.
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header of an answer that was given before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Answers kept at most, and their bytes: past either the oldest go early.
const ANSWERS_MAX: usize = 10_000;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What an entry takes besides its answer's body, about.
const ENTRY_BYTES: usize = 256;

/// The longest key.
const KEY_CHARS_MAX: usize = 255;

/// How a key is spelt, for the document.
pub(super) const PATTERN: &str =
    r#"^("([ !#-\[\]-~]|\\["\\]){1,255}"(;.*)?|[!#-+\--:<-\[\]-~]{1,255})$"#;

/// When to ask again for an answer that is not there yet.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

type Hash = [u8; 32];

/// A request with a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed {
    /// Whose key, and which.
    scope: Hash,
    /// What is asked for: the same key may not be used for something else.
    fingerprint: Hash,
}

impl Keyed {
    /// Reads the key of a request; none where it has none.
    ///
    /// # Errors
    /// There are several, or what is there is no key.
    pub(super) fn of(
        headers: &HeaderMap,
        path: &str,
        body: &[u8],
    ) -> Result<Option<Self>, Refused> {
        let mut keys = headers.get_all(KEY).into_iter();
        let key = match (keys.next(), keys.next()) {
            (None, _) => return Ok(None),
            (Some(key), None) => key,
            (Some(_), Some(_)) => {
                return Err(Refused::bad_request("Idempotency-Key is there twice"));
            }
        };
        let key = parse(key.as_bytes()).ok_or_else(|| {
            Refused::bad_request(format!(
                "Idempotency-Key is no key; send one of 1 to {KEY_CHARS_MAX} printable characters \
                 in double quotes"
            ))
        })?;
        // The scheme may be spelt in any way; what follows it is whose key it is. A browser has its
        // session in the place of one.
        let caller = match headers.get(header::AUTHORIZATION) {
            Some(shown) => {
                let shown = shown.as_bytes();
                shown
                    .split_at_checked(7)
                    .map_or(shown, |(_, key)| key.trim_ascii())
            }
            None => headers
                .get(header::COOKIE)
                .map_or(&b""[..], HeaderValue::as_bytes),
        };
        Ok(Some(Self {
            scope: hash([caller, key.as_bytes()]),
            fingerprint: hash([path.as_bytes(), body]),
        }))
    }
}

/// A hash of several texts that no other several texts have.
fn hash<'t>(texts: impl IntoIterator<Item = &'t [u8]>) -> Hash {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// A key as a string of RFC 9651, section 3.3.3, or bare, as many clients send it. Parameters
/// behind it mean nothing.
fn parse(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_matches(' ');
    let key = match text.strip_prefix('"') {
        Some(quoted) => unquoted(quoted)?,
        None => {
            let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | ',' | ';' | '\\');
            text.chars().all(is_plain).then(|| text.to_owned())?
        }
    };
    (1..=KEY_CHARS_MAX).contains(&key.len()).then_some(key)
}

/// The string that a quote opened.
fn unquoted(text: &str) -> Option<String> {
    let (mut key, mut chars) = (String::new(), text.chars());
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => key.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            c @ ' '..='~' => key.push(c),
            _ => return None,
        }
    }
    let rest = chars.as_str();
    (rest.is_empty() || rest.starts_with(';')).then_some(key)
}

/// An answer that can be given again.
#[derive(Clone, Debug)]
struct Answer {
    status: StatusCode,
    media_type: Option<HeaderValue>,
    body: Bytes,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        // It was made in memory, so it can be read.
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        Self {
            status: parts.status,
            media_type: parts.headers.get(header::CONTENT_TYPE).cloned(),
            body,
        }
    }

    fn response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        if let Some(media_type) = self.media_type {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, media_type);
        }
        response
    }
}

#[derive(Debug)]
struct Entry {
    fingerprint: Hash,
    /// None while the first request with the key is carried out.
    answer: Option<Answer>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<Hash, Entry>,
    /// The answered ones, the oldest first, and since when.
    order: VecDeque<(Instant, Hash)>,
    bytes: usize,
}

impl Kept {
    /// Drops answers that are too old, or too many.
    fn tidy(&mut self, now: Instant) {
        while let Some((at, scope)) = self.order.front().copied() {
            let is_due = now.saturating_duration_since(at) >= KEPT_FOR;
            if !is_due && self.order.len() <= ANSWERS_MAX && self.bytes <= ANSWER_BYTES_MAX {
                break;
            }
            self.order.pop_front();
            if let Some(Entry {
                answer: Some(answer),
                ..
            }) = self.entries.remove(&scope)
            {
                self.bytes = self.bytes.saturating_sub(answer.body.len() + ENTRY_BYTES);
            }
        }
    }
}

/// The answers that were given to requests with keys. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(in crate::admin) struct Answers {
    kept: Arc<Mutex<Kept>>,
    /// What is carried out, whether somebody waits for it or not.
    running: TaskTracker,
}

/// What is known of a key.
enum Known {
    /// Nothing: this is the first request with it.
    Nothing,
    Answered(Answer),
    Running,
    /// It was used for something else.
    OtherRequest,
}

impl Answers {
    /// Carries a request out unless that has been done already, and returns its answer.
    pub(super) async fn once(
        &self,
        keyed: Keyed,
        work: impl Future<Output = Response> + Send + 'static,
    ) -> Response {
        let refused = match self.begin(keyed) {
            Known::Nothing => return self.carry_out(keyed, work).await,
            Known::Answered(answer) => {
                let mut response = answer.response();
                let headers = response.headers_mut();
                headers.insert(REPLAYED, HeaderValue::from_static("true"));
                return response;
            }
            Known::Running => Refusal::new(
                StatusCode::CONFLICT,
                "the first request with this Idempotency-Key is still being carried out; send it \
                 again later",
            )
            .retry_after(AGAIN_AFTER),
            Known::OtherRequest => Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was used for another request; take a new key for each",
            ),
        };
        Refused::from(refused).into_response()
    }

    fn begin(&self, Keyed { scope, fingerprint }: Keyed) -> Known {
        let mut kept = self.kept.lock();
        kept.tidy(Instant::now());
        match kept.entries.get(&scope) {
            Some(entry) if entry.fingerprint != fingerprint => Known::OtherRequest,
            Some(Entry {
                answer: Some(answer),
                ..
            }) => Known::Answered(answer.clone()),
            Some(_) => Known::Running,
            None => {
                let answer = None;
                kept.entries.insert(
                    scope,
                    Entry {
                        fingerprint,
                        answer,
                    },
                );
                Known::Nothing
            }
        }
    }

    /// In a task of its own, so that it is done, and its answer kept, also where its sender has
    /// hung up meanwhile: whoever does not know sends it again.
    async fn carry_out(
        &self,
        keyed: Keyed,
        work: impl Future<Output = Response> + Send + 'static,
    ) -> Response {
        let forget = Forget {
            answers: self.clone(),
            scope: keyed.scope,
        };
        let task = self.running.spawn(async move {
            let answer = Answer::of(work.await).await;
            forget.answers.end(&forget, &answer);
            answer
        });
        match task.await {
            Ok(answer) => answer.response(),
            Err(_) => {
                let detail = "the bus made a mistake; whether this was done is not known";
                Refused::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
            }
        }
    }

    /// Keeps an answer, unless it says that the bus could not do it now: then it may be tried again
    /// with the same key.
    fn end(&self, Forget { scope, .. }: &Forget, answer: &Answer) {
        if answer.status.is_server_error() {
            return;
        }
        let (mut kept, now) = (self.kept.lock(), Instant::now());
        if let Some(entry) = kept.entries.get_mut(scope) {
            entry.answer = Some(answer.clone());
            kept.bytes += answer.body.len() + ENTRY_BYTES;
            kept.order.push_back((now, *scope));
        }
        kept.tidy(now);
    }

    /// Waits until everything is carried out, but no longer than `at_most`.
    pub(in crate::admin) async fn wait(&self, at_most: Duration) {
        self.running.close();
        if tokio::time::timeout(at_most, self.running.wait())
            .await
            .is_err()
        {
            tracing::warn!("changes that were asked for are not done yet; the bus stops");
        }
    }
}

/// Forgets a key that has no answer when whoever carries it out is done, also by a panic.
struct Forget {
    answers: Answers,
    scope: Hash,
}

impl Drop for Forget {
    fn drop(&mut self) {
        let mut kept = self.answers.kept.lock();
        if kept
            .entries
            .get(&self.scope)
            .is_some_and(|entry| entry.answer.is_none())
        {
            kept.entries.remove(&self.scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn keyed(caller: &str, key: &str, body: &str) -> Keyed {
        let mut headers = HeaderMap::new();
        let caller = format!("Bearer {caller}");
        headers.insert(
            header::AUTHORIZATION,
            HeaderValue::try_from(caller).unwrap(),
        );
        headers.insert(KEY, HeaderValue::try_from(key).unwrap());
        Keyed::of(&headers, "/x", body.as_bytes()).unwrap().unwrap()
    }

    async fn text(response: Response) -> (u16, bool, String) {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let replayed = parts.headers.contains_key(REPLAYED);
        (
            parts.status.as_u16(),
            replayed,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    #[test]
    fn a_key_is_a_string_or_a_bare_word() {
        for (value, expect) in [
            (&br#""a b""#[..], Some("a b")),
            (br#""a\"\\b""#, Some(r#"a"\b"#)),
            (br#""a";q=1"#, Some("a")),
            (
                b"8e03978e-40d5-43e8-bc93-6894a57f9324",
                Some("8e03978e-40d5-43e8-bc93-6894a57f9324"),
            ),
            (b"", None),
            (br#""""#, None),
            (br#""a"#, None),
            (br#""a\n""#, None),
            (br#""a" "b""#, None),
            (b"a, b", None),
            (b"a b", None),
            ("\"ü\"".as_bytes(), None),
            (b"\xff", None),
        ] {
            assert_eq!(
                parse(value).as_deref(),
                expect,
                "{:?}",
                String::from_utf8_lossy(value)
            );
        }
        for (chars, expect) in [(255, true), (256, false)] {
            let quoted = format!("\"{}\"", "k".repeat(chars));
            assert_eq!(parse(quoted.as_bytes()).is_some(), expect, "{chars}");
        }
        let mut headers = HeaderMap::new();
        assert!(Keyed::of(&headers, "/x", b"").unwrap().is_none());
        headers.append(KEY, HeaderValue::from_static("a"));
        headers.append(KEY, HeaderValue::from_static("a"));
        assert!(Keyed::of(&headers, "/x", b"").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_answered_is_answered_again_for_a_day() {
        let (answers, done) = (Answers::default(), Arc::new(AtomicUsize::new(0)));
        let ask = async |keyed| {
            let done = Arc::clone(&done);
            let work = async move {
                format!("{}", done.fetch_add(1, Ordering::Relaxed) + 1).into_response()
            };
            text(answers.once(keyed, work).await).await
        };
        let first = keyed("a", "k", "b");
        assert_eq!(ask(first).await, (200, false, "1".to_owned()));
        assert_eq!(ask(first).await, (200, true, "1".to_owned()));
        assert_eq!(ask(keyed("a", "\"k\"", "b")).await.2, "1", "quoted or not");
        assert_eq!(ask(keyed("a", "k", "other")).await.0, 422);
        assert_eq!(ask(keyed("b", "k", "b")).await.2, "2", "of somebody else");
        assert_eq!(ask(keyed("a", "l", "b")).await.2, "3", "another key");
        tokio::time::advance(KEPT_FOR - Duration::from_secs(1)).await;
        assert!(ask(first).await.1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ask(first).await, (200, false, "4".to_owned()));
        assert_eq!(
            answers.kept.lock().entries.len(),
            1,
            "the others have gone as well"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_carried_out_though_nobody_waits_and_meanwhile_is_a_conflict() {
        let (answers, key) = (Answers::default(), keyed("a", "k", "b"));
        let (go, gone) = oneshot::channel::<()>();
        let first = answers.once(key, async {
            gone.await.unwrap();
            "done".into_response()
        });
        // Its sender hangs up.
        assert!(
            tokio::time::timeout(Duration::from_secs(1), first)
                .await
                .is_err()
        );
        let again = async || {
            let work = async { panic!("it is carried out twice") };
            text(answers.once(key, work).await).await
        };
        assert_eq!(again().await.0, 409);
        go.send(()).unwrap();
        answers.wait(Duration::from_secs(5)).await;
        assert_eq!(again().await, (200, true, "done".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_done_may_be_tried_again() {
        let (answers, key) = (Answers::default(), keyed("a", "k", "b"));
        let failed = async { StatusCode::SERVICE_UNAVAILABLE.into_response() };
        assert_eq!(text(answers.once(key, failed).await).await.0, 503);
        let broken = async { panic!("a mistake") };
        assert_eq!(text(answers.once(key, broken).await).await.0, 500);
        let refused = async { StatusCode::NOT_FOUND.into_response() };
        assert_eq!(text(answers.once(key, refused).await).await.0, 404);
        let never = async { panic!("it has an answer") };
        assert_eq!(
            text(answers.once(key, never).await).await,
            (404, true, String::new())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_kept_than_there_is_room_for() {
        let answers = Answers::default();
        let large = "x".repeat(1024 * 1024);
        for number in 0..40 {
            let (key, large) = (keyed("a", &format!("{number}"), ""), large.clone());
            answers
                .once(key, async move { large.into_response() })
                .await;
        }
        assert!(answers.kept.lock().bytes <= ANSWER_BYTES_MAX);
        assert_eq!(answers.kept.lock().entries.len(), 15);
        for number in 0..ANSWERS_MAX + 10 {
            let key = keyed("b", &format!("{number}"), "");
            answers.once(key, async { ().into_response() }).await;
        }
        let kept = answers.kept.lock();
        assert_eq!(
            (kept.entries.len(), kept.order.len()),
            (ANSWERS_MAX, ANSWERS_MAX)
        );
        assert_eq!(kept.bytes, ANSWERS_MAX * ENTRY_BYTES);
    }
}
