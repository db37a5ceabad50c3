//! The bus as a whole: what is started in which order, who owns which task, and how it all stops.
//!
//! Start: rule files, store, listeners (so that an address in use is told before anything happens),
//! dispatcher, sources. Stop, the other way round, so that each part still has those it hands over
//! to: the listener finishes its requests, the sources stop and what they took in is stored while
//! the dispatcher finishes its attempts, the store is closed, and the admin API last.

mod bus;
mod cluster;
mod overview;
mod renewal;
mod sources;
mod spare;
mod targets;
pub mod watch;
mod wiring;

use std::path::PathBuf;
use std::sync::Arc;

use pointsman_cluster::StandByError;
use pointsman_connectors::OpenError;
use pointsman_journal::{JournalError, disk};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::AdminError;
use crate::background::Background;
use crate::config::paths::STANDARD_INPUT;
use crate::config::{Config, Diagnostic, Loaded};
use crate::dispatcher;
use crate::dispatcher::policy::InvalidPolicy;

pub(crate) use self::cluster::{LogEngine, LookAtLog, log_engines};

use self::bus::{Bus, Reloaded};
use self::watch::{Watch, WatchError};

/// Why the bus did not start, or did not stop as it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The rule files have mistakes, which have been shown.
    #[error("the rule files have mistakes; nothing was started")]
    Rules(Vec<Diagnostic>),
    /// Rules cannot be read again from where they came.
    #[error(
        "rules from standard input cannot be read again when they change; write them into a file \
         (`check` and `test` read `-`)"
    )]
    StandardInput,
    /// The store cannot be opened.
    #[error("cannot open the store: {0}")]
    Store(#[from] disk::OpenError),
    /// The log of the cluster cannot be used.
    #[error("cannot use the cluster's log: {0}")]
    Log(String),
    /// This node cannot follow the others.
    #[error("this node cannot follow the cluster's log: {0}")]
    StandBy(#[from] StandByError),
    /// The store works no more.
    #[error("cannot read the store: {0}")]
    Journal(#[from] JournalError),
    /// A delivery setting makes no sense.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
    /// The dispatcher is not there to take a plan.
    #[error(transparent)]
    Dispatcher(#[from] dispatcher::Stopped),
    /// The listener cannot be opened.
    #[error("cannot open the listener: {0}")]
    Listen(OpenError),
    /// The admin API cannot be opened.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Traces cannot be exported.
    #[error("cannot export traces: {0}")]
    Traces(String),
    /// Metrics cannot be exported.
    #[error("cannot export metrics: {0}")]
    Metrics(String),
    /// The rule files cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The system refuses something basic.
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
}

/// Runs the bus until SIGTERM or SIGINT. Paths in the rule files are relative to the folder that
/// holds them, which becomes the process's own.
///
/// # Errors
/// [`RunError`].
pub async fn run(paths: &[PathBuf], show: impl Fn(&[Diagnostic])) -> Result<(), RunError> {
    let signals = StopSignals::new()?;
    if paths.iter().any(|path| path.as_os_str() == STANDARD_INPUT) {
        return Err(RunError::StandardInput);
    }
    let paths = absolute(paths)
        .map_err(|error| RunError::System("resolve the paths of the rule files", error))?;
    let (config, warnings) = Config::load(&paths).map_err(RunError::Rules)?;
    show(&warnings);
    enter_folder_of(&paths)
        .map_err(|error| RunError::System("enter the folder of the rule files", error))?;
    let watch = Watch::begin(paths.clone())?;
    let background =
        Background::start().map_err(|error| RunError::System("start a thread", error))?;
    let mut process = Process {
        signals,
        watch,
        background: Arc::new(background),
        paths,
        show,
    };
    if config.store.log.is_some() {
        return cluster::run(&mut process, config).await;
    }
    let bus = Bus::start(config, &CancellationToken::new(), None, bus::open_store).await?;
    let bus = process.serve(bus).await;
    process.stop(bus).await;
    Ok(())
}

/// What a bus runs in.
struct Process<S> {
    signals: StopSignals,
    watch: Watch,
    background: Arc<Background>,
    paths: Vec<PathBuf>,
    show: S,
}

impl<S: Fn(&[Diagnostic])> Process<S> {
    /// Lets a bus run, with each change of its rule files, until the process is to stop.
    async fn serve(&mut self, mut bus: Bus) -> Bus {
        loop {
            let (watch, background) = (&mut self.watch, &self.background);
            let show = |diagnostics: &[Diagnostic]| {
                (self.show)(diagnostics);
                if !diagnostics.iter().all(Diagnostic::is_warning) {
                    bus.refuse(diagnostics);
                }
            };
            let config = tokio::select! {
                () = self.signals.any() => None,
                config = changed(watch, background, &self.paths, &show, Config::load) => Some(config),
            };
            let Some(config) = config else {
                return bus;
            };
            let reloaded;
            (bus, reloaded) = reload(background, bus, config).await;
            if reloaded == Reloaded::Away {
                self.watch.look_again();
            }
        }
    }

    /// Stops a bus; another signal hastens that.
    async fn stop(&mut self, bus: Bus) {
        let hasten = bus.hasten.clone();
        tokio::select! {
            () = bus.stop() => {}
            () = self.signals.hasten(&hasten) => {}
        }
    }
}

/// Puts a configuration in force, on a thread of low priority.
async fn reload(background: &Background, mut bus: Bus, config: Config) -> (Bus, Reloaded) {
    let runtime = tokio::runtime::Handle::current();
    let reload = move || {
        let reloaded = runtime.block_on(bus.reload(config));
        (bus, reloaded)
    };
    background.run(reload).await
}

/// Waits until the rule files have changed, and returns what they say then, once that is without
/// mistakes. Safe to cancel.
async fn changed<T: Send + 'static>(
    watch: &mut Watch,
    background: &Background,
    paths: &[PathBuf],
    show: &impl Fn(&[Diagnostic]),
    load: fn(&[PathBuf]) -> Loaded<T>,
) -> T {
    loop {
        watch.changed().await;
        // On a thread of its own: a file system that does not answer must not keep the bus from
        // stopping.
        let files = paths.to_owned();
        match background.run(move || load(&files)).await {
            Ok((loaded, warnings)) => {
                show(&warnings);
                return loaded;
            }
            Err(mistakes) if mistakes.iter().any(Diagnostic::may_pass) => {
                tracing::warn!(
                    "the rule files cannot be read now; the old rules stay in force, and it is \
                     tried again"
                );
                watch.look_again();
            }
            Err(mistakes) => {
                show(&mistakes);
                tracing::error!(
                    mistakes = mistakes.len(),
                    "the changed rule files have mistakes; the old rules stay in force"
                );
            }
        }
    }
}

/// What asks the process to stop.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> Result<Self, RunError> {
        let listen = |kind, what| signal(kind).map_err(|error| RunError::System(what, error));
        Ok(Self {
            terminate: listen(SignalKind::terminate(), "listen for SIGTERM")?,
            interrupt: listen(SignalKind::interrupt(), "listen for SIGINT")?,
        })
    }

    /// Waits for one of them. Safe to cancel.
    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// A second signal ends the grace of the attempts under way. Never returns: the stop that it
    /// hastens does.
    async fn hasten(&mut self, hasten: &CancellationToken) {
        self.any().await;
        tracing::warn!(
            "asked to stop again: giving up the attempts under way; they are made again after the \
             next start"
        );
        hasten.cancel();
        std::future::pending::<()>().await;
    }
}

fn absolute(paths: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    paths.iter().map(std::path::absolute).collect()
}

/// Makes the folder of the first rule file the process's own: paths in the rule files are relative
/// to it.
///
/// # Errors
/// It cannot be entered.
pub(crate) fn enter_folder_of(paths: &[PathBuf]) -> std::io::Result<()> {
    let Some(first) = paths.first() else {
        return Ok(());
    };
    let folder = if first.is_dir() {
        Some(first.as_path())
    } else {
        first.parent()
    };
    folder.map_or(Ok(()), std::env::set_current_dir)
}
