use proptest::prelude::*;

use super::divide::hand_out;
use super::words::Grant;
use super::*;

const TAKEOVER: Duration = Duration::from_secs(10);
const BEAT: Duration = Duration::from_secs(1);

fn limit(key: u64, most: u64) -> Limit {
    Limit {
        key,
        home: Shard(0),
        most,
        one: 1,
    }
}

/// Nodes that hear each other at once; each owns a shard, the first that of the limits.
struct Nodes {
    nodes: Vec<Shares>,
    now: Instant,
    number: u64,
}

impl Nodes {
    fn new(count: u64, limits: &[Limit]) -> Self {
        let node = |me| {
            let mut shares = Shares::new(me, TAKEOVER);
            shares.set_limits(limits.to_vec());
            shares
        };
        let now = Instant::now();
        Self {
            nodes: (0..count).map(node).collect(),
            now,
            number: 0,
        }
    }

    fn wants(&mut self, node: usize, wants: u64) {
        let demand = Demand {
            key: 1,
            wants,
            in_use: 0,
        };
        self.nodes[node].demand(&[demand], BTreeSet::new(), self.now);
    }

    /// All beat once.
    fn beat(&mut self) {
        self.now += BEAT;
        self.number += 1;
        for node in 0..self.nodes.len() {
            let owns = |shard| Standing {
                epoch: 1,
                owns: shard == node,
            };
            let standing: Vec<_> = (0..self.nodes.len()).map(owns).collect();
            let stance = Stance {
                standing: standing.clone(),
                live_since: Some(self.now - BEAT * 9),
                acknowledged: Some(self.now),
            };
            let said = Said {
                number: self.number,
                takeover: TAKEOVER,
                standing,
                words: self.nodes[node].say(self.number, &stance, self.now),
            };
            for (other, shares) in self.nodes.iter_mut().enumerate() {
                if other != node {
                    shares.hear(node as u64, said.clone(), self.now);
                }
            }
        }
    }

    /// What each may use of the first limit.
    fn amounts(&mut self) -> Vec<u64> {
        let now = self.now;
        let amount = |shares: &mut Shares| {
            shares.own.get_mut(&1).map(|own| own.told.take());
            let told = shares.shares(now);
            told.iter().find(|share| share.key == 1).unwrap().amount
        };
        self.nodes.iter_mut().map(amount).collect()
    }
}

#[test]
fn whoever_wants_less_than_an_even_part_gets_that() {
    let cases: [(u64, &[u64], &[u64]); 9] = [
        (12, &[12, 12, 12], &[4, 4, 4]),
        (4, &[9, 9, 9], &[2, 1, 1]),
        (2, &[9, 9, 9], &[1, 1, 0]),
        (12, &[1, 9, 9], &[1, 6, 5]),
        (12, &[2, 0, 2], &[6, 0, 6]),
        (12, &[0, 1, 0], &[0, 12, 0]),
        (12, &[0, 0], &[0, 0]),
        (64, &[], &[]),
        (u64::MAX, &[u64::MAX, 7], &[u64::MAX - 7, 7]),
    ];
    for (most, wants, expect) in cases {
        let parts = divide::divide(most, wants, &[]);
        assert_eq!(parts, expect, "{most} by {wants:?}");
    }
    // The first and the last may want some, and begin with an even part of what nobody wants.
    for (wants, expect) in [
        ([0, 0, 0], [6, 0, 6]),
        ([0, 6, 0], [2, 8, 2]),
        ([0, 12, 0], [0, 12, 0]),
    ] {
        let parts = divide::divide(12, &wants, &[true, false, true]);
        assert_eq!(parts, expect, "12 by {wants:?}");
    }
}

proptest! {
    #[test]
    fn what_is_handed_out_is_what_is_free_or_lacking(
        free in 0..10_000_u64,
        lacks in prop::collection::vec(0..10_000_u64, 0..9),
    ) {
        let parts = hand_out(free, &lacks);
        prop_assert_eq!(parts.iter().sum::<u64>(), free.min(lacks.iter().sum()));
        prop_assert!(parts.iter().zip(&lacks).all(|(part, lack)| part <= lack));
    }
}

#[test]
fn a_node_begins_with_an_even_part_and_has_more_when_the_others_have_less() {
    let mut nodes = Nodes::new(3, &[limit(1, 12)]);
    assert_eq!(nodes.amounts(), [1, 1, 1], "nothing is granted");
    let beats = |nodes: &mut Nodes, wants: [u64; 3], count| {
        for _ in 0..count {
            for (node, wants) in wants.into_iter().enumerate() {
                nodes.wants(node, wants);
            }
            nodes.beat();
            // What was told before is obeyed no more once that has been told.
            nodes.amounts();
        }
    };
    beats(&mut nodes, [0, 0, 0], 3);
    assert_eq!(nodes.amounts(), [4, 4, 4]);
    // The others have to hear of it first, and to say that they have.
    beats(&mut nodes, [0, 12, 0], 2);
    assert_eq!(nodes.amounts(), [1, 4, 1]);
    beats(&mut nodes, [0, 12, 0], 2);
    assert_eq!(nodes.amounts(), [1, 12, 1]);
    beats(&mut nodes, [0, 12, 12], 2);
    assert_eq!(nodes.amounts(), [1, 6, 1]);
    beats(&mut nodes, [0, 12, 12], 2);
    assert_eq!(nodes.amounts(), [1, 6, 6]);
    beats(&mut nodes, [0, 0, 12], WANTED_BEATS + 4);
    assert_eq!(nodes.amounts(), [1, 1, 12]);
    // One that hears nobody any more gives up what it holds, before others may have it.
    nodes.now += TAKEOVER * 4 / 5;
    assert_eq!(nodes.amounts(), [1, 1, 1]);
}

#[test]
fn what_an_earlier_owner_grants_is_not_obeyed() {
    let mut nodes = Nodes::new(2, &[limit(1, 12)]);
    for _ in 0..4 {
        nodes.wants(0, 0);
        nodes.wants(1, 12);
        nodes.beat();
        nodes.amounts();
    }
    assert_eq!(nodes.amounts(), [1, 12]);
    let now = nodes.now;
    let mut says = |process, number, epoch, amount| {
        let said = Said {
            number,
            takeover: TAKEOVER,
            standing: vec![Standing { epoch, owns: true }],
            words: Words {
                heard: vec![(1, 2)],
                grants: vec![Grant::new(1, vec![(0, amount)])],
                ..Words::default()
            },
        };
        nodes.nodes[1].hear(process, said, now);
    };
    says(2, 1, 2, 3);
    says(0, 9, 1, 12);
    assert_eq!(nodes.amounts()[1], 3);
}

#[test]
fn what_is_in_use_is_not_given_to_another() {
    let mut nodes = Nodes::new(2, &[limit(1, 12)]);
    let uses = |nodes: &mut Nodes, in_use| {
        let demand = Demand {
            key: 1,
            wants: 12,
            in_use,
        };
        nodes.nodes[0].demand(&[demand], BTreeSet::new(), nodes.now);
    };
    uses(&mut nodes, 0);
    nodes.beat();
    nodes.beat();
    assert_eq!(nodes.amounts(), [12, 1]);
    for (in_use, expect) in [(12, [6, 1]), (8, [6, 4]), (2, [6, 6])] {
        nodes.wants(1, 12);
        uses(&mut nodes, in_use);
        nodes.beat();
        // What was told before is obeyed no more once that has been told.
        nodes.amounts();
        uses(&mut nodes, in_use);
        nodes.beat();
        assert_eq!(nodes.amounts(), expect, "{in_use} in use");
    }
}

#[test]
fn limits_behind_the_first_few_hundred_are_divided_evenly() {
    let count = u64::try_from(DIVIDED_MAX).unwrap();
    let limits: Vec<Limit> = (1..=count + 1).map(|key| limit(key, 12)).collect();
    let mut nodes = Nodes::new(3, &limits);
    let all: Vec<Demand> = (1..=count + 1)
        .map(|key| Demand {
            key,
            wants: 12,
            in_use: 0,
        })
        .collect();
    for _ in 0..4 {
        for (node, wants) in [&[], &all[..], &[]].into_iter().enumerate() {
            nodes.nodes[node].demand(wants, BTreeSet::new(), nodes.now);
        }
        nodes.beat();
        nodes.amounts();
    }
    nodes.nodes[1]
        .own
        .values_mut()
        .for_each(|own| own.told = None);
    let told = nodes.nodes[1].shares(nodes.now);
    let last = told.iter().max_by_key(|share| share.key).unwrap();
    assert_eq!((last.key, last.amount), (count + 1, 4));
    assert_eq!(told[0].amount, 12);
    assert_eq!(nodes.nodes[1].said.says.len(), DIVIDED_MAX);
}

#[test]
fn of_those_that_find_a_target_open_the_first_sees_to_it() {
    let mut nodes = Nodes::new(3, &[]);
    let opens = |nodes: &mut Nodes, node: usize, open: &[u64]| {
        let open = open.iter().copied().collect();
        nodes.nodes[node].demand(&[], open, nodes.now);
    };
    let elsewhere = |nodes: &Nodes| -> Vec<bool> {
        let of = |shares: &Shares| shares.open_elsewhere(nodes.now).contains(&5);
        nodes.nodes.iter().map(of).collect()
    };
    opens(&mut nodes, 1, &[5]);
    opens(&mut nodes, 2, &[5]);
    nodes.beat();
    assert_eq!(elsewhere(&nodes), [true, false, true]);
    opens(&mut nodes, 1, &[]);
    opens(&mut nodes, 2, &[]);
    nodes.beat();
    assert_eq!(elsewhere(&nodes), [false; 3]);
    opens(&mut nodes, 1, &[5]);
    nodes.beat();
    nodes.now += TAKEOVER;
    assert_eq!(elsewhere(&nodes), [false; 3], "it has fallen silent");
}

#[test]
fn words_are_short() {
    let words = Words {
        heard: vec![(8, 17)],
        says: vec![Statement::new(3, 4, 5)],
        grants: vec![Grant::new(3, vec![(0, 6)])],
        open: Vec::new(),
    };
    let written = serde_json::to_string(&words).unwrap();
    assert_eq!(
        written,
        r#"{"heard":[[8,17]],"says":[[3,4,5]],"grants":[[3,[[0,6]]]]}"#
    );
    assert_eq!(serde_json::from_str::<Words>(&written).unwrap(), words);
}
