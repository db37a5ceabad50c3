//! What holds and what is void, record by record.

use pointsman_schemas::Name;

use super::*;
use crate::record::Changes;

fn owner(incarnation: u64) -> Owner {
    Owner {
        node: Name::new("n").unwrap(),
        incarnation,
        takeover_ms: 10_000,
        imports: false,
    }
}

fn part(text: &'static str) -> Part {
    Part {
        format: 5,
        is_first: true,
        is_last: true,
        ends_walk: false,
        changes: Changes::Plain(Bytes::from_static(text.as_bytes())),
    }
}

/// Records one after the other, each judged by what is known so far.
#[derive(Default)]
struct Log {
    fold: Fold,
    records: Vec<Bytes>,
}

impl Log {
    fn append(&mut self, record: Bytes) -> Result<Verdict, Broken> {
        self.records.push(record.clone());
        self.fold.judge(self.fold.place().next(), &record)
    }

    fn claim(&mut self, epoch: u64, incarnation: u64) -> Verdict {
        self.append(What::Claim(owner(incarnation)).encode(epoch))
            .unwrap()
    }

    /// The next record of this epoch's owner.
    fn commit(&mut self, part: Part) -> Verdict {
        let at = self.fold.next();
        let epoch = self.fold.epoch();
        self.append(What::Commit { at, part }.encode(epoch))
            .unwrap()
    }

    fn walk(&mut self) -> Verdict {
        let at = self.fold.next();
        let what = What::Walk {
            at,
            owner: self.fold.owner().unwrap().clone(),
        };
        self.append(what.encode(self.fold.epoch())).unwrap()
    }
}

/// What a commit says, where it holds.
fn text(verdict: Verdict) -> String {
    match verdict {
        Verdict::Commit(commit) => String::from_utf8(commit.changes.to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

#[test]
fn only_the_next_epoch_can_be_claimed() {
    let mut log = Log::default();
    assert_eq!(log.claim(2, 7), Verdict::Void);
    assert_eq!(log.claim(1, 7), Verdict::Holds);
    assert_eq!(log.claim(1, 8), Verdict::Void);
    assert_eq!(log.fold.owner().unwrap().incarnation, 7);
    assert_eq!(log.claim(2, 8), Verdict::Holds);
    assert_eq!(log.claim(3, 9), Verdict::Holds);
    // Neither of them may have heard of it.
    assert_eq!(log.fold.before(), [owner(7), owner(8)]);
    log.commit(part("a"));
    assert_eq!(log.fold.before(), []);
    // Who has released is not waited for.
    log.append(What::Release.encode(3)).unwrap();
    assert_eq!(log.fold.owner(), None);
    assert_eq!(log.claim(4, 9), Verdict::Holds);
    assert_eq!(log.fold.before(), []);
}

#[test]
fn a_copy_and_what_comes_behind_a_claim_are_void() {
    let mut log = Log::default();
    log.claim(1, 7);
    assert_eq!(text(log.commit(part("a"))), "a");
    let copy = log.records[1].clone();
    assert_eq!(log.append(copy).unwrap(), Verdict::Void);
    let late = What::Commit {
        at: log.fold.next(),
        part: part("late"),
    };
    log.claim(2, 8);
    assert_eq!(log.append(late.encode(1)).unwrap(), Verdict::Void);
    assert_eq!(text(log.commit(part("b"))), "b");
    log.append(What::Release.encode(2)).unwrap();
    let late = What::Commit {
        at: log.fold.next(),
        part: part("late"),
    };
    assert_eq!(log.append(late.encode(2)).unwrap(), Verdict::Void);
}

#[test]
fn what_does_not_follow_breaks_the_log() {
    for change in [
        |at: &mut Numbered| at.number += 1,
        |at: &mut Numbered| at.chain ^= 1,
    ] {
        let mut log = Log::default();
        log.claim(1, 7);
        log.commit(part("a"));
        let mut at = log.fold.next();
        change(&mut at);
        let record = What::Commit {
            at,
            part: part("b"),
        };
        assert_eq!(log.append(record.encode(1)), Err(Broken::Chain(3)));
    }
    let mut log = Log::default();
    log.claim(1, 7);
    let mut record = log.records[0].to_vec();
    record[5] ^= 1;
    assert_eq!(log.append(record.into()), Err(Broken::Damaged(2)));
}

#[test]
fn a_commit_in_parts_is_whole_with_its_last_or_never() {
    let first = Part {
        is_last: false,
        ..part("a")
    };
    let last = Part {
        is_first: false,
        ..part("b")
    };
    let mut log = Log::default();
    log.claim(1, 7);
    assert_eq!(log.commit(first.clone()), Verdict::Holds);
    // Whoever stops here begins again before the first part.
    let again = Fold::resume(&log.fold.mark()).unwrap();
    assert_eq!(again.place(), Place(1));
    assert_eq!(text(log.commit(last.clone())), "ab");
    assert_eq!(Fold::resume(&log.fold.mark()).unwrap().place(), Place(3));

    // Its owner has begun anew.
    log.commit(first.clone());
    assert_eq!(text(log.commit(part("c"))), "c");
    // Another one owns it.
    log.commit(first);
    log.claim(2, 8);
    let at = log.fold.next();
    let record = What::Commit { at, part: last };
    assert_eq!(log.append(record.encode(2)), Err(Broken::Chain(8)));
}

#[test]
fn a_store_can_begin_with_a_walk_and_nowhere_else() {
    let mut log = Log::default();
    log.claim(1, 7);
    log.commit(part("a"));
    assert!(log.fold.is_unborn() && !log.fold.is_complete());
    log.walk();
    log.commit(part("b"));
    let ends = Part {
        ends_walk: true,
        ..part("c")
    };
    log.commit(ends);
    log.commit(part("d"));
    assert_eq!(log.fold.walked(), Some(Place(3)));
    assert!(log.fold.is_complete() && !log.fold.is_unborn());

    let mut late = Fold::blank_before(Place(3));
    for (at, record) in log.records.iter().enumerate().skip(2) {
        assert!(!late.is_complete() || at > 4);
        late.judge(Place(at as u64 + 1), record).unwrap();
    }
    assert!(late.is_complete());
    assert_eq!(late.next(), log.fold.next());
    assert_eq!(late.owner(), log.fold.owner());

    let mut elsewhere = Fold::blank_before(Place(4));
    let refused = elsewhere.judge(Place(4), &log.records[3]);
    assert_eq!(refused, Err(Broken::Beginning(4)));
}

#[test]
fn a_walk_that_its_owner_does_not_end_is_none() {
    let mut log = Log::default();
    log.claim(1, 7);
    log.walk();
    log.claim(2, 8);
    let ends = Part {
        ends_walk: true,
        ..part("c")
    };
    log.commit(ends);
    assert_eq!(log.fold.walked(), None);
    assert!(!log.fold.is_complete());
}

/// Nodes of this and of earlier versions read each other's log.
#[test]
fn the_bytes_of_records_stay() {
    let at = Numbered {
        number: 3,
        chain: 0xAABB_CCDD,
    };
    let records = [
        What::Claim(owner(7)).encode(5),
        What::Release.encode(5),
        What::Walk {
            at,
            owner: owner(7),
        }
        .encode(5),
        What::Commit {
            at,
            part: part("x"),
        }
        .encode(5),
    ];
    let shown: Vec<String> = records
        .iter()
        .map(|record| record.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let owner = "7b226e6f6465223a226e222c22696e6361726e6174696f6e223a372c2274616b656f7665725f6d73223a31\
                 303030302c22696d706f727473223a66616c73657d";
    let expected = [
        format!("01010500000000000000000000000000000000000000{owner}0d0011bf"),
        "0102050000000000000000000000000000000000000042044f70".to_owned(),
        format!("010305000000000000000300000000000000ddccbbaa{owner}efdbf460"),
        "010405000000000000000300000000000000ddccbbaa0500037898b5b5ec".to_owned(),
    ];
    assert_eq!(shown, expected);
}
