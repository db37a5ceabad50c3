use futures::future::join_all;

use super::*;
use crate::net::tls::ClientTls;
use crate::webhook::signature::fixtures::{KeyServer, OTHER, SNS, TestKey};
use crate::webhook::signature::hosts;

fn keyring() -> Keyring {
    Keyring::new(Fetcher::new(ClientTls::default().config().unwrap()))
}

fn certificate(server: &KeyServer, path: &str) -> Address {
    hosts::own(&format!("{}{path}", server.origin)).unwrap()
}

/// Lets time pass where nothing waits for a socket meanwhile.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn one_request_serves_all_who_wait_and_counts_as_long_as_it_says() {
    let (server, keyring) = (KeyServer::start().await, keyring());
    server.serve("/a.pem", "cache-control: max-age=120\r\n", SNS);
    let address = certificate(&server, "/a.pem");
    let wanted = keyring.certificate(address.clone()).err().unwrap();
    // Nobody is answered before all have asked.
    server.gate.forget_permits(10_000);
    let all = join_all((0..50).map(|_| keyring.fetch(&wanted)));
    let (fetched, ()) = tokio::join!(all, async {
        while server.asked() == 0 {
            tokio::task::yield_now().await;
        }
        server.gate.add_permits(10_000);
    });
    assert!(fetched.iter().all(Result::is_ok));
    assert_eq!(server.asked(), 1);
    pass(Duration::from_secs(119)).await;
    assert!(keyring.certificate(address.clone()).is_ok());
    pass(Duration::from_secs(1)).await;
    assert_eq!(
        keyring.certificate(address.clone()).err(),
        Some(wanted.clone()),
        "not beyond what it says"
    );
    server.answer("/a.pem", "");
    assert_eq!(
        keyring.fetch(&wanted).await.unwrap_err().status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(
        keyring.certificate(address).is_err(),
        "a key that has lapsed is not used because there is no new one"
    );
}

#[tokio::test]
async fn what_cannot_be_had_is_told_and_left_alone_for_a_while() {
    let (server, keyring) = (KeyServer::start().await, keyring());
    server.answer(
        "/moved.pem",
        "HTTP/1.1 302 Found\r\nlocation: /a.pem\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    );
    server.serve("/a.pem", "", SNS);
    server.serve("/page.pem", "", "<html>not here</html>");
    server.serve("/large.pem", "", &format!("{}{SNS}", " ".repeat(300_000)));
    for path in ["/missing.pem", "/moved.pem", "/page.pem", "/large.pem"] {
        let wanted = Wanted::Certificate(certificate(&server, path));
        let refusal = keyring.fetch(&wanted).await.unwrap_err();
        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(!refusal.detail.contains("127.0.0.1"), "{}", refusal.detail);
        let response = crate::listener::Response::from(refusal);
        assert_eq!(response.headers()["retry-after"], "5", "{path}");
    }
    let asked = server.asked();
    let wanted = Wanted::Certificate(certificate(&server, "/missing.pem"));
    for _ in 0..100 {
        assert!(keyring.fetch(&wanted).await.is_err());
    }
    assert_eq!(server.asked(), asked, "not again so soon");
    server.serve("/missing.pem", "", OTHER);
    pass(FAILED.initial).await;
    assert!(keyring.fetch(&wanted).await.is_ok());
    assert_eq!(server.asked(), asked + 1);
}

#[tokio::test]
async fn senders_cannot_make_it_ask_without_end() {
    let (server, keyring) = (KeyServer::start().await, keyring());
    server.serve("/good.pem", "", SNS);
    let good = certificate(&server, "/good.pem");
    keyring
        .fetch(&Wanted::Certificate(good.clone()))
        .await
        .unwrap();
    for n in 0..500 {
        let wanted = Wanted::Certificate(certificate(&server, &format!("/{n}.pem")));
        assert!(keyring.fetch(&wanted).await.is_err());
    }
    assert_eq!(server.asked(), BUDGET as usize);
    assert!(keyring.slots.lock().len() <= ADDRESSES_MAX);
    assert!(keyring.certificate(good).is_ok(), "and what is there stays");
    pass(BUDGET_EVERY * 2).await;
    for n in 500..510 {
        let wanted = Wanted::Certificate(certificate(&server, &format!("/{n}.pem")));
        assert!(keyring.fetch(&wanted).await.is_err());
    }
    assert_eq!(server.asked(), BUDGET as usize + 2);
}

#[tokio::test]
async fn an_unknown_key_has_the_set_fetched_again_once_in_a_minute() {
    let (server, keyring, key) = (KeyServer::start().await, keyring(), TestKey::new());
    server.serve("/keys", "cache-control: max-age=3600\r\n", &key.set("old"));
    let keys = Wanted::Keys(certificate(&server, "/keys"));
    let text = key.token(
        &serde_json::json!({ "alg": "RS256", "kid": "new" }),
        &serde_json::json!({}),
    );
    let token = Token::read(&text).unwrap();
    let wanted = keyring.keys(keys.clone(), &token).err().unwrap();
    keyring.fetch(&wanted).await.unwrap();
    for _ in 0..100 {
        assert!(
            !keyring.keys(keys.clone(), &token).unwrap().knows(&token),
            "it is not there, and was looked for just now"
        );
    }
    server.serve("/keys", "", &key.set("new"));
    pass(AGAIN_AFTER).await;
    let wanted = keyring.keys(keys.clone(), &token).err().unwrap();
    keyring.fetch(&wanted).await.unwrap();
    assert!(keyring.keys(keys, &token).unwrap().fits(&token));
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn callers_who_hang_up_have_nothing_asked_more_often() {
    let (server, keyring) = (KeyServer::start().await, keyring());
    server.gate.forget_permits(10_000);
    let wanted = Wanted::Certificate(certificate(&server, "/a.pem"));
    let begin = tokio::time::Instant::now();
    for _ in 0..100 {
        let waited = tokio::time::timeout(Duration::from_millis(5), keyring.fetch(&wanted)).await;
        assert!(!matches!(waited, Ok(Ok(()))));
    }
    // Once in a second at most.
    let most = 2 + begin.elapsed().as_secs();
    assert!(
        server.asked() as u64 <= most,
        "{} of {most}",
        server.asked()
    );
}

#[tokio::test]
async fn inner_addresses_are_not_reached_by_what_senders_name() {
    let server = KeyServer::start().await;
    server.serve("/a.pem", "", SNS);
    let mut address = certificate(&server, "/a.pem");
    address.is_private = false;
    let wanted = Wanted::Certificate(address);
    assert!(keyring().fetch(&wanted).await.is_err());
    assert_eq!(server.asked(), 0);
    assert_eq!(
        keyring().probe(&wanted).await.unwrap_err(),
        "cannot connect: the address 127.0.0.1 is loopback and must not be called; only \
         where the settings spell out the address of a host are inner ones asked for keys"
    );
}
