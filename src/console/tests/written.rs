//! The pages of what is written in rule files.

use std::fmt::Write as _;

use http::StatusCode;

use super::get;
use crate::admin::testing::TestBus;
use crate::config::Config;

/// A bus with these files in force.
async fn bus(files: &[(&str, &str)]) -> TestBus {
    let bus = TestBus::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let paths = files.iter().map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let (config, _) = Config::load(&paths.collect::<Vec<_>>()).unwrap();
    *bus.overview.written.lock() = config.written;
    bus
}

#[tokio::test]
async fn a_part_shows_what_the_files_say_of_it_without_its_secrets() {
    let targets = "targets:\n  thumbnailer:\n    http:\n      url: https://h/<$.data.size>\n      auth: { bearer: s3cr3t-of-it }\n";
    let rules = "rules:\n\n  thumbnails: { to: thumbnailer }\n";
    let bus = bus(&[("targets.yaml", targets), ("rules.yaml", rules)]).await;
    let (status, page) = get(&bus, "/targets/default/thumbnailer").await;
    assert_eq!(status, StatusCode::OK);
    let shown = [
        "targets.yaml:2</a>",
        "<span data-line=\"2\">  thumbnailer:\n</span>",
        "https://h/&lt;$.data.size&gt;",
        "bearer: ***",
    ];
    assert!(shown.iter().all(|shown| page.contains(shown)), "{page}");
    assert!(!page.contains("rules.yaml"), "{page}");
    let (_, page) = get(&bus, "/rules/default/thumbnails").await;
    assert!(page.contains("rules.yaml:3</a>"), "{page}");
    // It stands in no file.
    let (status, page) = get(&bus, "/sources/default/orders").await;
    assert!(status == StatusCode::OK && !page.contains("As it is written"));

    let (_, list) = get(&bus, "/rules/files").await;
    let way = list
        .split("href=\"")
        .find(|way| way.contains("targets.yaml"));
    let way = way
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&");
    let (status, page) = get(&bus, &way).await;
    assert!(
        status == StatusCode::OK && page.contains("thumbnailer"),
        "{page}"
    );
    // Where the secret stands it is warned of.
    assert!(page.contains("this secret is written out"), "{page}");
    for page in [list, page] {
        assert!(!page.contains("s3cr3t"), "{page}");
    }
    let (status, _) = get(&bus, "/rules/files?file=other.yaml").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_long_file_is_shown_a_page_at_a_time_and_a_way_leads_into_it() {
    let mut text = "targets: { out: { stdout: {} } }\nrules:\n".to_owned();
    for number in 0..1_200 {
        writeln!(text, "  r{number}: {{ to: out }}").unwrap();
    }
    let bus = bus(&[("all.yaml", &text)]).await;
    let (_, page) = get(&bus, "/rules/files").await;
    assert!(page.contains("r0:") && !page.contains("r600:"), "{page}");
    assert!(page.contains(">Next</a>"), "{page}");
    let (_, page) = get(&bus, "/rules/files?after=1000").await;
    assert!(
        page.contains("data-line=\"1001\"") && page.contains("r1199:"),
        "{page}"
    );
}

#[tokio::test]
async fn a_change_that_is_not_in_force_is_told() {
    let bus = bus(&[(
        "a.yaml",
        "targets: { out: { stdout: {} } }\nrules: { r: { to: out } }\n",
    )])
    .await;
    for path in ["/rules", "/rules/files"] {
        let (_, page) = get(&bus, path).await;
        assert!(!page.contains("not in force"), "{page}");
    }
    *bus.overview.refused.lock() = Some("`listen` has <changed>".into());
    for path in ["/rules", "/rules/files"] {
        let (_, page) = get(&bus, path).await;
        assert!(page.contains("`listen` has &lt;changed&gt;"), "{page}");
    }
}
