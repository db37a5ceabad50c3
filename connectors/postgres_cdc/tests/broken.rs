//! What is wrong, in the words of the settings, TLS and logins, and what is lost.

use std::fs;

use pointsman_test_brokers::free_port;

use super::*;
use crate::net::tls::fixtures::ca;

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    let shop = Shop::new().await;
    shop.run("CREATE ROLE reader LOGIN REPLICATION");
    shop.run("CREATE ROLE nobody LOGIN");
    shop.run("CREATE TABLE keyless (note text)");
    shop.run("CREATE PUBLICATION part FOR TABLE keyless");
    shop.run("SELECT pg_create_logical_replication_slot('other', 'test_decoding')");
    let port = shop.0.port();
    let of = |user: &str, database: &str| format!("postgres://{user}@127.0.0.1:{port}/{database}");
    let closed = format!("postgres://u@127.0.0.1:{}/shop", free_port());
    for (more, expect) in [
        (
            json!({ "url": closed }),
            "url: cannot connect to PostgreSQL at 127.0.0.1:",
        ),
        (
            json!({ "url": of("stranger", "postgres") }),
            "username: PostgreSQL refuses: role",
        ),
        (
            json!({ "url": of("postgres", "none") }),
            "url: PostgreSQL refuses: database",
        ),
        (
            json!({ "url": of("nobody", "postgres") }),
            "username: PostgreSQL refuses: ",
        ),
        (
            json!({ "url": format!("{}?sslmode=require", of("postgres", "postgres")) }),
            "url: PostgreSQL at 127.0.0.1:",
        ),
        (
            json!({ "tables": ["orders", "gone"] }),
            "tables: there is no table public.gone",
        ),
        (
            json!({ "slot": "other" }),
            "slot: the slot other is one of the plugin test_decoding",
        ),
        (
            json!({ "publication": "part" }),
            "publication: the publication part lacks tables",
        ),
    ] {
        let told = probed(&shop.settings(more.clone())).await;
        assert!(told.starts_with(expect), "{more}: {told}");
        let refused = open(&shop.settings(more), &Stored::default()).await;
        assert!(refused.is_err());
    }
    let reader = shop.settings(json!({ "url": of("reader", "postgres") }));
    assert!(probed(&reader).await.contains("the publication s is made"));
    let refused = open(&reader, &Stored::default()).await.err().unwrap().0;
    assert!(
        refused
            .to_string()
            .starts_with("publication: the publication s cannot be made"),
        "{refused}"
    );
    assert!(
        format!("{refused:?}")
            .contains("CREATE PUBLICATION \\\"s\\\" FOR TABLE \\\"public\\\".\\\"orders\\\""),
        "{refused:?}"
    );
    let told = probed(&shop.settings(json!({ "tables": ["orders", "keyless"] }))).await;
    for words in [
        "wal_level logical",
        "postgres may replicate",
        "the slot s is new; 1 of 10 are in use",
        "updates and deletes in public.keyless",
    ] {
        assert!(told.contains(words), "{told}");
    }

    // Somebody reads the slot already.
    let settings = shop.settings(json!({}));
    let (mut source, _) = open(&settings, &Stored::default()).await.unwrap();
    batch(&mut *source, &mut Stored::default()).await;
    let until = Instant::now() + LONG;
    while !probed(&settings).await.contains("is read by process") {
        assert!(Instant::now() < until, "{}", probed(&settings).await);
    }
    let refused = open(&settings, &Stored::default()).await.err().unwrap().0;
    let told = refused.to_string();
    assert!(
        told.contains("the slot s is in use by process")
            && told.contains("(pointsman from 127.0.0.1"),
        "{told}"
    );

    let shop = Shop(PostgresServer::start("").await);
    let settings = shop.settings(json!({}));
    let told = probed(&settings).await;
    assert!(
        told.starts_with("url: the server's wal_level is replica"),
        "{told}"
    );
}

#[tokio::test]
async fn a_slot_that_is_lost_or_gone_ends_the_source_and_is_not_made_anew() {
    let shop = Shop::new().await;
    let settings = shop.settings(json!({}));
    let mut stored = Stored::default();
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    batch(&mut *source, &mut stored).await;
    drop(source);
    shop.run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    shop.0.reload();
    for _ in 0..3 {
        shop.run("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
        shop.run("DROP TABLE filler");
        shop.run("SELECT pg_switch_wal()");
        shop.run("CHECKPOINT");
    }
    let told = probed(&settings).await;
    assert!(
        told.starts_with("slot: the slot s is lost") && told.contains("are gone"),
        "{told}"
    );
    let lost = ended(&settings, &stored).await;
    assert!(
        matches!(&lost, SourceError::CursorMismatch(why) if why.contains("pg_drop_replication_slot('s')")),
        "{lost:?}"
    );
    shop.run("SELECT pg_drop_replication_slot('s')");
    let gone = ended(&settings, &stored).await;
    assert!(
        matches!(&gone, SourceError::CursorMismatch(why) if why.contains("the slot s is gone")),
        "{gone:?}"
    );
    let there = shop.run("SELECT count(*) FROM pg_replication_slots");
    assert_eq!(there, "0", "never silently a new one");
    // Whoever gives it another name begins anew.
    let (mut source, _) = open(&settings, &Stored::default()).await.unwrap();
    batch(&mut *source, &mut Stored::default()).await;
}

#[tokio::test]
async fn tls_and_a_login_by_password() {
    let shop = Shop::new().await;
    shop.run("ALTER ROLE postgres PASSWORD 'hunter2'");
    let (folder, data) = (ca().parent().unwrap().to_owned(), shop.0.data());
    fs::copy(folder.join("leaf.pem"), data.join("server.crt")).unwrap();
    fs::copy(folder.join("leaf.key"), data.join("server.key")).unwrap();
    shop.0.protect("server.key");
    let rules = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(data.join("pg_hba.conf"), rules).unwrap();
    shop.0.write_configuration(&format!("{LOGICAL}\nssl = on"));
    shop.0.reload();
    let port = shop.0.port();
    let trusted = json!({ "ca": { "file": ca() } });
    let settings = |more: Value| {
        let url = format!("postgres://postgres@localhost:{port}/postgres?sslmode=require");
        let settings = json!({ "url": url, "password": "hunter2", "tls": trusted });
        shop.settings(with(settings, more))
    };
    let until = Instant::now() + LONG;
    while !probed(&settings(json!({}))).await.contains("may replicate") {
        assert!(
            Instant::now() < until,
            "{}",
            probed(&settings(json!({}))).await
        );
        sleep(Duration::from_millis(50)).await;
    }
    let plain = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    for (more, expect) in [
        (
            json!({ "password": "wrong" }),
            "password: PostgreSQL refuses: password authentication failed",
        ),
        (
            json!({ "password": null }),
            "password: PostgreSQL at localhost:",
        ),
        (
            json!({ "tls": null }),
            "tls: cannot connect to PostgreSQL at localhost:",
        ),
        (
            json!({ "url": plain, "tls": null }),
            "username: PostgreSQL refuses: no pg_hba.conf entry",
        ),
    ] {
        let told = probed(&settings(more.clone())).await;
        assert!(told.starts_with(expect), "{more}: {told}");
    }
}
