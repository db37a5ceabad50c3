//! What is wrong, in the words of the settings; logins and TLS; what is lost, and what cannot be
//! read.

use std::fs;

use pointsman_test_brokers::free_port;

use super::*;
use crate::net::tls::fixtures::ca;

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    let folder = ca().parent().unwrap().to_owned();
    let mut server = MysqlServer::start(&[]).await;
    let copy = |name: &str| server.write(name, &fs::read(folder.join(name)).unwrap());
    let files = [
        ("ssl-ca", copy("ca.pem")),
        ("ssl-cert", copy("leaf.pem")),
        ("ssl-key", copy("leaf.key")),
    ];
    let options = files.map(|(option, path)| format!("--{option}={path}"));
    server.set_options(&options.each_ref().map(String::as_str));
    server.restart().await;
    let shop = Shop::new(&server);
    let database = &shop.name;
    let way = if server.is_mysql() {
        "WITH caching_sha2_password BY"
    } else {
        "BY"
    };
    shop.run(&format!(
        "CREATE USER nobody@'%' IDENTIFIED {way} 'hunter2'"
    ));
    shop.run(&format!(
        "CREATE USER reader@'%' IDENTIFIED {way} 'hunter2'"
    ));
    shop.run("GRANT REPLICATION SLAVE ON *.* TO reader@'%'");
    shop.run(&format!(
        "GRANT SELECT ON {database}.* TO reader@'%', nobody@'%'"
    ));
    let port = server.port();
    let of = |user: &str| format!("mysql://{user}@127.0.0.1:{port}/{database}");
    let closed = format!("mysql://u@127.0.0.1:{}/shop", free_port());
    let trusted = json!({ "ca": { "file": ca() } });
    let secure = format!("mysql://reader@localhost:{port}/{database}?ssl-mode=required");
    for (more, expect) in [
        (
            json!({ "url": closed }),
            "url: cannot connect to the server at 127.0.0.1:",
        ),
        (
            json!({ "url": of("reader"), "password": "wrong" }),
            "password: the server refuses: Access denied",
        ),
        (
            json!({ "url": of("nobody"), "password": "hunter2" }),
            "username: the server refuses: the user may not be a replica",
        ),
        (
            json!({ "url": of("reader"), "password": "hunter2" }),
            "username: the server refuses: Access denied; you need",
        ),
        (
            json!({ "tables": ["orders", "gone"] }),
            "tables: there is no table shop_",
        ),
        (
            json!({ "server_id": 1 }),
            "server_id: 1 is the server's own",
        ),
        (
            json!({ "url": secure, "password": "hunter2" }),
            "tls: cannot connect to the server at localhost:",
        ),
    ] {
        let told = probed(&shop.settings(more.clone())).await;
        assert!(told.starts_with(expect), "{more}: {told}");
    }
    let monitor = if server.is_mysql() {
        "REPLICATION CLIENT"
    } else {
        "BINLOG MONITOR"
    };
    shop.run(&format!("GRANT {monitor} ON *.* TO reader@'%'"));
    let more = json!({ "url": secure, "password": "hunter2", "tls": trusted });
    let told = probed(&shop.settings(more)).await;
    for words in [
        "reader may replicate",
        "binlog_format ROW",
        "1 tables are read",
        "binlog_row_metadata = 'FULL'",
    ] {
        assert!(told.contains(words), "{told}");
    }
    // Without TLS the password is not told to who listens in.
    let told = probed(&shop.settings(json!({ "url": of("reader"), "password": "hunter2" }))).await;
    assert!(told.contains("reader may replicate"), "{told}");

    for (option, expect) in [
        (
            "--binlog-row-image=MINIMAL",
            "url: the server's binlog_row_image is MINIMAL",
        ),
        (
            "--binlog-format=STATEMENT",
            "url: the server's binlog_format is STATEMENT",
        ),
    ] {
        shop.run(&format!(
            "SET GLOBAL {}",
            option.trim_start_matches("--").replace('-', "_")
        ));
        let told = probed(&shop.settings(json!({}))).await;
        assert!(told.starts_with(expect), "{told}");
        let refused = open(&shop.settings(json!({})), &Stored::default()).await;
        assert!(refused.is_err());
        shop.run("SET GLOBAL binlog_row_image = FULL");
    }
}

#[tokio::test]
async fn a_log_that_tells_little_and_is_compressed_is_read_and_what_is_purged_is_told() {
    let mut server = MysqlServer::start(&[]).await;
    let packed = match server.is_mysql() {
        true => [
            "--binlog-transaction-compression=ON",
            "--binlog-row-metadata=MINIMAL",
        ],
        false => ["--log-bin-compress=ON", "--log-bin-compress-min-len=10"],
    };
    server.set_options(&packed);
    server.restart().await;
    let name = {
        let shop = Shop::new(&server);
        shop.run(
            "CREATE TABLE things (id int PRIMARY KEY, n int unsigned, mood enum('sad','glad'), \
             name varchar(20) CHARACTER SET latin1)",
        );
        shop.name
    };
    let shop = |server: &MysqlServer, sql: &str| server.ask(&name, sql);
    let settings = json!({
        "url": format!("mysql://root@127.0.0.1:{}/{name}", server.port()),
        "tables": ["orders", "things"],
        "snapshot": "never",
    });
    let mut stored = Stored::default();
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    batch(&mut *source, &mut stored).await;
    shop(
        &server,
        "INSERT INTO things VALUES (1, 4294967295, 'glad', 'caf\u{e9}'), (2, 0, 'sad', NULL)",
    );
    let told = take(&mut *source, &mut stored, 2).await;
    let row = json!({ "id": 1, "n": 4_294_967_295_u32, "mood": "glad", "name": "caf\u{e9}" });
    assert_eq!(data(&told[0])["after"], row);
    assert_eq!(told[0].subject(), Some(&*format!("{name}.things/1")));
    drop(source);

    // While nobody reads, a table gets another column: it is known by its place alone what was
    // written before.
    shop(
        &server,
        "INSERT INTO things VALUES (3, 1, 'sad', 'x'); ALTER TABLE things ADD more int FIRST; \
                   INSERT INTO orders VALUES (4, 'x')",
    );
    server.kill();
    server.restart().await;
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let mut messages = Vec::new();
    while messages.len() < 2 {
        messages.extend(batch(&mut *source, &mut stored).await.messages);
    }
    let reject = &messages[0].rejects[0];
    assert!(
        reject.reason.contains("binlog_row_metadata = FULL"),
        "{reject:?}"
    );
    let raw = String::from_utf8_lossy(&reject.raw).into_owned();
    assert!(raw.contains("\"@1\":3,"), "{raw}");
    assert_eq!(
        messages[1].arrivals.len(),
        1,
        "and what follows comes all the same"
    );

    // The server dies, and what was written meanwhile comes once it is back.
    server.kill();
    let ended = loop {
        if let Err(ended) = next_within(&mut *source, LONG).await.unwrap() {
            break ended;
        }
    };
    assert!(matches!(ended, SourceError::Unavailable(_)), "{ended:?}");
    drop(source);
    server.restart().await;
    shop(
        &server,
        "INSERT INTO orders VALUES (5, 'x'); FLUSH BINARY LOGS; INSERT INTO orders VALUES (6, 'x')",
    );
    let (mut source, _) = open(&settings, &stored).await.unwrap();
    let told_then = super::told(&take(&mut *source, &mut stored, 2).await);
    assert_eq!(
        told_then,
        [("inserted".to_owned(), 5), ("inserted".to_owned(), 6)]
    );
    drop(source);

    shop(
        &server,
        "INSERT INTO orders VALUES (7, 'x'); FLUSH BINARY LOGS",
    );
    let last = shop(&server, "SHOW BINARY LOGS");
    let last = last.lines().last().unwrap().split('\t').next().unwrap();
    shop(&server, "INSERT INTO orders VALUES (8, 'x')");
    // Whoever read it last is not gone at once, and nothing is purged before.
    let until = Instant::now() + LONG;
    while shop(&server, "SHOW BINARY LOGS").lines().count() > 1 {
        let readers = shop(&server, "SHOW PROCESSLIST");
        assert!(Instant::now() < until, "{readers}");
        shop(&server, &format!("PURGE BINARY LOGS TO '{last}'"));
        sleep(Duration::from_millis(50)).await;
    }
    let lost = self::ended(&settings, &stored).await;
    assert!(
        matches!(&lost, SourceError::CursorMismatch(why) if why.contains("purged") && why.contains("another name")),
        "{lost:?}"
    );
}
