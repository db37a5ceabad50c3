//! Streams as they are read: by a consumer group, as a queue that hands messages out for a time.
//!
//! | a queue | of Redis |
//! |---|---|
//! | receives | `XAUTOCLAIM` of what others have not finished with in time, once in a second; then `XREADGROUP`, which waits |
//! | deletes | `XACK`; the entry stays in its stream |
//! | extends | `XCLAIM … JUSTID`, by which an entry's idle time begins anew |
//! | gives back | `XCLAIM … IDLE`, by which it ends so much sooner |
//!
//! **Redis counts** how often an entry was handed out. What is given back is not counted: the bus
//! had no room for it, which is no fault of the entry. So what is counted are the times that whoever
//! had it went away, or the connection with it.
//!
//! **A read that is dropped** closes its connection: on one that stays open, what Redis hands out
//! afterwards would wait until its time is over.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value, cmd};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::client::{Connected, Unanswered};
use super::groups::{ANSWER_WITHIN, Groups, xinfo};
use super::refusal::Refusal;
use super::reply::{bytes, is, list, number, text};
use super::trimmed::{Look, Position};
use crate::Link;
use crate::leased::{Answer, Failure, Hidden, Queue};

/// How many entries one call brings.
pub(super) const CALL_MESSAGES_MAX: usize = 256;

/// How many streams one source reads: a call brings as many of each.
pub(super) const STREAMS_MAX: usize = 16;

/// How often what others have not finished with is asked for. What was given back comes again by
/// that.
const CLAIM_EVERY: Duration = Duration::from_secs(1);

/// An id below all.
const FIRST: &str = "0-0";

/// The consumer's name. Nodes share it: entries are told apart by their ids, and who has one is
/// known by its idle time alone.
const CONSUMER: &str = "pointsman";

/// An entry as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Which of the source's streams it is in.
    pub(super) stream: usize,
    pub(super) id: String,
    /// Fields may stand there twice.
    pub(super) fields: Vec<(Bytes, Bytes)>,
    /// How often it was handed out.
    pub(super) deliveries: u64,
}

/// The streams of one source. Clones are the same.
#[derive(Clone)]
pub(super) struct Streams(Arc<Inner>);

struct Inner {
    groups: Groups,
    /// The connection that waits for entries.
    reading: AsyncMutex<Option<Connected>>,
    /// What errors call them.
    name: String,
    /// For how long an entry is kept from others.
    in_hand: Duration,
    link: Link,
    progress: Mutex<Progress>,
}

/// How far the streams are read.
struct Progress {
    claim_due: Instant,
    /// From where each stream is looked at next for what others have not finished with.
    cursors: Vec<String>,
    positions: Vec<Position>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Streams").field(&self.0.name).finish()
    }
}

/// Why a call brings nothing.
enum Failed {
    /// A group is not there.
    NoGroup,
    Other(String),
}

impl From<Unanswered> for Failed {
    fn from(unanswered: Unanswered) -> Self {
        Self::Other(unanswered.to_string())
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        match refusal.is_of_group() {
            true => Self::NoGroup,
            false => Self::Other(refusal.words()),
        }
    }
}

impl Streams {
    pub(super) fn new(groups: Groups, in_hand: Duration, link: Link) -> Self {
        let count = groups.streams.len();
        Self(Arc::new(Inner {
            name: groups.streams.join(", "),
            groups,
            reading: AsyncMutex::default(),
            in_hand,
            link,
            progress: Mutex::new(Progress {
                claim_due: Instant::now(),
                cursors: vec![FIRST.to_owned(); count],
                positions: vec![Position::default(); count],
            }),
        }))
    }

    /// What others have not finished with in time, where it is time to ask.
    async fn claimed(&self) -> Result<Vec<Entry>, Failed> {
        let cursors = {
            let progress = self.0.progress.lock();
            if Instant::now() < progress.claim_due {
                return Ok(Vec::new());
            }
            progress.cursors.clone()
        };
        let mut commands = Pipeline::new();
        for (stream, cursor) in self.0.groups.streams.iter().zip(&cursors) {
            let command = commands
                .cmd("XAUTOCLAIM")
                .arg(stream)
                .arg(&self.0.groups.name);
            let command = command.arg(CONSUMER).arg(milliseconds(self.0.in_hand));
            command.arg(cursor).arg("COUNT").arg(self.share());
        }
        let answers = self.0.groups.client.ask(&commands, ANSWER_WITHIN).await?;
        let (mut entries, mut cursors) = (Vec::new(), Vec::new());
        for (stream, answer) in answers.into_iter().enumerate() {
            let mut parts = list(answer?).into_iter();
            cursors.push(parts.next().as_ref().and_then(text).unwrap_or(FIRST.into()));
            entries.extend(read_entries(stream, parts.next().unwrap_or(Value::Nil)));
            let deleted = list(parts.next().unwrap_or(Value::Nil)).len() as u64;
            if deleted > 0 {
                let name = self.stream(stream);
                let why = format_args!(
                    "the stream {name} does not have them any more, and nobody had finished with them"
                );
                self.0.link.skipped(deleted, why);
            }
        }
        {
            let mut progress = self.0.progress.lock();
            if cursors.iter().all(|cursor| cursor == FIRST) {
                progress.claim_due = Instant::now() + CLAIM_EVERY;
            }
            progress.cursors = cursors;
        }
        self.count(&mut entries).await?;
        Ok(entries)
    }

    /// Asks how often entries were handed out.
    async fn count(&self, entries: &mut [Entry]) -> Result<(), Failed> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut commands = Pipeline::new();
        for entry in &*entries {
            let command = commands.cmd("XPENDING").arg(self.stream(entry.stream));
            let command = command
                .arg(&self.0.groups.name)
                .arg(&entry.id)
                .arg(&entry.id);
            command.arg(1);
        }
        let answers = self.0.groups.client.ask(&commands, ANSWER_WITHIN).await?;
        for (entry, answer) in entries.iter_mut().zip(answers) {
            // One that somebody else has acknowledged meanwhile is there no more.
            let pending = list(answer?).into_iter().next().unwrap_or(Value::Nil);
            entry.deliveries = list(pending).get(3).and_then(number).unwrap_or(1);
        }
        Ok(())
    }

    /// Waits for entries that nobody was handed yet. Before it does, it looks whether any are gone.
    async fn read(&self, wait: Duration) -> Result<Vec<Entry>, Failed> {
        let mut commands = Pipeline::new();
        for stream in &self.0.groups.streams {
            commands.add_command(xinfo("STREAM", stream));
            commands.add_command(xinfo("GROUPS", stream));
        }
        let command = commands
            .cmd("XREADGROUP")
            .arg("GROUP")
            .arg(&self.0.groups.name);
        let command = command.arg(CONSUMER).arg("COUNT").arg(self.share());
        let command = command.arg("BLOCK").arg(milliseconds(wait)).arg("STREAMS");
        for stream in &self.0.groups.streams {
            command.arg(stream);
        }
        for _ in &self.0.groups.streams {
            command.arg(">");
        }
        let mut answers = self.ask_and_wait(&commands, wait).await?;
        let came = answers.pop().unwrap_or(Ok(Value::Nil));
        self.look(answers);
        let came = match came {
            Ok(came) => list(came),
            // Its stream was deleted while it waited.
            Err(refusal) if refusal.code == "UNBLOCKED" => return Err(Failed::NoGroup),
            Err(refusal) => return Err(refusal.into()),
        };
        let mut entries = Vec::new();
        for one in came {
            let mut parts = list(one).into_iter();
            let name = parts.next().unwrap_or(Value::Nil);
            let stream = self
                .0
                .groups
                .streams
                .iter()
                .position(|stream| is(&name, stream));
            let Some(stream) = stream else { continue };
            let before = entries.len();
            entries.extend(read_entries(stream, parts.next().unwrap_or(Value::Nil)));
            let read = (entries.len() - before) as u64;
            if let Some(position) = self.0.progress.lock().positions.get_mut(stream) {
                position.advance(read);
            }
        }
        Ok(entries)
    }

    /// Asks over the connection that waits. It is in nobody's hand meanwhile but this future's, with
    /// which it is closed.
    async fn ask_and_wait(
        &self,
        commands: &Pipeline,
        wait: Duration,
    ) -> Result<Vec<Result<Value, Refusal>>, Failed> {
        let mut kept = self.0.reading.lock().await;
        let connected = match kept.take() {
            Some(connected) => connected,
            None => {
                let connecting = self.0.groups.client.connect().await;
                connecting.map_err(|error| Failed::Other(error.to_string()))?
            }
        };
        let answers = connected.ask(commands, wait + ANSWER_WITHIN).await;
        let answers = answers.map_err(Failed::Other)?;
        let is_of_use = answers
            .iter()
            .all(|answer| !matches!(answer, Err(refusal) if refusal.ends_the_connection()));
        *kept = Some(connected).filter(|_| is_of_use);
        Ok(answers)
    }

    /// Looks what `XINFO` says of each stream, and tells of what is gone unread. Who may not ask
    /// that is told nothing.
    fn look(&self, answers: Vec<Result<Value, Refusal>>) {
        let mut progress = self.0.progress.lock();
        let told = answers.chunks_exact(2).zip(&mut progress.positions);
        for ((pair, position), name) in told.zip(&self.0.groups.streams) {
            let [Ok(stream), Ok(groups)] = pair else {
                continue;
            };
            let Some(look) = Look::read(stream, groups, &self.0.groups.name) else {
                continue;
            };
            let lost = position.lost(&look);
            if lost > 0 {
                let group = &self.0.groups.name;
                let why = format_args!(
                    "the stream {name} was trimmed before the group {group} had read them"
                );
                self.0.link.skipped(lost, why);
            }
        }
    }

    /// What waits for the group in all streams, where that is known.
    async fn lag(&self) -> Result<Option<u64>, Failed> {
        let mut commands = Pipeline::new();
        for stream in &self.0.groups.streams {
            commands.add_command(xinfo("STREAM", stream));
            commands.add_command(xinfo("GROUPS", stream));
        }
        let answers = self.0.groups.client.ask(&commands, ANSWER_WITHIN).await?;
        let progress = self.0.progress.lock();
        let told = answers.chunks_exact(2).zip(&progress.positions);
        let each = told.map(|(pair, position)| {
            let [Ok(stream), Ok(groups)] = pair else {
                return None;
            };
            position.waiting(&Look::read(stream, groups, &self.0.groups.name)?)
        });
        Ok(each.sum())
    }

    /// The group has gone while it was read: where to read on has gone with it, so that everything
    /// is read that is there. What was stored before is known by its id.
    async fn begin_anew(&self) -> Answer<Vec<Entry>> {
        tracing::warn!(
            streams = self.0.name,
            group = self.0.groups.name,
            "the consumer group has gone, or its stream has; it is made anew and reads what is there \
             from the beginning"
        );
        let made = self.0.groups.make(FIRST).await;
        made.map(|()| Vec::new()).map_err(|error| error.to_string())
    }

    fn stream(&self, index: usize) -> &str {
        self.0.groups.streams.get(index).map_or("", String::as_str)
    }

    /// How many entries of each stream a call brings.
    fn share(&self) -> usize {
        CALL_MESSAGES_MAX / self.0.groups.streams.len().max(1)
    }

    /// Tells for entries, all of them by one pipeline, what a command for each stream says.
    async fn tell(&self, commands: &Pipeline) -> Answer<Vec<Failure>> {
        let answers = self.0.groups.client.ask(commands, ANSWER_WITHIN).await;
        let answers = answers.map_err(|error| error.to_string())?;
        let refused = answers.into_iter().find_map(Result::err);
        match refused {
            Some(refusal) => Err(refusal.to_string()),
            None => Ok(Vec::new()),
        }
    }

    /// The ids of receipts by their streams.
    fn by_stream<'r>(&self, receipts: &[&'r str]) -> BTreeMap<usize, Vec<&'r str>> {
        let mut ids = BTreeMap::<_, Vec<_>>::new();
        for (stream, id) in receipts.iter().filter_map(|receipt| parts(receipt)) {
            ids.entry(stream).or_default().push(id);
        }
        ids
    }

    /// `XCLAIM` of entries that stay in our hand.
    fn claim(&self, stream: usize) -> Cmd {
        let mut command = cmd("XCLAIM");
        let key = command.arg(self.stream(stream)).arg(&self.0.groups.name);
        key.arg(CONSUMER).arg(0);
        command
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The stream and the id that a receipt is made of.
fn parts(receipt: &str) -> Option<(usize, &str)> {
    let (stream, id) = receipt.split_once(':')?;
    Some((stream.parse().ok()?, id))
}

/// Reads entries of a stream. Before Redis 7.0 one that is deleted is told as nil.
fn read_entries(stream: usize, entries: Value) -> impl Iterator<Item = Entry> {
    list(entries).into_iter().filter_map(move |entry| {
        let mut parts = list(entry).into_iter();
        let id = text(&parts.next()?)?;
        let mut texts = list(parts.next()?).into_iter();
        let mut fields = Vec::with_capacity(texts.len() / 2);
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            fields.push((bytes(name)?, bytes(value)?));
        }
        Some(Entry {
            stream,
            id,
            fields,
            deliveries: 1,
        })
    })
}

#[async_trait]
impl Queue for Streams {
    type Message = Entry;

    const CALL_MESSAGES_MAX: usize = CALL_MESSAGES_MAX;

    const CALLS_MAX: usize = 4;

    /// They would wait for each other: one server answers them in turn.
    const RECEIVES_MAX: usize = 1;

    const KIND: &'static str = "stream";

    fn name(&self) -> &str {
        &self.0.name
    }

    fn in_hand(&self) -> Duration {
        self.0.in_hand
    }

    fn receipt(entry: &Entry) -> Option<String> {
        Some(format!("{}:{}", entry.stream, entry.id))
    }

    fn size(entry: &Entry) -> usize {
        let fields = entry.fields.iter();
        fields.map(|(name, value)| name.len() + value.len()).sum()
    }

    async fn receive(&self, wait: Duration) -> Answer<Vec<Entry>> {
        let came = match self.claimed().await {
            Ok(claimed) if claimed.is_empty() => self.read(wait).await,
            claimed => claimed,
        };
        match came {
            Ok(entries) => Ok(entries),
            Err(Failed::NoGroup) => self.begin_anew().await,
            Err(Failed::Other(error)) => Err(error),
        }
    }

    async fn delete(&self, receipts: &[&str]) -> Answer<Vec<Failure>> {
        let mut commands = Pipeline::new();
        for (stream, ids) in self.by_stream(receipts) {
            let command = commands.cmd("XACK").arg(self.stream(stream));
            command.arg(&self.0.groups.name).arg(ids);
        }
        self.tell(&commands).await
    }

    async fn hide(&self, messages: &[(&str, Duration)]) -> Answer<Hidden> {
        let mut commands = Pipeline::new();
        for (receipt, hidden) in messages {
            let Some((stream, id)) = parts(receipt) else {
                continue;
            };
            // Idle for so long that the rest of its time is what is asked for.
            let idle = milliseconds(self.0.in_hand.saturating_sub(*hidden));
            let mut command = self.claim(stream);
            let options = command.arg(id).arg("IDLE").arg(idle);
            options.arg("RETRYCOUNT").arg(0).arg("JUSTID");
            commands.add_command(command);
        }
        let failed = self.tell(&commands).await?;
        Ok(Hidden {
            failed,
            receipts: Vec::new(),
        })
    }

    async fn extend(&self, receipts: &[&str]) -> Answer<Hidden> {
        let mut commands = Pipeline::new();
        for (stream, ids) in self.by_stream(receipts) {
            let mut command = self.claim(stream);
            command.arg(ids).arg("JUSTID");
            commands.add_command(command);
        }
        let failed = self.tell(&commands).await?;
        Ok(Hidden {
            failed,
            receipts: Vec::new(),
        })
    }

    async fn waiting(&self) -> Answer<Option<u64>> {
        match self.lag().await {
            Ok(lag) => Ok(lag),
            Err(Failed::NoGroup) => Ok(None),
            Err(Failed::Other(error)) => Err(error),
        }
    }
}
