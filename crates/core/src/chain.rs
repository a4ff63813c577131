//! The hash chain of a book (PayWord, Rivest and Shamir 1996): `w[i-1] = SHA-256(w[i] || le32(i) || tag)`.
//!
//! The message of a step is 52 bytes, so a step is one compression. The payer fixes the whole chain by its anchor
//! `w[0]` and pays ticket `i` by showing `w[i]`; whoever has seen `w[i]` can check it against any earlier one.

use crate::codec::hex_bytes;
use sha2::block_api::compress256;
use zeroize::{Zeroize, ZeroizeOnDrop};

hex_bytes!(
    /// One value of a chain. Spec: T-02.
    Preimage,
    32
);

/// `w[index - 1]` from `w[index]`. Spec: T-02.
#[must_use]
#[inline]
pub fn step(preimage: &Preimage, index: u32) -> Preimage {
    let mut block = STEP_BLOCK;
    fill(&mut block, &preimage.0, index);
    let mut state = SHA256_INITIAL;
    compress256(&mut state, &[block]);
    Preimage(digest(&state))
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

/// A payer's chain in O(sqrt n) memory: checkpoints every `stride` values and the segment now being paid from.
///
/// For 4,096 tickets that is 2 x 64 values, 4 KiB, and two hashes a ticket in all.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Chain {
    length: u32,
    stride: u32,
    /// `w[k * stride]` for k = 1, 2, ... and `w[length]` last.
    checkpoints: Vec<[u8; 32]>,
    /// `w[segment_start + 1]` and on, in ascending order.
    segment: Vec<[u8; 32]>,
    segment_start: u32,
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
            segment: Vec::new(),
            segment_start: 0,
            anchor: at.0,
        };
        chain.load_segment(1);
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

    /// `w[index]`, for `1 <= index <= length`; ascending indices are cheap, others reload a segment.
    #[must_use]
    pub fn preimage(&mut self, index: u32) -> Option<Preimage> {
        if index == 0 || index > self.length {
            return None;
        }
        if self.cached(index).is_none() {
            self.load_segment(index);
        }
        self.cached(index)
    }

    fn cached(&self, index: u32) -> Option<Preimage> {
        let offset = index.checked_sub(self.segment_start)?.checked_sub(1)?;
        self.segment.get(usize::try_from(offset).ok()?).copied().map(Preimage)
    }

    /// Recomputes the segment that holds `index` from the checkpoint at its end.
    fn load_segment(&mut self, index: u32) {
        let segment_number = index.saturating_sub(1).checked_div(self.stride).unwrap_or(0);
        let start = segment_number.saturating_mul(self.stride);
        let end = start.saturating_add(self.stride).min(self.length);
        let checkpoint = usize::try_from(segment_number)
            .ok()
            .and_then(|number| self.checkpoints.get(number));
        let Some(checkpoint) = checkpoint else { return };
        let mut at = Preimage(*checkpoint);
        self.segment.zeroize();
        self.segment.push(at.0);
        for below in (start.saturating_add(2)..=end).rev() {
            at = step(&at, below);
            self.segment.push(at.0);
        }
        self.segment.reverse();
        self.segment_start = start;
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

/// FIPS 180-4, section 5.3.3.
pub(crate) const SHA256_INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

const STEP_BLOCK: [u8; 64] = last_block(b"tombola/chain/v1", 52 * 8);

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn a_step_is_sha256_of_the_52_bytes_of_the_spec() {
        let w = Preimage([0xa5; 32]);
        let mut message = w.0.to_vec();
        message.extend_from_slice(&77u32.to_le_bytes());
        message.extend_from_slice(b"tombola/chain/v1");
        assert_eq!(message.len(), 52);
        assert_eq!(step(&w, 77).0, <[u8; 32]>::from(Sha256::digest(&message)));
    }

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
            assert!(chain.checkpoints.len() + chain.segment.len() <= 2 * usize::try_from(length.isqrt()).unwrap() + 4);
        }
    }
}
