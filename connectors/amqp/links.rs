//! The links of a target's connection, one for each address.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::frame::{Attached, LinkFlow, Outgoing};
use super::sender::Request;

/// Links of one connection. Where a template names more addresses, the one that was used least
/// recently makes room.
const LINKS_MAX: u32 = 64;

/// A link that sends (part 2, section 2.6.7).
pub(super) struct SenderLink {
    pub(super) address: String,
    name: String,
    stage: Stage,
    /// The broker's number of it.
    remote: Option<u32>,
    /// Messages that went out.
    delivery_count: u32,
    credit: u32,
    /// Messages that went out and are not settled.
    unsettled: usize,
    pub(super) message_bytes_max: Option<u64>,
    /// Messages that wait for credit.
    pub(super) waiting: VecDeque<Request>,
    used: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The broker has been asked for it.
    Asked,
    /// Messages may go, as far as there is credit.
    Attached,
    /// The broker has been told that it ends.
    Leaving,
}

impl SenderLink {
    /// A message goes out.
    pub(super) fn sends_one(&mut self) {
        self.credit = self.credit.saturating_sub(1);
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.unsettled += 1;
        self.used = Instant::now();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.stage == Stage::Leaving
    }

    fn may_send(&self) -> bool {
        self.stage == Stage::Attached && self.credit > 0 && !self.waiting.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.stage == Stage::Attached && self.waiting.is_empty() && self.unsettled == 0
    }
}

/// The links of a connection; their places are our numbers of them.
pub(super) struct Links {
    links: Vec<Option<SenderLink>>,
    by_address: HashMap<String, u32>,
    most: u32,
    capability: Option<&'static str>,
    /// Makes names differ from those of other connections.
    nonce: u64,
    made: u64,
    /// The link whose turn it is.
    turn: usize,
}

impl Links {
    pub(super) fn new(handle_max: u32, capability: Option<&'static str>) -> Self {
        Self {
            links: Vec::new(),
            by_address: HashMap::new(),
            most: LINKS_MAX.min(handle_max.saturating_add(1)),
            capability,
            nonce: rand::random(),
            made: 0,
            turn: 0,
        }
    }

    fn get(&mut self, handle: u32) -> Option<&mut SenderLink> {
        let index = usize::try_from(handle).ok()?;
        self.links.get_mut(index)?.as_mut()
    }

    fn of_remote(&self, remote: u32) -> Option<u32> {
        let mut links = self.links.iter();
        let is_it = |link: &Option<SenderLink>| {
            link.as_ref()
                .is_some_and(|link| link.remote == Some(remote))
        };
        links
            .position(is_it)
            .and_then(|index| u32::try_from(index).ok())
    }

    /// How many messages wait.
    pub(super) fn waiting(&self) -> usize {
        let links = self.links.iter().flatten();
        links.map(|link| link.waiting.len()).sum()
    }

    /// Has a message wait for its link, which the broker is asked for where there is none yet.
    ///
    /// # Errors
    /// There is no place for another link: the message, again.
    pub(super) fn place(&mut self, request: Request) -> Result<Option<Outgoing>, Request> {
        let known = self.by_address.get(&request.address).copied();
        if let Some(link) = known.and_then(|handle| self.get(handle)) {
            link.waiting.push_back(request);
            return Ok(None);
        }
        let free = self.links.iter().position(Option::is_none);
        let index = free.unwrap_or(self.links.len());
        let handle = match u32::try_from(index) {
            Ok(handle) if handle < self.most => handle,
            _ => return Err(request),
        };
        self.made += 1;
        let link = SenderLink {
            name: format!("pointsman-{:016x}-{}", self.nonce, self.made),
            address: request.address.clone(),
            stage: Stage::Asked,
            remote: None,
            delivery_count: 0,
            credit: 0,
            unsettled: 0,
            message_bytes_max: None,
            waiting: VecDeque::from([request]),
            used: Instant::now(),
        };
        let asked = Outgoing::sender(&link.name, handle, &link.address, self.capability);
        self.by_address.insert(link.address.clone(), handle);
        match self.links.get_mut(index) {
            Some(place) => *place = Some(link),
            None => self.links.push(Some(link)),
        }
        Ok(Some(asked))
    }

    /// Ends the link that has not been used for longest, unless one is ending already or all are
    /// in use.
    pub(super) fn give_up_one(&mut self, busy: Option<u32>) -> Option<Outgoing> {
        if self.links.iter().flatten().any(SenderLink::is_leaving) {
            return None;
        }
        let links = self.links.iter_mut().zip(0..);
        let idle = links.filter_map(|(link, handle)| {
            let link = link.as_mut().filter(|link| link.is_idle())?;
            (busy != Some(handle)).then_some((link, handle))
        });
        let (link, handle) = idle.min_by_key(|(link, _)| link.used)?;
        link.stage = Stage::Leaving;
        self.by_address.remove(&link.address);
        Some(Outgoing::detach(handle, true))
    }

    /// The next link of which a message may go.
    pub(super) fn next_to_send(&mut self) -> Option<(u32, &mut SenderLink)> {
        let count = self.links.len();
        let index = (0..count).map(|n| (self.turn + n) % count).find(|index| {
            let link = self.links.get(*index).and_then(Option::as_ref);
            link.is_some_and(SenderLink::may_send)
        })?;
        self.turn = index + 1;
        let link = self.links.get_mut(index)?.as_mut()?;
        Some((u32::try_from(index).ok()?, link))
    }

    /// The broker says what it makes of a link.
    pub(super) fn attached(&mut self, attached: &Attached) {
        let mut links = self.links.iter_mut().flatten();
        let Some(link) = links.find(|link| attached.name == link.name) else {
            return;
        };
        link.remote = Some(attached.handle);
        link.message_bytes_max = attached.message_bytes_max;
        // Where there is no such address an end follows, with the reason.
        if attached.has_terminus && link.stage == Stage::Asked {
            link.stage = Stage::Attached;
        }
    }

    /// The broker gives credit; what it is to be told of that, where it asks for all there is.
    pub(super) fn flow(&mut self, given: &LinkFlow) -> Option<LinkFlow> {
        let handle = self.of_remote(given.handle)?;
        let link = self.get(handle)?;
        let seen = given.delivery_count.unwrap_or(0);
        let credit = seen
            .wrapping_add(given.credit)
            .wrapping_sub(link.delivery_count);
        link.credit = if credit > i32::MAX.unsigned_abs() {
            0
        } else {
            credit
        };
        if !given.drain || !link.waiting.is_empty() {
            return None;
        }
        // There is nothing: the credit is used up.
        link.delivery_count = link.delivery_count.wrapping_add(link.credit);
        link.credit = 0;
        Some(LinkFlow {
            handle,
            delivery_count: Some(link.delivery_count),
            credit: 0,
            available: Some(0),
            drain: true,
        })
    }

    /// A message of a link is settled.
    pub(super) fn settled(&mut self, handle: u32) {
        if let Some(link) = self.get(handle) {
            link.unsettled = link.unsettled.saturating_sub(1);
        }
    }

    /// A link has ended; our number of it, and what is left of it.
    pub(super) fn detached(&mut self, remote: u32) -> Option<(u32, SenderLink)> {
        let handle = self.of_remote(remote)?;
        let index = usize::try_from(handle).ok()?;
        let link = self.links.get_mut(index)?.take()?;
        // Of one that we have ended the address may have another by now.
        if !link.is_leaving() {
            self.by_address.remove(&link.address);
        }
        Some((handle, link))
    }

    /// Drops messages for which nobody waits any more.
    pub(super) fn forget_withdrawn(&mut self) {
        for link in self.links.iter_mut().flatten() {
            link.waiting.retain(|request| !request.claim.is_withdrawn());
        }
    }

    /// The messages that wait for a link that the broker has not answered for.
    pub(super) fn drain_asked(&mut self) -> impl Iterator<Item = Request> {
        let links = self.links.iter_mut().flatten();
        let asked = links.filter(|link| link.stage == Stage::Asked);
        asked.flat_map(|link| link.waiting.drain(..))
    }

    /// The messages that wait.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Request> {
        let links = self.links.iter_mut().flatten();
        links.flat_map(|link| link.waiting.drain(..))
    }
}
