//! The hash chain of a book (PayWord, Rivest and Shamir 1996): `w[i-1] = SHA-256(w[i] || le32(i) || tag)`.
//!
//! The message of a step is 52 bytes, so a step is one compression. The payer fixes the whole chain by its anchor
//! `w[0]` and pays ticket `i` by showing `w[i]`; whoever has seen `w[i]` can check it against any earlier one.

use crate::codec::hex_bytes;
use tombola_lanes::{INITIAL, compress_each};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

hex_bytes!(
    /// One value of a chain. Spec: T-02.
    Preimage,
    32
);

/// `w[index - 1]` from `w[index]`. Spec: T-02.
#[must_use]
#[inline]
pub fn step(preimage: &Preimage, index: u32) -> Preimage {
    let mut below = [*preimage];
    step_each(&mut below, &[index]);
    let [below] = below;
    below
}

/// One step of each of `N` chains, side by side.
#[inline]
fn step_each<const N: usize>(values: &mut [Preimage; N], indices: &[u32; N]) {
    let mut states = [INITIAL; N];
    let mut blocks = [STEP_BLOCK; N];
    for ((block, value), index) in blocks.iter_mut().zip(values.iter()).zip(indices) {
        fill(block, &value.0, *index);
    }
    compress_each(&mut states, &blocks);
    for (value, state) in values.iter_mut().zip(&states) {
        *value = Preimage(digest(state));
    }
}

/// Walks from `w[from]` down to `w[to]`; `from - to` steps. Spec: T-02.
#[must_use]
pub fn walk(preimage: &Preimage, from: u32, to: u32) -> Preimage {
    let mut at = *preimage;
    for index in (to.saturating_add(1)..=from).rev() {
        at = step(&at, index);
    }
    at
}

/// A payer's chain in O(sqrt n) memory: checkpoints every `stride` values and the segments now being paid from.
///
/// Building is one hash after another; the segments between checkpoints depend on nothing but these, so some are made
/// again at once, side by side. For 4,096 tickets that is 5 x 64 values, 10 KiB, and two hashes a ticket in all.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Chain {
    length: u32,
    stride: u32,
    /// `w[k * stride]` for k = 1, 2, ... and `w[length]` last.
    checkpoints: Vec<[u8; 32]>,
    /// `w[loaded_after + 1]` and on, in ascending order.
    loaded: Vec<[u8; 32]>,
    loaded_after: u32,
    anchor: [u8; 32],
}

impl Chain {
    /// Builds the chain of `length >= 1` tickets from its fresh secret `w[length]`.
    #[must_use]
    pub fn new(secret: Preimage, length: u32) -> Self {
        let length = length.max(1);
        let stride = length.isqrt().max(1);
        let mut checkpoints = vec![secret.0];
        let mut at = secret;
        for index in (1..=length).rev() {
            at = step(&at, index);
            let below = index.saturating_sub(1);
            if below > 0 && below.is_multiple_of(stride) {
                checkpoints.push(at.0);
            }
        }
        checkpoints.reverse();
        let mut chain = Self {
            length,
            stride,
            checkpoints,
            loaded: Vec::new(),
            loaded_after: 0,
            anchor: at.0,
        };
        chain.load(1);
        chain
    }

    /// `w[0]`.
    #[must_use]
    pub const fn anchor(&self) -> Preimage {
        Preimage(self.anchor)
    }

    /// Number of tickets.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.length
    }

    /// `w[index]`, for `1 <= index <= length`; ascending indices are cheap, others load again.
    #[must_use]
    pub fn preimage(&mut self, index: u32) -> Option<Preimage> {
        if index == 0 || index > self.length {
            return None;
        }
        if self.cached(index).is_none() {
            self.load(index);
        }
        self.cached(index)
    }

    fn cached(&self, index: u32) -> Option<Preimage> {
        let offset = index.checked_sub(self.loaded_after)?.checked_sub(1)?;
        self.loaded.get(usize::try_from(offset).ok()?).copied().map(Preimage)
    }

    /// Computes the segment that holds `index` and those after it again, each from the checkpoint at its end.
    fn load(&mut self, index: u32) {
        let number = index.saturating_sub(1).checked_div(self.stride).unwrap_or(0);
        let start = number.saturating_mul(self.stride);
        let checkpoints = usize::try_from(number)
            .ok()
            .and_then(|number| self.checkpoints.get(number..))
            .unwrap_or_default();
        self.loaded.zeroize();
        self.loaded_after = start;
        // A lane without a segment repeats the last one, and what it computes is not used.
        let ends: [u32; SEGMENTS] = std::array::from_fn(|lane| {
            let after = u32::try_from(lane).unwrap_or(0).saturating_add(1);
            start.saturating_add(after.saturating_mul(self.stride)).min(self.length)
        });
        let last = checkpoints.last().copied().unwrap_or_default();
        let mut at: [Preimage; SEGMENTS] =
            std::array::from_fn(|lane| Preimage(checkpoints.get(lane).copied().unwrap_or(last)));
        let mut descending = Zeroizing::new(vec![at.map(|value| value.0)]);
        descending.reserve_exact(usize::try_from(self.stride).unwrap_or(0));
        for done in 0..self.stride.saturating_sub(1) {
            step_each(&mut at, &ends.map(|end| end.saturating_sub(done)));
            descending.push(at.map(|value| value.0));
        }
        let count = usize::try_from(self.stride).unwrap_or(0);
        self.loaded.reserve(count.saturating_mul(SEGMENTS));
        let mut start = start;
        for (lane, end) in ends.into_iter().enumerate() {
            let length = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
            let segment = descending.iter().take(length).rev();
            self.loaded.extend(segment.filter_map(|row| row.get(lane)));
            start = end;
        }
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("length", &self.length)
            .field("anchor", &self.anchor())
            .finish_non_exhaustive()
    }
}

/// Puts a chain value and its index at the front of a prepared block.
#[inline]
pub(crate) fn fill(block: &mut [u8; 64], preimage: &[u8; 32], index: u32) {
    let (value, rest) = block.split_at_mut(32);
    value.copy_from_slice(preimage);
    let (number, _) = rest.split_at_mut(4);
    number.copy_from_slice(&index.to_le_bytes());
}

/// The state words as the big-endian digest bytes of FIPS 180-4.
#[inline]
pub(crate) fn digest(state: &[u32; 8]) -> [u8; 32] {
    let mut bytes = [0u8; 32];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// A last block: 36 bytes to fill in, the tag, the padding bit, and the length of the whole message in bits.
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated in consts, in bounds or no build"
)]
pub(crate) const fn last_block(tag: &[u8], message_bits: u16) -> [u8; 64] {
    let mut block = [0u8; 64];
    let mut at = 0;
    while at < tag.len() {
        block[36 + at] = tag[at];
        at += 1;
    }
    block[36 + tag.len()] = 0x80;
    assert!(36 + tag.len() < 56, "the tag leaves room for the length");
    let bits = message_bits.to_be_bytes();
    block[62] = bits[0];
    block[63] = bits[1];
    block
}

/// Segments that a payer's chain computes at once.
const SEGMENTS: usize = 4;
pub(crate) const STEP_BLOCK: [u8; 64] = last_block(b"tombola/chain/v1", 52 * 8);

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Spec: T-02.
    #[test]
    fn a_step_is_sha256_of_the_52_bytes_of_the_spec() {
        let w = Preimage([0xa5; 32]);
        let mut message = w.0.to_vec();
        message.extend_from_slice(&77u32.to_le_bytes());
        message.extend_from_slice(b"tombola/chain/v1");
        assert_eq!(message.len(), 52);
        assert_eq!(step(&w, 77).0, <[u8; 32]>::from(Sha256::digest(&message)));
    }

    /// Spec: T-02.
    #[test]
    fn a_chain_gives_every_value_in_any_order_for_every_small_length() {
        for length in (1..=40).chain([63, 64, 65, 100, 4096]) {
            let secret = Preimage([u8::try_from(length % 251).unwrap(); 32]);
            let mut plain = vec![secret];
            for index in (1..=length).rev() {
                plain.push(step(plain.last().unwrap(), index));
            }
            plain.reverse();
            let mut chain = Chain::new(secret, length);
            assert_eq!(chain.anchor(), plain[0]);
            for index in (1..=length).chain([length, 1, length / 2 + 1]) {
                assert_eq!(
                    chain.preimage(index),
                    Some(plain[usize::try_from(index).unwrap()]),
                    "{index} of {length}"
                );
            }
            assert_eq!(chain.preimage(0), None);
            assert_eq!(chain.preimage(length + 1), None);
            assert!(chain.checkpoints.len() + chain.loaded.len() <= 5 * usize::try_from(length.isqrt()).unwrap() + 4);
        }
    }
}
