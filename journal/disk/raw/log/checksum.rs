//! SQLite's checksum of a write-ahead log, and the numbers that lie in one.

use super::{FRAME, PAGE};

pub(super) type Sum = (u32, u32);

/// The bits of which each alone makes a frame's checksum what is stored. Of the upper bits of a
/// word there are many: what they add repeats.
///
/// A checksum is linear in its words, modulo 2³²: a bit that is off by 2ᵇ in the word `i` changes
/// it by 2ᵇ times what a one there adds. From the last pair of words backwards those factors are
/// `[[1, 1], [1, 2]]` to a growing power.
pub(super) fn wrong_bits(is_big_endian: bool, seed: Sum, frame: &[u8], stored: Sum) -> Vec<usize> {
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
                        let index = (word * 4 + byte_in_word as usize) * 8 + bit as usize % 8;
                        // A bit is wrong in one direction only.
                        let is_set = covered(frame)
                            .nth(index / 8)
                            .is_some_and(|byte| byte >> (index % 8) & 1 == 1);
                        if is_set == (sign != 1) {
                            bits.push(index);
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

pub(super) fn frame_sum(is_big_endian: bool, seed: Sum, frame: &[u8]) -> Sum {
    add(
        is_big_endian,
        add(is_big_endian, seed, part(frame, 0, 8)),
        frame.get(FRAME..).unwrap_or_default(),
    )
}

/// SQLite's checksum of a log, gone on with.
pub(super) fn add(is_big_endian: bool, seed: Sum, bytes: &[u8]) -> Sum {
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

pub(super) fn part(bytes: &[u8], at: usize, length: usize) -> &[u8] {
    bytes.get(at..at + length).unwrap_or_default()
}

pub(super) fn number(bytes: &[u8], at: usize) -> u32 {
    part(bytes, at, 4).try_into().map_or(0, u32::from_be_bytes)
}

pub(super) fn sum_at(bytes: &[u8], at: usize) -> Sum {
    (number(bytes, at), number(bytes, at + 4))
}

pub(super) fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(target) = bytes.get_mut(at..at + what.len()) {
        target.copy_from_slice(what);
    }
}

pub(super) fn put_sum(bytes: &mut [u8], at: usize, sum: Sum) {
    put(bytes, at, &sum.0.to_be_bytes());
    put(bytes, at + 4, &sum.1.to_be_bytes());
}
