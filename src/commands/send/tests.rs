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
async fn a_key_is_given_without_the_scheme() {
    let words = [
        "--type",
        "t",
        "--source",
        "/s",
        "--data",
        "1",
        "--to",
        "http://127.0.0.1:1",
    ];
    let args = parse(&[&words[..], &["--key", "Bearer hunter2"]].concat());
    let error = execute(&args, |_| Ok(())).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.help_text()),
        (
            "the key of --key or POINTSMAN_KEY begins with the word Bearer, which would be sent \
             twice",
            "give the key alone"
        )
    );
    assert!(!format!("{args:?}").contains("hunter2"));
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
        let (requests, printed, all) = sent(&[&words[..], &["--mode", mode]].concat(), 202).await;
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

#[tokio::test]
async fn what_a_function_answers_is_printed_and_an_id_goes_with_the_event() {
    let words = [
        "--type",
        "t",
        "--id",
        "1",
        "--task-id",
        "a:1",
        "--wait",
        "30s",
    ];
    for (status, all) in [(200, true), (202, true), (409, false), (502, false)] {
        let (_, printed, taken) = sent(&words, status).await;
        assert_eq!(taken, all, "{status}: {printed}");
    }
    let headers = {
        let function = Function::start(
            ([127, 0, 0, 1], 0).into(),
            Behaviour::default(),
            CancellationToken::new(),
        );
        let mut function = function.await.unwrap();
        let to = format!("http://{}/events", function.address);
        let args = parse(&[&words[..], &["--to", &to]].concat());
        execute(&args, |_| Ok(())).await.unwrap();
        function.calls.recv().await.unwrap().headers
    };
    assert_eq!(headers["prefer"], "wait=30");
    assert_eq!(headers["pointsman-task-id"], "a:1");
    let answered = |status: u16, body: &'static str| Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: body.into(),
    };
    let event = Event::builder("1", "/s", "t").build().unwrap();
    let text = |answer| as_text(std::slice::from_ref(&event), &answer);
    assert_eq!(
        text(answered(200, "{\"n\":7}\n")),
        "200 OK  t 1\n{\"n\":7}\n"
    );
    assert_eq!(text(answered(202, "")), "202 Accepted  t 1\n");
    for wrong in [
        ["--wait", "301s"],
        ["--wait", "0s"],
        ["--wait", "500ms"],
        ["--task-id", "a b"],
    ] {
        assert!(Line::try_parse_from([&["send", "--type", "t"], &wrong[..]].concat()).is_err());
    }
}
