//! `pointsman listen`: a function to try things with. It prints what it is given and answers as it
//! was told.

pub mod function;

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use jiff::tz::TimeZone;
use pointsman_schemas::{Event, json};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

pub use function::{Behaviour, Call, Content, Function};

use super::error::CommandError;
use crate::output::{self, OutputArgs, plain, shortened};

/// How much of an event's data is shown to a person.
const DATA_CHARACTERS_MAX: usize = 4_000;

/// A function that prints what it is given, and can be told to fail or be slow
#[derive(Clone, Debug, clap::Args)]
pub struct ListenArgs {
    /// The port; 0 for any that is free
    #[arg(long, default_value_t = 9000)]
    pub port: u16,
    /// The address
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub address: IpAddr,
    /// End after so many calls
    #[arg(long, value_name = "CALLS")]
    pub exit_after: Option<u64>,
    /// How calls are answered
    #[command(flatten)]
    pub behaviour: Behaviour,
    /// How calls are printed: with --json one line each
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Runs a function until it is interrupted or has had its calls.
///
/// # Errors
/// It cannot start, or standard output cannot be written to.
pub async fn run(args: ListenArgs) -> Result<ExitCode, miette::Report> {
    let stop = CancellationToken::new();
    let mut function = Function::start(
        SocketAddr::new(args.address, args.port),
        args.behaviour,
        stop.clone(),
    )
    .await?;
    eprintln!("listening on http://{}", function.address);
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    let mut calls = 0;
    while args.exit_after.is_none_or(|after| calls < after) {
        let call = tokio::select! {
            _ = &mut interrupted => break,
            call = function.calls.recv() => call,
        };
        let Some(call) = call else { break };
        calls += 1;
        let text = if args.output.json {
            as_json(&call)
        } else {
            as_text(&call, &TimeZone::system())
        };
        output::print(&text)
            .map_err(|error| CommandError::new(format!("cannot print a call: {error}")))?;
    }
    stop.cancel();
    function.calls.close();
    function
        .task
        .await
        .map_err(|error| CommandError::new(format!("the function broke: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// A call for a person: when, the answer, the attributes; then who calls; then the data as it came.
fn as_text(call: &Call, zone: &TimeZone) -> String {
    let at = jiff::Timestamp::from_microsecond(call.at.0)
        .unwrap_or_default()
        .to_zoned(zone.clone())
        .strftime("%H:%M:%S%.3f");
    let mut text = String::new();
    let mut line = |line: &str| {
        for line in plain(line).lines() {
            let _ = writeln!(text, "{line}");
        }
    };
    let head = format!("{at}  {}", call.status.as_u16());
    match &call.content {
        Content::Events(events) => {
            for event in events {
                let rest = event
                    .attributes()
                    .filter(|(name, _)| !["specversion", "type"].contains(name));
                let rest: String = rest
                    .map(|(name, value)| format!("  {name}={value}"))
                    .collect();
                line(&format!("{head}  {}{rest}", event.ty()));
                if let Some(data) = event.data() {
                    line(&indented(data.bytes()));
                }
            }
        }
        Content::Other(body, why) => {
            line(&format!(
                "{head}  {} {}  {}",
                call.method,
                call.uri,
                call.header("content-type")
            ));
            why.iter()
                .for_each(|why| line(&format!("    no CloudEvent: {why}")));
            line(&indented(body));
        }
    }
    let (task, attempt, rule) = (
        call.header("pointsman-task"),
        call.header("pointsman-attempt"),
        call.header("pointsman-rule"),
    );
    if !task.is_empty() {
        line(&format!(
            "    attempt {attempt} at {task} for the rule {rule}"
        ));
    }
    text
}

fn indented(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    shortened(&text, DATA_CHARACTERS_MAX)
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect()
}

#[derive(serde::Serialize)]
struct CallView<'c> {
    at: String,
    status: u16,
    method: &'c str,
    uri: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    task: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    rule: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<Box<RawValue>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// A call for a program: one line, its events in the JSON format.
fn as_json(call: &Call) -> String {
    let structured = |event: &Event| {
        let mut text = Vec::with_capacity(event.size_bytes());
        json::encode(event, &mut text);
        RawValue::from_string(String::from_utf8(text).ok()?).ok()
    };
    let (events, body) = match &call.content {
        Content::Events(events) => (Some(events.iter().filter_map(structured).collect()), None),
        Content::Other(body, _) => (None, Some(String::from_utf8_lossy(body).into_owned())),
    };
    let view = CallView {
        at: call.at.to_string(),
        status: call.status.as_u16(),
        method: call.method.as_str(),
        uri: call.uri.to_string(),
        task: call.header("pointsman-task"),
        attempt: call.header("pointsman-attempt").parse().ok(),
        rule: call.header("pointsman-rule"),
        events,
        body,
    };
    // Texts and raw JSON always serialise. A raw value keeps the line breaks that it came with,
    // which would end the line.
    serde_json::to_string(&view)
        .unwrap_or_default()
        .replace(['\n', '\r'], " ")
        + "\n"
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
    use pointsman_schemas::Timestamp;

    use super::*;

    fn headers<const N: usize>(headers: [(&'static str, &'static str); N]) -> HeaderMap {
        headers
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .into_iter()
            .collect()
    }

    #[test]
    fn a_call_is_shown_to_a_person_and_to_a_program() {
        let data = pointsman_schemas::Data::json("{\n\"a\":1}".into()).unwrap();
        let event = Event::builder("1", "/camera", "photo")
            .subject("a.jpg")
            .data(data)
            .build()
            .unwrap();
        let call = Call {
            at: Timestamp(1_769_851_800_123_000),
            method: Method::POST,
            uri: "/function?x=1".parse().unwrap(),
            headers: headers([
                ("pointsman-task", "aa-1-1-0"),
                ("pointsman-attempt", "2"),
                ("pointsman-rule", "thumbnails"),
            ]),
            content: Content::Events(vec![event]),
            status: StatusCode::OK,
        };
        let other = |body: &'static str, why: Option<&str>| Call {
            content: Content::Other(body.into(), why.map(str::to_owned)),
            headers: headers([("content-type", "text/plain")]),
            ..call.clone()
        };
        let calls = [
            call.clone(),
            other("hello\n\u{1b}[2Jworld", None),
            other("{}", Some("the required attribute \"id\" is missing")),
        ];
        insta::assert_snapshot!(
            calls
                .iter()
                .map(|call| as_text(call, &TimeZone::UTC))
                .collect::<String>()
        );
        insta::assert_snapshot!(calls.iter().map(as_json).collect::<String>());
    }
}
