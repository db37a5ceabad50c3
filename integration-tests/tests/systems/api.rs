//! The admin API against the document that it serves of itself, tried by schemathesis: requests
//! that the document allows and requests that it does not, and whether the answers are what it
//! says.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pointsman_integration_tests::bus::workspace;
use pointsman_integration_tests::{Bus, Caller, until};
use tokio::process::Command;
use tokio::time::timeout;

/// Far more than it takes: about half a minute.
const WITHIN: Duration = Duration::from_secs(240);

/// A bus with tasks that wait, tasks that have ended, and dead letters.
const RULES: &str = "
targets:
  away: { http: { url: \"http://127.0.0.1:9/x\" } }
  here: { exec: { command: [\"true\"] } }
  never: { exec: { command: [sh, -c, \"exit 65\"] } }
rules:
  waits: { match: { type: [photo] }, to: away }
  ends: { to: here }
  dies: { match: { type: [photo] }, to: never }
";

/// Where `./test` installs it; none where it could not.
fn schemathesis() -> Option<PathBuf> {
    let default = || workspace().join("target/test-tools/schemathesis/bin/schemathesis");
    let path = std::env::var_os("POINTSMAN_SCHEMATHESIS").map_or_else(default, PathBuf::from);
    path.exists().then_some(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_is_what_its_document_says() {
    let Some(program) = schemathesis() else {
        eprintln!("schemathesis is not there; ./test --install fetches it. This is not tested.");
        return;
    };
    let bus = Bus::start(RULES).await;
    let (caller, url) = (Caller::new(), bus.url("/events"));
    for number in 0..20 {
        let kind = if number % 2 == 0 { "photo" } else { "video" };
        let sent = caller.event(&url, &format!("{number}"), kind, "").await;
        assert_eq!(sent.unwrap(), 202);
    }
    until("some have ended and some have died", async || {
        let status = bus.api("/api/v1/status").await;
        let count = |name: &str| status["deliveries"][name].as_u64().unwrap_or(0);
        count("dead") == 10 && count("delivered") == 20
    })
    .await;
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systems/schemathesis.toml");
    let folder = tempfile::tempdir().unwrap();
    let run = Command::new(program)
        .current_dir(folder.path())
        .arg("--config-file")
        .arg(settings)
        .args([
            "run",
            &bus.admin_url("/api/v1/openapi.json"),
            "--url",
            &bus.admin_url(""),
        ])
        // The same requests each time, and not many.
        .args(["--seed", "20261128", "--max-examples", "20"])
        .args(["--phases", "examples,coverage,fuzzing", "--no-color"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(WITHIN, run).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{error}");
    // It has had something to compare: `1931 generated, 1931 passed`.
    let count = told
        .lines()
        .find_map(|line| line.split_once(" generated, "));
    let count = count.and_then(|(count, _)| count.trim().parse::<u32>().ok());
    assert!(count.is_some_and(|count| count > 500), "{told}");
    assert_eq!(bus.api("/readyz").await["status"], "ready");
}
