use bytes::Bytes;
use pointsman_schemas::{Data, Event};
use serde_json::{Value, json};

use super::*;

const DATA: &str = r#"{"id":"a-7","total":250,"rate":1.50,"big":18446744073709551615,"items":[{"sku":"b","n":2},{"sku":"a","n":1},{"sku":"b","n":3}],
    "tags":["x","y"],"text":"héllo, wörld","json":"{\"a\":[1,2]}","nested":{"a":{"b":[1,[2,[3]]]}},"none":null,"yes":true}"#;

fn event() -> Event {
    Event::builder("1", "/shop", "order.paid")
        .subject("a.jpg")
        .data(Data::json(Bytes::from_static(DATA.as_bytes())).unwrap())
        .build()
        .unwrap()
}

#[test]
fn dates_are_read_and_written() {
    let now = pointsman_schemas::Timestamp(1_764_230_400_250_000);
    let run = |program: &str| {
        let jq = Jq::compile(program).unwrap_or_else(|problems| panic!("{program}: {problems:?}"));
        let (event, mut out) = (event(), Vec::new());
        jq.run(&Document::event(&event).at(now), &mut out)
            .map(|()| serde_json::from_slice::<Value>(&out).unwrap())
    };
    for (program, expect) in [
        ("now", json!(1764230400.25)),
        ("now - 86400 | todate", json!("2025-11-26T08:00:00Z")),
        ("1425599621 | todate", json!("2015-03-05T23:53:41Z")),
        ("\"2015-03-05T23:51:47Z\" | fromdate", json!(1425599507)),
        (
            "\"2015-03-05T23:51:47Z\" | strptime(\"%Y-%m-%dT%H:%M:%SZ\")",
            json!([2015, 2, 5, 23, 51, 47, 4, 63]),
        ),
        (
            "\"2015-03-05T23:51:47Z\" | strptime(\"%Y-%m-%dT%H:%M:%SZ\") | mktime",
            json!(1425599507),
        ),
        (
            "\"05/03/2015 +0100\" | strptime(\"%d/%m/%Y %z\") | mktime",
            json!(1425510000),
        ),
        (
            "\"05/03/2015\" | strptime(\"%d/%m/%Y\") | strftime(\"%F\")",
            json!("2015-03-05"),
        ),
        (
            "1425599621.5 | gmtime",
            json!([2015, 2, 5, 23, 53, 41.5, 4, 63]),
        ),
        ("1425599621 | gmtime | mktime", json!(1425599621)),
        (
            "1425599621 | strftime(\"%A, %B %d, %Y\")",
            json!("Thursday, March 05, 2015"),
        ),
        (
            "\"2026-07-01T22:00:00Z\" | [strftime(\"%d.%m. %H:%M\"; \"Europe/Berlin\"), todate(\"Asia/Tokyo\"), todate]",
            json!([
                "02.07. 00:00",
                "2026-07-02T07:00:00+09:00",
                "2026-07-01T22:00:00Z"
            ]),
        ),
        (
            "[2026, 6, 1, 12, 0, 0] | strftime(\"%H:%M %z\"; \"Europe/Berlin\")",
            json!("12:00 +0200"),
        ),
        ("1764230400123 | date", json!("2025-11-27T08:00:00Z")),
        (
            "0 | dateadd(\"seconds\"; 60) | todateiso8601",
            json!("1970-01-01T00:01:00Z"),
        ),
    ] {
        assert_eq!(run(program).as_ref(), Ok(&expect), "{program}");
    }
    for (program, expect) in [
        (".data | todate", "is no point in time"),
        ("\"soon\" | strftime(\"%F\")", "soon"),
        ("now | strftime(\"%!\")", "it fails"),
        (
            "now | strftime(\"%F\"; \"Europe/Berln\")",
            "there is no time zone `Europe/Berln`",
        ),
        ("now | strftime(\"%Y\" * 200000)", "steps"),
        ("\"x\" | strptime(\"%Y\")", "it fails"),
        ("[1, 2, 3, 4, 5, 99] | mktime", "is no point in time"),
    ] {
        let error = run(program).unwrap_err().to_string();
        assert!(error.contains(expect), "{program}: {error}");
    }
}

fn run(program: &str) -> Result<String, JqError> {
    run_within(STEPS_MAX, program)
}

fn run_within(steps: u64, program: &str) -> Result<String, JqError> {
    let jq = Jq::compile(program).unwrap_or_else(|problems| panic!("{program}: {problems:?}"));
    let (event, mut out) = (event(), Vec::new());
    jq.run_within(steps, &Document::event(&event), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn programs_make_data() {
    for (program, expect) in [
        (
            ".data | {id, sum: .total}",
            json!({"id": "a-7", "sum": 250}),
        ),
        (".type + \" \" + .subject", json!("order.paid a.jpg")),
        (
            "[.data.items[] | select(.n > 1) | .sku] | unique | join(\",\")",
            json!("b"),
        ),
        (
            "[.data.items[].n] | [add, length, min, max, add / length]",
            json!([6, 3, 1, 3, 2]),
        ),
        (
            ".data.items | group_by(.sku) | map({key: .[0].sku, value: (map(.n) | add)}) | from_entries",
            json!({"a": 1, "b": 5}),
        ),
        (
            ".data.items | sort_by(.n) | [first.sku, last.sku, (reverse | map(.n))]",
            json!(["a", "b", [3, 2, 1]]),
        ),
        ("[.data.items | min_by(.n), max_by(.n) | .n]", json!([1, 3])),
        (
            ".data | with_entries(select(.value | type == \"string\")) | keys",
            json!(["id", "json", "text"]),
        ),
        (
            ".data.items | map(.n) as [$a, $b] | $a * 10 + $b",
            json!(21),
        ),
        ("reduce .data.items[] as {n: $n} (0; . + $n)", json!(6)),
        (
            "[foreach .data.items[] as $i (0; . + $i.n; [$i.sku, .])]",
            json!([["b", 2], ["a", 3], ["b", 6]]),
        ),
        (
            "[limit(3; range(10))] + [range(0; 10; 4)] + [first(range(5; 9))]",
            json!([0, 1, 2, 0, 4, 8, 5]),
        ),
        (".data.missing // \"none\"", json!("none")),
        ("try error(\"x\") catch .", json!("x")),
        (
            "[.data.items[] | try (if .n == 1 then error else .n end) catch \"bad\"]",
            json!([2, "bad", 3]),
        ),
        (
            "if .data.total > 100 then \"dear\" elif .data.total > 10 then \"fair\" else \"cheap\" end",
            json!("dear"),
        ),
        (
            "def double(f): f * 2; def four: double(double(.)); .data.total | four",
            json!(1000),
        ),
        (
            "\"id \\(.data.id): \\(.data.tags)\"",
            json!("id a-7: [\"x\",\"y\"]"),
        ),
        (".data.json | fromjson | .a[1]", json!(2)),
        (".data.tags | tojson", json!("[\"x\",\"y\"]")),
        (
            "[.data.total, .data.id, .data.none, .data.yes, .data.tags] | map(tostring)",
            json!(["250", "a-7", "null", "true", "[\"x\",\"y\"]"]),
        ),
        (
            "[\"12\", \"1.5\", \"-3\"] | map(tonumber)",
            json!([12, 1.5, -3]),
        ),
        (
            ".data.text | [length, ascii_upcase, split(\", \"), ltrimstr(\"h\"), indices(\"l\"), index(\"w\"), startswith(\"h\"), .[1:5]]",
            json!([
                12,
                "HéLLO, WöRLD",
                ["héllo", "wörld"],
                "éllo, wörld",
                [2, 3, 10],
                7,
                true,
                "éllo"
            ]),
        ),
        (
            "@base64 \"\\(.data.id)\" + \" \" + (\"YS03\" | @base64d) + (\" ä&\" | @uri) + (\"<a>\" | @html)",
            json!("YS03 a-7%20%C3%A4%26&lt;a&gt;"),
        ),
        (
            ".data | del(.items, .json, .text, .big) | .total += 1 | .rate *= 2 | .tags |= map(ascii_upcase) | .none //= 7 | .new = {x: .id} | del(.nested, .yes)",
            json!({"id": "a-7", "total": 251, "rate": 3, "tags": ["X", "Y"], "none": 7, "new": {"x": "a-7"}}),
        ),
        (
            ".data.nested | [flatten? // .a.b, (.a.b | flatten), (.a.b | flatten(1))]",
            json!([[1, [2, [3]]], [1, 2, 3], [1, 2, [3]]]),
        ),
        (
            "[.data.nested | paths | join(\".\")]",
            json!([
                "a",
                "a.b",
                "a.b.0",
                "a.b.1",
                "a.b.1.0",
                "a.b.1.1",
                "a.b.1.1.0"
            ]),
        ),
        (
            ".data.nested | getpath([\"a\", \"b\", 1, 0]), setpath([\"a\"]; 1), delpaths([[\"a\", \"b\"]]) | tojson | [.] | .[0]",
            json!(null),
        ),
        ("[.data.nested | .. | numbers]", json!([1, 2, 3])),
        (
            ".data.nested | walk(if type == \"number\" then . + 1 else . end)",
            json!({"a": {"b": [2, [3, [4]]]}}),
        ),
        (
            "[.data | contains({tags: [\"x\"], id: \"a\"}), (\"x\" | inside(\"xy\")), (.tags | any(. == \"y\")), (.tags | all(. == \"y\")), has(\"id\")]",
            json!([true, true, true, false, true]),
        ),
        (".data.big", json!(18446744073709551615_u64)),
        (
            "[1.0, 1.5e3, 1e300, -0.5, (0/0), 3 - 5, 7 % 3, 10 / 4]",
            json!([1, 1500, 1e300, -0.5, null, -2, 1, 2.5]),
        ),
        (
            "[.data.tags, [1, 2]] | transpose",
            json!([["x", 1], ["y", 2]]),
        ),
        (
            "[label $out | range(9) | if . > 2 then ., break $out else . end]",
            json!([0, 1, 2, 3]),
        ),
        ("\"ab\" * 3", json!("ababab")),
        ("{a: {b: 1}} * {a: {c: 2}}", json!({"a": {"b": 1, "c": 2}})),
        ("[1, 2, 3, 2] - [2]", json!([1, 3])),
        (
            "[.[\"type\"], .data[\"id\"], .data.tags[-1], .data.items[1].sku]",
            json!(["order.paid", "a-7", "y", "a"]),
        ),
    ] {
        if expect.is_null() && program.contains("getpath") {
            assert_eq!(run(program), Err(JqError::Several), "{program}");
            continue;
        }
        let made = run(program).unwrap_or_else(|error| panic!("{program}: {error}"));
        assert_eq!(
            serde_json::from_str::<Value>(&made).unwrap(),
            expect,
            "{program}"
        );
    }
}

#[test]
fn one_value_is_wanted() {
    for (program, expect) in [
        ("empty", JqError::Nothing),
        (".data.items[]", JqError::Several),
        ("{([1]): 2}", JqError::Key),
        ("error(\"so\")", JqError::Failed("\"so\"".to_owned())),
        (
            ".data.id | keys",
            JqError::Failed("cannot use \"a-7\" as iterable (array or object)".to_owned()),
        ),
    ] {
        assert_eq!(run(program), Err(expect), "{program}");
    }
    let Err(JqError::Failed(said)) = run("[range(1000)] | error") else {
        panic!("it fails")
    };
    assert!(said.len() < 220 && said.ends_with('…'), "{said}");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let told = |program: &str| {
        let problems = Jq::compile(program).unwrap_err();
        let told = problems.iter().map(|problem| {
            format!(
                "{problem} at {:?}",
                problem.within.clone().map_or("", |within| &program[within])
            )
        });
        format!("{program:?}: {}", told.collect::<Vec<_>>().join("; "))
    };
    let programs = [
        "",
        ".data | {id",
        ".data |",
        "if . then 1",
        "[1,]",
        "foo | bar(1)",
        "map",
        "$x + $ENV.HOME",
        "break $out",
        "env.HOME",
        "[inputs]",
        "def f: f; f",
        "def f: 1; def f: f; f",
        "def f: 1; def f: def g: f; g; f",
        "def map(f): map(f); map(.)",
        "def @json: @json \"\\(.)\"; @json",
        "path(reduce range(1e5) as $i (.; .a))",
        "def f(g): def h: f(g); h; f(.)",
        "repeat(.)",
        "until(. > 5; . + 1)",
        "test(\"a\")",
        "\"\\(nope)\"",
        "@csv",
        "a::b",
        "\"\\x\"",
        "& 1",
        "add( }",
        "import \"a\" as a; .",
    ];
    insta::assert_snapshot!(programs.map(told).join("\n"));
}

/// In a thread as small as those of the runtime.
fn in_a_small_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(2 * 1024 * 1024)
            .spawn_scoped(scope, work)
            .unwrap()
            .join()
            .unwrap()
    })
}

#[test]
fn no_program_takes_all_time_memory_or_stack() {
    let pipes = |part: &str, times: usize| vec![part; times].join(" | ");
    for program in [
        "[range(1e18)]".to_owned(),
        "last(range(1e18))".to_owned(),
        "first(range(1e18) | empty)".to_owned(),
        "[range(infinite) | empty]".to_owned(),
        "reduce range(1e18) as $x (0; .)".to_owned(),
        "[foreach range(1e18) as $x (0; .; empty)]".to_owned(),
        "\"x\" * 1e9".to_owned(),
        "\"x\" * 1000000000".to_owned(),
        "1000000000 * \"x\"".to_owned(),
        "\"x\" | . *= 1000000000".to_owned(),
        format!("\"x\" | {}", pipes(". + .", 60)),
        format!("[1] | {}", pipes(". + .", 60)),
        format!("1 | {}", pipes("[., .]", 60)),
        format!("1 | {}", pipes("{a: ., b: .}", 60)),
        format!("1 | {}", pipes("[., .]", 60)) + " | tojson",
        format!("[{}]", pipes("(., .)", 60)),
        format!(
            "{{{}, z: empty}}",
            (0..60)
                .map(|n| format!("k{n}: (1, 2)"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        format!("[{} + empty]", vec!["(1, 2)"; 60].join(" + ")),
        format!("[\"{}\"]", vec!["\\(1, 2)"; 60].join("")),
        format!("[{}]", vec!["(1, 2)"; 60].join(" == ")),
        format!("[{}]", vec!["(1, 2)"; 60].join(" and ")),
        "reduce range(100) as $x (\"x\"; . + .)".to_owned(),
        "reduce range(100) as $x ([1]; . + .)".to_owned(),
        "reduce range(100) as $x ([1]; [.[], .[]])".to_owned(),
        "reduce range(100000) as $x (null; [.])".to_owned(),
        "reduce range(100000) as $x (null; {a: .})".to_owned(),
        "reduce range(100000) as $x ({}; .a = .)".to_owned(),
        "reduce range(100000) as $x ({}; .a |= {b: .})".to_owned(),
        "reduce range(100000) as $x ([1]; .[0] = .)".to_owned(),
        "[limit(1000; range(1e9))] | .[] = . | .[] = . | .[] = . | tojson".to_owned(),
        "reduce range(1e9) as $x (1; . * 1000000007)".to_owned(),
        "reduce range(100) as $x (3; . * .)".to_owned(),
        "null | setpath([range(100000) | \"a\"]; 1)".to_owned(),
        "null | (reduce range(100000) as $x (.; .a)) |= 1".to_owned(),
        "null | (foreach range(100000) as $x (.; .a)) |= 1".to_owned(),
        "[limit(100000; range(1e9))] as $a | [range(1e6) | $a == ($a + [])] | length".to_owned(),
        "[limit(100000; range(1e9))] as $a | reduce range(1e6) as $i ($a; .[0] = $i | .[1] |= $i)"
            .to_owned(),
        "[limit(100000; range(1e9))] as $a | [range(1e6) | first($a[])] | length".to_owned(),
        "[limit(100000; range(1e9))] as $a | [range(1e6) | $a[1:] | length]".to_owned(),
        "[limit(100000; range(1e9))] as $a | [range(1e6) | $a | sort | length]".to_owned(),
        "[limit(30000; range(1e9))] as $a | $a | contains($a)".to_owned(),
        "(\"a\" * 100000) as $a | [range(1e6) | $a | ascii_upcase | length]".to_owned(),
        "(\"a\" * 1000000) as $a | [range(1e6) | $a | indices(\"aaaa\") | length]".to_owned(),
        "\"[\" * 100000 | fromjson".to_owned(),
        "[range(1e6) | try error catch .] | length".to_owned(),
        "[range(1e18) | try error catch empty]".to_owned(),
        "[.[]?, (try range(1e18) catch 0), range(1e18)]".to_owned(),
        "def f: (., .) | (., .) | (., .); def g: f | f | f | f; def h: g | g | g | g; [h | h]"
            .to_owned(),
    ] {
        // Fewer steps than usual, for the time that this takes without optimisation.
        let ended = in_a_small_thread(|| run_within(STEPS_MAX / 5, &program));
        assert!(
            matches!(
                ended,
                Err(JqError::Steps | JqError::Deep | JqError::Number | JqError::Failed(_))
            ),
            "{program}: {ended:?}"
        );
    }
    for program in [
        format!("{}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("{}1{}", "[".repeat(60), "]".repeat(60)) + &"|[.]".repeat(300),
        "-".repeat(5000) + "1",
        "try ".repeat(4000) + "1",
        "if ".repeat(5000) + "1",
        vec!["1"; 5000].join("|"),
        vec!["1"; 5000].join("+"),
        vec!["1"; 5000].join(" as $x | "),
        "label $x | ".repeat(1000) + "1",
        "def f: ".repeat(2000) + "1",
        "reduce ".repeat(2000),
        format!("{{{}}}", vec!["a:1"; 4000].join(",")),
        format!("\"{}\"", "\\(1)".repeat(4000)),
        format!("\"{}\"", "\\(".repeat(4000)),
        "x".repeat(PROGRAM_BYTES_MAX + 1),
    ] {
        assert!(
            in_a_small_thread(|| Jq::compile(&program).is_err()),
            "{}",
            &program[..40]
        );
    }
}

#[test]
fn a_large_event_may_be_looked_at_more_than_once() {
    let data = format!(
        "[{}]",
        vec![r#"{"sku":"a-longer-name","n":1,"tags":["x","y"]}"#; 20_000].join(",")
    );
    let event = Event::builder("1", "/s", "t")
        .data(Data::json(Bytes::from(data)).unwrap())
        .build()
        .unwrap();
    let program =
        ".data | map(select(.n == 1)) | group_by(.sku) | map({sku: .[0].sku, n: (map(.n) | add)})";
    let mut out = Vec::new();
    Jq::compile(program)
        .unwrap()
        .run(&Document::event(&event), &mut out)
        .unwrap();
    assert_eq!(out, br#"[{"sku":"a-longer-name","n":20000}]"#);
}

#[test]
fn the_longest_programs_allowed_run_in_a_small_thread() {
    const DEFS: usize = CHAIN_MAX / 3;
    let nested = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    for program in [
        vec![". + 1"; CHAIN_MAX / 2]
            .join(" | ")
            .replacen(". + 1", "1", 1),
        vec!["1"; CHAIN_MAX].join(" + "),
        format!(
            "{{{}}}",
            (0..CHAIN_MAX)
                .map(|n| format!("k{n}: 1"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        nested("[", "1", "]", NESTING_MAX),
        nested("{a: ", "1", "}", NESTING_MAX),
        nested("([1] | map(", ".", "))", NESTING_MAX / 2),
        format!(
            "def f0: 1; {} f{}",
            (1..DEFS)
                .map(|n| format!("def f{n}: [f{}] | .[0];", n - 1))
                .collect::<Vec<_>>()
                .join(" "),
            DEFS - 1
        ),
        "try ".repeat(CHAIN_MAX) + "1",
        "-".repeat(CHAIN_MAX) + "1",
        format!(
            "{} 1 {}",
            "if true then ".repeat(CHAIN_MAX),
            "end ".repeat(CHAIN_MAX)
        ),
        format!("1 | {}", vec!["(. as $x | $x)"; CHAIN_MAX - 4].join(" | ")),
    ] {
        if let Err(problems) = in_a_small_thread(|| Jq::compile(&program).map(|_| ())) {
            panic!("{program}: {problems:?}");
        }
        let made = in_a_small_thread(|| run(&program));
        assert!(made.is_ok(), "{made:?} {program}");
    }
}
