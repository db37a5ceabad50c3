//! `pointsman send`: CloudEvents to a bus.

mod progress;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use pointsman_connectors::listener::ProblemDocument;
use pointsman_schemas::http::{Mode, encode_batch, encode_binary, encode_structured};
use pointsman_schemas::{Data, Event, ExtensionValue, Timestamp, json};
use serde_json::json;

use super::bus_address::BusAddress;
use super::client::{Answer, Client, bearer};
use super::error::CommandError;
use crate::output::{self, OutputArgs};
use progress::Progress;

/// Events in one request of a batch; a bus takes more, but a refused batch is refused whole.
const BATCH_EVENTS_MAX: usize = 100;

/// Bytes in one request of a batch, roughly: half of what a bus takes unless it is told otherwise.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Events that one file may hold.
const FILE_EVENTS_MAX: usize = 1_000_000;

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
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ty", "source", "subject", "id", "time", "data", "content_type", "extensions"])]
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
    /// A header of the request; may be given again
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A key of the bus, where it asks for one; better set by the variable
    #[arg(long, env = "POINTSMAN_KEY", hide_env_values = true, value_parser = bearer)]
    pub key: Option<HeaderValue>,
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
/// answered with 202.
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
    let client = client(args)?;
    let mut sent = 0;
    let parts = parts(&events, mode);
    let mut progress = Progress::of(events.len(), parts.len());
    for part in parts {
        progress.at(sent);
        let (mut headers, body) = encode(part, mode);
        headers.extend(args.headers.iter().cloned());
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
        if answer.status != StatusCode::ACCEPTED {
            return Ok(false);
        }
        sent += part.len();
    }
    Ok(true)
}

/// A client of the bus that is meant.
fn client(args: &SendArgs) -> Result<Client, CommandError> {
    if let Some(to) = &args.to {
        return Client::trusting(with_path(to), args.key.clone(), args.ca.as_deref());
    }
    let BusAddress {
        events, events_key, ..
    } = BusAddress::look();
    let key = match (&args.key, events_key) {
        (None, Some(key)) => Some(bearer(&key).map_err(CommandError::new)?),
        (given, _) => given.clone(),
    };
    Client::trusting(
        events.unwrap_or_else(|| Uri::from_static("http://127.0.0.1:8080/events")),
        key,
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

/// The event that the arguments describe.
fn build(args: &SendArgs) -> Result<Event, CommandError> {
    let invalid = |error: &dyn std::fmt::Display| {
        CommandError::new(format!("that is no CloudEvent: {error}"))
    };
    let id = args
        .id
        .clone()
        .unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
    let time = args
        .time
        .clone()
        .unwrap_or_else(|| Timestamp::now().to_string());
    let mut event =
        Event::builder(id, args.source.clone(), args.ty.clone().unwrap_or_default()).time(time);
    if let Some(subject) = &args.subject {
        event = event.subject(subject.clone());
    }
    for (name, value) in &args.extensions {
        if event.has(name) || name == "specversion" {
            return Err(CommandError::new(format!("{name} is no extension"))
                .help(format!("give it as --{name}, or leave it out")));
        }
        event = event.attribute(name.clone(), ExtensionValue::String(value.clone().into()));
    }
    if let Some(data) = &args.data {
        let bytes = match data.strip_prefix('@') {
            Some(path) => read(Path::new(path))?,
            None if data == "-" => read(Path::new("-"))?,
            None => data.clone().into_bytes().into(),
        };
        let media_type = args.content_type.as_deref().unwrap_or("application/json");
        event = event
            .data(typed(bytes, media_type)?)
            .datacontenttype(media_type);
    }
    event.build().map_err(|error| invalid(&error))
}

fn typed(bytes: Bytes, media_type: &str) -> Result<Data, CommandError> {
    Data::read(Some(media_type), bytes).map_err(|error| {
        CommandError::new(error.to_string()).help(
            "text in JSON stands in quotes: --data '\"text\"'; else give --content-type text/plain",
        )
    })
}

fn read(path: &Path) -> Result<Bytes, CommandError> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|all| bytes = all)
    };
    read.map_err(|error| CommandError::new(format!("cannot read {}: {error}", path.display())))?;
    Ok(bytes.into())
}

/// The events of a file, and whether it holds several by its form: a list, or lines.
fn read_file(path: &Path) -> Result<(Vec<Event>, bool), CommandError> {
    let bytes = read(path)?;
    let wrong = |what: String| CommandError::new(format!("cannot send {}: {what}", path.display()));
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let events = json::decode_batch(&bytes, FILE_EVENTS_MAX).map_err(|error| {
            wrong(pointsman_schemas::http::DecodeError::from(error).to_string())
        })?;
        return if events.is_empty() {
            Err(wrong("the list is empty".into()))
        } else {
            Ok((events, true))
        };
    }
    let lines = || {
        bytes
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.trim_ascii().is_empty())
    };
    let is_json = |line: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
    match json::decode(&bytes) {
        Ok(event) => Ok((vec![event], false)),
        Err(_)
            if lines().count() > 1 && lines().next().is_some_and(|(_, first)| is_json(first)) =>
        {
            let event = |(index, line): (usize, &[u8])| {
                json::decode(&bytes.slice_ref(line))
                    .map_err(|error| wrong(format!("line {}: {error}", index + 1)))
            };
            Ok((lines().map(event).collect::<Result<_, _>>()?, true))
        }
        Err(error) => Err(wrong(error.to_string())),
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
        Ok(problem) => format!(": {}", problem.detail),
        Err(_) if body.trim().is_empty() => String::new(),
        Err(_) => format!(": {}", output::shortened(body.trim(), 1_000)),
    };
    format!(
        "{}\n",
        output::line(&format!("{}  {what}{said}", answer.status))
    )
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
mod tests {
    use clap::Parser;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::commands::listen::{Behaviour, Content, Function};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SendArgs,
    }

    fn parse(words: &[&str]) -> SendArgs {
        Line::try_parse_from([&["send"], words].concat())
            .unwrap()
            .args
    }

    /// What arrives somewhere when these words are typed, the events of each request; what is
    /// printed, and whether all was taken.
    async fn sent(words: &[&str], status: u16) -> (Vec<Vec<Event>>, String, bool) {
        let behaviour = Behaviour {
            status: StatusCode::from_u16(status).unwrap(),
            ..Behaviour::default()
        };
        let mut function = Function::start(
            ([127, 0, 0, 1], 0).into(),
            behaviour,
            CancellationToken::new(),
        )
        .await
        .unwrap();
        let to = format!("http://{}/events", function.address);
        let mut printed = String::new();
        let all = execute(&parse(&[words, &["--to", &to]].concat()), |text| {
            printed.push_str(text);
            Ok(())
        })
        .await
        .unwrap();
        let mut requests = Vec::new();
        while let Ok(call) = function.calls.try_recv() {
            let Content::Events(events) = call.content else {
                panic!("no CloudEvent came: {call:?}")
            };
            requests.push(events);
        }
        (requests, printed, all)
    }

    #[tokio::test]
    async fn an_event_arrives_as_it_was_described_in_every_mode() {
        let data = r#"{"n":12345678901234567890123}"#;
        let words = [
            "--type",
            "photo",
            "--source",
            "/camera",
            "--subject",
            "ä b",
            "--id",
            "1",
            "--ext",
            "traceid=x=y",
            "--data",
            data,
        ];
        for mode in ["binary", "structured", "batch"] {
            let (requests, printed, all) =
                sent(&[&words[..], &["--mode", mode]].concat(), 202).await;
            let [events] = &requests[..] else {
                panic!("{mode}: {requests:?}")
            };
            let event = &events[0];
            let attributes: Vec<String> = event
                .attributes()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            assert_eq!(
                &attributes[1..5],
                ["id=1", "source=/camera", "type=photo", "subject=ä b"],
                "{mode}"
            );
            assert_eq!(
                &attributes[6..],
                ["datacontenttype=application/json", "traceid=x=y"],
                "{mode}"
            );
            assert_eq!(
                (&event.data().unwrap().bytes()[..], all),
                (data.as_bytes(), true),
                "{mode}"
            );
            assert_eq!(printed, "202 Accepted  photo 1\n");
        }
        let (requests, printed, all) = sent(&["--type", "t", "--id", "1", "--json"], 400).await;
        assert_eq!((requests[0][0].data(), all), (None, false));
        assert_eq!(
            printed,
            "{\"status\":400,\"ids\":[\"1\"],\"answer\":\"\"}\n"
        );
    }

    #[tokio::test]
    async fn a_file_is_one_event_a_list_or_lines() {
        let event =
            |id: usize| format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"}}"#);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events");
        let file = path.to_str().unwrap();
        let ids = |requests: Vec<Vec<Event>>| -> Vec<Vec<String>> {
            requests
                .into_iter()
                .map(|events| events.iter().map(|event| event.id().to_string()).collect())
                .collect()
        };
        let lines = format!("{}\n\n{}\r\n", event(1), event(2));
        for (content, mode, expect) in [
            (event(1).replace(',', ",\n"), &[][..], vec![vec!["1"]]),
            (
                format!(" [{},{}]", event(1), event(2)),
                &[],
                vec![vec!["1", "2"]],
            ),
            (lines.clone(), &[], vec![vec!["1", "2"]]),
            (lines, &["--mode", "structured"], vec![vec!["1"], vec!["2"]]),
        ] {
            std::fs::write(&path, &content).unwrap();
            let (requests, _, all) = sent(&[&["--file", file], mode].concat(), 202).await;
            assert_eq!(
                (ids(requests), all),
                (
                    expect
                        .into_iter()
                        .map(|ids| ids.into_iter().map(str::to_owned).collect())
                        .collect(),
                    true
                )
            );
        }
        std::fs::write(
            &path,
            (0..250).map(|id| event(id) + "\n").collect::<String>(),
        )
        .unwrap();
        let (requests, printed, _) = sent(&["--file", file], 202).await;
        assert_eq!(
            requests.iter().map(Vec::len).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        assert_eq!(
            printed,
            "202 Accepted  100 events\n202 Accepted  100 events\n202 Accepted  50 events\n"
        );
        for (content, expect) in [
            ("[]", "the list is empty"),
            ("", "the text ends too early"),
            (
                &format!("{}\n{{}}\n", event(1)),
                "line 2: the required attribute",
            ),
            (
                &format!("[{},{{}}]", event(1)),
                "event 1 of the batch: the required attribute",
            ),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = read_file(&path).unwrap_err().to_string();
            assert!(error.contains(expect), "{content}: {error}");
        }
    }

    #[test]
    fn what_is_no_event_is_not_sent() {
        for (words, expect) in [
            (
                &["--type", ""][..],
                "that is no CloudEvent: the attribute \"type\" is empty",
            ),
            (
                &["--type", "t", "--source", "a b"],
                "that is no CloudEvent: the attribute \"source\" is \"a b\"",
            ),
            (
                &["--type", "t", "--data", "hello"],
                "the data is declared as JSON and is not",
            ),
            (
                &["--type", "t", "--data", "@/nowhere/at/all"],
                "cannot read /nowhere/at/all",
            ),
            (
                &["--type", "t", "--ext", "subject=x", "--subject", "y"],
                "subject is no extension",
            ),
            (
                &["--type", "t", "--ext", "A-b=x"],
                "that is no CloudEvent: \"A-b\" is not an attribute name",
            ),
        ] {
            let error = build(&parse(words)).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{words:?}: {error}");
        }
        let text = build(&parse(&[
            "--type",
            "t",
            "--data",
            "hello",
            "--content-type",
            "text/plain",
        ]))
        .unwrap();
        assert_eq!(
            text.data().unwrap().kind(),
            pointsman_schemas::DataKind::Text
        );
        assert!(
            Line::try_parse_from(["send"]).is_err()
                && Line::try_parse_from(["send", "--type", "t", "--file", "f"]).is_err()
        );
    }

    #[test]
    fn why_an_event_was_not_taken_is_printed_for_a_person() {
        let event = Event::builder("1", "/s", "t").build().unwrap();
        let text = |body: &'static str| {
            let answer = Answer {
                status: StatusCode::BAD_REQUEST,
                headers: HeaderMap::new(),
                body: body.into(),
            };
            as_text(std::slice::from_ref(&event), &answer)
        };
        let problem =
            r#"{"title":"Bad Request","status":400,"detail":"the attribute \"id\" is missing"}"#;
        for (body, said) in [
            ("", ""),
            (problem, ": the attribute \"id\" is missing"),
            (
                "<b>\u{1b}[2J\n202 Accepted  t 1",
                ": <b>\u{FFFD}[2J\u{FFFD}202 Accepted  t 1",
            ),
        ] {
            assert_eq!(text(body), format!("400 Bad Request  t 1{said}\n"));
        }
    }

    #[test]
    fn the_path_of_the_ingress_may_be_left_out() {
        for (to, expect) in [
            ("http://a:1", "http://a:1/events"),
            ("https://a/", "https://a/events"),
            ("http://a/hooks/x?y", "http://a/hooks/x?y"),
            ("localhost:8080", "localhost:8080"),
        ] {
            assert_eq!(with_path(&to.parse().unwrap()), expect);
        }
    }

    #[tokio::test]
    async fn that_nothing_listens_is_said_with_what_to_do() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/events", held.local_addr().unwrap());
        drop(held);
        let report = run(parse(&["--type", "t", "--to", &url]))
            .await
            .unwrap_err();
        assert!(
            report
                .to_string()
                .starts_with(&format!("cannot reach {url}: ")),
            "{report}"
        );
        assert!(report.help().unwrap().to_string().contains("pointsman run"));
        let report = run(parse(&["--type", "t", "--to", "localhost:9000"]))
            .await
            .unwrap_err();
        assert!(
            report.to_string().contains("is not an address to call"),
            "{report}"
        );
        assert_eq!(
            report.help().unwrap().to_string(),
            "write it in full: http://localhost:9000"
        );
    }
}
