//! How the concurrency limit finds what a target can take: thousands of targets in virtual time.
//!
//! ```sh
//! cargo bench --bench simulate                         # capacity 10, 100 ms, 300 seeds
//! cargo bench --bench simulate -- 50 0.005 100         # capacity 50, 5 ms, 100 seeds
//! ```
//!
//! The limiter, the circuit and the targets are those of the dispatcher's tests: the same files.

#![allow(
    dead_code,
    unused_imports,
    reason = "the files bring more than the limiter needs, and their tests, which do not run here"
)]

#[path = "../src/dispatcher/circuit.rs"]
mod circuit;
#[path = "../src/dispatcher/limit.rs"]
mod limit;
#[path = "../src/dispatcher/policy.rs"]
mod policy;
#[path = "../src/dispatcher/simulation.rs"]
mod simulation;

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::{Duration, Instant};

use simulation::{Overload, Service, Simulation, Trial, trial};

fn argument<T: FromStr>(index: usize, default: T) -> T {
    let numbers = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'));
    numbers
        .skip(index)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(default)
}

/// The value below which this part of all lies.
fn quantile(trials: &[Trial], part: f64, of: impl Fn(&Trial) -> f64) -> f64 {
    let mut all: Vec<f64> = trials.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    let place = part * (all.len().max(1) - 1) as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a vector"
    )]
    let place = place.round() as usize;
    all.get(place).copied().unwrap_or(f64::NAN)
}

fn mean(trials: &[Trial], of: impl Fn(&Trial) -> f64) -> f64 {
    trials.iter().map(of).sum::<f64>() / trials.len() as f64
}

fn print(overload: Overload, service: Service, trials: &[Trial]) {
    let adapted = |trial: &Trial| trial.adapted_after.map_or(f64::INFINITY, f64::from);
    println!(
        "| {} | {} | {:.0} % ({:.0} %) | {:.1} / {:.1} | {:.0} ({:.0}) | {:.0} | {:.0} % | {:.0} % ({:.0} %) |",
        format!("{overload:?}").to_lowercase(),
        format!("{service:?}").to_lowercase(),
        100.0 * mean(trials, |trial| trial.utilisation),
        100.0 * quantile(trials, 0.01, |trial| trial.utilisation),
        quantile(trials, 0.5, |trial| trial.in_flight.0),
        quantile(trials, 0.95, |trial| trial.in_flight.1),
        quantile(trials, 0.5, adapted),
        quantile(trials, 0.9, adapted),
        quantile(trials, 0.5, |trial| trial.adapted_to as f64),
        100.0 * mean(trials, |trial| trial.left_utilisation),
        100.0 * mean(trials, |trial| trial.recovered),
        100.0 * quantile(trials, 0.01, |trial| trial.recovered),
    );
}

fn main() {
    let capacity = argument(0, 10_usize).max(1);
    let time = Duration::from_secs_f64(argument(1, 0.1));
    let seeds = argument(2, 300_u64);
    let left = capacity.div_ceil(5);
    let max = NonZeroUsize::MIN.saturating_add(capacity * 6);
    println!(
        "capacity {capacity}, then {left}, then {capacity} again; {time:?} a call; {seeds} seeds\n\n\
         | beyond its capacity it | calls take | use of it, mean (worst of 100) \
         | in flight / capacity, p50 / p99 | service times to adapt, p50 (p90) | to so many \
         | use of what is left | use after recovery |\n|---|---|---|---|---|---|---|---|"
    );
    let begin = Instant::now();
    for overload in [Overload::Queues, Overload::Rejects, Overload::Shares] {
        for service in Service::ALL {
            let trials: Vec<Trial> = (0..seeds)
                .map(|seed| {
                    let target = Simulation::new(service, overload, capacity, time, max, seed);
                    trial(target, left)
                })
                .collect();
            print(overload, service, &trials);
        }
    }
    println!("\n{:.1?}", begin.elapsed());
}
