//! A subscription as it is stored, with its counters.

use pointsman_schemas::Name;

use super::{Damage, Decoder, Encoder, Table, at_index, index_of};
use crate::{Activity, Backlog, Counts, ReplayId, Role, SubscriptionIdentity};

/// The index in this list is what lies on disk: append only.
const ACTIVITIES: [Activity; 3] = [Activity::Active, Activity::Suspended, Activity::Gone];

/// A subscription as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::disk) struct Subscribed {
    pub(in crate::disk) identity: SubscriptionIdentity,
    pub(in crate::disk) attached: bool,
    pub(in crate::disk) activity: Activity,
    pub(in crate::disk) backlog: Option<Backlog>,
    /// The highest run given out here while each subscription counted its own; since then they are
    /// counted in the ledger.
    pub(in crate::disk) runs_of_format_1: u32,
    pub(in crate::disk) counts: Counts,
    /// How much of it waits in other shards, as far as that is known. It is not stored.
    pub(in crate::disk) elsewhere: u64,
    /// Until its replay has ended appends leave its deliveries to that.
    pub(in crate::disk) catching_up: Option<CatchingUp>,
}

/// How far the replay has come that a subscription began with: what is needed of it where its own
/// row is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::disk) struct CatchingUp {
    pub(in crate::disk) replay: ReplayId,
    pub(in crate::disk) after: u64,
    /// Appends make deliveries again, which are not leased before it has ended.
    pub(in crate::disk) hands_over: bool,
}

impl Subscribed {
    /// Stands for a subscription whose row is damaged, so that its deliveries can be carried over.
    pub(in crate::disk) fn placeholder(number: u32) -> Self {
        let name = |text: &str| Name::new(text).unwrap_or_else(|_| Name::default_tenant());
        let rule = name(&format!("damaged-{number}"));
        let identity = SubscriptionIdentity {
            tenant: Name::default_tenant(),
            rule,
            role: Role::To,
            target: name("damaged"),
        };
        let (activity, counts) = (Activity::Active, Counts::default());
        Self {
            identity,
            attached: false,
            activity,
            backlog: None,
            runs_of_format_1: 0,
            counts,
            elsewhere: 0,
            catching_up: None,
        }
    }

    /// How much of it waits, here and in other shards.
    pub(in crate::disk) fn waits(&self) -> u64 {
        self.counts.pending + self.elsewhere
    }

    /// Whether it can be dropped: no rule wants it, and it holds nothing.
    pub(in crate::disk) fn is_nothing_left(&self) -> bool {
        !self.attached
            && self.counts.pending == 0
            && self.counts.dead == 0
            && self.catching_up.is_none()
    }

    /// Whether its deliveries are leased.
    pub(in crate::disk) fn is_open(&self) -> bool {
        let hands_over = self.catching_up.is_some_and(|replay| replay.hands_over);
        self.attached && self.activity == Activity::Active && !hands_over
    }

    /// Whether an append leaves its deliveries to its replay.
    pub(in crate::disk) fn is_catching_up(&self) -> bool {
        self.catching_up.is_some_and(|replay| !replay.hands_over)
    }

    pub(in crate::disk) fn encode(&self, number: u32) -> Vec<u8> {
        let mut out = Encoder::new(160);
        let SubscriptionIdentity {
            tenant,
            rule,
            role,
            target,
        } = &self.identity;
        out.bytes(tenant.as_str().as_bytes())
            .bytes(rule.as_str().as_bytes())
            .byte(index_of(&Role::ALL, role))
            .bytes(target.as_str().as_bytes());
        out.byte(u8::from(self.attached))
            .byte(index_of(&ACTIVITIES, &self.activity));
        match self.backlog {
            None => out.byte(0),
            Some(backlog) => out
                .byte(1 + u8::from(backlog.dead_when_full))
                .number(backlog.max),
        };
        out.number(u64::from(self.runs_of_format_1));
        let Counts {
            created,
            delivered,
            dead,
            redriven,
            purged,
            cancelled,
            quarantined,
            pending,
            retrying,
            in_flight: _,
        } = self.counts;
        for count in [
            created,
            delivered,
            dead,
            redriven,
            purged,
            cancelled,
            quarantined,
            pending,
            retrying,
        ] {
            out.number(count);
        }
        // What format 3 wrote ends here.
        if let Some(replay) = self.catching_up {
            out.number(replay.replay.number())
                .number(replay.after)
                .byte(u8::from(replay.hands_over));
        }
        out.seal(Table::Subscription, &[u64::from(number)])
    }

    pub(in crate::disk) fn decode(number: u32, value: &[u8]) -> Result<Self, Damage> {
        let mut from = Decoder::open(Table::Subscription, &[u64::from(number)], value)?;
        let (tenant, rule, role, target) = (
            from.name()?,
            from.name()?,
            at_index(&Role::ALL, from.byte()?)?,
            from.name()?,
        );
        let (attached, activity) = (from.byte()? != 0, at_index(&ACTIVITIES, from.byte()?)?);
        let backlog = match from.byte()? {
            0 => None,
            kind => Some(Backlog {
                max: from.number()?,
                dead_when_full: kind == 2,
            }),
        };
        let runs_of_format_1 = from.narrow()?;
        let mut count = || from.number();
        let counts = Counts {
            created: count()?,
            delivered: count()?,
            dead: count()?,
            redriven: count()?,
            purged: count()?,
            cancelled: count()?,
            quarantined: count()?,
            pending: count()?,
            retrying: count()?,
            in_flight: 0,
        };
        let mut catching_up = None;
        if !from.is_empty() {
            let replay = ReplayId::of(from.number()?).ok_or(Damage("its replay has no number"))?;
            catching_up = Some(CatchingUp {
                replay,
                after: from.number()?,
                hands_over: from.byte()? != 0,
            });
        }
        let identity = SubscriptionIdentity {
            tenant,
            rule,
            role,
            target,
        };
        Ok(Self {
            identity,
            attached,
            activity,
            backlog,
            runs_of_format_1,
            counts,
            elsewhere: 0,
            catching_up,
        })
    }
}
