//! What each failure is told as: whether it may have happened.

use std::time::Duration;

use pointsman_journal::QuotaOwner;
use pointsman_schemas::{Cursor, Name, PositionChange};
use tokio::time::Instant;

use super::*;
use crate::message;

/// Answers the same to whatever it is asked; never where it has nothing to say.
#[derive(Debug)]
struct Stubborn(Option<Result<Bytes, CallError>>);

#[async_trait]
impl Transport for Stubborn {
    async fn call(&self, _: ShardNumber, _: Bytes) -> Result<Bytes, CallError> {
        match &self.0 {
            Some(answer) => answer.clone(),
            None => futures::future::pending().await,
        }
    }
}

/// What an append, a command and a read come to.
async fn told(answer: Option<Result<Bytes, CallError>>) -> [JournalError; 3] {
    let remote = Remote::new(number(7), Arc::new(Stubborn(answer)));
    [
        remote.append(events(["1"])).await.unwrap_err(),
        remote.cancel(&[]).await.unwrap_err(),
        remote.reader().totals().await.unwrap_err(),
    ]
}

fn error(error: JournalError) -> Option<Result<Bytes, CallError>> {
    Some(Ok(message::write(&Err::<(), _>(error), 0).unwrap()))
}

#[test]
fn an_error_says_whether_it_may_have_happened() {
    paused(async {
        let unsent = CallError::Unsent("cannot connect".to_owned());
        let lost = CallError::Lost("the connection broke".to_owned());
        let later = [&[4][..], b"whatever"].concat();
        let of_another: Result<u64, JournalError> = Ok(1);
        let of_another = message::write(&of_another, 0).unwrap();
        for (answer, expect) in [
            (
                Some(Err(unsent)),
                JournalError::Away("shard 7: cannot connect".to_owned()),
            ),
            (
                error(JournalError::Away("not the owner".to_owned())),
                JournalError::Away("shard 7: not the owner".to_owned()),
            ),
            (
                Some(Err(lost)),
                JournalError::Io(
                    "shard 7, which another node owns: the connection broke".to_owned(),
                ),
            ),
            (
                None,
                JournalError::Io(
                    "shard 7, which another node owns: no answer within 30 s".to_owned(),
                ),
            ),
            (
                Some(Ok(later.into())),
                JournalError::Io(
                    "shard 7, which another node owns: the answer cannot be read: it is of \
                     version 4 of what nodes say to each other, and only version 3 is known; run \
                     the same version of Pointsman on all nodes"
                        .to_owned(),
                ),
            ),
        ] {
            let began = Instant::now();
            for one in told(answer.clone()).await {
                assert_eq!(one, expect);
            }
            let waited = began.elapsed();
            assert_eq!(
                waited,
                Duration::from_secs(if answer.is_none() { 90 } else { 0 })
            );
        }
        for answer in [
            Bytes::new(),
            Bytes::from_static(b"<html>"),
            of_another.slice(..2),
        ] {
            for one in told(Some(Ok(answer))).await {
                assert!(matches!(one, JournalError::Io(_)), "{one:?}");
            }
        }
    });
}

#[test]
fn what_the_owner_refuses_comes_back_as_it_was() {
    paused(async {
        let owner = QuotaOwner {
            tenant: Name::default_tenant(),
            rule: Some(Name::new("r").unwrap()),
        };
        for own in [
            JournalError::Full("max_size is reached".to_owned()),
            JournalError::DiskFull,
            JournalError::Backlog(SubscriptionNumber(3)),
            JournalError::Quota(SubscriptionNumber(3), owner),
            JournalError::Io("it broke".to_owned()),
            JournalError::Damaged("event 1".to_owned()),
            JournalError::NotFound("replay".to_owned()),
            JournalError::Closed,
        ] {
            assert_eq!(
                told(error(own.clone())).await,
                [own.clone(), own.clone(), own]
            );
        }
    });
}

#[test]
fn an_answer_of_other_appends_is_no_answer() {
    paused(async {
        let none: Result<Vec<Result<crate::append::Made, JournalError>>, JournalError> =
            Ok(Vec::new());
        let of_none = Ok(vec![Ok(crate::append::Made {
            appended: Vec::new(),
            told: Vec::new(),
        })]);
        for answer in [none, of_none] {
            let answer = message::write(&answer, 0).unwrap();
            let remote = Remote::new(number(7), Arc::new(Stubborn(Some(Ok(answer)))));
            let told = remote.append(events(["1"])).await;
            assert!(matches!(told, Err(JournalError::Io(_))), "{told:?}");
        }
    });
}

#[test]
fn who_does_not_own_it_says_so_and_a_cursor_is_never_sent() {
    paused(async {
        let not_here = Remote::new(number(1), Arc::new(Node(Some(in_memory(2)))));
        let away = |result: Result<(), JournalError>, what: &str| {
            let expect = format!("shard 1: {what}");
            assert_eq!(result, Err(JournalError::Away(expect)));
        };
        let not_owned = "the node that was asked does not own it";
        away(not_here.append(events(["1"])).await.map(drop), not_owned);
        away(not_here.reader().totals().await.map(drop), not_owned);

        let here = Remote::new(number(1), Arc::new(Node(Some(in_memory(1)))));
        here.append(events(["1"])).await.unwrap();
        let kept = "how far a source was read is only stored by the node that owns the shard";
        let cursor = Cursor {
            fingerprint: 1,
            position: Bytes::from_static(b"9"),
        };
        let with_cursor = Append {
            cursor: Some(cursor),
            ..events(["2"])
        };
        let change = PositionChange {
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::from_static(b"value")),
        };
        let changes = vec![change.clone()];
        let with_position = Append {
            positions: vec![change],
            ..events(["3"])
        };
        for refused in [with_cursor, with_position] {
            away(here.append(refused).await.map(drop), kept);
        }
        assert_eq!(here.reader().totals().await.unwrap().events, 1);
        // What any node may note goes over.
        let keeper = ["tenant", "notes"].map(|name| Name::new(name).unwrap());
        let [tenant, source] = keeper.clone();
        away(
            not_here
                .note(tenant.clone(), source.clone(), changes.clone())
                .await,
            not_owned,
        );
        here.note(tenant, source, changes).await.unwrap();
        let [tenant, source] = keeper;
        let noted = here.positions(&tenant, &source, None, 9).await.unwrap();
        let noted: Vec<_> = noted.iter().map(|row| (&*row.key, &*row.value)).collect();
        assert_eq!(noted, [(&b"key"[..], &b"value"[..])]);
    });
}
