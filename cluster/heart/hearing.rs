//! What was heard of the nodes, and through which engine.
//!
//! A beat counts once every engine of the log has it. So each engine alone tells when a node has
//! fallen silent, to whoever hears well through that: a node that cannot reach one of them acts as
//! little as one that can reach none. What a beat says is taken from wherever it is heard first.

use std::collections::BTreeMap;
use std::time::Duration;

use pointsman_schemas::Name;
use tokio::time::Instant;

use super::Pulse;

/// Nodes that have said nothing for so many takeover times are forgotten.
const FORGOTTEN_AFTER: u32 = 60;

/// What was heard of a node.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub node: Name,
    /// What it said last.
    pub pulse: Pulse,
    /// Until when something new of it was heard through each engine.
    pub heard: Instant,
    /// When it was heard first.
    pub since: Instant,
    /// When that was heard which it said last, through any engine.
    said: Instant,
    /// By engine.
    last: Vec<Last>,
}

/// The last beat of a node that was heard through an engine.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// None yet where it is 0.
    number: u64,
    heard: Instant,
    /// When a beat of it came last, be it one that came late: the engine keeps one of each node, so
    /// a later one, which was acknowledged, may have been there until that took its place.
    stirred: Instant,
}

/// How this node hears through an engine.
#[derive(Clone, Copy, Debug)]
struct Ear {
    /// Since when it hears the others without interruption, as far as its own beats tell.
    live_since: Instant,
    /// When it last heard itself.
    echo: Option<Instant>,
}

impl Ear {
    fn live_since(&self, gap: Duration) -> Option<Instant> {
        let echo = self.echo?;
        (echo.elapsed() <= gap).then_some(self.live_since)
    }
}

impl Member {
    /// Whether it has said something within its takeover time, through any engine.
    pub(super) fn speaks(&self, now: Instant) -> bool {
        now - self.said < self.takeover()
    }

    /// Whether it was heard through all engines within its takeover time.
    pub(super) fn is_alive(&self, now: Instant) -> bool {
        now - self.heard < self.takeover()
    }

    fn takeover(&self) -> Duration {
        Duration::from_millis(self.pulse.takeover_ms)
    }

    fn hear(&mut self, engine: usize, pulse: Pulse, now: Instant) {
        if let Some(last) = self.last.get_mut(engine) {
            last.stirred = now;
            // One that came late says nothing of now.
            if last.number < pulse.number {
                (last.number, last.heard) = (pulse.number, now);
            }
        }
        let heard = self.last.iter().map(|last| last.heard);
        self.heard = heard.min().unwrap_or(now);
        if self.pulse.number < pulse.number {
            (self.pulse, self.said) = (pulse, now);
        }
    }
}

#[derive(Debug)]
pub(super) struct Heard {
    /// By process.
    pub(super) members: BTreeMap<u64, Member>,
    /// By engine.
    ears: Vec<Ear>,
    /// For how long it may hear nothing of itself, and hears well for all that.
    gap: Duration,
}

impl Heard {
    pub(super) fn begin(engines: usize, gap: Duration) -> Self {
        let ear = Ear {
            live_since: Instant::now(),
            echo: None,
        };
        Self {
            members: BTreeMap::new(),
            ears: vec![ear; engines],
            gap,
        }
    }

    /// A beat of this process has come.
    pub(super) fn hear_itself(&mut self, engine: usize, now: Instant) {
        let Some(ear) = self.ears.get_mut(engine) else {
            return;
        };
        if ear.echo.is_none_or(|echo| now - echo > self.gap) {
            ear.live_since = now;
        }
        ear.echo = Some(now);
    }

    /// A beat of another process has come.
    pub(super) fn hear(&mut self, engine: usize, node: Name, pulse: Pulse, now: Instant) {
        // It may have been heard through the other engines, and that is awaited from now on.
        let last = Last {
            number: 0,
            heard: now,
            stirred: now,
        };
        let ears = &self.ears;
        let member = self
            .members
            .entry(pulse.incarnation)
            .or_insert_with(|| Member {
                node,
                pulse: pulse.clone(),
                heard: now,
                since: now,
                said: now,
                last: vec![last; ears.len()],
            });
        member.hear(engine, pulse, now);
        let kept = |member: &Member| now - member.said < member.takeover() * FORGOTTEN_AFTER;
        self.members.retain(|_, member| kept(member));
    }

    /// Since when this node hears the others through all engines without interruption; none where it
    /// hears nobody through one of them just now.
    pub(super) fn live_since(&self) -> Option<Instant> {
        let mut live = self.ears.iter().map(|ear| ear.live_since(self.gap));
        live.try_fold(None, |last, live| Some(last.max(Some(live?))))?
    }

    /// By engine, how long ago this node heard itself through that; none where it never has.
    pub(super) fn echoes(&self, now: Instant) -> Vec<Option<Duration>> {
        let echoes = self.ears.iter().map(|ear| ear.echo);
        echoes.map(|echo| Some(now - echo?)).collect()
    }

    /// For how long nothing was heard of a process through one of the engines, up to when this one
    /// last heard itself through it: what has come there since it may not have heard. None where it
    /// hears nobody through any, or has not heard itself since a time.
    pub(super) fn silence(&self, incarnation: u64, since: Option<Instant>) -> Option<Duration> {
        let member = self.members.get(&incarnation);
        let silences = self.ears.iter().enumerate().filter_map(|(engine, ear)| {
            let live_since = ear.live_since(self.gap)?;
            let echo = ear.echo.filter(|echo| Some(*echo) >= since)?;
            let last = member.and_then(|member| member.last.get(engine));
            let heard = last.map_or(live_since, |last| last.stirred.max(live_since));
            Some(echo.saturating_duration_since(heard))
        });
        silences.max()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::super::{Format, Role, RulesPulse, ShardPulse};
    use super::*;

    const TAKEOVER: Duration = Duration::from_secs(10);
    const BEAT: Duration = Duration::from_secs(1);

    fn pulse(number: u64) -> Pulse {
        let shard = ShardPulse {
            role: Role::Spare,
            epoch: 1,
            place: number,
        };
        Pulse {
            incarnation: 2,
            number,
            takeover_ms: 10_000,
            address: String::new(),
            version: String::new(),
            format: Format::default(),
            draining: false,
            shards: vec![shard],
            rules: RulesPulse::default(),
            shares: None,
            waits: Vec::new(),
        }
    }

    /// What this node hears of another one through two engines, for so many beats.
    struct Two {
        heard: Heard,
        number: u64,
    }

    impl Two {
        fn begin() -> Self {
            Self {
                heard: Heard::begin(2, TAKEOVER / 2),
                number: 0,
            }
        }

        /// Through these engines it hears itself, and through these the other one.
        async fn beats(&mut self, count: u64, itself: &[usize], other: &[usize]) {
            for _ in 0..count {
                self.number += 1;
                let now = Instant::now();
                itself
                    .iter()
                    .for_each(|engine| self.heard.hear_itself(*engine, now));
                for engine in other {
                    let node = Name::new("b").unwrap();
                    self.heard.hear(*engine, node, pulse(self.number), now);
                }
                advance(BEAT).await;
            }
        }

        fn silence(&self) -> Option<u64> {
            let silence = self.heard.silence(2, None);
            silence.map(|silence| silence.as_secs())
        }

        fn is_alive(&self) -> (bool, bool) {
            let (member, now) = (&self.heard.members[&2], Instant::now());
            (member.is_alive(now), member.speaks(now))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_misses_one_engine_is_silent_to_those_who_do_not() {
        let mut two = Two::begin();
        two.beats(20, &[0, 1], &[0, 1]).await;
        assert_eq!((two.silence(), two.is_alive()), (Some(0), (true, true)));
        two.beats(9, &[0, 1], &[0]).await;
        assert_eq!((two.silence(), two.is_alive()), (Some(9), (false, true)));
        // What it says is heard for all that.
        assert_eq!(two.heard.members[&2].pulse.number, two.number);
        two.beats(1, &[0, 1], &[0, 1]).await;
        assert_eq!((two.silence(), two.is_alive()), (Some(0), (true, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_come_since_a_node_last_heard_itself_is_no_silence() {
        let mut two = Two::begin();
        two.beats(20, &[0, 1], &[0, 1]).await;
        two.beats(3, &[0, 1], &[]).await;
        assert_eq!(two.silence(), Some(3));
        let cut = Instant::now();
        two.beats(4, &[0], &[]).await;
        assert_eq!(two.silence(), Some(7), "through the other engine");
        two.beats(4, &[], &[]).await;
        assert_eq!(two.silence(), Some(7));
        // It is judged by what was heard after a time.
        let since = |since| two.heard.silence(2, Some(since)).is_some();
        assert!(since(cut) && !since(cut + BEAT * 4));
    }

    #[tokio::test(start_paused = true)]
    async fn who_misses_an_engine_himself_judges_by_the_others() {
        let mut two = Two::begin();
        two.beats(20, &[0, 1], &[0, 1]).await;
        let began = Instant::now();
        two.beats(9, &[1], &[1]).await;
        assert_eq!(two.silence(), Some(0));
        assert_eq!(two.heard.live_since(), None);
        assert_eq!(
            two.heard.echoes(Instant::now()),
            [Some(BEAT * 10), Some(BEAT)]
        );
        two.beats(7, &[], &[]).await;
        assert_eq!(two.silence(), None, "he hears nobody");
        two.beats(3, &[0, 1], &[0, 1]).await;
        let since = two.heard.live_since().unwrap();
        assert_eq!(since - began, BEAT * 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_was_never_heard_through_an_engine_is_awaited_there() {
        let mut two = Two::begin();
        two.beats(20, &[0, 1], &[]).await;
        two.beats(5, &[0, 1], &[0]).await;
        assert_eq!((two.silence(), two.is_alive()), (Some(4), (true, true)));
        two.beats(5, &[0, 1], &[0]).await;
        assert_eq!((two.silence(), two.is_alive()), (Some(9), (false, true)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_that_came_late_through_one_engine_hides_a_later_one_there() {
        let mut two = Two::begin();
        two.beats(8, &[0, 1], &[0, 1]).await;
        let late = Instant::now() + BEAT * 3;
        two.beats(3, &[0, 1], &[0]).await;
        sleep_until(late).await;
        two.heard
            .hear(1, Name::new("b").unwrap(), pulse(7), Instant::now());
        assert_eq!(two.silence(), Some(0));
        let member = &two.heard.members[&2];
        assert_eq!((member.pulse.number, member.heard), (11, late - BEAT * 4));
    }
}
