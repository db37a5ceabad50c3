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

mod checksum;
mod frame;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use self::checksum::{add, part, put, put_sum};
pub(in crate::disk) use self::frame::Score;
use self::frame::{Reading, State, frame_at};
use super::PAGE;

const HEADER: usize = 32;
const FRAME: usize = 24;
/// The last bit tells the byte order of the words that checksums are made of.
const MAGIC: u32 = 0x377F_0682;
const VERSION: u32 = 3_007_000;

/// Frames of a foreign log in a row after which no more of this one are looked for.
const STRANGERS_MAX: usize = 64;

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
