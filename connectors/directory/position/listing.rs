//! The cursor of earlier versions, which held the whole listing.
//!
//! ```text
//! 2                                                                              version of this encoding
//! generation | mounts | { length | key | device | inode }*                       by key
//! { shared | length | rest | size | modified | changed | inode | access | generation }*   by key
//! ```
//!
//! `shared` is how many bytes the key has in common with the one before, `rest` the `length`
//! others. Encoding 1 knew neither mounts nor generations, and of a file neither inode nor access.

use super::{Known, Position, folder, kept_version, length, plain_version, take};
use crate::directory::listing::Key;
use crate::leb128::read;

const ENCODING: u8 = 2;

/// The encoding before generations.
const ENCODING_PLAIN: u8 = 1;

/// Reads a position; none where it is damaged, or of an encoding to come.
pub(super) fn decode(bytes: &[u8]) -> Option<Position> {
    let (encoding, mut rest) = bytes.split_first()?;
    let mut position = Position::default();
    match *encoding {
        ENCODING => (position.generation, position.mounts) = folder(&mut rest)?,
        ENCODING_PLAIN => {}
        _ => return None,
    }
    let mut previous = Key::new();
    while !rest.is_empty() {
        let shared = usize::try_from(read(&mut rest)?).ok()?;
        let mut key = previous.get(..shared)?.to_vec();
        let length = length(&mut rest)?;
        key.extend_from_slice(take(&mut rest, length)?);
        let known = if *encoding == ENCODING_PLAIN {
            Known {
                version: plain_version(&mut rest)?,
                generation: 0,
            }
        } else {
            Known {
                version: kept_version(&mut rest)?,
                generation: read(&mut rest)?,
            }
        };
        // Keys go up, or something is damaged.
        if key <= previous {
            return None;
        }
        previous.clone_from(&key);
        position.files.insert(key, known);
    }
    Some(position)
}
