//! `pointsman top`: what a bus is busy with, live.

mod latency;
mod sample;
mod screen;
mod state;
mod view;

#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event, poll, read};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::sample::Sample;
use self::state::{Step, Top};
use self::view::View;
use super::client::{AdminArgs, Client};
use super::error::CommandError;
use crate::output::{self, OutputArgs};

/// How long a look at the keyboard takes.
const KEYS: Duration = Duration::from_millis(200);

/// What `top` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct TopArgs {
    /// How often the bus is asked, in seconds
    #[arg(long, short, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub interval: u64,
    /// Print what there is after one interval, and end; so does what is no terminal
    #[arg(long)]
    pub once: bool,
    /// Where the bus is
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Shows it until `q` is pressed, or once.
///
/// # Errors
/// There is no bus there, or it refuses.
pub async fn run(args: TopArgs) -> Result<ExitCode, miette::Report> {
    let client = Client::of_admin(&args.admin)?;
    let every = Duration::from_secs(args.interval);
    let first = Sample::take(&client).await?;
    if args.once || args.output.json || !std::io::stdout().is_terminal() {
        sleep(every).await;
        let view = View::between(&first, &Sample::take(&client).await?);
        let text = match args.output.json {
            true => output::json(&view).map_err(unprintable)?,
            false => screen::as_text(&view),
        };
        output::print(&text).map_err(unprintable)?;
        return Ok(ExitCode::SUCCESS);
    }
    // It gives the terminal back where it panics, too.
    let mut terminal = ratatui::try_init().map_err(unprintable)?;
    let shown = show(&mut terminal, client, first, every).await;
    ratatui::restore();
    shown.map(|()| ExitCode::SUCCESS).map_err(Into::into)
}

/// Draws what comes, and does what is pressed.
async fn show(
    terminal: &mut DefaultTerminal,
    client: Client,
    first: Sample,
    every: Duration,
) -> Result<(), CommandError> {
    let mut keys = keys();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut top = Top::new(View::between(&first, &first), client.address());
    let mut last = first;
    loop {
        terminal
            .draw(|frame| screen::draw(frame, &mut top))
            .map_err(unprintable)?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(event) if top.press(&event) == Step::Quit => return Ok(()),
                Some(_) => {}
                None => return Err(CommandError::new("the keyboard can be read no more")),
            },
            _ = ticks.tick() => match Sample::take(&client).await {
                Ok(sample) => {
                    top.show(View::between(&last, &sample));
                    last = sample;
                }
                // What was there stays on the screen.
                Err(error) => top.trouble = Some(error.to_string()),
            },
        }
    }
}

/// What is pressed, read by a thread of its own, since that waits. It ends with its reader.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let pressed = match poll(KEYS) {
                Ok(false) => continue,
                Ok(true) => read(),
                Err(error) => Err(error),
            };
            let Ok(event) = pressed else { return };
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

fn unprintable(error: impl std::fmt::Display) -> CommandError {
    CommandError::new(format!("cannot show what the bus does: {error}"))
}
