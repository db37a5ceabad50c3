//! Passwords that are renewed beside a running bus.

use pointsman_schemas::{Class, Outcome};

use super::source::{ends, take};
use super::target::{came_to, publish, service};
use super::*;

#[tokio::test]
async fn a_renewed_password_is_taken_over_by_both_sides() {
    let (server, _) = server().await;
    let queue = Queue::new("classic", &[]).await;
    for user in ["reader", "nobody"] {
        let _ = server.ctl(&["add_user", user, user]);
    }
    let _ = server.ctl(&["set_permissions", "reader", ".*", ".*", ".*"]);
    let _ = server.ctl(&["set_permissions", "nobody", "", "", ""]);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| json!({ "file": folder.path().join(name) });
    let replace = |content: &str| {
        for name in ["user", "password"] {
            std::fs::write(folder.path().join("next"), content).unwrap();
            std::fs::rename(folder.path().join("next"), folder.path().join(name)).unwrap();
        }
    };
    replace("reader");
    let given = json!({ "url": queue.url, "username": file("user"), "password": file("password") });
    let target =
        service(&json!({ "url": queue.url, "username": given["username"], "password": given["password"], "routing_key": queue.name }))
            .await;
    assert_eq!(publish(&target, "1", &[]).await, Outcome::delivered());
    let settings = queue.settings(given);
    let (mut decoder, _link) = open(&settings).await.unwrap();
    take(&mut *decoder, 1).await;

    // Nobody may publish: only another connection shows that.
    replace("nobody");
    assert!(
        ends(&mut *decoder)
            .await
            .contains("the files of its settings have changed")
    );
    told(
        &open(&settings).await.err().unwrap().0,
        &["access", "refused"],
    );
    let comes_to = async |class| {
        let until = tokio::time::Instant::now() + LONG;
        loop {
            let outcome = publish(&target, "2", &[]).await;
            if outcome.class == class || tokio::time::Instant::now() > until {
                return came_to(&outcome, class, &[]);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    comes_to(Class::Refused).await;
    replace("reader");
    comes_to(Class::Delivered).await;

    // What is no good is no reason to give up what works.
    replace("wrong");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    came_to(&publish(&target, "3", &[]).await, Class::Delivered, &[]);
}
