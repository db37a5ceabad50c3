//! Standard output, for a look at what goes by.
//!
//! The target prints each delivery as one line: the CloudEvent in the JSON format, binary data as `data_base64`. Line breaks between
//! the tokens of JSON data become spaces, everything else stays as it came. It has no settings.
//!
//! Lines of concurrent attempts never mix, and a line once begun is finished even where its attempt is given up. A closed pipe is
//! `unavailable`; a reader that stalls holds one thread, and the attempts behind it time out.

use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;
use pointsman_schemas::{Class, Outcome, Problem, TemplateText, json};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;
use tower::util::BoxCloneSyncService;

use crate::{Attempt, AttemptError, OpenError, TargetContext, TargetService, TargetSettings};

/// Prints each event as a line of JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutTarget {}

#[async_trait]
impl TargetSettings for StdoutTarget {
    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }

    fn templates(&self) -> Vec<TemplateText> {
        Vec::new()
    }

    async fn probe(&self) -> Result<String, OpenError> {
        Ok("needs no connection".to_owned())
    }

    async fn open(&self, _: TargetContext) -> Result<TargetService, OpenError> {
        Ok(printer(io::stdout()))
    }
}

/// A target that writes lines to `out`.
fn printer<W: Write + Send + 'static>(out: W) -> TargetService {
    let out = Arc::new(Mutex::new(out));
    BoxCloneSyncService::new(tower::service_fn(move |attempt: Attempt| {
        let out = Arc::clone(&out);
        async move {
            let lines = lines(&attempt);
            // The lock is taken out here so that however many attempts are given up, a stalled reader holds one thread only.
            let mut out = out.lock_owned().await;
            let write = tokio::task::spawn_blocking(move || out.write_all(&lines).and_then(|()| out.flush()));
            let written = write.await.map_err(|error| AttemptError::new(Class::Failed, format!("printing broke off: {error}")))?;
            let outcome = match written {
                Ok(()) => Outcome::delivered(),
                Err(error) => Outcome::new(Class::Unavailable, format!("cannot write to standard output: {error}")),
            };
            Ok(vec![outcome; attempt.deliveries.len()])
        }
    }))
}

/// The events of an attempt, a line each.
fn lines(attempt: &Attempt) -> Vec<u8> {
    let mut lines = Vec::new();
    for delivery in &attempt.deliveries {
        let start = lines.len();
        json::encode(&delivery.event, &mut lines);
        // Inside JSON strings a line break is always escaped, so those that are left are whitespace.
        for byte in lines.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use parking_lot::Mutex as Shared;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;
    use crate::suite::{Received, TargetFixture, attempt, targets};

    /// Keeps what is written, in small pieces, so that lines would mix if they could.
    #[derive(Clone, Default)]
    struct Paper(Arc<Shared<Vec<u8>>>);

    impl Write for Paper {
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

    impl TargetFixture for Paper {
        const KIND: &'static str = "stdout";

        fn settings(&self) -> Value {
            json!({})
        }

        async fn open(&self, _: &dyn TargetSettings) -> TargetService {
            printer(self.clone())
        }

        async fn received(&self) -> Vec<Received> {
            let text = String::from_utf8(self.0.lock().clone()).unwrap();
            let event = |line: &str| json::decode(&line.to_owned().into()).unwrap_or_else(|error| panic!("{line}: {error}"));
            text.lines().map(event).map(|event| Received { id: event.id().to_string(), texts: Vec::new() }).collect()
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
        targets(&Paper::default()).await;
    }

    /// Blocks in every write until it is told what to answer.
    struct Stalled(mpsc::Receiver<io::Result<()>>, Paper);

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
        let paper = Paper::default();
        let service = printer(Stalled(stalled, paper.clone()));
        for id in ["begun", "never begun"] {
            let mut call = Box::pin(service.clone().oneshot(attempt(&[id], 0)));
            assert!(futures::poll!(&mut call).is_pending());
        }
        go.send(Ok(())).unwrap();
        go.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        let outcomes = service.clone().oneshot(attempt(&["a", "b"], 0)).await.unwrap();
        assert_eq!(outcomes.iter().map(|outcome| outcome.class).collect::<Vec<_>>(), [Class::Unavailable; 2]);
        assert_eq!(paper.received().await.iter().map(|received| received.id.as_str()).collect::<Vec<_>>(), ["begun"]);
        go.send(Ok(())).unwrap();
        assert_eq!(service.oneshot(attempt(&["c"], 0)).await.unwrap()[0].class, Class::Delivered);
    }
}
