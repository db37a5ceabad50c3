//! What an event costs at each stage of its way, in instructions, beside the figures that are kept
//! in `figures.txt`: `cargo bench -p pointsman-budget`. docs/develop/performance.md says how to
//! read it.
//!
//! `-- write` keeps the figures; `-- functions` shows the largest functions of each stage;
//! `-- history` shows what the history of tasks costs, `-- listeners` what whoever listens does.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a benchmark prints, and has nobody to hand an error to"
)]

mod bus;
mod function;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use pointsman_budget::callgrind::Profile;
use pointsman_budget::figures::Figures;
use pointsman_budget::stages::{Attributed, Stage, Way, attribute};
use pointsman_budget::symbols::{Symbols, demangle};

use self::bus::Bus;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds until the queues, caches and limits are as they stay.
const WARM_UP_ROUNDS: usize = 12;
const ROUNDS: usize = 20;

/// Who listens, and what he asks for.
const LISTENERS: [(&str, &str); 3] = [
    ("for a type that does not come", "type=other"),
    (
        "for events that a pattern never takes",
        "pattern=%7B%22data%22%3A%7B%22total%22%3A%5B1%5D%7D%7D",
    ),
    ("to everything, 1,000 a second", "rate=1000"),
];

/// How many functions of a stage are shown.
const FUNCTIONS_SHOWN: usize = 25;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |word: &str| arguments.iter().any(|argument| argument == word);
    // The process that is measured is this program in the binary's place.
    if arguments.first().is_some_and(|first| first == "run") {
        return pointsman::main();
    }
    let Some(valgrind) = version("valgrind") else {
        println!("valgrind is not there: install it (Debian: apt-get install valgrind)");
        return ExitCode::SUCCESS;
    };
    let made_with = made_with(&valgrind);
    if asked("history") {
        return compare_history(&made_with);
    }
    if asked("listeners") {
        return compare_listeners();
    }
    let (profile, events) = measure("all", None);
    let attributed = attributed(&profile);
    let per_event = |instructions: f64| instructions / f64::from(events);
    let figures = Figures {
        made_with,
        stages: attributed.stages.map(per_event),
    };
    if asked("functions") {
        print_functions(&profile, &attributed, per_event);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("figures.txt");
    if asked("write") {
        std::fs::write(&file, figures.to_string()).expect("the figures can be written");
    }
    compare(&figures, &file)
}

/// Prints what an event costs with the history of every task kept, beside what it costs with none.
fn compare_history(made_with: &str) -> ExitCode {
    let [with, without] = ["all", "none"].map(|history| {
        let (profile, events) = measure(history, None);
        Figures {
            made_with: made_with.to_owned(),
            stages: attributed(&profile)
                .stages
                .map(|instructions| instructions / f64::from(events)),
        }
    });
    print!("{}", with.table(Some(&without)));
    ExitCode::SUCCESS
}

/// Prints what an event costs with nobody who listens, and with each of them. So slow a bus has more
/// of its time's ticks for each event, and more of its events have room in a listener's.
fn compare_listeners() -> ExitCode {
    let total = |listener| {
        let (profile, events) = measure("all", listener);
        attributed(&profile).stages.iter().sum::<f64>() / f64::from(events)
    };
    let nobody = total(None);
    println!("{:<40}{nobody:>10.0}", "nobody listens");
    for (name, query) in LISTENERS {
        let own = total(Some(query));
        println!("{name:<40}{own:>10.0}{:>8.3}", own / nobody);
    }
    ExitCode::SUCCESS
}

/// The profile of a bus whose rule has this `history`, with somebody who listens to what is asked
/// for, and of how many events.
fn measure(history: &str, listener: Option<&str>) -> (Profile, u32) {
    let mut bus = Bus::start(history);
    if let Some(query) = listener {
        bus.listen(query);
    }
    bus.count_from_now();
    for _ in 0..WARM_UP_ROUNDS {
        bus.round();
    }
    bus.count_from_now();
    let events = (0..ROUNDS).map(|_| bus.round()).sum();
    let profile = Profile::parse(&bus.profile()).expect("callgrind's profile can be read");
    (profile, events)
}

fn attributed(profile: &Profile) -> Attributed {
    let own = std::env::current_exe().expect("a benchmark knows its own path");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let workspace = workspace.canonicalize().expect("the workspace is there");
    let symbols = Symbols::read(&own, &workspace).expect("a benchmark has debug information");
    attribute(profile, |function, address| {
        let object = profile
            .functions
            .get(function)
            .map(|f| Path::new(&f.object));
        if object == Some(&*own) {
            symbols.way(address)
        } else {
            Way::default()
        }
    })
}

/// What the figures hang on beside the code.
fn made_with(valgrind: &str) -> String {
    let rustc = version("rustc").unwrap_or_default();
    let architecture = std::env::consts::ARCH;
    // The C library has a memcpy for each kind of processor.
    #[cfg(target_arch = "x86_64")]
    let architecture = if is_x86_feature_detected!("avx2") {
        "x86_64 with AVX2"
    } else {
        architecture
    };
    format!("{rustc}, {valgrind}, {architecture}")
}

/// What a program says of its version; nothing where it is not there.
fn version(program: &str) -> Option<String> {
    let said = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    said.status.success().then(|| text.trim().to_owned())
}

/// Prints the figures beside those that are kept, and fails where they have grown.
fn compare(figures: &Figures, file: &PathBuf) -> ExitCode {
    let kept = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let kept = match kept.and_then(|text| Figures::parse(&text)) {
        Ok(kept) if kept.made_with == figures.made_with => kept,
        Ok(kept) => {
            print!("{}", figures.table(None));
            println!(
                "not compared: the figures kept were made with {}, these with {}",
                kept.made_with, figures.made_with
            );
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            print!("{}", figures.table(None));
            println!("not compared: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    print!("{}", figures.table(Some(&kept)));
    let grown = figures.grown_since(&kept);
    if grown.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nmore than a twentieth has been added:");
    for line in grown {
        println!("  {line}");
    }
    println!(
        "cargo bench -p pointsman-budget -- functions shows where; if it has to be, \
         -- write keeps the new figures"
    );
    ExitCode::FAILURE
}

fn print_functions(profile: &Profile, attributed: &Attributed, per_event: impl Fn(f64) -> f64) {
    for stage in Stage::ALL {
        println!("{}:", stage.name());
        let mut functions: Vec<_> = attributed
            .functions
            .iter()
            .zip(&profile.functions)
            .filter_map(|(stages, function)| Some((*stages.get(stage as usize)?, function)))
            .collect();
        functions.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        for (instructions, function) in functions.iter().take(FUNCTIONS_SHOWN) {
            let symbol = demangle(&function.symbol);
            println!("{:>10.0} {symbol}", per_event(*instructions));
        }
        println!();
    }
}
