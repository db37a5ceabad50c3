//! Lines for all attempts of a target, written by one thread at a time.
//!
//! Lines of concurrent attempts never mix, and a line once begun is finished even where its attempt
//! is given up. What comes while a line is being written is written after it in one go. Where that
//! fails all of them are `unavailable`; who stalls holds one thread, and the attempts behind it time
//! out.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use pointsman_schemas::{Class, Outcome, json};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tower::util::BoxCloneSyncService;

use crate::{Attempt, AttemptError, TargetService};

/// How many bytes are written in one go, about: who waits for one of them waits for all.
const WRITE_BYTES: usize = 64 * 1024;

/// How many attempts may wait before abandoned ones are looked for.
const WAITING_LEAST: usize = 64;

/// A target that writes what `lines` makes of an attempt to `out`, which is called so.
pub(crate) fn printer<W: Write + Send + 'static>(
    out: W,
    name: &str,
    lines: impl Fn(&Attempt) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> TargetService {
    let printer = Arc::new(Printer {
        name: name.to_owned(),
        out: Mutex::new(out),
        queue: Mutex::default(),
    });
    BoxCloneSyncService::new(tower::service_fn(move |attempt: Attempt| {
        let printed = printer.print(lines(&attempt));
        async move {
            let outcome = printed.await.map_err(|_| {
                AttemptError::new(
                    Class::Failed,
                    "printing broke off; this is a bug".to_owned(),
                )
            })?;
            Ok(vec![outcome; attempt.deliveries.len()])
        }
    }))
}

/// Writes for all attempts, on one thread at a time: a thread for each of them would cost more than
/// the writing.
#[derive(Debug)]
struct Printer<W> {
    name: String,
    /// Locked by whoever prints.
    out: Mutex<W>,
    queue: Mutex<WriteQueue>,
}

/// The lines that wait to be written.
#[derive(Debug, Default)]
struct WriteQueue {
    /// Whether a thread is writing; it looks here before it ends.
    is_printing: bool,
    waiting: VecDeque<Lines>,
    /// How many may wait before abandoned ones are removed.
    waiting_max: usize,
}

/// The lines of one attempt, and who waits for them.
#[derive(Debug)]
struct Lines {
    bytes: Vec<u8>,
    reply: oneshot::Sender<Outcome>,
}

impl WriteQueue {
    /// Queues lines. Behind a reader that stalls attempts are abandoned and made again: their lines
    /// must not pile up.
    fn enqueue(&mut self, lines: Lines) {
        if self.waiting.len() >= self.waiting_max {
            self.waiting.retain(|lines| !lines.reply.is_closed());
            self.waiting_max = (self.waiting.len() * 2).max(WAITING_LEAST);
        }
        self.waiting.push_back(lines);
    }
}

impl<W: Write + Send + 'static> Printer<W> {
    /// Has lines written, and returns what receives their outcome. Where no thread is writing, one
    /// begins at once; the lines are written even where the outcome is not waited for.
    fn print(self: &Arc<Self>, bytes: Vec<u8>) -> oneshot::Receiver<Outcome> {
        let (reply, outcome) = oneshot::channel();
        let lines = Lines { bytes, reply };
        let mut queue = self.queue.lock();
        if queue.is_printing {
            queue.enqueue(lines);
        } else {
            queue.is_printing = true;
            let printer = Arc::clone(self);
            // It ends when nothing waits any more, and sends each attempt its outcome.
            drop(spawn_blocking(move || printer.work(lines)));
        }
        outcome
    }

    fn work(&self, first: Lines) {
        let _reset = ResetOnPanic(&self.queue);
        let mut out = self.out.lock();
        let mut batch = vec![first];
        while let Some((first, others)) = batch.split_first_mut() {
            for other in others {
                first.bytes.append(&mut other.bytes);
            }
            let outcome = match out.write_all(&first.bytes).and_then(|()| out.flush()) {
                Ok(()) => Outcome::delivered(),
                Err(error) => Outcome::new(
                    Class::Unavailable,
                    format!("cannot write to {}: {error}", self.name),
                ),
            };
            for lines in batch.drain(..) {
                // An abandoned attempt does not receive it; the line is written all the same.
                let _gone = lines.reply.send(outcome.clone());
            }
            self.take_waiting(&mut batch);
        }
    }

    /// Takes what waits; where that is nothing, the thread is no longer writing.
    fn take_waiting(&self, batch: &mut Vec<Lines>) {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        while bytes < WRITE_BYTES
            && let Some(lines) = queue.waiting.pop_front()
        {
            if !lines.reply.is_closed() {
                bytes += lines.bytes.len();
                batch.push(lines);
            }
        }
        queue.is_printing = !batch.is_empty();
    }
}

/// Empties the queue where writing panics, so that nobody waits for ever and the next attempt
/// starts a new thread.
struct ResetOnPanic<'d>(&'d Mutex<WriteQueue>);

impl Drop for ResetOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.lock() = WriteQueue::default();
        }
    }
}

/// The events of an attempt, a line of JSON each.
pub(crate) fn events(attempt: &Attempt) -> Vec<u8> {
    let mut lines = Vec::new();
    for delivery in &attempt.deliveries {
        line(&mut lines, |lines| json::encode(&delivery.event, lines));
    }
    lines
}

/// Adds a line: what is written, with spaces in the place of its breaks.
pub(crate) fn line(lines: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = lines.len();
    write(lines);
    // Inside JSON strings a line break is always escaped, so those that are left are whitespace.
    let written = lines.iter_mut().skip(start);
    for byte in written.filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc;

    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::TargetSettings;
    use crate::suite::{Received, TargetFixture, attempt, targets};

    /// Keeps what is written, in small pieces, so that lines would mix if they could.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let some = bytes.len().min(7);
            self.0.lock().extend_from_slice(&bytes[..some]);
            std::thread::yield_now();
            Ok(some)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TargetFixture for Written {
        const KIND: &'static str = "stdout";

        fn settings(&self) -> Value {
            json!({})
        }

        async fn open(&self, _: &dyn TargetSettings) -> TargetService {
            printer(self.clone(), "it", events)
        }

        async fn received(&self) -> Vec<Received> {
            let text = String::from_utf8(self.0.lock().clone()).unwrap();
            let event = |line: &str| {
                json::decode(&line.to_owned().into())
                    .unwrap_or_else(|error| panic!("{line}: {error}"))
            };
            text.lines()
                .map(event)
                .map(|event| Received {
                    id: event.id().to_string(),
                    texts: Vec::new(),
                    trace: None,
                })
                .collect()
        }

        fn stalling(&self) -> Option<Value> {
            None
        }

        async fn begun(&self) {}

        async fn abandoned(&self) {}

        fn mistakes(&self) -> Vec<(Value, &'static str)> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn conforms() {
        targets(&Written::default()).await;
    }

    /// Blocks in every write until it is told what to answer.
    struct Stalled(mpsc::Receiver<io::Result<()>>, Written);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap()?;
            self.1.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_line_once_begun_is_finished_and_a_closed_pipe_is_unavailable() {
        let (go, stalled) = mpsc::channel();
        let written = Written::default();
        let service = printer(Stalled(stalled, written.clone()), "it", events);
        for id in ["begun", "never begun"] {
            let mut call = Box::pin(service.clone().oneshot(attempt(&[id], 0)));
            assert!(futures::poll!(&mut call).is_pending());
        }
        go.send(Ok(())).unwrap();
        go.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        let outcomes = service
            .clone()
            .oneshot(attempt(&["a", "b"], 0))
            .await
            .unwrap();
        assert_eq!(
            outcomes
                .iter()
                .map(|outcome| outcome.class)
                .collect::<Vec<_>>(),
            [Class::Unavailable; 2]
        );
        assert_eq!(
            written
                .received()
                .await
                .iter()
                .map(|received| received.id.as_str())
                .collect::<Vec<_>>(),
            ["begun"]
        );
        go.send(Ok(())).unwrap();
        assert_eq!(
            service.oneshot(attempt(&["c"], 0)).await.unwrap()[0].class,
            Class::Delivered
        );
    }

    #[tokio::test]
    async fn what_comes_while_a_line_is_written_is_written_in_one_go() {
        /// Tells of every write, and blocks in it until it may go on.
        struct Gate(mpsc::Sender<usize>, mpsc::Receiver<()>);
        impl Write for Gate {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0
                    .send(bytes.iter().filter(|byte| **byte == b'\n').count())
                    .unwrap();
                self.1.recv().unwrap();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let ((wrote, writes), (go, gate)) = (mpsc::channel(), mpsc::channel());
        let service = printer(Gate(wrote, gate), "it", events);
        let ids: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        let mut calls: Vec<_> = ids
            .iter()
            .map(|id| Box::pin(service.clone().oneshot(attempt(&[id], 0))))
            .collect();
        for call in &mut calls {
            assert!(futures::poll!(call).is_pending());
        }
        // Of what is given up before its turn nothing is written.
        calls.truncate(41);
        for _ in 0..2 {
            go.send(()).unwrap();
        }
        for call in calls {
            assert_eq!(call.await.unwrap()[0].class, Class::Delivered);
        }
        assert_eq!(writes.try_iter().collect::<Vec<_>>(), [1, 40]);
    }

    #[test]
    fn what_was_given_up_does_not_pile_up_behind_a_reader_that_stalls() {
        let mut queue = WriteQueue::default();
        let lines = || {
            let (reply, outcome) = oneshot::channel();
            (
                Lines {
                    bytes: Vec::new(),
                    reply,
                },
                outcome,
            )
        };
        let (one, _waits) = lines();
        queue.enqueue(one);
        for _ in 0..10_000 {
            queue.enqueue(lines().0);
        }
        assert!(queue.waiting.len() <= WAITING_LEAST && !queue.waiting[0].reply.is_closed());
    }
}
