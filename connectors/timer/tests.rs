use std::sync::Arc;
use std::time::Duration;

use pointsman_schemas::{Clock, Cursor, Event, Segment};
use serde_json::{Value, json};

use super::*;
use crate::Arrival;
use crate::suite::{SetClock, SourceFixture, next_within, open, sources};

struct Fixture {
    settings: Value,
    clock: Arc<SetClock>,
    /// How many seconds have fired.
    seconds: i64,
}

impl Fixture {
    fn new(settings: Value, time: &str) -> Self {
        Self {
            settings,
            clock: Arc::new(SetClock::at(time)),
            seconds: 0,
        }
    }

    /// Every firing of the time to come, and what it says about skipped ones; the last cursor goes
    /// with them.
    async fn run(&self, cursor: &mut Option<Cursor>, time: Duration) -> Vec<(String, u64)> {
        let mut source = open(self, cursor.clone(), false).await;
        let end = tokio::time::Instant::now() + time;
        let mut fired = Vec::new();
        while let Some(batch) = next_within(&mut *source, end - tokio::time::Instant::now()).await {
            let batch = batch.unwrap();
            *cursor = batch.cursor.or(cursor.take());
            for message in batch.messages {
                let Some(Arrival::Event(event)) = message.arrivals.first() else {
                    panic!("an event")
                };
                let data = event.data().unwrap().value().unwrap();
                assert_eq!(
                    event.id().to_string(),
                    format!("suite/{}", data["scheduled"].as_str().unwrap())
                );
                fired.push((
                    data["scheduled"].as_str().unwrap().to_owned(),
                    data["skipped"].as_u64().unwrap(),
                ));
            }
        }
        fired
    }
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "timer";

    fn settings(&self) -> Value {
        self.settings.clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let count = i64::try_from(count).unwrap();
        let first: Timestamp = "2026-01-01T00:00:01Z".parse().unwrap();
        let last = first + jiff::SignedDuration::from_secs(self.seconds + count - 1);
        while self.clock.now().0 < last.as_microsecond() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ids = (self.seconds..self.seconds + count)
            .map(|n| format!("suite/{}", first + jiff::SignedDuration::from_secs(n)))
            .collect();
        self.seconds += count;
        ids
    }

    fn identity(&self, event: &Event) -> String {
        event.id().to_string()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_EVENTS_MAX
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({}), ""),
            (json!({ "cron": "@daily", "every": "1s" }), "every"),
            (json!({ "every": "1s", "timezone": "UTC" }), "timezone"),
            (json!({ "every": "1ms" }), "every"),
            (json!({ "cron": "0 0 30 2 *" }), "cron"),
            (json!({ "cron": "0 0 * *" }), "cron"),
            (
                json!({ "cron": "@daily", "timezone": "Europe/Atlantis" }),
                "timezone",
            ),
            (
                json!({ "every": "1s", "misfire": { "all": 0 } }),
                "misfire.all",
            ),
            (
                json!({ "every": "1s", "misfire": { "all": 10_001 } }),
                "misfire.all",
            ),
        ]
    }
}

#[tokio::test(start_paused = true)]
async fn conforms() {
    sources(&mut Fixture::new(
        json!({ "every": "1s", "misfire": { "all": 100 } }),
        "2026-01-01T00:00:00.2Z",
    ))
    .await;
}

fn times(fired: &[(String, u64)]) -> Vec<&str> {
    fired.iter().map(|(time, _)| time.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_firing_is_an_event_of_the_documented_shape() {
    let fixture = Fixture::new(
        json!({ "cron": "0 9 * * MON-FRI", "timezone": "Europe/Berlin" }),
        "2026-11-20T07:59:59Z",
    );
    let mut source = open(&fixture, None, false).await;
    assert!(
        source.next().await.unwrap().messages.is_empty(),
        "first where it starts from"
    );
    let batch = source.next().await.unwrap();
    let Some(Arrival::Event(event)) = batch.messages[0].arrivals.first() else {
        panic!("an event")
    };
    assert_eq!(fixture.clock.now().to_string(), "2026-11-20T08:00:00Z");
    let mut text = Vec::new();
    pointsman_schemas::json::encode(event, &mut text);
    insta::assert_snapshot!(
        String::from_utf8(text).unwrap().replace(",\"", ",\n\""),
        @r#"
    {"specversion":"1.0",
    "id":"suite/2026-11-20T09:00:00+01:00",
    "source":"/timers/suite",
    "type":"com.pointsman.timer.fired",
    "subject":"suite",
    "time":"2026-11-20T09:00:00+01:00",
    "datacontenttype":"application/json",
    "data":{"timer":"suite",
    "scheduled":"2026-11-20T09:00:00+01:00",
    "scheduled_local":"2026-11-20T09:00:00",
    "timezone":"Europe/Berlin",
    "skipped":0}}
    "#
    );
}

#[tokio::test(start_paused = true)]
async fn misfires_follow_the_policy_and_every_skipped_one_is_counted() {
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    for (misfire, expect) in [
        (json!("skip"), vec![("2026-01-01T10:00:00+00:00", 5)]),
        (
            json!("latest"),
            vec![
                ("2026-01-01T09:00:00+00:00", 4),
                ("2026-01-01T10:00:00+00:00", 0),
            ],
        ),
        (
            json!({ "all": 2 }),
            vec![
                ("2026-01-01T08:00:00+00:00", 3),
                ("2026-01-01T09:00:00+00:00", 0),
                ("2026-01-01T10:00:00+00:00", 0),
            ],
        ),
        (
            json!({ "all": 100 }),
            vec![
                ("2026-01-01T05:00:00+00:00", 0),
                ("2026-01-01T06:00:00+00:00", 0),
                ("2026-01-01T07:00:00+00:00", 0),
                ("2026-01-01T08:00:00+00:00", 0),
                ("2026-01-01T09:00:00+00:00", 0),
                ("2026-01-01T10:00:00+00:00", 0),
            ],
        ),
    ] {
        for settings in [
            json!({ "cron": "@hourly", "misfire": misfire }),
            json!({ "every": "1h", "misfire": misfire }),
        ] {
            let fixture = Fixture::new(settings, "2026-01-01T03:30:00Z");
            let mut cursor = None;
            assert_eq!(fixture.run(&mut cursor, hours(1)).await.len(), 1);
            tokio::time::sleep(hours(5)).await;
            let fired = fixture.run(&mut cursor, hours(1)).await;
            let fired: Vec<_> = fired
                .iter()
                .map(|(time, skipped)| (time.replace('Z', "+00:00"), *skipped))
                .collect();
            let expect: Vec<_> = expect
                .iter()
                .map(|(time, skipped)| ((*time).to_owned(), *skipped))
                .collect();
            assert_eq!(fired, expect, "{misfire}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_a_little_late_is_not_missed() {
    let fixture = Fixture::new(
        json!({ "every": "1s", "misfire": "skip" }),
        "2026-01-01T00:00:00Z",
    );
    let mut cursor = None;
    fixture.run(&mut cursor, Duration::from_millis(500)).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        fixture
            .run(&mut cursor, Duration::from_millis(100))
            .await
            .len(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn a_set_clock_is_noticed_and_repeats_nothing() {
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let fixture = Fixture::new(json!({ "every": "10m" }), "2026-01-01T12:05:00Z");
    let mut source = open(&fixture, None, false).await;
    let mut fired = async |time: Duration| {
        let end = tokio::time::Instant::now() + time;
        let mut fired = Vec::new();
        while let Some(batch) = next_within(&mut *source, end - tokio::time::Instant::now()).await {
            for message in batch.unwrap().messages {
                let Some(Arrival::Event(event)) = message.arrivals.first() else {
                    panic!("an event")
                };
                fired.push(event.time().unwrap().to_string()[11..16].to_owned());
            }
        }
        fired
    };
    assert_eq!(fired(minutes(10)).await, ["12:10"]);
    // Put on by three hours: the last one missed, within a second or so.
    fixture.clock.set("2026-01-01T15:15:00Z");
    assert_eq!(fired(Duration::from_secs(2)).await, ["15:10"]);
    // Put back by less than a period: waited out.
    fixture.clock.set("2026-01-01T15:09:00Z");
    assert_eq!(fired(minutes(10)).await, Vec::<String>::new());
    assert_eq!(fired(minutes(2)).await, ["15:20"]);
}

/// What fires in a time, with the ids.
async fn fired_within(
    source: &mut dyn Source,
    time: Duration,
) -> Vec<(String, String, Option<Cursor>)> {
    let end = tokio::time::Instant::now() + time;
    let mut fired = Vec::new();
    while let Some(batch) = next_within(source, end - tokio::time::Instant::now()).await {
        let batch = batch.unwrap();
        for message in batch.messages {
            let Some(Arrival::Event(event)) = message.arrivals.first() else {
                panic!("an event")
            };
            fired.push((
                event.time().unwrap().to_string(),
                event.id().to_string(),
                batch.cursor.clone(),
            ));
        }
    }
    fired
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_put_back_silences_no_timer_and_no_id_comes_twice() {
    let backs = [
        "2026-06-02T09:00:30Z",
        "2026-06-02T05:31:00Z",
        "2026-06-01T08:59:00Z",
        "2025-06-02T08:59:00Z",
        "1999-01-01T08:59:00Z",
    ];
    // The settings; when their timer starts, to fire until ten; how long it rests at most; and how
    // far the clock is put back how often. A timer looks at the clock each second, and one that is
    // put back by less than a period is waited out: that of a day is put back by more.
    for (settings, start, rest_seconds, backs, times) in [
        (
            json!({ "every": "30s" }),
            "2026-06-02T09:55:00Z",
            30,
            &backs[..],
            3,
        ),
        (
            json!({ "cron": "*/5 * * * *" }),
            "2026-06-02T09:50:00Z",
            300,
            &backs,
            3,
        ),
        (
            json!({ "cron": "*/20 * * * *", "timezone": "Europe/Berlin" }),
            "2026-06-02T09:59:00Z",
            1_200,
            &backs,
            3,
        ),
        (
            json!({ "cron": "0 9 * * *" }),
            "2026-06-02T08:59:50Z",
            60,
            &backs[2..],
            1,
        ),
        (
            json!({ "every": "1s", "misfire": "skip" }),
            "2026-06-02T09:59:50Z",
            1,
            &backs,
            3,
        ),
        (
            json!({ "every": "1s", "misfire": { "all": 100 } }),
            "2026-06-02T09:59:50Z",
            1,
            &backs,
            3,
        ),
    ] {
        let ten: Timestamp = "2026-06-02T10:00:01Z".parse().unwrap();
        let until_ten = Duration::try_from(ten.duration_since(start.parse().unwrap())).unwrap();
        for back in backs {
            for restarts in [false, true] {
                let fixture = Fixture::new(settings.clone(), start);
                let mut source = open(&fixture, None, false).await;
                let mut ids: Vec<String> = Vec::new();
                let before = fired_within(&mut *source, until_ten).await;
                ids.extend(before.iter().map(|one| one.1.clone()));
                assert!(!before.is_empty(), "{settings}");
                fixture.clock.set(back);
                if restarts {
                    source = open(&fixture, before.last().unwrap().2.clone(), false).await;
                }
                // Twice, and back to the right time at the end.
                for again in 0..times {
                    let after =
                        fired_within(&mut *source, Duration::from_secs(rest_seconds * 2 + 2)).await;
                    assert!(
                        !after.is_empty(),
                        "{settings} is silent after {back}, {again}"
                    );
                    ids.extend(after.iter().map(|one| one.1.clone()));
                    fixture.clock.set(if again == 1 && *back > "2026" {
                        "2026-06-02T11:00:00Z"
                    } else {
                        back
                    });
                }
                let firings = ids.len();
                ids.sort();
                ids.dedup();
                assert_eq!(ids.len(), firings, "{settings} after {back}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fires_again_says_so_until_the_clock_has_caught_up() {
    let fixture = Fixture::new(json!({ "every": "10m" }), "2026-01-01T12:05:00Z");
    let mut source = open(&fixture, None, false).await;
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let ids = async |source: &mut dyn Source, time: Duration| -> Vec<String> {
        fired_within(source, time)
            .await
            .into_iter()
            .map(|one| one.1.replace("suite/2026-01-01T", ""))
            .collect()
    };
    assert_eq!(
        ids(&mut *source, minutes(30)).await,
        ["12:10:00Z", "12:20:00Z", "12:30:00Z"]
    );
    fixture.clock.set("2026-01-01T12:15:00Z");
    assert_eq!(
        ids(&mut *source, minutes(30)).await,
        ["12:20:00Z/2", "12:30:00Z/2", "12:40:00Z"]
    );
    fixture.clock.set("2026-01-01T12:15:00Z");
    assert_eq!(
        ids(&mut *source, minutes(40)).await,
        ["12:20:00Z/3", "12:30:00Z/3", "12:40:00Z/3", "12:50:00Z"]
    );
}

#[tokio::test(start_paused = true)]
async fn restarts_at_any_moment_fire_exactly_the_declared_set() {
    let settings =
        json!({ "cron": "*/20 * * * *", "timezone": "Europe/Berlin", "misfire": { "all": 100 } });
    let fixture = Fixture::new(settings, "2026-10-24T22:10:00Z");
    let mut cursor = None;
    let mut fired = Vec::new();
    for step in 0..60_u64 {
        fired.extend(
            fixture
                .run(&mut cursor, Duration::from_secs(step * 37 % 900))
                .await,
        );
        tokio::time::sleep(Duration::from_secs(step * 53 % 700)).await;
    }
    let schedule = Schedule::cron(
        &cron::read("*/20 * * * *").unwrap(),
        TimeZone::get("Europe/Berlin").unwrap(),
    )
    .unwrap();
    let mut expect = vec!["2026-10-24T22:10:00Z".parse::<Timestamp>().unwrap()];
    while expect.len() <= fired.len() {
        expect.push(schedule.next(expect[expect.len() - 1]).unwrap());
    }
    assert_eq!(
        times(&fired),
        expect[1..]
            .iter()
            .map(|instant| schedule.show(*instant))
            .collect::<Vec<_>>()
    );
    assert!(
        times(&fired).contains(&"2026-10-25T02:20:00+02:00")
            && times(&fired).contains(&"2026-10-25T02:20:00+01:00")
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_schedule_starts_anew_and_fires_nothing_of_the_past() {
    let mut fixture = Fixture::new(json!({ "cron": "0 9 * * *" }), "2026-01-01T08:59:00Z");
    let mut cursor = None;
    assert_eq!(
        fixture
            .run(&mut cursor, Duration::from_secs(3_600))
            .await
            .len(),
        1
    );
    fixture.settings = json!({ "cron": "30 9,10 * * *" });
    let fired = fixture.run(&mut cursor, Duration::from_secs(3_600)).await;
    assert_eq!(times(&fired), ["2026-01-01T10:30:00+00:00"]);
}

#[tokio::test(start_paused = true)]
async fn a_year_of_seconds_is_caught_up_in_parts_and_bounded() {
    let fixture = Fixture::new(
        json!({ "every": "100ms", "misfire": { "all": 250 } }),
        "2026-01-01T00:00:00Z",
    );
    let mut cursor = None;
    fixture.run(&mut cursor, Duration::from_millis(10)).await;
    fixture.clock.set("2027-01-01T00:00:00Z");
    let fired = fixture.run(&mut cursor, Duration::from_millis(10)).await;
    assert_eq!(fired.len(), 250);
    assert_eq!(
        fired.iter().map(|(_, skipped)| skipped).sum::<u64>(),
        365 * 86_400 * 10 - 250
    );
}

#[test]
fn the_shape_of_misfire_is_checked() {
    for bad in [
        json!("never"),
        json!({ "all": "x" }),
        json!({ "most": 1 }),
        json!({ "all": -1 }),
    ] {
        assert!(
            serde_json::from_value::<TimerSource>(json!({ "every": "1s", "misfire": bad }))
                .is_err(),
            "{bad}"
        );
    }
    let both = serde_json::from_value::<TimerSource>(json!({ "every": "1s", "cron": "@daily" }))
        .unwrap()
        .check();
    assert_eq!(
        (both.len(), both[0].at_key, &both[0].path[..]),
        (1, true, &[Segment::from("every")][..])
    );
}
