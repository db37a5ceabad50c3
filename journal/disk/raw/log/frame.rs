//! The frames of a write-ahead log, checked one by one and mended where one bit is wrong.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::checksum::{Sum, add, frame_sum, number, part, sum_at, wrong_bits};
use super::{FRAME, MAGIC, PAGE, VERSION};

/// What a frame says, where it is one of the log, and whether SQLite finds it sound.
pub(super) type Checked = (Option<(u32, u32, State)>, bool);

/// How many rows of a page pass their checks.
pub(in crate::disk) type Score = dyn Fn(&[u8]) -> usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Sound,
    /// One bit was wrong: of the page where there is a number, else of the frame's head.
    Mended(Option<usize>),
    /// One bit is wrong, and it is not known which.
    Flipped,
    Damaged,
}

/// Reads the frames one by one.
pub(super) struct Reading<'s> {
    score: &'s Score,
    /// Other pages that the last frame may hold, should its head have the wrong bit.
    pub(super) others: Vec<u32>,
    pub(super) is_big_endian: bool,
    pub(super) salts: [u8; 8],
    /// The checksum of the frame before: as it comes out, and as it stands there.
    before: [Sum; 2],
    /// Whether that frame is one of this log. Behind its last one there may be those of an earlier
    /// log, which go on from each other as well.
    is_own: bool,
}

impl<'s> Reading<'s> {
    /// Finds out how a log is to be read, from its header and its first frame; tells whether SQLite
    /// takes the header for sound.
    pub(super) fn begin(header: &[u8], first: &[u8], score: &'s Score) -> (Self, bool) {
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
    pub(super) fn check(
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
pub(super) fn frame_at(file: &File, offset: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
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
