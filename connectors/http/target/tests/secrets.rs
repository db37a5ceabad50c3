//! Tokens and other secrets that calls carry: asked for, kept, renewed, and never shown.

use super::*;

/// A token endpoint that counts its tokens, and a function that takes only some of them.
async fn with_tokens(
    expires_in: u64,
    takes: impl Fn(&str) -> u16 + Send + Sync + 'static,
) -> (Function, Function, HttpTarget) {
    let issued = Arc::new(Mutex::new(0));
    let endpoint = Function::answering(move || {
        *issued.lock() += 1;
        response(
            200,
            &[],
            format!(
                r#"{{"access_token":"token-{}","token_type":"bearer","expires_in":{expires_in}}}"#,
                issued.lock()
            ),
        )
    })
    .await;
    let function = Function::new(move |call| {
        let status = takes(
            call.headers()["authorization"]
                .to_str()
                .unwrap()
                .trim_start_matches("Bearer "),
        );
        Box::pin(std::future::ready(response(status, &[], "")))
    })
    .await;
    let auth = json!({ "oauth2": { "token_url": endpoint.url(), "client_id": "a b", "client_secret": "c:d", "scopes": ["x", "y"], "audience": "z" } });
    let target = target(json!({ "url": function.url(), "auth": auth }));
    (endpoint, function, target)
}

#[tokio::test]
async fn a_token_is_asked_for_once_kept_and_replaced_when_it_is_refused() {
    let (endpoint, function, target) =
        with_tokens(3_600, |token| if token == "token-1" { 401 } else { 204 }).await;
    let service = target.open(context()).await.unwrap();
    let call = || service.clone().oneshot(attempt(&["1"], 0));
    assert_eq!(
        call().await.unwrap()[0].class,
        Class::Refused,
        "a fresh token that is refused is refused"
    );
    for _ in 0..3 {
        assert_eq!(
            call().await.unwrap()[0].class,
            Class::Delivered,
            "an old one is replaced"
        );
    }
    assert_eq!(
        (endpoint.calls.lock().len(), function.calls.lock().len()),
        (2, 5)
    );
    let asked = endpoint.call();
    assert_eq!(asked.headers()["authorization"], "Basic YStiOmMlM0Fk");
    assert_eq!(
        asked.body(),
        "grant_type=client_credentials&scope=x+y&audience=z"
    );
}

#[tokio::test]
async fn concurrent_attempts_share_one_token_and_an_expired_one_is_not_used() {
    let (endpoint, _function, target) = with_tokens(3_600, |_| 204).await;
    let service = target.open(context()).await.unwrap();
    futures::future::join_all((0..16).map(|_| service.clone().oneshot(attempt(&["1"], 0)))).await;
    assert_eq!(endpoint.calls.lock().len(), 1);

    let (endpoint, _function, target) = with_tokens(0, |_| 204).await;
    let service = target.open(context()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(
            service.clone().oneshot(attempt(&["1"], 0)).await.unwrap()[0].class,
            Class::Delivered
        );
    }
    assert_eq!(endpoint.calls.lock().len(), 3);
}

#[tokio::test]
async fn no_token_means_refused_or_unavailable_and_never_a_used_up_attempt() {
    for (status, body, class) in [
        (400, "", Class::Refused),
        (401, "", Class::Refused),
        (429, "", Class::Throttled),
        (500, "", Class::Unavailable),
        (200, "no json", Class::Unavailable),
        (200, r#"{"access_token":""}"#, Class::Unavailable),
        (200, r#"{"access_token":"a\nb"}"#, Class::Unavailable),
    ] {
        let endpoint = Function::answering(move || response(status, &[], body)).await;
        let auth = json!({ "oauth2": { "token_url": endpoint.url(), "client_id": "a", "client_secret": "b", "credentials": "body" } });
        let outcome = run_with(
            &target(json!({ "url": "http://127.0.0.1:1/", "auth": auth })),
            attempt(&["1"], 0),
        )
        .await;
        assert_eq!(
            (outcome.class, outcome.message.starts_with("no token: ")),
            (class, true),
            "{status}: {outcome:?}"
        );
        assert_eq!(
            endpoint.call().body(),
            "grant_type=client_credentials&client_id=a&client_secret=b"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_hangs_is_unavailable() {
    let (endpoint, _server) = raw(None).await;
    let auth =
        json!({ "oauth2": { "token_url": endpoint, "client_id": "a", "client_secret": "b" } });
    let outcome = run_with(
        &target(json!({ "url": "http://127.0.0.1:1/", "auth": auth })),
        attempt(&["1"], 0),
    )
    .await;
    assert_eq!(
        (outcome.class, outcome.message.as_str()),
        (
            Class::Unavailable,
            "no token: the token endpoint took longer than 10 s"
        )
    );
}

#[tokio::test]
async fn secrets_are_not_shown_and_missing_ones_told_when_it_opens() {
    let settings = json!({ "url": "http://h", "headers": { "X": "hunter2" }, "auth": { "bearer": "hunter2" } });
    assert!(!format!("{:?}", target(settings)).contains("hunter2"));
    let whole = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(whole.path(), "Bearer hunter2").unwrap();
    for (auth, path) in [
        (
            json!({ "bearer": { "env": "POINTSMAN_NO_SUCH_VARIABLE" } }),
            "auth.bearer: ",
        ),
        (
            json!({ "basic": { "username": "a", "password": { "file": "/no/such/file" } } }),
            "auth.basic.password: ",
        ),
        (json!({ "bearer": "a\nb" }), "auth.bearer: "),
        (
            json!({ "bearer": { "file": whole.path() } }),
            "auth.bearer: the file ",
        ),
    ] {
        let target = target(json!({ "url": "http://h", "auth": auth }));
        assert_eq!(target.check(), []);
        let error = target.open(context()).await.err().unwrap().to_string();
        assert!(error.starts_with(path), "{error}");
    }
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tok");
    std::fs::write(&file, "old\n").unwrap();
    let function = Function::new(|call| {
        let status = if call.headers()["authorization"] == "Bearer new" {
            204
        } else {
            401
        };
        Box::pin(std::future::ready(response(status, &[], "")))
    })
    .await;
    let service = target(json!({ "url": function.url(), "auth": { "bearer": { "file": file } } }))
        .open(context())
        .await
        .unwrap();
    let call = async || {
        service
            .clone()
            .oneshot(attempt(&["1"], 0))
            .await
            .unwrap()
            .remove(0)
            .class
    };
    assert_eq!(call().await, Class::Refused);
    // As a secret's mount is changed: by another file in its place, of the same size.
    std::fs::write(folder.path().join("next"), "new\n").unwrap();
    std::fs::rename(folder.path().join("next"), &file).unwrap();
    assert_eq!(call().await, Class::Delivered);
    // Where it cannot be read the target goes on.
    std::fs::remove_file(&file).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(call().await, Class::Delivered);
}
