//! A target and a backlog that never ends, in virtual time: what the limiter and the circuit meet,
//! without a network and without waiting.
//!
//! A discrete-event simulation: nothing happens between two events, so a minute of a target's life
//! takes as long as its calls take to count. The same seed gives the same run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::f64::consts::TAU;
use std::num::NonZeroUsize;
use std::time::Duration;

use pointsman_schemas::Class;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::circuit::{Admission, Circuit, Health};
use super::limit::Limiter;

/// How long a rejection takes, and a connection that is refused.
const REJECTION: Duration = Duration::from_millis(1);

/// How long calls take when the target is not crowded, in parts of the mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Constant,
    /// From a half to one and a half.
    Uniform,
    Exponential,
    /// With a sigma of 1.
    Lognormal,
    /// One call in ten takes sixteen times as long as the others.
    OneInTen,
    /// Half of the calls take ten times as long as the others.
    Bimodal,
    /// With a shape of 2.5: the variance is finite, higher moments are not.
    Pareto,
}

impl Service {
    pub const ALL: [Self; 7] = [
        Self::Constant,
        Self::Uniform,
        Self::Exponential,
        Self::Lognormal,
        Self::OneInTen,
        Self::Bimodal,
        Self::Pareto,
    ];

    /// One service time, with a mean of 1.
    fn draw(self, random: &mut StdRng) -> f64 {
        // In the half-open interval that has no zero, whose logarithm is needed.
        let mut uniform = || 1.0 - random.random::<f64>();
        match self {
            Self::Constant => 1.0,
            Self::Uniform => 0.5 + uniform(),
            Self::Exponential => -uniform().ln(),
            Self::Lognormal => {
                let normal = (-2.0 * uniform().ln()).sqrt() * (TAU * uniform()).cos();
                (normal - 0.5).exp()
            }
            Self::OneInTen => (if uniform() < 0.1 { 16.0 } else { 1.0 }) / 2.5,
            Self::Bimodal => (if uniform() < 0.5 { 10.0 } else { 1.0 }) / 5.5,
            Self::Pareto => 0.6 * uniform().powf(-0.4),
        }
    }
}

/// What a target does with more than its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// Serves as many as it can, and the others in turn.
    Queues,
    /// Serves everybody more slowly.
    Shares,
    /// Throttles what is too much, at once.
    Rejects,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    started: Duration,
    is_probe: bool,
}

/// A target, and a dispatcher that has always something to deliver to it.
pub struct Simulation {
    pub service: Service,
    pub overload: Overload,
    /// How many calls the target serves at the same time.
    pub capacity: usize,
    /// How long a call takes when the target is not crowded.
    pub mean: Duration,
    /// Whether it refuses connections.
    pub is_down: bool,
    /// How long a place that is free stays so: the dispatcher's own work between two attempts.
    pub gap: Duration,
    pub limiter: Limiter,
    pub circuit: Circuit,
    random: StdRng,
    epoch: Instant,
    now: Duration,
    calls: u64,
    under_way: BTreeMap<u64, Call>,
    /// What is served, by how far the work at the target must have come for it to be done.
    serving: BinaryHeap<Reverse<(Duration, u64)>>,
    /// How far it has: of a target that shares itself less than the time.
    work: Duration,
    /// Calls that wait at the target, with how long they will take.
    waiting: VecDeque<(u64, Duration)>,
    /// What is answered without being served, by when.
    answers: BinaryHeap<Reverse<(Duration, u64, bool)>>,
    /// When a place that has become free is used again.
    free_at: BinaryHeap<Reverse<Duration>>,
    seen: Seen,
}

/// What was seen of a run.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Seconds for which each of the target's places was in use, together.
    served: f64,
    /// Seconds that each of them could have been.
    capacity: f64,
    /// For how long so many calls were under way.
    in_flight: BTreeMap<usize, f64>,
    /// Calls that were served, and that were not.
    pub delivered: u64,
    pub refused: u64,
}

impl Seen {
    /// The part of its capacity that the target has used.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.served / self.capacity
    }

    /// How many calls were under way, at most, for this part of the time.
    #[must_use]
    pub fn in_flight(&self, part: f64) -> usize {
        let total: f64 = self.in_flight.values().sum();
        let mut until = 0.0;
        for (count, time) in &self.in_flight {
            until += time;
            if until >= total * part {
                return *count;
            }
        }
        self.in_flight.keys().next_back().copied().unwrap_or(0)
    }
}

/// What became of one target whose capacity is lost and found again.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The part of its capacity that it has used, warmed up.
    pub utilisation: f64,
    /// How many calls were under way meanwhile, in parts of its capacity: half of the time no more
    /// than this, and hardly ever.
    pub in_flight: (f64, f64),
    /// Mean service times until hardly more calls were under way than the lost capacity leaves
    /// places for: half as many again. None where it took more than fifty.
    pub adapted_after: Option<u32>,
    /// How many calls were under way then, half of the time.
    pub adapted_to: usize,
    /// The part of what was left that it has used.
    pub left_utilisation: f64,
    /// The part of its capacity that it has used from fifty to a hundred mean service times after
    /// that was found again.
    pub recovered: f64,
}

/// Mean service times within which a limiter finds what has changed.
const CHANGED_WITHIN: u32 = 50;

/// Has a target lose all of its capacity but `left`, and find it again.
#[must_use]
pub fn trial(mut target: Simulation, left: usize) -> Trial {
    let (mean, capacity) = (target.mean, target.capacity);
    target.run(mean * 100);
    let usual = target.run(mean * 300);
    target.capacity = left;
    let mut adapted_after = None;
    for after in 1..=CHANGED_WITHIN {
        let seen = target.run(mean);
        if adapted_after.is_none() && seen.in_flight(0.5) <= left + left.div_ceil(2) {
            adapted_after = Some(after);
        }
    }
    let adapted_to = target.run(mean * CHANGED_WITHIN).in_flight(0.5);
    let left_utilisation = target.run(mean * 200).utilisation();
    target.capacity = capacity;
    target.run(mean * CHANGED_WITHIN);
    let of_capacity = |count: usize| count as f64 / capacity as f64;
    Trial {
        utilisation: usual.utilisation(),
        in_flight: (
            of_capacity(usual.in_flight(0.5)),
            of_capacity(usual.in_flight(0.99)),
        ),
        adapted_after,
        adapted_to,
        left_utilisation,
        recovered: target.run(mean * CHANGED_WITHIN).utilisation(),
    }
}

impl Simulation {
    /// A target that has not been called yet.
    #[must_use]
    pub fn new(
        service: Service,
        overload: Overload,
        capacity: usize,
        mean: Duration,
        max: NonZeroUsize,
        seed: u64,
    ) -> Self {
        let epoch = Instant::now();
        Self {
            service,
            overload,
            capacity,
            mean,
            is_down: false,
            gap: Duration::ZERO,
            limiter: Limiter::new(max, epoch),
            circuit: Circuit::default(),
            random: StdRng::seed_from_u64(seed),
            epoch,
            now: Duration::ZERO,
            calls: 0,
            under_way: BTreeMap::new(),
            serving: BinaryHeap::new(),
            work: Duration::ZERO,
            waiting: VecDeque::new(),
            answers: BinaryHeap::new(),
            free_at: BinaryHeap::new(),
            seen: Seen::default(),
        }
    }

    /// Lets so much time pass, and returns what was seen in it.
    pub fn run(&mut self, lasts: Duration) -> Seen {
        let until = self.now + lasts;
        self.seen = Seen::default();
        loop {
            self.serve();
            self.begin();
            let next = self.next_event().filter(|at| *at <= until);
            self.pass(next.unwrap_or(until));
            if next.is_none() {
                return std::mem::take(&mut self.seen);
            }
            self.end();
        }
    }

    fn at(&self) -> Instant {
        self.epoch + self.now
    }

    /// How fast work gets on: a part of one for each of those that share the target.
    fn pace(&self) -> f64 {
        match self.overload {
            Overload::Shares => (self.capacity as f64 / self.serving.len().max(1) as f64).min(1.0),
            Overload::Queues | Overload::Rejects => 1.0,
        }
    }

    /// Begins what may be under way.
    fn begin(&mut self) {
        while self.under_way.len() + self.free_at.len() < self.limiter.limit()
            && self.limiter.held_until(self.at()).is_none()
        {
            let is_probe = match self.circuit.admits(self.at()) {
                Admission::All => false,
                Admission::One => true,
                Admission::Nothing(_) => return,
            };
            if is_probe {
                self.circuit.probe();
            }
            self.call(is_probe);
        }
    }

    fn call(&mut self, is_probe: bool) {
        self.calls += 1;
        let (number, started) = (self.calls, self.now);
        let call = Call { started, is_probe };
        self.under_way.insert(number, call);
        self.limiter.begun(self.under_way.len());
        let rejects = self.overload == Overload::Rejects && self.serving.len() >= self.capacity;
        if self.is_down || rejects {
            let answered = (self.now + REJECTION, number, self.is_down);
            return self.answers.push(Reverse(answered));
        }
        let takes = self.mean.mul_f64(self.service.draw(&mut self.random));
        if self.overload == Overload::Queues && self.serving.len() >= self.capacity {
            self.waiting.push_back((number, takes));
        } else {
            self.serving.push(Reverse((self.work + takes, number)));
        }
    }

    /// Serves those that waited, where the target has places.
    fn serve(&mut self) {
        while self.serving.len() < self.capacity
            && let Some((number, takes)) = self.waiting.pop_front()
        {
            self.serving.push(Reverse((self.work + takes, number)));
        }
    }

    fn next_event(&self) -> Option<Duration> {
        let is_served = self.serving.peek().map(|Reverse((work, _))| {
            self.now + work.saturating_sub(self.work).div_f64(self.pace())
        });
        let is_answered = self.answers.peek().map(|Reverse((at, ..))| *at);
        let is_free = self.free_at.peek().map(|Reverse(at)| *at);
        let since = |at: Instant| at - self.epoch;
        let held_until = self.limiter.held_until(self.at()).map(since);
        let opens_at = match self.circuit.admits(self.at()) {
            Admission::Nothing(at) => at.map(since),
            Admission::All | Admission::One => None,
        };
        let all = [is_served, is_answered, is_free, held_until, opens_at];
        all.into_iter().flatten().min()
    }

    fn pass(&mut self, until: Duration) {
        let passed = until.saturating_sub(self.now);
        let seconds = passed.as_secs_f64();
        let busy = self.serving.len().min(self.capacity);
        self.seen.served += busy as f64 * seconds;
        self.seen.capacity += self.capacity as f64 * seconds;
        *self.seen.in_flight.entry(self.under_way.len()).or_default() += seconds;
        self.work += passed.mul_f64(self.pace());
        self.now = self.now.max(until);
    }

    /// Ends one call that is done by now, if any.
    fn end(&mut self) {
        if self
            .free_at
            .peek()
            .is_some_and(|Reverse(at)| *at <= self.now)
        {
            self.free_at.pop();
            return;
        }
        if let Some(Reverse((at, number, is_down))) = self.answers.peek().copied()
            && at <= self.now
        {
            self.answers.pop();
            let class = if is_down {
                Class::Unavailable
            } else {
                Class::Throttled
            };
            return self.ended(number, class);
        }
        let rounding = Duration::from_nanos(2);
        if let Some(Reverse((work, number))) = self.serving.peek().copied()
            && work <= self.work + rounding
        {
            self.serving.pop();
            self.ended(number, Class::Delivered);
        }
    }

    fn ended(&mut self, number: u64, class: Class) {
        let Some(Call { started, is_probe }) = self.under_way.remove(&number) else {
            return;
        };
        let now = self.at();
        self.limiter.ended(self.epoch + started, now, class, None);
        let health = match class {
            Class::Unavailable => Health::Unavailable,
            _ => Health::Works,
        };
        self.circuit
            .ended(is_probe, health, now, self.random.random());
        match class {
            Class::Delivered => self.seen.delivered += 1,
            _ => self.seen.refused += 1,
        }
        if !self.gap.is_zero() {
            self.free_at.push(Reverse(self.now + self.gap));
        }
    }
}
