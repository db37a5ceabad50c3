//! Which stage of an event's way the instructions of a profile belong to.
//!
//! A stage is known by where its code stands, `PLACES`. What stands elsewhere (the standard
//! library, the runtime, SQLite, the allocator) counts for whoever called it, in the proportion of
//! what each caller spent there. Code that the compiler has inlined counts by the place it came
//! from.

use std::collections::HashMap;

use crate::callgrind::{Calls, FunctionNumber, Profile};

/// How many stages there are.
pub const STAGES: usize = Stage::ALL.len();

/// A stage of an event's way through the bus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Stage {
    /// The HTTP server, up to the queue to the intake, and the answer.
    Receive,
    /// From a request's headers and body to an event.
    Decode,
    /// Which rules take it.
    Match,
    /// The intake's call and the rows of the event and its deliveries.
    Append,
    /// What each transaction costs that its rows do not, and the queues in memory after it.
    Commit,
    /// The dispatcher's grants and leases.
    Lease,
    /// An attempt with its HTTP client.
    Attempt,
    /// From an attempt's end to the rows that go.
    Settle,
    /// The runtime, background work, and whatever else belongs to no event's way.
    Rest,
}

impl Stage {
    /// All of them, in the order of an event's way.
    pub const ALL: [Self; 9] = [
        Self::Receive,
        Self::Decode,
        Self::Match,
        Self::Append,
        Self::Commit,
        Self::Lease,
        Self::Attempt,
        Self::Settle,
        Self::Rest,
    ];

    /// Its name in a budget.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Decode => "decode",
            Self::Match => "match",
            Self::Append => "append",
            Self::Commit => "commit",
            Self::Lease => "lease",
            Self::Attempt => "attempt",
            Self::Settle => "settle",
            Self::Rest => "rest",
        }
    }
}

/// What a place says of the code that stands there.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// It belongs to this stage.
    Is(Stage),
    /// It belongs to the second stage where it is called in the first.
    Within(Stage, Stage),
}

/// Folders and files of the workspace, or of a crate by its name. The first that fits counts.
const PLACES: &[(&str, Says)] = &[
    ("connectors/listener/", Says::Is(Stage::Receive)),
    ("connectors/http/ingress", Says::Is(Stage::Receive)),
    ("connectors/requests.rs", Says::Is(Stage::Receive)),
    ("hyper/src/server/", Says::Is(Stage::Receive)),
    ("hyper-util/src/server/", Says::Is(Stage::Receive)),
    ("schemas/", Says::Within(Stage::Receive, Stage::Decode)),
    ("src/intake/reader", Says::Is(Stage::Match)),
    ("src/router", Says::Is(Stage::Match)),
    ("src/intake", Says::Is(Stage::Append)),
    ("journal/disk/transaction/append", Says::Is(Stage::Append)),
    ("journal/disk/transaction/keys", Says::Is(Stage::Append)),
    ("journal/disk/transaction/settle", Says::Is(Stage::Settle)),
    ("journal/disk/transaction/history", Says::Is(Stage::Settle)),
    ("journal/disk/record/history", Says::Is(Stage::Settle)),
    ("journal/disk/queues/lease", Says::Is(Stage::Lease)),
    ("journal/disk/writer", Says::Is(Stage::Commit)),
    ("journal/disk/upkeep", Says::Is(Stage::Rest)),
    ("src/dispatcher/settling", Says::Is(Stage::Settle)),
    ("src/dispatcher/policy", Says::Is(Stage::Settle)),
    ("src/dispatcher/follow", Says::Is(Stage::Settle)),
    ("src/dispatcher/record", Says::Is(Stage::Settle)),
    ("src/dispatcher/attempts", Says::Is(Stage::Attempt)),
    ("src/dispatcher/stack", Says::Is(Stage::Attempt)),
    ("src/dispatcher/preparation", Says::Is(Stage::Attempt)),
    ("src/dispatcher", Says::Is(Stage::Lease)),
    ("connectors/http/target", Says::Is(Stage::Attempt)),
    ("connectors/net/", Says::Is(Stage::Attempt)),
    ("hyper/src/client/", Says::Is(Stage::Attempt)),
    ("hyper-util/src/client/", Says::Is(Stage::Attempt)),
];

/// Shares of the stages, of a whole of 1.
pub type Shares = [f64; STAGES];

fn only(stage: Stage) -> Shares {
    let mut shares = [0.0; STAGES];
    for (share, of) in shares.iter_mut().zip(Stage::ALL) {
        *share = f64::from(u8::from(of == stage));
    }
    shares
}

/// How the stages of who calls become those of what is done at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way([Stage; STAGES]);

impl Default for Way {
    fn default() -> Self {
        Self(Stage::ALL)
    }
}

impl Way {
    /// Where code of this file is entered from here. Paths are those of [`place`].
    #[must_use]
    pub fn into(mut self, place: &str) -> Self {
        let found = PLACES.iter().find(|(known, _)| place.starts_with(known));
        if let Some((_, says)) = found {
            for stage in &mut self.0 {
                match *says {
                    Says::Is(own) => *stage = own,
                    Says::Within(of, own) if *stage == of => *stage = own,
                    Says::Within(..) => {}
                }
            }
        }
        self
    }

    fn apply(&self, shares: &Shares) -> Shares {
        let mut applied = [0.0; STAGES];
        for (share, stage) in shares.iter().zip(self.0) {
            if let Some(sum) = applied.get_mut(stage as usize) {
                *sum += share;
            }
        }
        applied
    }
}

/// A file's path as `PLACES` tells it: from the workspace's folder, or from a registry crate's
/// with its name without the version.
#[must_use]
pub fn place(path: &str, workspace: &str) -> Option<String> {
    if let Some(own) = path.strip_prefix(workspace) {
        return Some(own.trim_start_matches('/').to_owned());
    }
    let (_, of_index) = path.split_once("/registry/src/")?;
    let (_, of_crate) = of_index.split_once('/')?;
    let (name_version, file) = of_crate.split_once('/')?;
    let (name, _) = name_version.rsplit_once('-')?;
    Some(format!("{name}/{file}"))
}

/// The instructions of each stage, and of each function in each stage.
#[derive(Clone, Debug)]
pub struct Attributed {
    /// By stage.
    pub stages: [f64; STAGES],
    /// What each function did itself, by stage.
    pub functions: Vec<[f64; STAGES]>,
}

/// How often shares are handed down. Chains of calls without a stage are shorter.
const ROUNDS: usize = 200;

/// Attributes a profile, with the way into each address.
#[must_use]
pub fn attribute(profile: &Profile, way: impl Fn(FunctionNumber, u64) -> Way) -> Attributed {
    let mut arcs: HashMap<(FunctionNumber, FunctionNumber), Vec<(Way, f64)>> = HashMap::new();
    for call in profile
        .calls
        .iter()
        .filter(|call| call.caller != call.callee)
    {
        let into = way(call.caller, call.address);
        let ways = arcs.entry((call.callee, call.caller)).or_default();
        let weight = weight(call);
        match ways.iter_mut().find(|(known, _)| *known == into) {
            Some((_, sum)) => *sum += weight,
            None => ways.push((into, weight)),
        }
    }
    let mut arcs: Vec<_> = arcs.into_iter().collect();
    arcs.sort_unstable_by_key(|(ends, _)| *ends);
    let shares = shares(profile.functions.len(), &arcs);
    let mut functions = vec![[0.0; STAGES]; profile.functions.len()];
    let mut stages = [0.0; STAGES];
    for cost in &profile.costs {
        let of = shares
            .get(cost.function)
            .copied()
            .unwrap_or(only(Stage::Rest));
        let own = way(cost.function, cost.address).apply(&of);
        for (stage, share) in own.iter().enumerate() {
            let part = share * float(cost.instructions);
            if let Some(sum) = stages.get_mut(stage) {
                *sum += part;
            }
            if let Some(sum) = functions
                .get_mut(cost.function)
                .and_then(|f| f.get_mut(stage))
            {
                *sum += part;
            }
        }
    }
    Attributed { stages, functions }
}

type Arc = ((FunctionNumber, FunctionNumber), Vec<(Way, f64)>);

/// The shares that callers hand down to each function. Nobody's are the rest's.
fn shares(functions: usize, arcs: &[Arc]) -> Vec<Shares> {
    let mut shares = vec![only(Stage::Rest); functions];
    for _ in 0..ROUNDS {
        let mut sums = vec![([0.0; STAGES], 0.0); functions];
        for ((callee, caller), ways) in arcs {
            let of = shares.get(*caller).copied().unwrap_or([0.0; STAGES]);
            let Some((sum, whole)) = sums.get_mut(*callee) else {
                continue;
            };
            for (way, weight) in ways {
                for (sum, share) in sum.iter_mut().zip(way.apply(&of)) {
                    *sum += share * weight;
                }
                *whole += weight;
            }
        }
        let mut moved = 0.0_f64;
        for (shares, (sum, whole)) in shares.iter_mut().zip(sums) {
            if whole > 0.0 {
                for (share, sum) in shares.iter_mut().zip(sum) {
                    moved = moved.max((*share - sum / whole).abs());
                    *share = sum / whole;
                }
            }
        }
        if moved < 1e-6 {
            break;
        }
    }
    shares
}

fn weight(calls: &Calls) -> f64 {
    float(calls.instructions.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callgrind::{Function, OwnCost};

    const WORKSPACE: &str = "/w";

    #[test]
    fn a_place_is_told_from_the_workspace_or_the_crate() {
        let table = [
            ("/w/src/router/matcher.rs", Some("src/router/matcher.rs")),
            (
                "/home/x/.cargo/registry/src/index-1949/hyper-util-0.1.21/src/client/pool.rs",
                Some("hyper-util/src/client/pool.rs"),
            ),
            ("/rustc/59807/library/core/src/ptr/mod.rs", None),
            ("sqlite3.c", None),
        ];
        for (path, expected) in table {
            assert_eq!(place(path, WORKSPACE).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn every_place_of_the_workspace_is_there() {
        let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let own = PLACES
            .iter()
            .filter(|(place, _)| !place.starts_with("hyper"));
        for (place, _) in own {
            let is_there = ["", ".rs"]
                .iter()
                .any(|end| workspace.join(format!("{place}{end}")).exists());
            assert!(is_there, "{place} has moved: its stage is lost");
        }
    }

    /// Functions by file, what each does itself, and calls with what they take.
    fn run(files: &[(&str, u64)], calls: &[(usize, usize, u64)]) -> [f64; STAGES] {
        let profile = Profile {
            functions: files
                .iter()
                .map(|(file, _)| Function {
                    object: "/bus".to_owned(),
                    symbol: (*file).to_owned(),
                })
                .collect(),
            costs: files
                .iter()
                .enumerate()
                .map(|(function, (_, instructions))| OwnCost {
                    function,
                    address: 0,
                    instructions: *instructions,
                })
                .collect(),
            calls: calls
                .iter()
                .map(|&(caller, callee, instructions)| Calls {
                    caller,
                    address: 0,
                    callee,
                    instructions,
                })
                .collect(),
        };
        attribute(&profile, |function, _| {
            Way::default().into(files[function].0)
        })
        .stages
    }

    fn of(stages: &[f64; STAGES], stage: Stage) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
        let instructions = stages[stage as usize].round() as i64;
        instructions
    }

    #[test]
    fn what_has_no_stage_counts_for_its_callers_by_what_they_spent_there() {
        let files = [
            ("runtime", 10),
            ("connectors/listener/serving.rs", 100),
            ("src/intake/append.rs", 200),
            ("malloc", 40),
        ];
        let calls = [(0, 1, 130), (0, 2, 210), (1, 3, 30), (2, 3, 10)];
        let stages = run(&files, &calls);
        assert_eq!(of(&stages, Stage::Receive), 130);
        assert_eq!(of(&stages, Stage::Append), 210);
        assert_eq!(of(&stages, Stage::Rest), 10);
    }

    #[test]
    fn a_codec_is_decoding_only_where_something_is_received() {
        let files = [
            ("connectors/http/ingress.rs", 100),
            ("connectors/http/target/request.rs", 100),
            ("schemas/http.rs", 30),
            ("strlen", 20),
        ];
        let calls = [(0, 2, 40), (1, 2, 10), (2, 3, 20)];
        let stages = run(&files, &calls);
        assert_eq!(of(&stages, Stage::Receive), 100);
        assert_eq!(of(&stages, Stage::Decode), 40);
        assert_eq!(of(&stages, Stage::Attempt), 110);
    }

    #[test]
    fn functions_that_call_one_another_end_with_the_shares_of_who_calls_them() {
        let files = [("src/dispatcher/settling.rs", 0), ("a", 10), ("b", 10)];
        let calls = [(0, 1, 20), (1, 2, 15), (2, 1, 5), (2, 2, 3)];
        let stages = run(&files, &calls);
        assert_eq!(of(&stages, Stage::Settle), 20);
    }

    #[test]
    fn all_instructions_are_attributed() {
        let files = [("a", 7), ("rules/index.rs", 5), ("src/router.rs", 3)];
        let stages = run(&files, &[(2, 1, 5)]);
        assert_eq!(stages.iter().sum::<f64>().round() as u64, 15);
        assert_eq!(of(&stages, Stage::Match), 8);
        assert_eq!(of(&stages, Stage::Rest), 7);
    }
}
