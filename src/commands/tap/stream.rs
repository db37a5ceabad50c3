//! What a node tells, as it comes: server-sent events (HTML, section 9.2).

use pointsman_schemas::Name;
use tokio::sync::mpsc;

use super::super::client::Client;
use super::super::error::CommandError;
use crate::admin::view::TapItem;

/// An event is not longer: the largest one that a bus takes, and what is said of it.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What one node has told.
pub(super) struct Told {
    /// The node, where there are several.
    pub(super) node: Option<Name>,
    pub(super) item: Result<TapItem, CommandError>,
}

/// Follows what a node tells, in the background, until it has gone away or nobody listens.
///
/// # Errors
/// It cannot be reached, or refuses.
pub(super) async fn follow(
    client: &Client,
    path: &str,
    node: Option<Name>,
    teller: mpsc::Sender<Told>,
) -> Result<(), CommandError> {
    let mut chunks = client.stream(path).await?;
    tokio::spawn(async move {
        let mut events = Events::default();
        while let Some(chunk) = chunks.recv().await {
            for item in events.read(&chunk) {
                let node = node.clone();
                if teller.send(Told { node, item }).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(())
}

/// Reads server-sent events from the pieces in which they come.
#[derive(Default)]
pub(super) struct Events {
    /// What is not a whole line yet.
    rest: Vec<u8>,
    name: String,
    data: String,
}

impl Events {
    /// The events that this piece makes whole.
    pub(super) fn read(&mut self, chunk: &[u8]) -> Vec<Result<TapItem, CommandError>> {
        self.rest.extend_from_slice(chunk);
        let mut items = Vec::new();
        let mut from = 0;
        while let Some(line) = self.rest.get(from..).and_then(whole_line) {
            let text = String::from_utf8_lossy(line).into_owned();
            from += line.len() + 1;
            items.extend(self.line(text.trim_end_matches('\r')));
        }
        self.rest.drain(..from);
        if self.rest.len() + self.data.len() > EVENT_BYTES_MAX {
            (self.rest, self.data) = (Vec::new(), String::new());
            items.push(Err(CommandError::new("an event is too large to be shown")));
        }
        items
    }

    fn line(&mut self, line: &str) -> Option<Result<TapItem, CommandError>> {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" if !line.is_empty() => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "" if line.is_empty() => {
                let (name, data) = (
                    std::mem::take(&mut self.name),
                    std::mem::take(&mut self.data),
                );
                return item(&name, &data).transpose();
            }
            // A comment, or a field that is not of interest.
            _ => {}
        }
        None
    }
}

/// The line at the beginning, where its end is there.
fn whole_line(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| *byte == b'\n')?;
    text.get(..end)
}

/// What an event says; none of one that a later version tells.
fn item(name: &str, data: &str) -> Result<Option<TapItem>, CommandError> {
    let read = match name {
        "event" => serde_json::from_str(data).map(TapItem::Event),
        "attempt" => serde_json::from_str(data).map(TapItem::Attempt),
        "left-out" => serde_json::from_str(data).map(TapItem::LeftOut),
        _ => return Ok(None),
    };
    read.map(Some).map_err(|error| {
        CommandError::new(format!("cannot understand what the bus tells: {error}"))
            .help("is this command of the bus's own version?")
    })
}
