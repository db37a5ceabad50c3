//! `pointsman send`: CloudEvents to a bus.

mod events;
mod progress;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use pointsman_connectors::http::{DELAY, PREFER, TASK_ID_HEADER, WAIT_MAX};
use pointsman_connectors::listener::ProblemDocument;
use pointsman_schemas::http::{Mode, encode_batch, encode_binary, encode_structured};
use pointsman_schemas::task_id::{self, InvalidTaskId};
use pointsman_schemas::{Event, Interval, Secret, Text, schedule};
use serde_json::json;

use super::bus_address::BusAddress;
use super::client::{Answer, Client, authorization, secret};
use super::error::CommandError;
use crate::output::{self, OutputArgs};
use events::{build, read_file};
use progress::Progress;

/// Events in one request of a batch; a bus takes more, but a refused batch is refused whole.
const BATCH_EVENTS_MAX: usize = 100;

/// Bytes in one request of a batch, roughly: half of what a bus takes unless it is told otherwise.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Sends a CloudEvent to a bus, or a file of them
#[derive(Clone, Debug, clap::Args)]
pub struct SendArgs {
    /// Where the bus takes events; else what the rule files say that `run` would read, or
    /// http://127.0.0.1:8080/events
    #[arg(long, env = "POINTSMAN_URL", value_name = "URL")]
    pub to: Option<Uri>,
    /// How the event travels; a file of several goes as batches unless one is asked for, all else
    /// in binary mode
    #[arg(long, value_name = "MODE")]
    pub mode: Option<SendMode>,
    /// A file of CloudEvents in JSON (`-` for standard input): one, a list of them, or one on each
    /// line
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "ty", "source", "subject", "id", "time", "data", "content_type", "extensions",
        ]
    )]
    pub file: Option<PathBuf>,
    /// The event's type
    #[arg(long = "type", required_unless_present = "file", value_name = "TYPE")]
    pub ty: Option<String>,
    /// The event's source, a URI-reference
    #[arg(long, default_value = "/pointsman/send", value_name = "URI")]
    pub source: String,
    /// What the event is about
    #[arg(long)]
    pub subject: Option<String>,
    /// The event's id; a random one unless given
    #[arg(long)]
    pub id: Option<String>,
    /// When it happened, RFC 3339; now unless given
    #[arg(long)]
    pub time: Option<String>,
    /// The event's data: JSON, `@file` or `-` for standard input
    #[arg(long, value_name = "JSON")]
    pub data: Option<String>,
    /// What the data is, where it is not JSON
    #[arg(long, value_name = "MEDIA TYPE")]
    pub content_type: Option<String>,
    /// An extension attribute; may be given again
    #[arg(long = "ext", value_name = "NAME=VALUE", value_parser = pair)]
    pub extensions: Vec<(String, String)>,
    /// How long the delivery is put off: a time such as 10m, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = schedule::delay)]
    pub delay: Option<Duration>,
    /// An id for the task that is made: a second one of the same id is answered 409
    #[arg(long, value_name = "ID", value_parser = id, conflicts_with = "file")]
    pub task_id: Option<String>,
    /// How long to wait for what the function answers, such as 30s; 5 minutes at most
    #[arg(long, value_name = "TIME", value_parser = wait)]
    pub wait: Option<Duration>,
    /// A header of the request; may be given again
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A key of the bus, where it asks for one; better set by the variable
    #[arg(long, env = "POINTSMAN_KEY", hide_env_values = true, value_parser = secret)]
    pub key: Option<Secret>,
    /// Certificates to trust in place of the system's, in PEM: of an authority of your own, or the
    /// bus's own certificate
    #[arg(long, env = "POINTSMAN_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How what was answered is printed
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How events travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SendMode {
    /// Attributes in headers, data as the body.
    Binary,
    /// All of an event in the body.
    Structured,
    /// Many events in the body.
    Batch,
}

impl From<SendMode> for Mode {
    fn from(mode: SendMode) -> Self {
        match mode {
            SendMode::Binary => Self::Binary,
            SendMode::Structured => Self::Structured,
            SendMode::Batch => Self::Batch,
        }
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn id(text: &str) -> Result<String, InvalidTaskId> {
    task_id::check(text)?;
    Ok(text.to_owned())
}

/// Whole seconds, as `Prefer` has them.
fn wait(text: &str) -> Result<Duration, String> {
    let Interval(wait) = text.parse()?;
    let is_whole = wait.subsec_nanos() == 0 && !wait.is_zero();
    if is_whole && wait <= WAIT_MAX {
        Ok(wait)
    } else {
        Err("give whole seconds, 300 at most, such as 30s".to_owned())
    }
}

/// `NAME=VALUE`, or `NAME: VALUE` as other clients have it.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(['=', ':'])
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    let name = HeaderName::try_from(name.trim())
        .map_err(|_| format!("{name:?} is not the name of a header"))?;
    let value = HeaderValue::try_from(value.trim())
        .map_err(|_| format!("the value of {name} has characters that no header holds"))?;
    Ok((name, value))
}

/// Sends what the arguments say and prints what was answered. Succeeds where everything was
/// answered with 202, or with what a function has answered.
///
/// # Errors
/// There is nothing to send, or no answer.
pub async fn run(args: SendArgs) -> Result<ExitCode, miette::Report> {
    let printed = |error| CommandError::new(format!("cannot print the answer: {error}"));
    let all = execute(&args, |text| output::print(text).map_err(printed)).await?;
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Sends everything, or up to what is not taken; tells each answer's text, and whether all was
/// taken.
async fn execute(
    args: &SendArgs,
    mut print: impl FnMut(&str) -> Result<(), CommandError>,
) -> Result<bool, CommandError> {
    let (events, many) = match &args.file {
        Some(file) => read_file(file)?,
        None => (vec![build(args)?], false),
    };
    let mode = args
        .mode
        .map_or(if many { Mode::Batch } else { Mode::Binary }, Mode::from);
    let client = client(args)?.waiting(args.wait.unwrap_or_default());
    let mut sent = 0;
    let parts = parts(&events, mode);
    let mut progress = Progress::of(events.len(), parts.len());
    for part in parts {
        progress.at(sent);
        let (mut headers, body) = encode(part, mode);
        headers.extend(args.headers.iter().cloned());
        if let Some(delay) = args.delay {
            let delay = HeaderValue::try_from(Interval(delay).to_string());
            headers.extend(delay.map(|delay| (DELAY, delay)));
        }
        if let Some(id) = &args.task_id {
            let id = HeaderValue::try_from(id);
            headers.extend(id.map(|id| (TASK_ID_HEADER, id)));
        }
        if let Some(wait) = args.wait {
            let wait = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
            headers.extend(wait.map(|wait| (PREFER, wait)));
        }
        let answer = client
            .send(Method::POST, headers, body)
            .await
            .map_err(|error| error.help_after(sent, events.len()))?;
        progress.clear();
        print(&if args.output.json {
            as_json(part, &answer)
        } else {
            as_text(part, &answer)
        })?;
        // With an answer of its own a function has succeeded.
        if ![StatusCode::ACCEPTED, StatusCode::OK].contains(&answer.status) {
            return Ok(false);
        }
        sent += part.len();
    }
    Ok(true)
}

/// A client of the bus that is meant.
fn client(args: &SendArgs) -> Result<Client, CommandError> {
    let key = |in_rules: Option<&(Text, Secret)>| {
        authorization(args.key.as_ref(), "--key or POINTSMAN_KEY", in_rules)
    };
    if let Some(to) = &args.to {
        return Client::trusting(with_path(to), key(None)?, args.ca.as_deref());
    }
    let bus = BusAddress::look();
    Client::trusting(
        bus.events
            .unwrap_or_else(|| Uri::from_static("http://127.0.0.1:8080/events")),
        key(bus.events_key.as_ref())?,
        args.ca.as_deref(),
    )
}

/// The address with the path of the ingress, where only the bus itself is named.
fn with_path(to: &Uri) -> Uri {
    let mut parts = to.clone().into_parts();
    if parts.path_and_query.as_ref().is_none_or(|path| path == "/") {
        parts.path_and_query = Some(PathAndQuery::from_static("/events"));
    }
    // Only a scheme without an authority is refused, and that is for the client to say.
    Uri::from_parts(parts).unwrap_or_else(|_| to.clone())
}

impl CommandError {
    fn help_after(self, sent: usize, of: usize) -> Self {
        if sent == 0 {
            self
        } else {
            self.help(format!(
                "{sent} of {of} events were taken before; the others were not"
            ))
        }
    }
}

/// Cuts events into what goes into one request each.
fn parts(events: &[Event], mode: Mode) -> Vec<&[Event]> {
    if mode != Mode::Batch {
        return events.chunks(1).collect();
    }
    let (mut parts, mut rest) = (Vec::new(), events);
    while !rest.is_empty() {
        let mut bytes = 0_usize;
        let fits = rest.iter().take(BATCH_EVENTS_MAX).take_while(|event| {
            bytes += event.size_bytes();
            bytes <= BATCH_BYTES_MAX
        });
        let (part, behind) = rest.split_at(fits.count().max(1));
        parts.push(part);
        rest = behind;
    }
    parts
}

fn encode(part: &[Event], mode: Mode) -> (HeaderMap, Bytes) {
    match (mode, part) {
        (Mode::Binary, [event]) => encode_binary(event),
        (Mode::Structured, [event]) => encode_structured(event),
        _ => encode_batch(part),
    }
}

fn as_text(part: &[Event], answer: &Answer) -> String {
    let what = match part {
        [event] => format!("{} {}", event.ty(), event.id()),
        _ => format!("{} events", part.len()),
    };
    let body = String::from_utf8_lossy(&answer.body);
    let said = match serde_json::from_slice::<ProblemDocument<'_>>(&answer.body) {
        _ if answer.status == StatusCode::ACCEPTED => String::new(),
        _ if answer.status == StatusCode::OK => String::new(),
        Ok(problem) => format!(": {}", problem.detail),
        Err(_) if body.trim().is_empty() => String::new(),
        Err(_) => format!(": {}", output::shortened(body.trim(), 1_000)),
    };
    let line = format!("{}  {what}{said}", answer.status);
    let line = format!("{}\n", output::line(&line));
    // What a function answered, or the tasks that were made.
    match body.trim_end() {
        answered if answer.status.is_success() && !answered.is_empty() => {
            format!("{line}{}\n", output::plain(answered))
        }
        _ => line,
    }
}

fn as_json(part: &[Event], answer: &Answer) -> String {
    let said = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&answer.body)));
    let ids: Vec<&str> = part.iter().map(|event| event.id()).collect();
    format!(
        "{}\n",
        json!({ "status": answer.status.as_u16(), "ids": ids, "answer": said })
    )
}

#[cfg(test)]
mod tests;
