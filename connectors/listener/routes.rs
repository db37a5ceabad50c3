//! Who answers on which path.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::request::Parts;
use parking_lot::RwLock;
use pointsman_schemas::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::caller::Caller;
use super::refusal::Refusal;
use super::{Limits, Response};

/// Takes the requests to one path. `POST` brings something, and `PUT` where the handler takes it,
/// `OPTIONS` asks for consent, `GET` and `HEAD` ask whether somebody is there where the handler
/// answers them; the listener refuses all else.
pub trait Handler: fmt::Debug + Send + Sync {
    /// Whether a `POST` with this head may bring its body. Called before any of the body is read.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, head: &Parts) -> Result<(), Refusal>;

    /// Takes a `POST` (or `PUT`) that was let in; may begin before the future is polled. Goes on
    /// where the caller hangs up, so it answers within a bounded time; dropped at the end of a
    /// drain.
    ///
    /// # Errors
    /// Why what it brought is not taken.
    fn post(&self, request: Request) -> BoxFuture<'_, Result<Response, Refusal>>;

    /// Whether a `PUT` brings something as a `POST` does.
    fn takes_put(&self) -> bool {
        false
    }

    /// What a `GET` or a `HEAD` is answered, by which some senders see whether an address is the
    /// registrant's; none where it is refused.
    fn get(&self, _head: &Parts) -> Option<Result<Response, Refusal>> {
        None
    }

    /// The longest body that is taken, packed or not, where it is not the listener's own bound.
    fn max_body_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether a sender may send here: the abuse protection of CloudEvents HTTP webhooks 1.0.2,
    /// section 4. Not an authorization.
    fn consents_to(&self, origin: &str) -> bool;
}

/// A request with its body.
#[derive(Debug)]
pub struct Request {
    /// Method, address and headers.
    pub head: Parts,
    /// The whole body, unpacked where it came packed.
    pub body: Bytes,
    /// A packed body (`Content-Encoding: gzip`) as it came, which may be what is signed.
    pub packed: Option<Bytes>,
    /// The request's part of the bytes that may be taken in at once. To be kept until what it
    /// brought is stored.
    pub held: OwnedSemaphorePermit,
    /// Whoever sends it.
    pub caller: Caller,
}

/// The table of paths, shared between the listener and the sources. Cloning is cheap.
#[derive(Clone)]
pub struct Routes(Arc<Table>);

struct Table {
    /// By path; the last of a path's routes is in force.
    paths: RwLock<BTreeMap<String, Vec<Route>>>,
    ids: AtomicU64,
    bytes: Arc<Semaphore>,
    /// How many permits `bytes` was given; grows with the largest body that anybody takes. Changed
    /// under the lock of `paths`.
    bytes_max: AtomicUsize,
    max_body_bytes: u64,
    limits: Limits,
}

struct Route {
    id: u64,
    owner: String,
    handler: Arc<dyn Handler>,
}

/// Another owner answers on the path already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {path} is taken by {owner}; give each source a path of its own")]
pub struct PathTaken {
    /// Which path.
    pub path: String,
    /// Who has it.
    pub owner: String,
}

impl From<PathTaken> for crate::OpenError {
    fn from(taken: PathTaken) -> Self {
        Self(Problem::new(taken.to_string()).at("path"))
    }
}

impl Routes {
    /// No paths yet. No body may be longer than `max_body_bytes`.
    #[must_use]
    pub fn new(max_body_bytes: u64, limits: Limits) -> Self {
        let bytes = limits
            .in_flight_bytes
            .max(request_bytes_max(max_body_bytes))
            .min(Semaphore::MAX_PERMITS);
        let (paths, ids, bytes_max) = (
            RwLock::default(),
            AtomicU64::new(0),
            AtomicUsize::new(bytes),
        );
        Self(Arc::new(Table {
            paths,
            ids,
            bytes: Arc::new(Semaphore::new(bytes)),
            bytes_max,
            max_body_bytes,
            limits,
        }))
    }

    /// Lets `handler` answer on `path` until the attachment is dropped.
    ///
    /// Where `owner` (a source, say) answers there already, the new handler takes over at once, and
    /// the old one is back when the new attachment is dropped before the old: so that a reload
    /// leaves no gap, whichever way it ends.
    ///
    /// # Errors
    /// [`PathTaken`] by another owner.
    pub fn attach(
        &self,
        path: &str,
        owner: &str,
        handler: Arc<dyn Handler>,
    ) -> Result<Attachment, PathTaken> {
        let mut paths = self.0.paths.write();
        let routes = paths.entry(path.to_owned()).or_default();
        if let Some(other) = routes.iter().find(|route| route.owner != owner) {
            return Err(PathTaken {
                path: path.to_owned(),
                owner: other.owner.clone(),
            });
        }
        if let Some(max) = handler.max_body_bytes() {
            let (now, wanted) = (
                self.0.bytes_max.load(Ordering::Relaxed),
                request_bytes_max(max).min(Semaphore::MAX_PERMITS),
            );
            if wanted > now {
                self.0.bytes.add_permits(wanted - now);
                self.0.bytes_max.store(wanted, Ordering::Relaxed);
            }
        }
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        routes.push(Route {
            id,
            owner: owner.to_owned(),
            handler,
        });
        Ok(Attachment {
            table: Arc::clone(&self.0),
            path: path.to_owned(),
            id,
        })
    }

    pub(super) fn handler(&self, path: &str) -> Option<Arc<dyn Handler>> {
        self.0
            .paths
            .read()
            .get(path)?
            .last()
            .map(|route| Arc::clone(&route.handler))
    }

    /// Takes some of the bytes that may be in hand at once; none where they are spent.
    pub(super) fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.bytes)
            .try_acquire_many_owned(u32::try_from(bytes).ok()?)
            .ok()
    }

    /// The longest body that a handler takes.
    pub(super) fn max_body_bytes(&self, handler: &dyn Handler) -> u64 {
        handler.max_body_bytes().unwrap_or(self.0.max_body_bytes)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

/// What a request takes beside its body: hyper reads into pieces of 8 KiB, and a body that lies in
/// one keeps all of it.
pub(super) const REQUEST_BYTES: usize = 8 * 1024;

/// What one request of the largest size takes, packed and unpacked: it must fit, whatever the limit
/// of all together.
fn request_bytes_max(max_body_bytes: u64) -> usize {
    usize::try_from(max_body_bytes)
        .unwrap_or(usize::MAX)
        .saturating_mul(2)
        .saturating_add(REQUEST_BYTES)
}

impl Default for Routes {
    /// For sources without a listener: nobody will ever ask.
    fn default() -> Self {
        Self::new(1 << 20, Limits::default())
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.paths.read().keys()).finish()
    }
}

/// A handler's hold on its path; dropping it lets go.
#[must_use]
pub struct Attachment {
    table: Arc<Table>,
    path: String,
    id: u64,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut paths = self.table.paths.write();
        if let Some(routes) = paths.get_mut(&self.path) {
            routes.retain(|route| route.id != self.id);
            if routes.is_empty() {
                paths.remove(&self.path);
            }
        }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attachment").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Handler for Nobody {
        fn admit(&self, _: &Parts) -> Result<(), Refusal> {
            Ok(())
        }
        fn post(&self, _: Request) -> BoxFuture<'_, Result<Response, Refusal>> {
            Box::pin(async { Ok(Response::default()) })
        }
        fn consents_to(&self, _: &str) -> bool {
            false
        }
    }

    #[test]
    fn a_path_has_one_owner_and_its_newest_handler() {
        let routes = Routes::default();
        let is = |handler: &Arc<dyn Handler>| {
            routes
                .handler("/a")
                .is_some_and(|found| Arc::ptr_eq(&found, handler))
        };
        let (old, new): (Arc<dyn Handler>, Arc<dyn Handler>) = (Arc::new(Nobody), Arc::new(Nobody));
        let first = routes.attach("/a", "x", Arc::clone(&old)).unwrap();
        let taken = routes.attach("/a", "y", Arc::clone(&new)).unwrap_err();
        assert_eq!(
            taken.to_string(),
            "the path /a is taken by x; give each source a path of its own"
        );
        let second = routes.attach("/a", "x", Arc::clone(&new)).unwrap();
        assert!(is(&new));
        // A reload that fails: the old one is in force again.
        drop(second);
        assert!(is(&old));
        // One that succeeds: the new one stays.
        let second = routes.attach("/a", "x", Arc::clone(&new)).unwrap();
        drop(first);
        assert!(is(&new));
        drop(second);
        assert!(routes.handler("/a").is_none() && routes.0.paths.read().is_empty());
    }
}
