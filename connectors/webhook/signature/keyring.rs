//! Keys from elsewhere, kept for as long as they count.
//!
//! A key is fetched when a call needs it that is not there, and calls that need the same one wait
//! for that: there is one request at a time for each address. What is fetched counts for as long as
//! its `Cache-Control` says. A token of an unknown key has its set fetched again, but not twice in
//! a minute; an address that failed is left alone for a while, longer each time. Addresses that
//! senders choose, within the hosts that are allowed, have a budget: nobody can make the bus ask
//! for a thousand certificates. Who must wait is answered 503, and sends his call again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use pointsman_schemas::Backoff;
use tokio::time::{Instant, timeout};

use super::certificate::Signer;
use super::fetch::{Fetched, Fetcher};
use super::hosts::{self, Address};
use super::issuer::Issuer;
use super::jwt::{KeySet, Token};
use super::scheme::Jwt;
use crate::LogLimit;
use crate::listener::Refusal;

/// How long a caller is held up for a key, others' requests for it included.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// How soon a set of keys is fetched again for the sake of a key that is not in it.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How long an address that failed is left alone.
const FAILED: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(60));

/// Callers who hang up at once do not have an address asked more often than this.
const BEGIN_EVERY: Duration = Duration::from_secs(1);

/// How many addresses are remembered. Those that have brought a key go last.
const ADDRESSES_MAX: usize = 64;

/// How many addresses that have brought nothing yet may be asked at once, and how often one more.
const BUDGET: u32 = 20;
const BUDGET_EVERY: Duration = Duration::from_secs(3);

/// A key that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::webhook) enum Wanted {
    Certificate(Address),
    Keys(Address),
    /// The keys of an issuer, which its own configuration says the address of.
    Issuer(Issuer),
}

impl Wanted {
    /// Where the keys of tokens come from, unless the settings hold them.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub(super) fn of(jwt: &Jwt) -> Result<Option<Self>, String> {
        match (&jwt.jwks, &jwt.keys) {
            (Some(jwks), _) => hosts::own(jwks).map(|address| Some(Self::Keys(address))),
            (None, Some(_)) => Ok(None),
            (None, None) => Issuer::of(&jwt.issuer).map(|issuer| Some(Self::Issuer(issuer))),
        }
    }

    pub(super) fn url(&self) -> &str {
        self.address().url.as_str()
    }

    fn address(&self) -> &Address {
        match self {
            Self::Certificate(address) | Self::Keys(address) => address,
            Self::Issuer(issuer) => &issuer.configuration,
        }
    }
}

/// What was made of an answer.
#[derive(Clone)]
enum Material {
    Certificate(Arc<Signer>),
    Keys(Arc<KeySet>),
}

#[derive(Default)]
struct Slot {
    /// Held by whoever asks.
    asking: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    material: Option<Material>,
    /// When it was asked for last, with success.
    asked: Option<Instant>,
    fresh_until: Option<Instant>,
    failed: Option<Failed>,
    /// When somebody began to ask, who may have hung up before the answer.
    begun: Option<Instant>,
}

struct Failed {
    until: Instant,
    wait: Duration,
}

struct Budget {
    left: u32,
    since: Instant,
}

/// The keys of one webhook.
pub(in crate::webhook) struct Keyring {
    fetcher: Fetcher,
    slots: Mutex<HashMap<Wanted, Arc<Slot>>>,
    budget: Mutex<Budget>,
    failed_log: Mutex<LogLimit>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("addresses", &self.slots.lock().len())
            .finish_non_exhaustive()
    }
}

impl Keyring {
    pub(super) fn new(fetcher: Fetcher) -> Self {
        let budget = Mutex::new(Budget {
            left: BUDGET,
            since: Instant::now(),
        });
        Self {
            fetcher,
            slots: Mutex::default(),
            budget,
            failed_log: Mutex::default(),
        }
    }

    /// The certificate at an address.
    ///
    /// # Errors
    /// It must be fetched first.
    pub(super) fn certificate(&self, address: Address) -> Result<Arc<Signer>, Wanted> {
        let wanted = Wanted::Certificate(address);
        match self.fresh(&wanted) {
            Some((Material::Certificate(signer), _)) => Ok(signer),
            _ => Err(wanted),
        }
    }

    /// An issuer's keys; without that of the token where it cannot be expected there.
    ///
    /// # Errors
    /// They must be fetched first.
    pub(super) fn keys(&self, wanted: Wanted, token: &Token<'_>) -> Result<Arc<KeySet>, Wanted> {
        match self.fresh(&wanted) {
            Some((Material::Keys(keys), asked))
                if keys.knows(token) || asked.elapsed() < AGAIN_AFTER =>
            {
                Ok(keys)
            }
            _ => Err(wanted),
        }
    }

    fn fresh(&self, wanted: &Wanted) -> Option<(Material, Instant)> {
        let slot = self.slots.lock().get(wanted).map(Arc::clone)?;
        let state = slot.state.lock();
        let is_fresh = state
            .fresh_until
            .is_some_and(|until| Instant::now() < until);
        state.material.clone().zip(state.asked).filter(|_| is_fresh)
    }

    /// Fetches a key, or waits until somebody else has.
    ///
    /// # Errors
    /// It cannot be had now: the sender is asked to come again.
    pub(in crate::webhook) async fn fetch(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let since = Instant::now();
        let slot = self.slot(wanted)?;
        let fetched = timeout(WAIT_MAX, self.fetch_once(wanted, &slot, since)).await;
        fetched.unwrap_or_else(|_| Err(unavailable(FAILED.initial)))
    }

    async fn fetch_once(
        &self,
        wanted: &Wanted,
        slot: &Slot,
        since: Instant,
    ) -> Result<(), Refusal> {
        let _asking = slot.asking.lock().await;
        {
            let mut state = slot.state.lock();
            // Somebody has asked while this one waited.
            if state.asked.is_some_and(|asked| asked >= since) {
                return Ok(());
            }
            if let Some(failed) = state
                .failed
                .as_ref()
                .filter(|failed| Instant::now() < failed.until)
            {
                return Err(unavailable(
                    failed.until.saturating_duration_since(Instant::now()),
                ));
            }
            if state
                .begun
                .is_some_and(|begun| begun.elapsed() < BEGIN_EVERY)
            {
                return Err(unavailable(BEGIN_EVERY));
            }
            if state.material.is_none() && !self.budget.lock().take() {
                return Err(unavailable(BUDGET_EVERY));
            }
            state.begun = Some(Instant::now());
        }
        let read = self.obtain(wanted).await;
        let mut state = slot.state.lock();
        match read {
            Ok((material, fresh)) => {
                let now = Instant::now();
                *state = State {
                    material: Some(material),
                    asked: Some(now),
                    fresh_until: Some(now + fresh),
                    failed: None,
                    begun: None,
                };
                Ok(())
            }
            Err(why) => {
                let wait = FAILED.next(state.failed.as_ref().map(|failed| failed.wait));
                state.begun = None;
                state.failed = Some(Failed {
                    until: Instant::now() + wait,
                    wait,
                });
                drop(state);
                self.log(wanted, &why);
                Err(unavailable(wait))
            }
        }
    }

    /// Tries whether a key can be had.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn probe(&self, wanted: &Wanted) -> Result<(), String> {
        self.obtain(wanted).await.map(drop)
    }

    /// Asks for a key, and for how long it counts.
    async fn obtain(&self, wanted: &Wanted) -> Result<(Material, Duration), String> {
        let fetched = match wanted {
            Wanted::Certificate(address) | Wanted::Keys(address) => {
                self.fetcher.get(address).await?
            }
            Wanted::Issuer(issuer) => {
                let keys = issuer.keys(&self.fetcher.get(&issuer.configuration).await?.body)?;
                self.fetcher
                    .get(&keys)
                    .await
                    .map_err(|why| format!("its jwks_uri {}: {why}", keys.url))?
            }
        };
        Ok((read(wanted, &fetched)?, fetched.fresh))
    }

    /// Calls an address by which a registration is confirmed.
    ///
    /// # Errors
    /// It does not answer 200: the sender is asked to come again.
    pub(in crate::webhook) async fn visit(&self, address: &Address) -> Result<(), Refusal> {
        if !self.budget.lock().take() {
            return Err(unavailable(BUDGET_EVERY));
        }
        self.fetcher.get(address).await.map(drop).map_err(|why| {
            tracing::warn!(
                host = address.url.host_str(),
                why,
                "the registration cannot be confirmed; the sender is asked to send it again"
            );
            unavailable(FAILED.initial)
        })
    }

    fn slot(&self, wanted: &Wanted) -> Result<Arc<Slot>, Refusal> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(wanted) {
            return Ok(Arc::clone(slot));
        }
        if slots.len() >= ADDRESSES_MAX {
            // Nobody is asking, and the longest ago that it brought something: never comes first.
            let idle = slots
                .iter()
                .filter(|(_, slot)| Arc::strong_count(slot) == 1);
            let oldest = idle
                .min_by_key(|(_, slot)| slot.state.lock().asked)
                .map(|(wanted, _)| wanted.clone());
            slots.remove(&oldest.ok_or_else(|| unavailable(FAILED.initial))?);
        }
        Ok(Arc::clone(slots.entry(wanted.clone()).or_default()))
    }

    fn log(&self, wanted: &Wanted, why: &str) {
        if let Some(failures) = self.failed_log.lock().admit(1) {
            let url = wanted.address().url.as_str();
            tracing::warn!(
                url,
                why,
                failures,
                "the key of a webhook's sender cannot be fetched; until then its calls are \
                 answered 503"
            );
        }
    }
}

impl Budget {
    fn take(&mut self) -> bool {
        let gained = u32::try_from(self.since.elapsed().as_millis() / BUDGET_EVERY.as_millis())
            .unwrap_or(BUDGET);
        self.since += BUDGET_EVERY * gained;
        self.left = self.left.saturating_add(gained).min(BUDGET);
        self.left
            .checked_sub(1)
            .map(|left| self.left = left)
            .is_some()
    }
}

fn read(wanted: &Wanted, fetched: &Fetched) -> Result<Material, String> {
    match wanted {
        Wanted::Certificate(_) => Signer::read(&fetched.body)
            .map(|signer| Material::Certificate(Arc::new(signer)))
            .map_err(str::to_owned),
        Wanted::Keys(_) | Wanted::Issuer(_) => KeySet::read(&fetched.body)
            .map(|keys| Material::Keys(Arc::new(keys)))
            .map_err(|why| format!("the answer {why}")),
    }
}

fn unavailable(wait: Duration) -> Refusal {
    let detail = "the key to check this with cannot be fetched now; send it again a little later";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(wait)
}

#[cfg(test)]
mod tests;
