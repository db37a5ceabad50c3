//! Threads for work that nobody waits for: reading and compiling ten thousand rules keeps a core
//! busy for some tenths of a second, and where cores are few, those who serve would wait behind it.
//! Whose turn it is, the system's scheduler knows best.
//!
//! Work is done on a thread that runs only while a core is idle (`SCHED_IDLE`, sched(7)), which
//! makes way at once. A thread that is merely nice does not: Linux lets it run on for up to some
//! milliseconds while others wake. But where no core is ever idle, the idle thread would hardly run
//! at all, and the nice one does the work.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::time::Duration;

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How nice the second thread is, from 0 to 19: at 10 it gets a tenth of a core that somebody else
/// could use, too.
const NICE: i32 = 10;

/// How long the idle thread may take to answer before the nice one is given the work. Where a core
/// is idle a third of the time it answers within a millisecond or two.
const IDLE_ANSWERS_WITHIN: Duration = Duration::from_millis(20);

type Work = Box<dyn FnOnce() + Send>;

/// The threads. They end once this is dropped and their last work is done.
pub struct Background {
    idle: mpsc::Sender<Work>,
    nice: mpsc::Sender<Work>,
}

impl Background {
    /// Starts them.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start() -> std::io::Result<Self> {
        // Where a priority cannot be set, the work is done like any other.
        let idle = thread("idle", || {
            let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
            let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy);
        })?;
        let nice = thread("nice", || {
            // On Linux a nice value is a thread's own.
            let _ = rustix::process::nice(NICE);
        })?;
        Ok(Self { idle, nice })
    }

    /// Does some work there. Dropping the future once it has been polled does not end the work.
    ///
    /// # Panics
    /// Where the work does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, is_done) = oneshot::channel();
        let work = move || {
            let _nobody_waits_any_more = done.send(catch_unwind(AssertUnwindSafe(work)));
        };
        let thread = self.thread().await;
        let _the_thread_outlives_this = thread.send(Box::new(work));
        match is_done.await {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => std::future::pending().await,
        }
    }

    /// The thread for the next work: the idle one, if it gets to run and has nothing to do.
    async fn thread(&self) -> &mpsc::Sender<Work> {
        let (answer, answered) = oneshot::channel();
        let _the_thread_outlives_this = self.idle.send(Box::new(move || {
            let _nobody_waits_any_more = answer.send(());
        }));
        match timeout(IDLE_ANSWERS_WITHIN, answered).await {
            Ok(_) => &self.idle,
            Err(_) => &self.nice,
        }
    }
}

/// Starts a thread that does what it is sent, one after the other.
fn thread(
    name: &str,
    set_priority: impl FnOnce() + Send + 'static,
) -> std::io::Result<mpsc::Sender<Work>> {
    let (works, next) = mpsc::channel::<Work>();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            set_priority();
            next.into_iter().for_each(|work| work());
        })?;
    Ok(works)
}

#[cfg(test)]
mod tests {
    use std::thread::current;

    use thread_priority::thread_schedule_policy;

    use super::*;

    /// The name of the thread that does the next work.
    async fn worker(background: &Background) -> String {
        let name = || current().name().unwrap_or_default().to_owned();
        background.run(name).await
    }

    #[tokio::test]
    async fn work_is_done_at_a_low_priority() {
        let background = Background::start().unwrap();
        let (ours, nice) = (
            thread_schedule_policy().unwrap(),
            rustix::process::getpriority_process(None).unwrap(),
        );
        let (done, priority) = mpsc::channel();
        let tell = done.clone();
        background
            .idle
            .send(Box::new(move || {
                let policy = thread_schedule_policy().unwrap();
                tell.send((policy, 0)).unwrap();
            }))
            .unwrap();
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        assert_eq!(priority.recv().unwrap(), (idle, 0));
        background
            .nice
            .send(Box::new(move || {
                let nice = rustix::process::getpriority_process(None).unwrap();
                done.send((thread_schedule_policy().unwrap(), nice))
                    .unwrap();
            }))
            .unwrap();
        assert_eq!(priority.recv().unwrap(), (ours, (nice + NICE).min(19)));
        assert_eq!(
            (
                thread_schedule_policy().unwrap(),
                rustix::process::getpriority_process(None).unwrap()
            ),
            (ours, nice),
            "the other threads are as they were"
        );
    }

    #[tokio::test]
    async fn where_the_idle_thread_does_not_get_to_run_the_nice_one_works() {
        let background = Background::start().unwrap();
        let (free, is_free) = mpsc::channel::<()>();
        background
            .idle
            .send(Box::new(move || {
                let _freed = is_free.recv();
            }))
            .unwrap();
        assert_eq!(worker(&background).await, "nice");
        drop(free);
        // It answers once its other work is done; a loaded machine may need more than one try.
        let idle = async { while worker(&background).await != "idle" {} };
        timeout(Duration::from_secs(60), idle).await.unwrap();
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
