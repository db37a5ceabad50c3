//! Where the plain part of a string ends: at a quote, a backslash or a control character, looked
//! for in 64 bytes at a time.

use wide::u8x64;

/// How many bytes are looked at together.
const BLOCK: usize = 64;

/// What is known of the block that was looked at last.
///
/// Most strings are short, and several lie in one block: its bytes are compared once, and each
/// string costs a shift and a count of zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stops {
    /// The block's number, and one bit for each byte of it that ends plain text. The text's end is
    /// such a byte, too.
    block: usize,
    bits: u64,
}

impl Stops {
    pub(crate) fn new() -> Self {
        Self {
            block: usize::MAX,
            bits: 0,
        }
    }

    /// The first byte from `at` on that is no plain part of a string; the text's length where there
    /// is none.
    #[inline(always)]
    pub(crate) fn next(&mut self, text: &[u8], mut at: usize) -> usize {
        loop {
            if at / BLOCK != self.block {
                (self.block, self.bits) = (at / BLOCK, bits_of(text, at / BLOCK));
            }
            let bits = self.bits >> (at % BLOCK);
            if bits != 0 {
                return at + bits.trailing_zeros() as usize;
            }
            at = (at / BLOCK + 1) * BLOCK;
        }
    }
}

#[inline(always)]
fn bits_of(text: &[u8], block: usize) -> u64 {
    let rest = text.get(block * BLOCK..).unwrap_or_default();
    match rest.first_chunk() {
        Some(whole) => compare(whole),
        None => bits_of_last(rest),
    }
}

/// Of a block that the text does not fill.
#[inline(never)]
fn bits_of_last(rest: &[u8]) -> u64 {
    let mut filled = [0; BLOCK];
    if let Some(start) = filled.get_mut(..rest.len()) {
        start.copy_from_slice(rest);
    }
    // What it is filled up with counts as control characters, the first of which is the text's end.
    compare(&filled)
}

/// Bit n is set where byte n ends plain text.
#[inline(always)]
fn compare(block: &[u8; BLOCK]) -> u64 {
    let bytes = u8x64::new(*block);
    let is_control = bytes.min(u8x64::splat(0x1F)).simd_eq(bytes);
    (bytes.simd_eq(u8x64::splat(b'"')) | bytes.simd_eq(u8x64::splat(b'\\')) | is_control)
        .to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_stop(byte: u8) -> bool {
        matches!(byte, b'"' | b'\\' | 0..0x20)
    }

    #[test]
    fn every_byte_counts_at_every_place() {
        for byte in 0..=u8::MAX {
            for place in 0..BLOCK {
                let mut block = [b'x'; BLOCK];
                block[place] = byte;
                let expect = u64::from(is_stop(byte)) << place;
                assert_eq!(compare(&block), expect, "{byte} at {place}");
            }
            // Beside one another, too.
            let block = std::array::from_fn(|place| byte.wrapping_add(place as u8));
            let expect = (0..BLOCK).fold(0, |bits, place| {
                bits | u64::from(is_stop(block[place])) << place
            });
            assert_eq!(compare(&block), expect, "from {byte} on");
        }
    }

    #[test]
    fn the_next_stop_is_found_from_everywhere() {
        for length in 0..3 * BLOCK {
            let text: Vec<u8> = (0..length)
                .map(|at| if at % 47 == 41 { b'"' } else { b'x' })
                .collect();
            let mut stops = Stops::new();
            for at in (0..=length).chain((0..=length).rev()) {
                let expect = text[at..]
                    .iter()
                    .position(|byte| is_stop(*byte))
                    .map_or(length, |distance| at + distance);
                assert_eq!(stops.next(&text, at), expect, "{length} {at}");
            }
        }
    }
}
