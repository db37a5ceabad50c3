//! What the bus tells about itself: logs here, numbers in [`metrics`].

pub mod digest;
pub mod exposition;
pub mod journal;
mod line;
pub mod listeners;
pub mod metrics;
pub mod otlp;
mod quotas;
mod shards;
pub mod tap;
pub mod traces;

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use journal::JournalSnapshot;
pub use listeners::Listeners;
pub use metrics::Metrics;
pub use quotas::QuotaUse;
pub use shards::ShardLoads;
pub use tap::Tap;

/// How logging is set up on the command line.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// What is logged: a level, or a filter such as `info,pointsman::dispatcher=debug`
    #[arg(
        long = "log",
        env = "POINTSMAN_LOG",
        default_value = "info",
        global = true,
        value_name = "FILTER",
        help_heading = "Logging"
    )]
    pub filter: String,
    /// How it is written: as text on a terminal and as JSON elsewhere, unless one is asked for
    #[arg(
        long = "log-format",
        default_value = "auto",
        global = true,
        value_name = "FORMAT",
        help_heading = "Logging"
    )]
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// As text where standard error is a terminal, else as JSON.
    #[default]
    Auto,
    /// A line for a person.
    Text,
    /// One JSON object per line.
    Json,
}

/// Client libraries that log what their users here tell anyhow, and more: a line for each try at a
/// server that is down, a message's data where it comes back, the SDK's search for credentials.
/// They are silent unless the filter names them.
const QUIET: [&str; 4] = ["async_nats", "krafka", "lapin", "aws"];

/// Logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error(
        "cannot read the log filter {filter:?}: {reason}; write a level, or a list such as \
         info,pointsman=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: ParseError,
    },
    /// Somebody else logs in this process already.
    #[error("cannot start logging: {0}")]
    Taken(TryInitError),
}

/// Starts logging to standard error, for the whole process: called once, by `main`.
///
/// # Errors
/// [`LogError`].
pub fn start(args: &LogArgs) -> Result<(), LogError> {
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let json = match args.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    subscriber(&args.filter, json, colours, std::io::stderr)?
        .try_init()
        .map_err(LogError::Taken)
}

/// What turns traces into lines of `writer`.
fn subscriber<W>(
    filter: &str,
    json: bool,
    colours: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let refused = |reason| LogError::Filter {
        filter: filter.to_owned(),
        reason,
    };
    let mut directives = EnvFilter::builder().parse(filter).map_err(refused)?;
    for library in QUIET {
        if !filter.contains(library) {
            directives =
                directives.add_directive(format!("{library}=off").parse().map_err(refused)?);
        }
    }
    let filter = directives;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    Ok(if json {
        Box::new(lines.json().event_format(line::JsonLine).finish())
    } else {
        Box::new(lines.with_ansi(colours).finish())
    })
}

#[cfg(test)]
pub(crate) mod testing {
    use std::io::Write;
    use std::sync::{Arc, LazyLock};

    use parking_lot::Mutex;
    use tracing::Dispatch;
    use tracing::subscriber::{DefaultGuard, NoSubscriber};

    /// What this thread has logged since [`capture`].
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// While tracing knows of one subscriber alone, it asks the thread that comes by a place in the
    /// code first whether anybody wants to hear of it, and remembers the answer for all threads. A
    /// second one, which hears nothing, makes it ask them all.
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

    /// Keeps what this thread logs until the guard is dropped.
    pub(crate) fn capture(filter: &str, json: bool) -> (Captured, DefaultGuard) {
        LazyLock::force(&SECOND);
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = super::subscriber(filter, json, false, move || writer.clone()).unwrap();
        (captured, tracing::subscriber::set_default(subscriber))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::capture;
    use super::*;

    fn logged(filter: &str, json: bool) -> String {
        let (captured, _guard) = capture(filter, json);
        tracing::info!(rule = "thumbnails", "delivered");
        tracing::debug!("not asked for");
        tracing::info!(key = ?pointsman_schemas::Text::from("hunter2"), "a setting\u{1b}[2J");
        captured.text()
    }

    #[test]
    fn a_line_is_text_or_json_and_holds_no_secret() {
        let text = logged("info", false);
        assert!(
            text.contains("delivered rule=\"thumbnails\"") && !text.contains("not asked for"),
            "{text}"
        );
        let json = logged("info", true);
        let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(
            (first["message"].as_str(), first["rule"].as_str()),
            (Some("delivered"), Some("thumbnails"))
        );
        for line in [text, json] {
            assert!(
                !line.contains("hunter2") && !line.contains('\u{1b}') && line.contains("***"),
                "{line}"
            );
        }
    }

    #[test]
    fn what_a_line_calls_target_is_the_target() {
        let (captured, _guard) = capture("info", true);
        let _span = tracing::info_span!("attempt", target = "outer", task = "7").entered();
        tracing::warn!(
            target = "thumbnailer",
            attempts = 3_u32,
            "the target is gone\nfor good"
        );
        let text = captured.text();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        let texts = ["level", "target", "task", "message", "module"]
            .map(|name| line[name].as_str().unwrap());
        assert_eq!(
            texts,
            [
                "WARN",
                "thumbnailer",
                "7",
                "the target is gone\nfor good",
                "pointsman::telemetry::tests"
            ]
        );
        assert_eq!(
            (
                line["attempts"].as_u64(),
                text.matches("\"target\"").count()
            ),
            (Some(3), 1)
        );
    }

    #[test]
    fn client_libraries_are_silent_unless_they_are_asked() {
        for (filter, heard) in [
            ("info", false),
            ("debug,hyper=info", false),
            ("info,lapin=error", true),
        ] {
            let (captured, _guard) = capture(filter, false);
            tracing::error!(target: "lapin::io_loop", "error doing IO");
            tracing::warn!(target: "aws_config::imds::region", "failed to load region");
            assert_eq!(
                captured.text().contains("error doing IO"),
                heard,
                "{filter}"
            );
            assert!(!captured.text().contains("load region"), "{filter}");
        }
    }

    #[test]
    fn a_filter_is_checked_before_anything_is_lost() {
        assert_eq!(logged("warn", false), "");
        let Err(error) = subscriber("pointsman=loud", false, false, std::io::sink) else {
            panic!("took a level that is none")
        };
        assert!(
            error.to_string().starts_with(
                "cannot read the log filter \"pointsman=loud\": error parsing level filter"
            ),
            "{error}"
        );
    }
}
