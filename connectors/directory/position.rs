//! What is known of a folder, as it is stored.
//!
//! ```text
//! cursor          3                                                     version of this encoding
//! row of no key   3 | generation | mounts | { length | key | device | inode }*          by key
//! row of a file   3 | size | modified | changed | inode | access | generation
//! ```
//!
//! `changed` is counted from `modified`, `access` is zero for none. All numbers are LEB128, times
//! zigzag.
//!
//! Encodings 1 and 2 kept everything in the cursor ([`listing`]). They are read, and never written:
//! their files are moved into rows before anything else is told, and with the last rows goes the
//! cursor that says so.

mod listing;

use std::collections::BTreeMap;

use pointsman_schemas::PositionChange;

use super::listing::{Key, Mounts, Scope, Version};
use crate::leb128::{read, unzigzag, write, zigzag};
use crate::rows::{Form, next_generation};
use crate::{OpenError, SourceContext};

const ENCODING: u8 = 3;

/// The position in the cursor of a folder that has rows.
pub(super) const CURSOR: &[u8] = &[ENCODING];

/// The key of the row that is of no file.
const FOLDER: &[u8] = b"";

/// The longest key that is read back: Linux's own bound on a path.
const KEY_BYTES_MAX: usize = 4_096;

/// How many mount points are read back: Linux's own bound on the mounts of a namespace.
const MOUNTS_MAX: u64 = 100_000;

/// What is known of a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) version: Version,
    /// How often the key has come, gone or changed, as far as it matters: see
    /// [`Position::generation`].
    pub(super) generation: u64,
}

/// What is known of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The generation of a key that comes next: higher than that of any key which has gone, so that
    /// one which comes back is told by another id without a memory of the keys that are gone.
    pub(super) generation: u64,
    /// None where they were not kept.
    pub(super) mounts: Mounts,
    pub(super) files: BTreeMap<Key, Known>,
}

/// A position as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) position: Position,
    pub(super) form: Form,
    /// Rows of files that are not in the position: they are to be deleted.
    pub(super) stale: Vec<Key>,
}

impl Stored {
    /// Reads what is stored; none where that is damaged. What is no longer looked at, since the
    /// settings have changed, is left out: it has not been deleted.
    ///
    /// # Errors
    /// It cannot be read now.
    pub(super) async fn read(
        context: &SourceContext,
        scope: &Scope,
    ) -> Result<Option<Self>, OpenError> {
        let (form, listing) = Form::of(context, CURSOR);
        let mut stored = Self {
            form,
            ..Self::default()
        };
        if let Some(listing) = listing {
            let Some(position) = listing::decode(listing) else {
                return Ok(None);
            };
            stored.position = position;
            stored.position.files.retain(|key, _| scope.covers(key));
        }
        let (mut is_sound, mut has_folder) = (true, false);
        context
            .each_position(|row| {
                is_sound &= stored.take(&row.key, &row.value, scope);
                has_folder |= row.key == FOLDER;
            })
            .await?;
        if stored.form == Form::Rows && !has_folder {
            let known = stored.position.files.values();
            stored.position.generation = next_generation(known.map(|known| known.generation));
        }
        Ok(is_sound.then_some(stored))
    }

    /// Takes a row in; false where it is damaged.
    fn take(&mut self, key: &[u8], value: &[u8], scope: &Scope) -> bool {
        let position = &mut self.position;
        if self.form == Form::Cursor {
            // Rows beside a listing are what was moved of it before the bus stopped.
            if key != FOLDER && !position.files.contains_key(key) {
                self.stale.push(key.to_vec());
            }
            return true;
        }
        if key == FOLDER {
            // Where the cursor was damaged and set aside, this tells of the rows.
            self.form = Form::Rows;
            let Some((generation, mounts)) = decode_folder(value) else {
                return false;
            };
            position.generation = generation;
            position.mounts = mounts;
            return true;
        }
        let Some(known) = decode_file(value) else {
            return false;
        };
        if scope.covers(key) {
            position.files.insert(key.to_vec(), known);
        } else {
            self.stale.push(key.to_vec());
        }
        true
    }
}

impl Position {
    /// The row of the folder, as it is to be stored.
    pub(super) fn folder_row(&self) -> PositionChange {
        let mut out = vec![ENCODING];
        write(&mut out, self.generation);
        write(&mut out, self.mounts.len() as u64);
        for (key, (device, inode)) in &self.mounts {
            write(&mut out, key.len() as u64);
            out.extend_from_slice(key);
            write(&mut out, *device);
            write(&mut out, *inode);
        }
        PositionChange {
            key: FOLDER.into(),
            value: Some(out.into()),
        }
    }

    /// The row of a file, as it is to be stored: deleted where the file is not known.
    pub(super) fn file_row(&self, key: &Key) -> PositionChange {
        PositionChange {
            key: key.clone().into(),
            value: self.files.get(key).map(|known| encode_file(known).into()),
        }
    }
}

fn encode_file(known: &Known) -> Vec<u8> {
    let Known {
        version,
        generation,
    } = *known;
    let mut out = Vec::with_capacity(40);
    out.push(ENCODING);
    write(&mut out, version.size);
    write(&mut out, zigzag(version.modified));
    let changed = version.changed.wrapping_sub(version.modified);
    write(&mut out, zigzag(changed));
    write(&mut out, version.inode);
    let access = version.access.map_or(0, |access| u64::from(access) + 1);
    write(&mut out, access);
    write(&mut out, generation);
    out
}

/// Reads generation and mounts from the row of a folder.
fn decode_folder(value: &[u8]) -> Option<(u64, Mounts)> {
    let mut rest = value.strip_prefix(&[ENCODING])?;
    let folder = folder(&mut rest)?;
    rest.is_empty().then_some(folder)
}

fn folder(rest: &mut &[u8]) -> Option<(u64, Mounts)> {
    let generation = read(rest)?;
    let count = read(rest).filter(|count| *count <= MOUNTS_MAX)?;
    let mut mounts = Mounts::new();
    for _ in 0..count {
        let length = length(rest)?;
        let key = take(rest, length)?.to_vec();
        mounts.insert(key, (read(rest)?, read(rest)?));
    }
    Some((generation, mounts))
}

fn decode_file(value: &[u8]) -> Option<Known> {
    let mut rest = value.strip_prefix(&[ENCODING])?;
    let known = Known {
        version: kept_version(&mut rest)?,
        generation: read(&mut rest)?,
    };
    rest.is_empty().then_some(known)
}

/// Reads a version of a file with all that is kept of it.
fn kept_version(rest: &mut &[u8]) -> Option<Version> {
    let version = plain_version(rest)?;
    let inode = read(rest)?;
    let access = read(rest)?
        .checked_sub(1)
        .map(u16::try_from)
        .transpose()
        .ok()?;
    Some(Version {
        inode,
        access,
        ..version
    })
}

/// Reads size and times.
fn plain_version(rest: &mut &[u8]) -> Option<Version> {
    let size = read(rest)?;
    let modified = unzigzag(read(rest)?);
    let changed = unzigzag(read(rest)?).wrapping_add(modified);
    Some(Version {
        modified,
        changed,
        size,
        inode: 0,
        access: None,
    })
}

fn length(rest: &mut &[u8]) -> Option<usize> {
    usize::try_from(read(rest)?)
        .ok()
        .filter(|length| *length <= KEY_BYTES_MAX)
}

fn take<'b>(rest: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

#[cfg(test)]
pub(super) mod tests;
