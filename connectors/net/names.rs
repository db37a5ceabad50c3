//! Names to addresses, by the system's own resolver, on threads of their own.
//!
//! The system's lookup blocks for as long as the name server says nothing, which can be half a
//! minute. It must not do so on the runtime's threads, which read the store too, and names that
//! nobody answers for must not stand in the way of others: those that have been found before, those
//! that have not been asked for yet and those that were slow last time have each a number of
//! lookups of their own. One name is looked up once at a time, whoever asks for it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;

/// How long a lookup is waited for.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// What took this long, or failed, was slow.
const SLOW: Duration = Duration::from_secs(1);

/// Lookups at a time of names that were found quickly, that are new, and that were slow or not
/// found.
const FOUND_MAX: usize = 64;
const NEW_MAX: usize = 256;
const SLOW_MAX: usize = 32;

/// Names being looked up or waiting for that, at most: events may bring any number of them.
const UNDER_WAY_MAX: usize = 4_096;

/// How many names are remembered; past that all are new.
const NAMES_MAX: usize = 16_384;

/// What a thread that only asks the resolver needs.
const STACK_BYTES: usize = 512 * 1024;

/// Why a name has no addresses: an error of the system's that many may be told.
pub(crate) type LookupError = Arc<io::Error>;

type Lookup = Shared<BoxFuture<'static, Result<Arc<[IpAddr]>, LookupError>>>;

/// Asks the system for a name's addresses; blocks.
type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// The resolver that all targets share. Cloning it is cheap.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    ask: Box<Ask>,
    under_way: Mutex<HashMap<Arc<str>, Lookup>>,
    /// Whether a name was found quickly when it was looked up last.
    was_quick: Mutex<HashMap<Arc<str>, bool>>,
    found: Arc<Semaphore>,
    new: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::asking(|host| {
            Ok((host, 0)
                .to_socket_addrs()?
                .map(|address: SocketAddr| address.ip())
                .collect())
        })
    }
}

impl Names {
    fn asking(ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        let semaphore = |max| Arc::new(Semaphore::new(max));
        Self(Arc::new(Inner {
            ask: Box::new(ask),
            under_way: Mutex::default(),
            was_quick: Mutex::default(),
            found: semaphore(FOUND_MAX),
            new: semaphore(NEW_MAX),
            slow: semaphore(SLOW_MAX),
        }))
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// The system's, or that it took longer than [`LOOKUP_TIMEOUT`].
    pub(crate) async fn look_up(&self, host: &str) -> Result<Arc<[IpAddr]>, LookupError> {
        let lookup = {
            let mut under_way = self.0.under_way.lock();
            match under_way.get(host) {
                Some(lookup) => lookup.clone(),
                None => {
                    let host: Arc<str> = host.into();
                    if under_way.len() >= UNDER_WAY_MAX {
                        return Err(Arc::new(io::Error::other(
                            "too many names are being looked up at once",
                        )));
                    }
                    // A task of its own, so that its place in the line is given up whoever has
                    // stopped waiting; it ends with the lookup.
                    let lookup = tokio::spawn(self.clone().start(Arc::clone(&host)));
                    let lookup = lookup
                        .map(|answer| {
                            answer.unwrap_or_else(|error| Err(Arc::new(io::Error::other(error))))
                        })
                        .boxed()
                        .shared();
                    under_way.insert(host, lookup.clone());
                    lookup
                }
            }
        };
        timeout(LOOKUP_TIMEOUT, lookup)
            .await
            .unwrap_or_else(|_| Err(Arc::new(io::ErrorKind::TimedOut.into())))
    }

    /// One lookup, once it is its turn.
    async fn start(self, host: Arc<str>) -> Result<Arc<[IpAddr]>, LookupError> {
        let was_quick = self.0.was_quick.lock().get(&host).copied();
        let lookups = match was_quick {
            Some(true) => &self.0.found,
            None => &self.0.new,
            Some(false) => &self.0.slow,
        };
        let permit = Arc::clone(lookups).acquire_owned().await;
        let (tell, told) = oneshot::channel();
        let (inner, name) = (Arc::clone(&self.0), Arc::clone(&host));
        let began = Instant::now();
        let thread = std::thread::Builder::new()
            .name("name lookup".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let answer = (inner.ask)(&name).map(Arc::from).map_err(Arc::new);
                inner.ended(&name, answer.is_ok() && began.elapsed() < SLOW);
                drop(permit);
                // Whoever asked may have stopped waiting.
                let _ = tell.send(answer);
            });
        if let Err(error) = thread {
            self.0.under_way.lock().remove(&host);
            return Err(Arc::new(error));
        }
        told.await
            .unwrap_or_else(|_| Err(Arc::new(io::Error::other("the lookup broke off"))))
    }
}

impl Inner {
    fn ended(&self, host: &Arc<str>, is_quick: bool) {
        let mut was_quick = self.was_quick.lock();
        if was_quick.len() >= NAMES_MAX {
            was_quick.clear();
        }
        was_quick.insert(Arc::clone(host), is_quick);
        drop(was_quick);
        self.under_way.lock().remove(host);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Keeps silent names waiting until it is opened.
    #[derive(Default)]
    struct Gate(std::sync::Mutex<bool>, std::sync::Condvar);

    impl Gate {
        fn pass(&self) {
            let open = self.0.lock().unwrap();
            drop(self.1.wait_while(open, |open| !*open).unwrap());
        }

        fn open(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_all();
        }
    }

    fn names(asked: Arc<AtomicUsize>, gate: Arc<Gate>) -> Names {
        Names::asking(move |host| {
            asked.fetch_add(1, Ordering::Relaxed);
            if host.starts_with("silent") {
                gate.pass();
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(vec![
                IpAddr::from([192, 0, 2, 1]),
                IpAddr::from([192, 0, 2, 2]),
            ])
        })
    }

    #[tokio::test]
    async fn names_that_nobody_answers_for_do_not_keep_others_waiting() {
        let gate = Arc::<Gate>::default();
        let names = names(Arc::default(), Arc::clone(&gate));
        assert_eq!(names.look_up("known").await.unwrap().len(), 2);
        let ask = |number: usize| {
            let names = names.clone();
            tokio::spawn(async move { names.look_up(&format!("silent-{number}")).await.is_err() })
        };
        let mut silent: Vec<_> = (0..200).map(ask).collect();
        tokio::task::yield_now().await;
        assert!(names.look_up("new").await.is_ok());
        silent.extend((200..1_000).map(ask));
        tokio::task::yield_now().await;
        for _ in 0..50 {
            assert!(names.look_up("known").await.is_ok());
        }
        gate.open();
        for lookup in silent {
            assert!(lookup.await.unwrap());
        }
    }

    #[tokio::test]
    async fn one_name_is_looked_up_once_at_a_time_and_again_the_next_time() {
        let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::<Gate>::default());
        let names = names(Arc::clone(&asked), Arc::clone(&gate));
        let all = futures::future::join_all((0..100).map(|_| names.look_up("silent")));
        let opened = async {
            // All are polled meanwhile.
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            gate.open();
        };
        let (all, ()) = tokio::join!(all, opened);
        assert!(all.iter().all(Result::is_err));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        for expect in [2, 3] {
            names.look_up("known").await.unwrap();
            assert_eq!(asked.load(Ordering::Relaxed), expect);
        }
    }
}
