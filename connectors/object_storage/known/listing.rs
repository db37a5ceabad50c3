//! The cursor of earlier versions, which held everything.
//!
//! ```text
//! 2                                                                           version of this encoding
//! generation | length | region | created                                      of the bucket
//! { shared | length | rest | state | etag | at | seen − at | generation }*    by key
//! ```
//!
//! `shared` is how many bytes the key has in common with the one before, `rest` the `length`
//! others. Encoding 1 knew nothing of the bucket and no generations.

use super::{KEY_BYTES_MAX, Known, bucket, seen_entry};
use crate::leb128::read;

const ENCODING: u8 = 2;

/// The encoding before generations.
const ENCODING_PLAIN: u8 = 1;

/// Reads what was known; none where it is damaged, or of an encoding to come.
pub(super) fn decode(bytes: &[u8]) -> Option<Known> {
    let (encoding, mut rest) = bytes.split_first()?;
    let mut known = Known::default();
    match *encoding {
        ENCODING => (known.generation, known.identity) = bucket(&mut rest)?,
        ENCODING_PLAIN => {}
        _ => return None,
    }
    let mut previous = Vec::new();
    while !rest.is_empty() {
        let shared = usize::try_from(read(&mut rest)?).ok()?;
        let mut key = previous.get(..shared)?.to_vec();
        let length = usize::try_from(read(&mut rest)?)
            .ok()
            .filter(|length| *length <= KEY_BYTES_MAX)?;
        let (end, after) = rest.split_at_checked(length)?;
        key.extend_from_slice(end);
        rest = after;
        let mut entry = seen_entry(&mut rest)?;
        if *encoding == ENCODING {
            entry.generation = read(&mut rest)?;
        }
        // Keys go up, or something is damaged.
        if key <= previous {
            return None;
        }
        let text = String::from_utf8(key.clone()).ok()?;
        known.objects.insert(text, entry);
        previous = key;
    }
    Some(known)
}
