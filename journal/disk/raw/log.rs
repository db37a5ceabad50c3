//! The write-ahead log, read further than SQLite reads it.
//!
//! ```text
//! header:  magic, version, page size, checkpoints, salt ×2, checksum ×2                       (32 bytes)
//! frame:   page, database size (at a commit, else 0), salt ×2, checksum ×2, then the page     (24 bytes + a page)
//! ```
//!
//! A frame's checksum goes on from the one before it, so that SQLite takes the first frame that
//! does not pass for the log's end, and with it every later commit is gone. But each frame also
//! says what its own checksum was: the next can be checked from there. A frame with one bit flipped
//! is put right where its checksum tells which bit it was; what else a damaged frame holds is left
//! to the rows' own checksums. Format: <https://www.sqlite.org/fileformat2.html>, section 4.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::PAGE;

const HEADER: usize = 32;
const FRAME: usize = 24;
/// The last bit tells the byte order of the words that checksums are made of.
const MAGIC: u32 = 0x377F_0682;
const VERSION: u32 = 3_007_000;

/// Frames of a foreign log in a row after which no more of this one are looked for.
const STRANGERS_MAX: usize = 64;

type Sum = (u32, u32);

/// What a frame says, where it is one of the log, and whether SQLite finds it sound.
type Checked = (Option<(u32, u32, State)>, bool);

/// What a log holds up to its last commit.
pub(in crate::disk) struct Log {
    frames: Vec<Frame>,
    /// How many of them SQLite would read.
    read_by_sqlite: usize,
    /// Commits behind those.
    commits_saved: u64,
    /// Frames among them of which not even the page is known.
    passed_over: usize,
    salts: [u8; 8],
    is_big_endian: bool,
    checkpoints: [u8; 4],
}

/// A frame of a log.
#[derive(Clone, Debug)]
pub(in crate::disk) struct Frame {
    /// The page that it holds.
    pub(in crate::disk) page: u32,
    /// The size of the database in pages, where it is the last frame of a commit.
    commit: u32,
    /// Where its page begins.
    offset: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sound,
    /// One bit was wrong: of the page where there is a number, else of the frame's head.
    Mended(Option<usize>),
    /// One bit is wrong, and it is not known which.
    Flipped,
    Damaged,
}

/// How many rows of a page pass their checks.
pub(in crate::disk) type Score = dyn Fn(&[u8]) -> usize;

/// Reads the frames one by one.
struct Reading<'s> {
    score: &'s Score,
    /// Other pages that the last frame may hold, should its head have the wrong bit.
    others: Vec<u32>,
    is_big_endian: bool,
    salts: [u8; 8],
    /// The checksum of the frame before: as it comes out, and as it stands there.
    before: [Sum; 2],
    /// Whether that frame is one of this log. Behind its last one there may be those of an earlier
    /// log, which go on from each other as well.
    is_own: bool,
}

impl Log {
    /// Reads a log, which lies over a database; none where it holds no commit.
    pub(in crate::disk) fn read(
        file: &File,
        database: Option<&File>,
        score: &Score,
    ) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let mut header = [0; HEADER];
        if length < (HEADER + FRAME + PAGE) as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut header, 0)?;
        let mut first = [0; FRAME + PAGE];
        file.read_exact_at(&mut first, HEADER as u64)?;
        let (mut reading, is_sound) = Reading::begin(&header, &first, score);
        let (salts, is_big_endian) = (reading.salts, reading.is_big_endian);
        let mut log = Self {
            frames: Vec::new(),
            read_by_sqlite: 0,
            commits_saved: 0,
            passed_over: 0,
            salts,
            is_big_endian,
            checkpoints: [0; 4],
        };
        log.checkpoints.copy_from_slice(part(&header, 12, 4));
        log.read_frames(file, database, &mut reading, is_sound)?;
        log.cut();
        Ok(Some(log).filter(|log| !log.frames.is_empty()))
    }

    fn read_frames(
        &mut self,
        file: &File,
        database: Option<&File>,
        reading: &mut Reading<'_>,
        mut is_read: bool,
    ) -> io::Result<()> {
        let length = file.metadata()?.len();
        let mut input = BufReader::with_capacity(64 * (FRAME + PAGE), file);
        input.seek(SeekFrom::Start(HEADER as u64))?;
        let (mut bytes, mut offset, mut strangers) = (vec![0; FRAME + PAGE], HEADER as u64, 0);
        while offset + bytes.len() as u64 <= length && strangers < STRANGERS_MAX {
            input.read_exact(&mut bytes)?;
            let salts_hold = part(&bytes, 8, 8) == reading.salts;
            let next = || frame_at(file, offset + bytes.len() as u64, length);
            let (found, as_sqlite) = reading.check(&bytes, next)?;
            is_read &= as_sqlite && salts_hold;
            match found {
                Some((page, commit, state)) => {
                    self.passed_over += std::mem::take(&mut strangers);
                    let others = std::mem::take(&mut reading.others);
                    let content = bytes.get(FRAME..).unwrap_or_default();
                    let page = self.most_alike(file, database, page, others, content)?;
                    self.frames.push(Frame {
                        page,
                        commit,
                        offset: offset + FRAME as u64,
                        state,
                    });
                    if is_read && commit > 0 {
                        self.read_by_sqlite = self.frames.len();
                    } else if commit > 0 && state != State::Damaged {
                        self.commits_saved += 1;
                    }
                }
                None => strangers += 1,
            }
            offset += bytes.len() as u64;
        }
        Ok(())
    }

    /// Which of some pages a content is of: the one that had the most of it before, where that is
    /// most of it at all.
    fn most_alike(
        &self,
        file: &File,
        database: Option<&File>,
        page: u32,
        others: Vec<u32>,
        content: &[u8],
    ) -> io::Result<u32> {
        if others.is_empty() {
            return Ok(page);
        }
        let used = content.iter().filter(|byte| **byte != 0).count();
        let (mut best, mut most) = (page, used / 2);
        for page in std::iter::once(page).chain(others) {
            let before = self.version(file, database, page)?;
            let alike = |(now, before): &(&u8, &u8)| **now != 0 && now == before;
            let alike = content.iter().zip(&before).filter(alike).count();
            if alike > most {
                (best, most) = (page, alike);
            }
        }
        Ok(best)
    }

    /// What a page was before the frames that are still to be read; empty where it was not there.
    fn version(&self, file: &File, database: Option<&File>, page: u32) -> io::Result<Vec<u8>> {
        if let Some(at) = self.frames.iter().rposition(|frame| frame.page == page) {
            return self.content(file, at);
        }
        let mut bytes = vec![0; PAGE];
        let begin = u64::from(page).saturating_sub(1) * PAGE as u64;
        match database {
            Some(file) if page > 0 && file.metadata()?.len() >= begin + PAGE as u64 => {
                file.read_exact_at(&mut bytes, begin)?;
                Ok(bytes)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Leaves out what lies behind the last commit, and what may be a commit that was never
    /// finished: its frames need not all be there.
    fn cut(&mut self) {
        let beyond = self.frames.get(self.read_by_sqlite..).unwrap_or_default();
        let ends = beyond
            .iter()
            .rposition(|frame| frame.commit > 0 && frame.state != State::Damaged)
            .map_or(0, |at| at + 1);
        let has_gaps = self.passed_over > 0
            || beyond
                .iter()
                .take(ends)
                .any(|frame| frame.state == State::Damaged);
        let is_torn = self.commits_saved == 1 && has_gaps;
        if is_torn {
            self.commits_saved = 0;
        }
        self.frames
            .truncate(self.read_by_sqlite + if is_torn { 0 } else { ends });
    }

    pub(in crate::disk) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Commits that SQLite would not find.
    pub(in crate::disk) fn commits_saved(&self) -> u64 {
        self.commits_saved
    }

    /// Damaged frames: those that were put right, and the others.
    pub(in crate::disk) fn damaged(&self) -> (usize, usize) {
        let count =
            |is: fn(&State) -> bool| self.frames.iter().filter(|frame| is(&frame.state)).count();
        (
            count(|state| matches!(state, State::Mended(_))),
            count(|state| matches!(state, State::Flipped | State::Damaged)) + self.passed_over,
        )
    }

    /// The size of the database in pages after the last commit; 0 where there is none.
    pub(in crate::disk) fn pages(&self) -> u32 {
        self.frames
            .iter()
            .rev()
            .find(|frame| frame.commit > 0)
            .map_or(0, |frame| frame.commit)
    }

    /// The page of a frame.
    pub(in crate::disk) fn content(&self, file: &File, at: usize) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE];
        if let Some(frame) = self.frames.get(at) {
            file.read_exact_at(&mut page, frame.offset)?;
            if let State::Mended(Some(bit)) = frame.state
                && let Some(byte) = page.get_mut(bit / 8)
            {
                *byte ^= 1 << (bit % 8);
            }
        }
        Ok(page)
    }

    /// Writes the log anew, so that SQLite reads all of it.
    pub(in crate::disk) fn write_mended(&self, from: &File, to: &File) -> io::Result<()> {
        let mut out = io::BufWriter::new(to);
        let mut header = [0; HEADER];
        let magic = MAGIC | u32::from(self.is_big_endian);
        for (at, number) in [
            (0, magic),
            (4, VERSION),
            (8, u32::try_from(PAGE).unwrap_or_default()),
        ] {
            put(&mut header, at, &number.to_be_bytes());
        }
        put(&mut header, 12, &self.checkpoints);
        put(&mut header, 16, &self.salts);
        let mut sum = add(self.is_big_endian, (0, 0), part(&header, 0, 24));
        put_sum(&mut header, 24, sum);
        out.write_all(&header)?;
        for (at, frame) in self.frames.iter().enumerate() {
            let (mut head, page) = ([0; FRAME], self.content(from, at)?);
            put(&mut head, 0, &frame.page.to_be_bytes());
            put(&mut head, 4, &frame.commit.to_be_bytes());
            put(&mut head, 8, &self.salts);
            sum = add(
                self.is_big_endian,
                add(self.is_big_endian, sum, part(&head, 0, 8)),
                &page,
            );
            put_sum(&mut head, 16, sum);
            out.write_all(&head)?;
            out.write_all(&page)?;
        }
        out.flush()?;
        to.sync_all()
    }
}

impl<'s> Reading<'s> {
    /// Finds out how a log is to be read, from its header and its first frame; tells whether SQLite
    /// takes the header for sound.
    fn begin(header: &[u8], first: &[u8], score: &'s Score) -> (Self, bool) {
        let stored = sum_at(header, 24);
        let magic = number(header, 0);
        let says_big = magic & 1 == 1;
        let mut salts = [0; 8];
        let begin = |is_big_endian: bool| {
            (
                is_big_endian,
                add(is_big_endian, (0, 0), part(header, 0, 24)),
            )
        };
        let is_sound = magic | 1 == MAGIC | 1
            && number(header, 4) == VERSION
            && number(header, 8) as usize == PAGE
            && begin(says_big).1 == stored;
        // Where the header is damaged the first frame tells which order it is.
        let fits = |(is_big_endian, sum): &(bool, Sum)| {
            [*sum, stored]
                .iter()
                .any(|seed| frame_sum(*is_big_endian, *seed, first) == sum_at(first, 16))
        };
        let orders = [begin(says_big), begin(!says_big)];
        let (is_big_endian, sum) = *orders
            .iter()
            .find(|order| fits(order))
            .unwrap_or(&orders[0]);
        let salts_from = if is_sound || !fits(&(is_big_endian, sum)) {
            part(header, 16, 8)
        } else {
            part(first, 8, 8)
        };
        salts.copy_from_slice(salts_from);
        (
            Self {
                score,
                others: Vec::new(),
                is_big_endian,
                salts,
                before: [sum, stored],
                is_own: true,
            },
            is_sound,
        )
    }

    /// Checks a frame: its page, its commit and its state; none where it is no frame of this log.
    /// Also tells whether SQLite finds it sound.
    fn check(
        &mut self,
        frame: &[u8],
        next: impl Fn() -> io::Result<Option<Vec<u8>>>,
    ) -> io::Result<Checked> {
        let stored = sum_at(frame, 16);
        let seeds = self.before;
        let sums = seeds.map(|seed| frame_sum(self.is_big_endian, seed, frame));
        let (page, commit) = (number(frame, 0), number(frame, 4));
        let has_salts = part(frame, 8, 8) == self.salts;
        let follows_own = std::mem::replace(&mut self.is_own, has_salts);
        if let Some(sum) = sums
            .into_iter()
            .find(|sum| *sum == stored && (has_salts || follows_own))
        {
            self.is_own = true;
            let is_read = sums.first() == Some(&sum);
            self.before = [sum, stored];
            let state = if has_salts {
                State::Sound
            } else {
                State::Mended(None)
            };
            return Ok((Some((page, commit, state)), is_read));
        }
        if !has_salts {
            // A frame that an earlier log left here, most likely: the checksum goes on only where
            // it is one of this log after all.
            self.before = [stored, stored];
            return Ok((None, false));
        }
        for (seed, sum) in seeds.into_iter().zip(sums) {
            let (first, second) = (sum.0 ^ stored.0, sum.1 ^ stored.1);
            let may_be_sum = first.count_ones() + second.count_ones() == 1;
            let bits = wrong_bits(self.is_big_endian, seed, frame, stored);
            let found = if may_be_sum && self.is_sum_wrong(frame, &bits, [sum, stored], next()?) {
                self.before = [sum, sum];
                (page, commit, State::Mended(None))
            } else if bits.is_empty() {
                continue;
            } else {
                self.before = [stored, stored];
                let which = self.which(frame, &bits);
                if which.is_none() {
                    let in_head = bits.iter().filter(|bit| **bit < 32);
                    self.others = in_head.map(|bit| mended(frame, *bit).0).collect();
                }
                which.map_or((page, commit, State::Flipped), |bit| mended(frame, bit))
            };
            return Ok((Some(found).filter(|(page, ..)| *page > 0), false));
        }
        self.before = [stored, stored];
        let found = Some((page, commit, State::Damaged)).filter(|_| page > 0);
        Ok((found, false))
    }

    /// Whether the checksum of a frame has the wrong bit, where one in its page may have had the
    /// same effect: of one bit of a page in 24 the checksum shows but one. The next frame was made
    /// from the right checksum; where there is none, the page's rows tell.
    fn is_sum_wrong(
        &self,
        frame: &[u8],
        bits: &[usize],
        [sum, stored]: [Sum; 2],
        next: Option<Vec<u8>>,
    ) -> bool {
        let follows = |seed| {
            next.as_ref()
                .is_some_and(|next| frame_sum(self.is_big_endian, seed, next) == sum_at(next, 16))
        };
        if bits.is_empty() || follows(sum) {
            return true;
        }
        !follows(stored) && self.best(frame, bits).is_none()
    }

    /// Which of the bits that may be the wrong one is: the only one, or the one that makes more
    /// rows pass their checks.
    fn which(&self, frame: &[u8], bits: &[usize]) -> Option<usize> {
        if let [bit] = bits {
            return Some(*bit);
        }
        self.best(frame, bits)
    }

    /// The bit that makes more rows pass their checks than pass without it.
    fn best(&self, frame: &[u8], bits: &[usize]) -> Option<usize> {
        let mut page = frame.get(FRAME..).unwrap_or_default().to_vec();
        let mut best = ((self.score)(&page), None);
        for bit in bits {
            let Some(at) = (bit / 8).checked_sub(8) else {
                continue;
            };
            if let Some(byte) = page.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
            let score = (self.score)(&page);
            if score > best.0 {
                best = (score, Some(*bit));
            }
            if let Some(byte) = page.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        best.1
    }
}

/// The frame at a place of the log; none where it ends before.
fn frame_at(file: &File, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; FRAME + PAGE];
    if offset + bytes.len() as u64 > length {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, offset)?;
    Ok(Some(bytes))
}

/// What a frame says once a bit is put right; bits are counted over the first eight bytes of its
/// head and its page.
fn mended(frame: &[u8], bit: usize) -> (u32, u32, State) {
    let mut head = [0; 8];
    head.copy_from_slice(part(frame, 0, 8));
    let in_page = (bit / 8).checked_sub(8);
    if in_page.is_none()
        && let Some(byte) = head.get_mut(bit / 8)
    {
        *byte ^= 1 << (bit % 8);
    }
    (
        number(&head, 0),
        number(&head, 4),
        State::Mended(in_page.map(|byte| byte * 8 + bit % 8)),
    )
}

/// The bits of which each alone makes a frame's checksum what is stored. Of the upper bits of a
/// word there are many: what they add repeats.
///
/// A checksum is linear in its words, modulo 2³²: a bit that is off by 2ᵇ in the word `i` changes
/// it by 2ᵇ times what a one there adds. From the last pair of words backwards those factors are
/// `[[1, 1], [1, 2]]` to a growing power.
fn wrong_bits(is_big_endian: bool, seed: Sum, frame: &[u8], stored: Sum) -> Vec<usize> {
    let mut bits = Vec::new();
    let sum = frame_sum(is_big_endian, seed, frame);
    let off = (stored.0.wrapping_sub(sum.0), stored.1.wrapping_sub(sum.1));
    let words = (8 + PAGE) / 4;
    // What a one in the first and in the second word of the pair adds to the checksum.
    let (mut first, mut second): (Sum, Sum) = ((1, 1), (0, 1));
    let step = |(a, b): Sum| (a.wrapping_add(b), a.wrapping_add(b.wrapping_mul(2)));
    for pair in (0..words / 2).rev() {
        for (word, adds) in [(2 * pair, first), (2 * pair + 1, second)] {
            for bit in 0..32_u32 {
                for sign in [1, u32::MAX] {
                    let by = (1_u32 << bit).wrapping_mul(sign);
                    if (adds.0.wrapping_mul(by), adds.1.wrapping_mul(by)) == off {
                        let byte_in_word = if is_big_endian { 3 - bit / 8 } else { bit / 8 };
                        let place = (word * 4 + byte_in_word as usize) * 8 + bit as usize % 8;
                        // A bit is wrong in one direction only.
                        let is_set = covered(frame)
                            .nth(place / 8)
                            .is_some_and(|byte| byte >> (place % 8) & 1 == 1);
                        if is_set == (sign != 1) {
                            bits.push(place);
                        }
                    }
                }
            }
        }
        (first, second) = (step(first), step(second));
    }
    bits
}

/// What of a frame its checksum covers.
fn covered(frame: &[u8]) -> impl Iterator<Item = u8> + '_ {
    part(frame, 0, 8)
        .iter()
        .chain(frame.get(FRAME..).unwrap_or_default())
        .copied()
}

fn frame_sum(is_big_endian: bool, seed: Sum, frame: &[u8]) -> Sum {
    add(
        is_big_endian,
        add(is_big_endian, seed, part(frame, 0, 8)),
        frame.get(FRAME..).unwrap_or_default(),
    )
}

/// SQLite's checksum of a log, gone on with.
fn add(is_big_endian: bool, seed: Sum, bytes: &[u8]) -> Sum {
    let word = |bytes: &[u8]| {
        let bytes: [u8; 4] = bytes.try_into().unwrap_or_default();
        if is_big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    };
    bytes.chunks_exact(8).fold(seed, |(mut a, mut b), pair| {
        let (first, second) = pair.split_at(4);
        a = a.wrapping_add(word(first)).wrapping_add(b);
        b = b.wrapping_add(word(second)).wrapping_add(a);
        (a, b)
    })
}

fn part(bytes: &[u8], at: usize, length: usize) -> &[u8] {
    bytes.get(at..at + length).unwrap_or_default()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    part(bytes, at, 4).try_into().map_or(0, u32::from_be_bytes)
}

fn sum_at(bytes: &[u8], at: usize) -> Sum {
    (number(bytes, at), number(bytes, at + 4))
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

fn put_sum(bytes: &mut [u8], at: usize, sum: Sum) {
    put(bytes, at, &sum.0.to_be_bytes());
    put(bytes, at + 4, &sum.1.to_be_bytes());
}
