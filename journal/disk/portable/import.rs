//! Making stores of an export.
//!
//! They are filled in a folder beside the one where they are to lie, which is renamed at the end:
//! what was cut short leaves no store.

mod folder;
mod history;
mod places;
mod reader;
mod replays;
mod store;
mod whole;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use pointsman_schemas::{Name, Sequence};

use self::folder::Folder;
use self::places::Places;
use self::reader::LineReader;
use self::replays::Replays;
use self::store::NewStore;
use super::PortableError;
use super::line::{
    Carried, DeadLine, EventLine, Head, HistoryLine, Line, PendingLine, RejectLine,
    SubscriptionLine,
};
use crate::ShardNumber;
use crate::disk::record::{EventRow, Noted};
use crate::sharded::tenants::Places as TenantPlaces;
use crate::sharded::{SHARDS_MAX, TenantShards, route};

/// Bytes of lines after which what was written is moved into the databases.
const BYTES_AT_ONCE: usize = 32 * 1024 * 1024;

/// What was imported, and what a person has to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Of how many shards the export was.
    pub from: u16,
    /// Of how many the new stores are.
    pub shards: u16,
    /// What the export had.
    pub carried: Carried,
    /// What is not as it was.
    pub notes: Vec<String>,
}

/// Makes stores of an export in a folder that is empty or not there: one that stands alone, or
/// those of so many shards, as [detaching](crate::disk::Replica::detach) leaves them.
///
/// # Errors
/// [`PortableError`]; the folder is as it was then.
pub fn import_stores(
    from: &mut dyn BufRead,
    path: &Path,
    shards: u16,
) -> Result<Imported, PortableError> {
    let count = usize::from(shards);
    if !(1..=SHARDS_MAX).contains(&count) {
        return Err(PortableError::Shards(count));
    }
    let folder = Folder::create(path)?;
    let mut reader = LineReader::new(from);
    let head = reader.head()?;
    let from = head.shards;
    let mut import = Import::new(&folder, head, shards)?;
    let mut bytes = 0;
    while let Some(line) = reader.next()? {
        bytes += reader.line_bytes();
        import.line(line).map_err(|error| match error {
            PortableError::Line(what) => reader.wrong(&what),
            other => other,
        })?;
        if bytes > BYTES_AT_ONCE {
            bytes = 0;
            import.commit()?;
        }
    }
    let notes = import.finish()?;
    folder.put_in_place(path)?;
    Ok(Imported {
        from,
        shards,
        carried: reader.carried(),
        notes,
    })
}

struct Import {
    head: Head,
    stores: Vec<NewStore>,
    places: Places,
    /// How many shards each tenant has, and where they are.
    tenants: TenantShards,
    tenant_places: HashMap<Name, TenantPlaces>,
    subscriptions: BTreeMap<u32, SubscriptionLine>,
    /// The sources that keep a cursor or a position.
    at_home: HashSet<(Name, Name)>,
    replays: Replays,
}

impl Import {
    fn new(folder: &Folder, head: Head, shards: u16) -> Result<Self, PortableError> {
        let count = usize::from(shards);
        let create = |shard: u16| {
            let number = (shards > 1).then(|| ShardNumber::new(shard)).flatten();
            NewStore::create(folder.store(shard), number, count)
        };
        let stores: Vec<NewStore> = (0..shards).map(create).collect::<Result<_, _>>()?;
        let before_first = stores.iter().map(NewStore::before_first).collect();
        Ok(Self {
            places: Places::create(&folder.places(), head.shards, before_first)?,
            tenants: head.tenants.clone(),
            tenant_places: HashMap::new(),
            head,
            stores,
            subscriptions: BTreeMap::new(),
            at_home: HashSet::new(),
            replays: Replays::default(),
        })
    }

    fn commit(&self) -> Result<(), PortableError> {
        for store in &self.stores {
            store.commit()?;
        }
        Ok(())
    }

    fn line(&mut self, line: Line) -> Result<(), PortableError> {
        match line {
            // Whoever reads the lines sees to these.
            Line::Head(_) | Line::End(_) => {}
            Line::Subscription(line) => {
                self.place_tenant(&line.identity.tenant);
                self.subscriptions.insert(line.number, line);
            }
            Line::Replay(line) => self.replays.add(line),
            Line::Cursor(line) => {
                self.at_home
                    .insert((line.tenant.clone(), line.source.clone()));
                self.home(&line.tenant, &line.source)?.1.cursor(&line)?;
            }
            Line::Position(line) => {
                self.at_home
                    .insert((line.tenant.clone(), line.source.clone()));
                self.home(&line.tenant, &line.source)?.1.position(&line)?;
            }
            Line::Pending(line) => {
                self.is_known(line.subscription)?;
                self.places.wait(&line)?;
            }
            Line::Event(line) => self.event(*line)?,
            Line::Reject(line) => self.reject(*line)?,
            // Where the same event would come to again is not known for all of them: so each shard
            // knows it.
            Line::Identity(line) => {
                let sequence = self.places.find(line.sequence, None)?;
                for store in &self.stores {
                    store.identity(sequence, &line)?;
                }
            }
            Line::Key(line) => {
                let sequence = self.places.find(line.sequence, None)?;
                for store in &self.stores {
                    store.key(sequence, &line)?;
                }
            }
            Line::History(line) => self.history(line)?,
        }
        Ok(())
    }

    /// Finds the shards of a tenant. Where the export does not say how many there are, it has as many
    /// as one that is new.
    fn place_tenant(&mut self, tenant: &Name) {
        if self.tenant_places.contains_key(tenant) {
            return;
        }
        for (tenant, usual) in TenantShards::usual_of([tenant]).0 {
            self.tenants.0.entry(tenant).or_insert(usual);
        }
        let places = self.tenants.places(tenant, self.stores.len());
        self.tenant_places.insert(tenant.clone(), places);
    }

    fn is_known(&self, subscription: u32) -> Result<(), PortableError> {
        if self.subscriptions.contains_key(&subscription) {
            return Ok(());
        }
        let what = format!("there is no subscription {subscription}");
        Err(PortableError::Line(what))
    }

    fn at(&self, place: usize) -> Result<(usize, &NewStore), PortableError> {
        let shard = place % self.stores.len().max(1);
        let store = self.stores.get(shard);
        store
            .map(|store| (shard, store))
            .ok_or(PortableError::Shards(0))
    }

    fn home(&self, tenant: &Name, source: &Name) -> Result<(usize, &NewStore), PortableError> {
        self.at(route::home(tenant, source))
    }

    fn reject(&mut self, line: RejectLine) -> Result<(), PortableError> {
        let old = line.sequence;
        let number = self.places.number(old)?;
        let (shard, store) = self.home(&line.letter.tenant, &line.letter.origin)?;
        let sequence = self.places.sequence(shard, number);
        store.reject(sequence, line)?;
        self.places.note(old, None, sequence)?;
        Ok(())
    }

    fn event(&mut self, line: EventLine) -> Result<(), PortableError> {
        let old = line.sequence;
        let event = line.event.into_event().map_err(PortableError::Line)?;
        let row = EventRow {
            tenant: line.tenant,
            origin: line.origin,
            at: line.at,
            kept_until: line.kept_until,
            event: Arc::new(event),
        };
        for letter in &line.dead {
            self.is_known(letter.subscription)?;
        }
        self.place_tenant(&row.tenant);
        let number = self.places.number(old)?;
        let deliveries = (self.places.waiting(old)?, line.dead);
        for (index, piece) in self.pieces(&row, deliveries).into_iter().enumerate() {
            let (shard, store) = self.at(piece.shard)?;
            let sequence = self.places.sequence(shard, number);
            store.event(sequence, &row)?;
            if index == 0 {
                self.places.note(old, None, sequence)?;
            }
            for delivery in piece.pending {
                if index > 0 {
                    self.places
                        .note(old, Some(delivery.subscription), sequence)?;
                }
                store.pending(sequence, delivery)?;
            }
            for letter in piece.dead {
                if index > 0 {
                    self.places.note(old, Some(letter.subscription), sequence)?;
                }
                store.dead(sequence, letter)?;
            }
            if !self.places.keeps() {
                self.replays.note(old, shard, sequence);
            }
        }
        Ok(())
    }

    /// The copies of an event, each with what of it is in one shard: nearly always one. They go
    /// where a running bus would have them go.
    fn pieces(
        &self,
        row: &EventRow,
        (pending, dead): (Vec<PendingLine>, Vec<DeadLine>),
    ) -> Vec<Piece> {
        let count = self.stores.len().max(1);
        let whole = |shard: usize| Piece {
            shard: shard % count,
            pending: Vec::new(),
            dead: Vec::new(),
        };
        let places = self.tenant_places.get(&row.tenant);
        let own = |hash: usize| places.map_or(hash, |places| places.at(hash));
        let of_key = |key: Option<u64>| key.map(|key| own(route::of_key(&row.tenant, key)));
        let source = (row.tenant.clone(), row.origin.clone());
        let is_whole = count == 1 || self.at_home.contains(&source);
        let mut keys = pending.iter().map(|line| line.order_key);
        let mut of_dead = dead.iter().map(|line| line.order_key);
        let first = keys.find_map(of_key).or_else(|| of_dead.find_map(of_key));
        let first = if is_whole {
            route::home(&source.0, &source.1)
        } else {
            first.unwrap_or_else(|| own(route::of_event(&row.tenant, &row.origin, &row.event)))
        };
        let mut pieces = vec![whole(first)];
        let place = |pieces: &mut Vec<Piece>, key: Option<u64>| {
            let shard = of_key(key).filter(|_| !is_whole);
            let shard = shard.unwrap_or(first % count);
            let found = pieces.iter().position(|piece| piece.shard == shard);
            found.unwrap_or_else(|| {
                pieces.push(whole(shard));
                pieces.len() - 1
            })
        };
        for line in pending {
            let place = place(&mut pieces, line.order_key);
            if let Some(piece) = pieces.get_mut(place) {
                piece.pending.push(line);
            }
        }
        for line in dead {
            let place = place(&mut pieces, line.order_key);
            if let Some(piece) = pieces.get_mut(place) {
                piece.dead.push(line);
            }
        }
        pieces
    }

    fn history(&mut self, line: HistoryLine) -> Result<(), PortableError> {
        let HistoryLine {
            subscription,
            at,
            entries,
        } = line;
        let mut by_shard: BTreeMap<usize, Vec<Noted>> = BTreeMap::new();
        for entry in entries {
            let sequence = self.places.find(entry.sequence, Some(subscription))?;
            let shard = match self.stores.len() {
                1 => 0,
                _ => usize::from(ShardNumber::of(Sequence(sequence)).get()),
            };
            let noted = entry.into_noted(sequence);
            by_shard.entry(shard).or_default().push(noted);
        }
        for (shard, entries) in by_shard {
            if let Some(store) = self.stores.get_mut(shard) {
                store.history(subscription, at, entries)?;
            }
        }
        Ok(())
    }
}

/// A copy of an event, with what refers to it in one shard.
struct Piece {
    shard: usize,
    pending: Vec<PendingLine>,
    dead: Vec<DeadLine>,
}
