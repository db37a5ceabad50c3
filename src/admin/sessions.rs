//! Sessions of browsers, which cannot show a key with each request: who has shown one has a cookie
//! with a random id in its place, for a time. They are held in memory, as hashes, and end with the
//! process.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::guard::Caller;

/// The cookie's name.
pub(super) const COOKIE: &str = "pointsman-session";

/// How long a session lasts: a day's work.
const LASTS: Duration = Duration::from_secs(12 * 60 * 60);

/// Sessions at once: past it the oldest ends.
const SESSIONS_MAX: usize = 256;

/// Those that are open, the oldest first.
#[derive(Default)]
pub(super) struct Sessions(Mutex<VecDeque<Session>>);

struct Session {
    /// A hash: what is compared is of no use to whoever could measure that.
    id: [u8; 32],
    /// Whose key was shown.
    caller: Caller,
    until: Instant,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sessions", self.0.lock().len())
    }
}

impl Sessions {
    /// Opens one for whoever has shown a key. Returns the cookie to set.
    pub(super) fn open(&self, caller: Caller) -> String {
        let id = hex(&rand::random::<[u8; 32]>());
        let (mut open, now) = (self.0.lock(), Instant::now());
        open.retain(|one| one.until > now);
        while open.len() >= SESSIONS_MAX {
            open.pop_front();
        }
        open.push_back(Session {
            id: hash(&id),
            caller,
            until: now + LASTS,
        });
        let seconds = LASTS.as_secs();
        format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}")
    }

    /// Whose key was shown by whoever has the cookie of a session that is open.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<Caller> {
        let (id, now) = (hash(cookie(headers)?), Instant::now());
        let open = self.0.lock();
        let found = open.iter().find(|one| one.id == id && one.until > now);
        found.map(|one| one.caller)
    }

    /// Ends the session that has the cookie.
    pub(super) fn close(&self, headers: &HeaderMap) {
        if let Some(id) = cookie(headers).map(hash) {
            self.0.lock().retain(|one| one.id != id);
        }
    }
}

/// The session's id, as a browser sends it: RFC 6265, section 5.4.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    let pairs = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(set: &str) -> HeaderMap {
        let pair = set.split(';').next().unwrap_or_default();
        let line = format!("theme=dark; {pair}");
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::try_from(line).unwrap())])
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_by_time_by_its_owner_and_where_there_are_too_many() {
        let sessions = Sessions::default();
        let (first, second) = (
            sessions.open(Caller::Key(0)),
            sessions.open(Caller::Viewer(1)),
        );
        assert!(first.contains("; HttpOnly; SameSite=Strict"), "{first}");
        assert_eq!(sessions.find(&with(&first)), Some(Caller::Key(0)));
        assert_eq!(sessions.find(&with(&second)), Some(Caller::Viewer(1)));
        for none in ["", "pointsman-session=", "pointsman-session=00"] {
            assert_eq!(sessions.find(&with(none)), None, "{none:?}");
        }
        sessions.close(&with(&second));
        assert_eq!(sessions.find(&with(&second)), None);
        tokio::time::advance(LASTS).await;
        assert_eq!(sessions.find(&with(&first)), None);
        let first = sessions.open(Caller::Key(0));
        let last = (0..SESSIONS_MAX)
            .map(|_| sessions.open(Caller::Key(0)))
            .last()
            .unwrap();
        assert_eq!(sessions.find(&with(&first)), None);
        assert_eq!(sessions.find(&with(&last)), Some(Caller::Key(0)));
        assert_eq!(format!("{sessions:?}"), "256 sessions");
    }
}
