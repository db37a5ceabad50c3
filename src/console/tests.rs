//! The pages over a journal, with real requests.

mod written;

use std::sync::Arc;

use http::StatusCode;
use pointsman_journal::{Activity, Append, Entry, Journal};
use pointsman_schemas::{DeliveryId, Event};

use crate::admin::testing::{TestBus, VIEWER, name};
use crate::commands::client::Answer;

const KEY: &str = "a-key-of-the-operator-7";

const PAGES: [&str; 23] = [
    "/",
    "/?q=thumb",
    "/flow",
    "/events",
    "/events?type=photo&pattern={type:%20[photo]}",
    "/events/2",
    "/events/last?rule=thumbnails",
    "/tasks",
    "/tasks?state=succeeded,failed",
    "/dead",
    "/dead?rule=audit&reason=expired",
    "/live",
    "/live?only=events&pattern={type:%20[photo]}&failed=true",
    "/rules",
    "/rules/default/thumbnails",
    "/rules/files",
    "/sources",
    "/sources/default/orders",
    "/targets",
    "/targets/default/thumbnailer",
    "/subscriptions/1",
    "/replays",
    "/playground?event=2&rule=thumbnails",
];

async fn get(bus: &TestBus, path: &str) -> (StatusCode, String) {
    told(&bus.ask("GET", path, &[("accept", "text/html")], "").await)
}

async fn post(bus: &TestBus, path: &str, form: &str) -> (StatusCode, String) {
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    let host = bus.address.to_string();
    let origin = format!("http://{host}");
    let headers = [
        form_type,
        ("origin", &*origin),
        ("sec-fetch-site", "same-origin"),
    ];
    told(&bus.ask("POST", path, &headers, form).await)
}

fn told(answer: &Answer) -> (StatusCode, String) {
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    (answer.status, text)
}

/// The policy forbids it, so a page that had it would not look as it is meant to.
fn has_nothing_inline(page: &str) -> bool {
    let bad = [
        "<style",
        " style=",
        "<script>",
        " onclick=",
        "javascript:",
        "http://",
        "https://",
    ];
    bad.iter().all(|bad| !page.contains(bad))
}

#[tokio::test]
async fn every_page_answers_and_keeps_to_the_policy() {
    let bus = TestBus::start(&[]).await;
    let dead = bus.dead().await;
    let of_each = dead
        .iter()
        .flat_map(|id| [format!("/dead/{id}"), format!("/tasks/{id}")]);
    // What a source could not read has no task.
    let of_each = of_each.filter(|path| !path.ends_with("-0-0"));
    let pages: Vec<String> = PAGES
        .iter()
        .map(ToString::to_string)
        .chain(of_each)
        .collect();
    for path in &pages {
        let answer = bus.ask("GET", path, &[], "").await;
        let (status, page) = told(&answer);
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        if path.starts_with("/tasks/") && status == 404 {
            continue;
        }
        assert_eq!(status, 200, "{path}: {page}");
        assert!(has_nothing_inline(&page), "{path}: {page}");
    }
    for (path, expect) in [
        ("/rules/default/none", 404),
        ("/sources/default/none", 404),
        ("/targets/UPPER/x", 400),
        ("/subscriptions/99", 404),
        ("/subscriptions/x", 400),
        ("/events/99", 404),
        ("/events?since=yesterday", 400),
        ("/events?pattern=[", 400),
        ("/tasks?state=bored", 400),
        ("/tasks/x", 400),
        ("/dead?reason=x", 400),
        ("/live?pattern=[", 400),
        ("/live?rate=0", 400),
        ("/live/stream?rate=x", 400),
        ("/playground?rule=none", 404),
        ("/charts/nothing/a/b", 404),
    ] {
        let (status, page) = get(&bus, path).await;
        assert_eq!(status, expect, "{path}: {page}");
        assert!(
            page.contains("<h1>") && page.contains("role=\"alert\""),
            "{path}: {page}"
        );
    }
    // Samples are taken by the bus, which is none here.
    for chart in [
        "sources/default/orders",
        "targets/default/thumbnailer?of=attempts",
    ] {
        assert_eq!(
            get(&bus, &format!("/charts/{chart}")).await.0,
            204,
            "{chart}"
        );
    }
}

#[tokio::test]
async fn what_others_wrote_is_shown_as_text_and_a_page_at_a_time() {
    let bus = TestBus::start(&[]).await;
    let entry = |index: usize| {
        let event = Event::builder(format!("<b>{index}"), "/i", "<script>alert(1)</script>");
        Entry {
            event: Arc::new(event.subject("\"><img src=x>").build().unwrap()),
            deliveries: Default::default(),
            deduplicate: None,
            dead: None,
            terms: None,
        }
    };
    let append = Append {
        tenant: name("default"),
        origin: name("uploads"),
        entries: (0..120).map(entry).collect(),
        rejects: Vec::new(),
        cursor: None,
        positions: Vec::new(),
    };
    bus.journal.append(append).await.unwrap();
    for path in [
        "/events",
        "/events/last",
        "/playground?event=last",
        "/events?type=<script>alert(1)</script>",
        "/tasks?subject=\"><img src=x>",
        "/dead?rule=<script>",
        "/?q=<script>",
    ] {
        let escaped = path.replace(['<', '>', '"', ' '], "%3C");
        let path = if path.contains("alert") {
            "/events?type=%3Cscript%3Ealert(1)%3C/script%3E"
        } else {
            &escaped
        };
        let (_, page) = get(&bus, path).await;
        for raw in ["<script>alert", "<b>", "<img"] {
            assert!(!page.contains(raw), "{path}: {raw}");
        }
    }
    let (_, page) = get(&bus, "/events").await;
    assert_eq!(
        page.matches("<td>&lt;b&gt;").count() + page.matches("&lt;script&gt;alert(1)").count(),
        100
    );
    assert!(page.contains("Older ones"));
}

#[tokio::test]
async fn who_has_shown_no_key_is_led_to_where_that_is_done() {
    let (logged, _guard) = crate::telemetry::testing::capture("info", false);
    let bus = TestBus::start(&[KEY]).await;
    let html = ("accept", "text/html");
    for path in PAGES {
        let answer = bus.ask("GET", path, &[html], "").await;
        let to = answer.headers["location"].to_str().unwrap().to_owned();
        assert!(
            answer.status == 303 && to.starts_with("/login?to=%2F"),
            "{path}: {to}"
        );
    }
    let part = bus.ask("GET", "/flow", &[("hx-request", "true")], "").await;
    assert_eq!(
        (part.status.as_u16(), &part.headers["hx-redirect"]),
        (401, &"/login".parse().unwrap())
    );
    assert_eq!(bus.ask("GET", "/api/v1/status", &[], "").await.status, 401);
    assert_eq!(post(&bus, "/subscriptions/1/suspend", "").await.0, 401);
    let (status, page) = get(&bus, "/login?to=/dead").await;
    assert!(
        status == 200 && page.contains("name=\"key\"") && !page.contains("<nav"),
        "{page}"
    );
    let style = page
        .split("href=\"/static/")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    assert_eq!(get(&bus, &format!("/static/{style}")).await.0, 200);
    let (status, page) = post(&bus, "/login", "key=wrong&to=/dead").await;
    assert!(status == 403 && page.contains("none of the keys"), "{page}");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let answer = bus
        .ask("POST", "/login", &[form], &format!("key={KEY}&to=/dead"))
        .await;
    let elsewhere = format!("key={KEY}&to=//evil.example");
    let elsewhere = bus.ask("POST", "/login", &[form], &elsewhere).await;
    assert_eq!(elsewhere.headers["location"], "/");
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["location"]),
        (303, &"/dead".parse().unwrap())
    );
    assert!(
        cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains(KEY),
        "{cookie}"
    );
    let session = ("cookie", cookie.split(';').next().unwrap());
    let with = async |path: &str| bus.ask("GET", path, &[html, session], "").await;
    let page = with("/dead").await;
    assert!(page.status == 200 && told(&page).1.contains("Log out"));
    assert_eq!(with("/api/v1/status").await.status, 200);
    assert!(!told(&page).1.contains("class=\"looks\""));
    let form_of_viewer = format!("key={VIEWER}");
    let viewer = bus.ask("POST", "/login", &[form], &form_of_viewer).await;
    let cookie = viewer.headers["set-cookie"].to_str().unwrap();
    let viewing = [form, html, ("cookie", cookie.split(';').next().unwrap())];
    let page = told(&bus.ask("GET", "/dead", &viewing, "").await).1;
    assert!(page.contains("class=\"looks\"") && page.contains("viewer 0"));
    let purged = bus.ask("POST", "/dead/do/purge", &viewing, "scope=all&confirm=true");
    assert_eq!(purged.await.status, 403);
    let out = bus.ask("POST", "/logout", &[form, session], "").await;
    assert_eq!(out.status, 303);
    assert_eq!(with("/dead").await.status, 303);
    let logged = logged.text();
    assert!(
        logged.contains("who=admin.auth[0]") && logged.contains("none of admin.auth"),
        "{logged}"
    );
    assert!(!logged.contains(KEY), "{logged}");
}

#[tokio::test]
async fn what_is_changed_is_counted_first_and_written_to_the_log() {
    let (logged, _guard) = crate::telemetry::testing::capture("info", false);
    let bus = TestBus::start(&[]).await;
    let ids = bus.dead().await;
    let of_one = ids.iter().find(|id| id.subscription.0 == 1).unwrap();
    // Nothing is ticked; then one is, which is counted, and done when that is confirmed.
    assert_eq!(post(&bus, "/dead/do/redrive", "scope=ticked").await.0, 400);
    let one = format!("scope=ticked&ids={of_one}");
    let (_, page) = post(&bus, "/dead/do/redrive", &one).await;
    assert!(
        page.contains("1 dead letters are meant") && bus.dead().await.len() == 5,
        "{page}"
    );
    let (_, page) = post(&bus, "/dead/do/redrive", &format!("{one}&confirm=true")).await;
    assert!(
        page.contains("<strong>1</strong> dead letters were redriven"),
        "{page}"
    );
    // All that the list's conditions mean, and no others.
    let all = "scope=all&rule=audit&reason=expired";
    let (_, page) = post(&bus, "/dead/do/purge", all).await;
    assert!(
        page.contains("cannot be taken back") && bus.dead().await.len() == 4,
        "{page}"
    );
    post(&bus, "/dead/do/purge", &format!("{all}&confirm=true")).await;
    assert_eq!(bus.dead().await.len(), 3);
    let (_, page) = post(&bus, "/tasks/do/cancel", "scope=all&rule=thumbnails").await;
    assert!(page.contains("2 tasks are meant"), "{page}");
    let (_, page) = post(
        &bus,
        "/tasks/do/cancel",
        "scope=all&rule=thumbnails&confirm=true",
    )
    .await;
    assert!(
        page.contains("It was done to <strong>2</strong> of 2"),
        "{page}"
    );
    assert_eq!(post(&bus, "/subscriptions/1/suspend", "").await.0, 303);
    let statuses = bus.journal.reader().subscriptions().await.unwrap();
    assert_eq!(statuses[0].activity, Activity::Suspended);
    let (_, page) = post(&bus, "/subscriptions/1/replay", "dry_run=true").await;
    assert!(
        page.contains("<strong>3</strong> events of that time"),
        "{page}"
    );
    let logged = logged.text();
    for expect in [
        "what=\"redrive\" on=\"ids=1\" count=1",
        "what=\"purge\" on=\"rule=audit reason=expired\" count=1",
        "what=\"cancel\" on=\"rule=thumbnails\" count=2",
        "what=\"suspend\" on=\"subscription=1\"",
    ] {
        let found = logged
            .lines()
            .any(|line| line.contains(expect) && line.contains("who=anybody on this machine"));
        assert!(found, "{expect}: {logged}");
    }
}

#[tokio::test]
async fn an_event_tells_of_all_its_tasks_ended_or_not() {
    let bus = TestBus::start(&[]).await;
    let reader = bus.journal.reader();
    let mut ids = bus.dead().await;
    ids.retain(|id| id.subscription.0 > 0);
    let dead = ids.len();
    for status in reader.subscriptions().await.unwrap() {
        let pending = reader.pending(status.number, None, 9).await.unwrap();
        ids.extend(pending.iter().map(|one| one.id));
    }
    assert!(0 < dead && dead < ids.len(), "{ids:?}");
    let are_told = async |ids: &[DeliveryId]| {
        for id in ids {
            let (_, page) = get(&bus, &format!("/events/{}", id.sequence.0)).await;
            assert!(page.contains(&format!("/tasks/{id}")), "{id}: {page}");
        }
    };
    are_told(&ids).await;
    // What died before has no history here.
    let (_, waiting) = ids.split_at(dead);
    post(&bus, "/tasks/do/cancel", "scope=all&confirm=true").await;
    let statuses = reader.subscriptions().await.unwrap();
    assert!(statuses.iter().all(|one| one.counts.pending == 0));
    are_told(waiting).await;
}

#[tokio::test]
async fn a_dead_letter_is_edited_and_a_mistake_is_told_with_what_was_written() {
    let bus = TestBus::start(&[]).await;
    let id = bus
        .dead()
        .await
        .into_iter()
        .find(|id| id.subscription.0 == 1)
        .unwrap();
    let path = format!("/dead/{id}/edit");
    for (form, expect) in [
        ("event=%7B", "no JSON"),
        ("event=%7B%22id%22:%22zz%22%7D", "It was not changed"),
    ] {
        let (status, page) = post(&bus, &path, form).await;
        assert!(status == 400 && page.contains(expect), "{page}");
    }
    let event = r#"event={"specversion":"1.0","type":"photo","source":"/edited","id":"1"}"#;
    assert_eq!(post(&bus, &path, &event.replace('"', "%22")).await.0, 303);
    let (_, page) = get(&bus, &format!("/dead/{id}")).await;
    assert!(
        page.contains("as it was edited") && page.contains("/edited"),
        "{page}"
    );
    assert_eq!(post(&bus, &path, "undo=true").await.0, 303);
    let (_, page) = get(&bus, &format!("/dead/{id}")).await;
    assert!(!page.contains("as it was edited"), "{page}");
}

#[tokio::test]
async fn a_rule_is_held_against_the_last_day_beside_what_is_in_force() {
    let bus = TestBus::start(&[]).await;
    // Beside three photos without a subject.
    for (tenant, origin, ty, count) in [
        ("default", "uploads", "photo", 590),
        ("default", "uploads", "video", 20),
        ("default", "cameras", "video", 7),
        ("other", "uploads", "video", 4),
        // Reports of deliveries meet no rules.
        ("default", "uploads", "com.pointsman.delivery.failed", 9),
    ] {
        let entry = |index: usize| {
            let event = Event::builder(format!("{ty}-{index}"), "/rules/i", ty);
            let event = event.subject(if index.is_multiple_of(10) {
                "ten"
            } else {
                "no"
            });
            Entry {
                event: Arc::new(event.build().unwrap()),
                deliveries: Default::default(),
                deduplicate: None,
                dead: None,
                terms: None,
            }
        };
        let append = Append {
            tenant: name(tenant),
            origin: name(origin),
            entries: (0..count).map(entry).collect(),
            rejects: Vec::new(),
            cursor: None,
            positions: Vec::new(),
        };
        bus.journal.append(append).await.unwrap();
    }
    let tried = async |form: &str| {
        let form = form.replace(' ', "%20");
        let (status, page) = post(&bus, "/playground/traffic", &form).await;
        assert_eq!(status, 200, "{page}");
        let (_, traffic) = page.split_once("id=\"traffic\"").unwrap();
        let text = traffic
            .split('<')
            .filter_map(|part| Some(part.split_once('>')?.1));
        text.collect::<String>()
    };
    let alone = tried("rule=match: { type: [video] }").await;
    for expect in [
        "Of the 624 retained events of the last day it would take 31.",
        "Taken 31",
        "The newest 10",
    ] {
        assert!(alone.contains(expect), "{expect}: {alone}");
    }
    let changed =
        "name=thumbnails&rule={match: {subject: [ten]}, transform: {set: {type: <$.data.none>}}}";
    let beside = tried(changed).await;
    for expect in [
        "Of the 613 retained events of the last day that thumbnails looks at it would take 61; \
         thumbnails as it is in force takes 593.",
        "Gained 2",
        "Lost 534",
        "since the transform fails 61",
        "cannot set the attribute &quot;type&quot;",
    ] {
        assert!(beside.contains(expect), "{expect}: {beside}");
    }
    let same = tried("name=thumbnails&rule=match: { type: [photo] }").await;
    assert!(same.contains("It takes the same events."), "{same}");
    assert!(tried("rule=[").await.contains("The rule has mistakes."));
    let (status, _) = post(&bus, "/playground/traffic", "name=none&rule={}").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_page_elsewhere_changes_nothing() {
    let bus = TestBus::start(&[]).await;
    for header in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        for path in [
            "/dead/do/purge",
            "/subscriptions/1/suspend",
            "/login",
            "/logout",
        ] {
            let form = ("content-type", "application/x-www-form-urlencoded");
            let answer = bus
                .ask("POST", path, &[form, header], "scope=all&confirm=true")
                .await;
            assert_eq!(answer.status, 403, "{path} {header:?}");
        }
    }
    assert_eq!(bus.dead().await.len(), 5);
}

#[tokio::test]
async fn scripts_and_styles_are_kept_by_browsers() {
    let bus = TestBus::start(&[]).await;
    let (_, page) = get(&bus, "/").await;
    let paths = page.split('"').filter(|part| part.starts_with("/static/"));
    let paths: Vec<&str> = paths.collect();
    assert_eq!(paths.len(), 6, "{page}");
    for path in paths {
        let answer = bus.ask("GET", path, &[], "").await;
        let cache = answer.headers["cache-control"].to_str().unwrap();
        assert!(
            answer.status == 200 && cache.contains("immutable"),
            "{path}: {cache}"
        );
    }
    assert_eq!(get(&bus, "/static/x/none.js").await.0, 404);
}
