//! A thread of low priority for work that nobody waits for: reading and compiling ten thousand
//! rules keeps a core busy for some tenths of a second, and where cores are few, those who serve
//! would wait behind it. Whose turn it is, the system's scheduler knows best.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How far the thread stands back, from 0 to 19: at 10 it gets a tenth of a core that somebody else
/// could use, too.
const NICE: i32 = 10;

/// The allocator gives back what has been free for this long (`purge_delay` of mimalloc).
const FREE_FOR: Duration = Duration::from_millis(1_100);

type Work = Box<dyn FnOnce() + Send>;

/// The thread. It ends once this is dropped and its last work is done.
pub struct Background(mpsc::Sender<Work>);

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> std::io::Result<Self> {
        let (works, next) = mpsc::channel();
        std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || {
                // On Linux a nice value is a thread's own. Where it cannot be set, the work is done
                // like any other.
                let _ = rustix::process::nice(NICE);
                work_through(&next);
            })?;
        Ok(Self(works))
    }

    /// Does some work there, behind what it was given before. Dropping the future does not end the
    /// work.
    ///
    /// # Panics
    /// Where the work does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = oneshot::channel();
        let work = move || {
            let _nobody_waits_any_more = done.send(catch_unwind(AssertUnwindSafe(work)));
        };
        let _the_thread_outlives_this = self.0.send(Box::new(work));
        match is_done.await {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => std::future::pending().await,
        }
    }
}

/// Does one work after the other, each on a thread that ends with it.
///
/// A reload frees as much memory as the rules take, some hundred megabytes. What a thread has
/// allocated, and others have freed, stays with it while it rests; the allocator gives back what is
/// free when a thread ends, if that has been so for a while. So each work has a thread of its own,
/// and some time behind the last one there is another that does nothing but end.
fn work_through(next: &mpsc::Receiver<Work>) {
    while let Ok(work) = next.recv() {
        on_own_thread(work);
        loop {
            match next.recv_timeout(FREE_FOR) {
                Ok(work) => on_own_thread(work),
                Err(_) => break on_own_thread(Box::new(|| {})),
            }
        }
    }
}

/// Runs some work on a thread that ends with it; here where the system has none left. The nice
/// value of a thread goes on to those it starts.
fn on_own_thread(work: Work) {
    let work = Mutex::new(Some(work));
    let run = || {
        let work = work.lock().take();
        if let Some(work) = work {
            work();
        }
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("background work".to_owned());
        if thread.spawn_scoped(scope, run).is_err() {
            run();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_in_turn_at_a_low_priority() {
        let background = Background::start().unwrap();
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(background.run(nice).await, (before + NICE).min(19));
        assert_eq!(nice(), before, "the other threads are as they were");
    }

    #[tokio::test]
    async fn a_panic_comes_through_and_ends_nothing_else() {
        let background = std::sync::Arc::new(Background::start().unwrap());
        let panicking = std::sync::Arc::clone(&background);
        assert!(
            tokio::spawn(async move { panicking.run(|| panic!("as the test wants")).await })
                .await
                .is_err()
        );
        assert_eq!(background.run(|| 1).await, 1);
    }
}
