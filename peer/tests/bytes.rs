//! The bytes themselves: whatever comes is read or refused, and what a version writes stays.

use pointsman_journal::DeadSelection;
use pointsman_schemas::Reject;
use proptest::prelude::*;

use super::samples::{answers, calls, full_event, id, sent};
use super::*;
use crate::call::Call;
use crate::message::{read, write};

#[test]
fn every_call_and_answer_comes_back_as_it_was() {
    for call in calls() {
        let bytes = write(&call, 0).unwrap();
        let back: Call = read(&bytes).unwrap();
        assert_eq!(format!("{back:?}"), format!("{call:?}"));
        for cut in 0..bytes.len() {
            assert!(
                read::<Call>(&bytes[..cut]).is_err(),
                "{call:?} cut at {cut}"
            );
        }
        assert!(
            read::<Call>(&[&bytes, &b"\0"[..]].concat()).is_err(),
            "{call:?} and more"
        );
    }
    assert_eq!(answers().len(), 19);
}

/// Where this fails, what nodes say to each other has changed: count the version up, and write the
/// new sum here.
#[test]
fn what_this_version_writes_stays() {
    let calls = calls().into_iter().map(|call| write(&call, 0).unwrap());
    let all: Vec<Bytes> = calls.chain(answers()).collect();
    assert!(all.iter().all(|bytes| bytes[0] == 3), "the version");
    let lengths: usize = all.iter().map(Bytes::len).sum();
    let sum = crc32fast::hash(&all.concat());
    assert_eq!((all.len(), lengths, sum), (57, 2959, 806_493_344));
}

#[test]
fn an_event_that_was_read_holds_on_to_nothing_else() {
    let bytes = write(&Call::Append(vec![sent()]), 0).unwrap();
    let Call::Append(sent) = read(&bytes).unwrap() else {
        panic!("it was an append");
    };
    assert_eq!(*sent[0].append.entries[0].event, *full_event());
    assert!(bytes.is_unique());
}

#[test]
fn what_is_larger_than_any_message_is_refused() {
    let raw = Bytes::from(vec![0; crate::MESSAGE_BYTES_MAX]);
    let reason = String::new();
    let large = Append {
        rejects: vec![Reject { raw, reason }],
        ..events(["1"])
    };
    paused(async {
        let owner = in_memory(0);
        let remote = Remote::new(number(0), Arc::new(Node(Some(Arc::clone(&owner)))));
        let refused = remote.append(large.clone()).await;
        let Err(JournalError::Away(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(
            why.starts_with("shard 0: the call cannot be sent: it has "),
            "{why}"
        );
        let too_long = Bytes::from(vec![1; crate::MESSAGE_BYTES_MAX + 1]);
        let answer = serve(&*owner, too_long).await;
        let answer: Result<(), JournalError> = read(&answer).unwrap();
        assert!(matches!(answer, Err(JournalError::Away(_))), "{answer:?}");
        // An answer that nobody could read: what was asked for has been done.
        owner.append(large).await.unwrap();
        let all = DeadSelection::default();
        let read = remote.reader().dead(&all, None, 9).await;
        let Err(JournalError::Io(why)) = read else {
            panic!("{read:?}");
        };
        assert!(
            why.starts_with("its answer cannot be sent: it has "),
            "{why}"
        );
    });
}

/// A length that nothing follows: whoever believes it runs out of memory.
#[test]
fn a_list_is_as_long_as_it_is_and_not_as_it_says() {
    let endless = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    for call in calls() {
        let bytes = write(&call, 0).unwrap();
        for at in 1..bytes.len() {
            let said = [&bytes[..at], &endless, &bytes[at..]].concat();
            let _ = read::<Call>(&said);
            let _ = read::<Call>(&[&bytes[..at], &endless].concat());
        }
    }
}

/// Bytes of a message with some of them changed, or none that was ever one.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let calls = calls().into_iter().map(|call| write(&call, 0).unwrap());
    let known: Vec<Bytes> = calls.chain(answers()).collect();
    let changed = (
        prop::sample::select(known),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        any::<prop::sample::Index>(),
    );
    let changed = changed.prop_map(|(bytes, changes, end)| {
        let mut bytes = bytes.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let end = bytes.len() - end.index(bytes.len()) / 8;
        bytes.truncate(end);
        bytes
    });
    let random = prop::collection::vec(any::<u8>(), 0..200).prop_map(|mut bytes| {
        bytes.insert(0, 2);
        bytes
    });
    prop_oneof![3 => changed, 1 => random]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_answered(bytes in garbage()) {
        paused(async {
            let owner = in_memory(0);
            owner.subscribe(vec![wanted("r")]).await.unwrap();
            let answer = serve(&*owner, bytes.clone().into()).await;
            prop_assert_eq!(answer[0], 3);
            let remote = Remote::new(number(0), Arc::new(Says(bytes.into())));
            let _ = remote.append(events(["1"])).await;
            let _ = remote.reader().subscriptions().await;
            let _ = remote.reader().life(id()).await;
            let _ = remote.reader().totals().await;
            Ok(())
        })?;
    }
}

/// Answers with these bytes.
#[derive(Debug)]
struct Says(Bytes);

#[async_trait]
impl Transport for Says {
    async fn call(&self, _: ShardNumber, _: Bytes) -> Result<Bytes, CallError> {
        Ok(self.0.clone())
    }
}
