//! A thread of low priority for work that nobody waits for: reading and compiling ten thousand
//! rules keeps a core busy for some tenths of a second, and where cores are few, those who serve
//! would wait behind it. Whose turn it is, the system's scheduler knows best.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;

use tokio::sync::oneshot;

/// How far the thread stands back, from 0 to 19: at 10 it gets a tenth of a core that somebody else
/// could use, too.
const NICE: i32 = 10;

/// The thread. It ends once this is dropped and its last work is done.
pub struct Background(mpsc::Sender<Box<dyn FnOnce() + Send>>);

impl Background {
    /// Starts it.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> std::io::Result<Self> {
        let (works, next) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        std::thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || {
                // On Linux a nice value is a thread's own. Where it cannot be set, the work is done
                // like any other.
                let _ = rustix::process::nice(NICE);
                next.into_iter().for_each(|work| work());
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
