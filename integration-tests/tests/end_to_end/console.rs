//! The console in a browser, as a person uses it.

use std::path::PathBuf;

use pointsman_integration_tests::browser::Browser;
use pointsman_integration_tests::bus::workspace;
use pointsman_integration_tests::{Answer, Bus, Caller, Sink, until};
use serde_json::Value;

/// Every page, behind a `/`; the names are those of the pictures.
const PAGES: [(&str, &str); 14] = [
    ("flow", ""),
    ("events", "events"),
    ("event", "events/last"),
    ("tasks", "tasks?state=succeeded,failed"),
    ("dead", "dead"),
    ("live", "live"),
    ("rules", "rules"),
    ("rule", "rules/default/paid"),
    ("rule-files", "rules/files"),
    ("sources", "sources"),
    ("target", "targets/default/function"),
    ("subscription", "subscriptions/1"),
    ("replays", "replays"),
    ("playground", "playground?event=last"),
];

const RULE: &str = "match: { type: [order.paid], data: { n: [{ numeric: [\">\", 5] }] } }\n\
                    transform: { data: { twice: \"<$.data.n> and <$.data.n>\" } }";

/// What finds out whether everybody can use a page; none where `./test` could not fetch it.
fn axe() -> Option<String> {
    let default = || workspace().join("target/test-tools/axe/axe_playwright_python/axe.min.js");
    let path = std::env::var_os("POINTSMAN_AXE").map_or_else(default, PathBuf::from);
    std::fs::read_to_string(path).ok()
}

/// Whoever is called with a number below 0 says that it will never do.
async fn function() -> Sink {
    Sink::answering(|received| {
        let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
        Answer::status(if body["n"].as_i64() < Some(0) {
            422
        } else {
            204
        })
    })
    .await
}

async fn send(bus: &Bus, id: &str, data: &str) {
    let (caller, url) = (Caller::new(), bus.url("/events"));
    let sent = caller.event(&url, id, "order.paid", data.to_owned()).await;
    assert_eq!(sent.unwrap(), 202);
}

#[tokio::test]
async fn a_person_sees_what_passes_and_mends_what_has_died() {
    let Some(browser) = Browser::start().await else {
        eprintln!("Chromium is not there; ./test --install fetches it. This is not tested.");
        return;
    };
    let function = function().await;
    let rules = format!(
        "targets: {{ function: {{ http: {{ url: \"{}\" }} }} }}\n\
         rules: {{ paid: {{ match: {{ type: [order.paid] }}, to: function }} }}\n",
        function.url()
    );
    let bus = Bus::start(&rules).await;
    the_flow_moves(&browser, &bus).await;
    a_dead_letter_is_mended(&browser, &bus, &function).await;
    what_passes_is_listed(&browser, &bus).await;
    a_rule_is_tried(&browser, &bus).await;
    everybody_can_use_every_page(&browser, &bus).await;
    a_mistake_in_a_changed_file_is_shown(&browser, &bus, &rules).await;
}

async fn the_flow_moves(browser: &Browser, bus: &Bus) {
    browser.go(&bus.admin_url("/")).await;
    let rule = "document.getElementById('rule-default-paid')?.getAttribute('aria-label')";
    assert!(
        browser.holds(&format!("/ 0\\/s/.test({rule})")).await,
        "nothing has passed yet"
    );
    // By itself: the page is not loaded again.
    until("the flow shows what passes", async || {
        let id = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        send(bus, &format!("{:?}", id.unwrap()), r#"{"n":1}"#).await;
        browser
            .holds(&format!("/, delivering, rule · [1-9]/.test({rule})"))
            .await
    })
    .await;
    browser.click("#rule-default-paid").await;
    until("a rule's page is shown", async || {
        browser
            .holds("location.pathname == '/rules/default/paid'")
            .await
    })
    .await;
}

async fn a_dead_letter_is_mended(browser: &Browser, bus: &Bus, function: &Sink) {
    send(bus, "broken", r#"{"n":-1}"#).await;
    until("it has died", async || {
        bus.counts("paid").await["dead"] == 1
    })
    .await;
    browser.go(&bus.admin_url("/dead?rule=paid")).await;
    browser.click("tbody td.when a").await;
    let before = browser
        .run("return document.querySelector('textarea').value")
        .await;
    let event = before.as_str().unwrap().replace("-1", "17");
    // Typing character by character takes a browser its time.
    let value = Value::from(event);
    browser
        .run(&format!(
            "document.querySelector('textarea').value = {value}"
        ))
        .await;
    browser.click("form[action$='/edit'] button").await;
    until("it is saved", async || {
        browser
            .holds("document.querySelector('main').textContent.includes('as it was edited')")
            .await
    })
    .await;
    browser.click("button[formaction='/dead/do/redrive']").await;
    until("it has arrived", async || {
        let number = |body: &[u8]| {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            body["n"].as_i64()
        };
        let all = function.received();
        let mut mended = all.iter().filter(|one| number(&one.body) == Some(17));
        mended.any(|one| one.header("ce-id") == "broken")
    })
    .await;
    let told = browser
        .run("return document.querySelector('.notice.good').textContent")
        .await;
    assert!(
        told.as_str()
            .unwrap()
            .contains("1 dead letters were redriven"),
        "{told}"
    );
    assert!(bus.log().contains("\"what\":\"redrive\""), "{}", bus.log());
}

async fn what_passes_is_listed(browser: &Browser, bus: &Bus) {
    browser.go(&bus.admin_url("/live?type=order.*")).await;
    until("it listens", async || {
        bus.api("/api/v1/status").await["taps"] == 1
    })
    .await;
    send(bus, "seen-live", r#"{"n":3}"#).await;
    until("an event and an attempt are listed", async || {
        browser.holds("document.querySelectorAll('#live-rows tr').length >= 2 && document.querySelector('#live-rows').textContent.includes('seen-live')").await
    })
    .await;
    browser.click("#live-pause").await;
    send(bus, "held-back", r#"{"n":3}"#).await;
    until("rows are held back", async || {
        browser
            .holds("document.getElementById('live-held').textContent.includes('more since')")
            .await
    })
    .await;
    assert!(
        !browser
            .holds("document.querySelector('#live-rows').textContent.includes('held-back')")
            .await
    );
    browser.click("#live-pause").await;
    until("they are shown", async || {
        browser
            .holds("document.querySelector('#live-rows').textContent.includes('held-back')")
            .await
    })
    .await;
}

async fn a_rule_is_tried(browser: &Browser, bus: &Bus) {
    browser.go(&bus.admin_url("/playground?event=last")).await;
    browser.write("textarea[name=rule]", RULE).await;
    let result = "document.getElementById('result').textContent";
    until("it is told why it is not taken", async || {
        browser
            .holds(&format!(
                "{result}.includes('does not take it') && {result}.includes('data.n')"
            ))
            .await
    })
    .await;
    assert!(
        browser
            .holds(&format!("{result}.includes('3 and 3')"))
            .await,
        "what would be sent"
    );
    browser
        .click("button[formaction='/playground/traffic']")
        .await;
    until("the last day's events are tried", async || {
        let traffic = "document.getElementById('traffic').textContent";
        browser
            .holds(&format!("{traffic}.includes('it would take')"))
            .await
    })
    .await;
}

async fn a_mistake_in_a_changed_file_is_shown(browser: &Browser, bus: &Bus, rules: &str) {
    let text = "document.getElementById('main').textContent";
    let refused = format!("{text}.includes('not in force')");
    bus.write_rules(&rules.replace("to: function", "to: functoin"));
    until("the mistake is shown", async || {
        browser.go(&bus.admin_url("/rules/files")).await;
        browser.holds(&refused).await
            && browser.holds(&format!("{text}.includes('functoin')")).await
    })
    .await;
    bus.write_rules(&rules.replace("paid:", "settled:"));
    until("what is in force is shown", async || {
        browser.go(&bus.admin_url("/rules/files")).await;
        browser.holds(&format!("{text}.includes('settled:')")).await
            && !browser.holds(&refused).await
    })
    .await;
}

async fn everybody_can_use_every_page(browser: &Browser, bus: &Bus) {
    let axe = axe();
    if axe.is_none() {
        eprintln!("axe-core is not there; ./test --install fetches it. That is not tested.");
    }
    let pictures = workspace().join("target/console-pictures");
    std::fs::create_dir_all(&pictures).unwrap();
    let others = "return performance.getEntriesByType('resource').map(one => one.name).filter(name => !name.startsWith(location.origin + '/'))";
    let wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    for (name, path) in PAGES {
        for (width, is_dark) in [(360, true), (1280, false)] {
            browser.look(width, is_dark).await;
            browser.go(&bus.admin_url(&format!("/{path}"))).await;
            browser
                .picture(&pictures.join(format!("{name}-{width}.png")))
                .await;
            assert!(!browser.holds(wide).await, "{name} is wider than {width}");
            assert_eq!(
                browser.run(others).await,
                Value::Array(Vec::new()),
                "{name} asks others"
            );
            let Some(axe) = &axe else { continue };
            let script = format!(
                "{axe}; return axe.run().then(told => told.violations.map(one => one.id + ': ' + one.help + ' ' + one.nodes.map(node => node.html.slice(0, 160)).join(' ')))"
            );
            let found = browser.run(&script).await;
            assert_eq!(
                found,
                Value::Array(Vec::new()),
                "{name} at {width}: {found:#}"
            );
        }
    }
    let refused = browser.console().await;
    assert!(
        !refused
            .iter()
            .any(|line| line.contains("Content Security Policy")),
        "{refused:#?}"
    );
}
