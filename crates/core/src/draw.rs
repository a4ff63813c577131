//! The draw (after Rivest 1997): whether a ticket wins.
//!
//! `SHA-256(BookId || reveal || w[i] || le32(i) || tag)`, of which the first 8 bytes, little-endian, are compared with the
//! book's threshold. The payer fixed `w[i]` by the anchor before it could know the reveal; the payee fixed the reveal by
//! its commitment before the payer signed; no signature bytes are in it. So neither side can bias it.

use crate::chain::{Preimage, SHA256_INITIAL, fill, last_block};
use crate::codec::{Tag, hex_bytes, tagged_hash};
use crate::key::BookId;
use crate::odds::Threshold;
use bincode::{Decode, Encode};
use sha2::block_api::compress256;
use zeroize::Zeroize;

/// A payee's secret half of a book's draws, until the book is claimed. Spec: Q-03.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Zeroize)]
pub struct Reveal(pub [u8; 32]);

impl Reveal {
    /// The commitment to this reveal. Spec: Q-02.
    #[must_use]
    pub fn commitment(&self) -> Commitment {
        Commitment(tagged_hash(COMMITMENT_TAG, &self.0))
    }
}

impl std::fmt::Debug for Reveal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reveal(..)")
    }
}

impl serde::Serialize for Reveal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&hex::encode(self.0))
    }
}

hex_bytes!(
    /// The hash that binds a payee to a reveal. Spec: Q-02.
    Commitment,
    32
);

/// The draws of one book: the constant first block is compressed once, so a draw costs one compression. Spec: T-03.
#[derive(Clone)]
pub struct Draw {
    midstate: [u32; 8],
    threshold: Threshold,
}

impl Draw {
    /// Prepares the draws of a book.
    #[must_use]
    pub fn new(book: &BookId, reveal: &Reveal, threshold: Threshold) -> Self {
        let mut first = [0u8; 64];
        let (left, right) = first.split_at_mut(32);
        left.copy_from_slice(&book.0);
        right.copy_from_slice(&reveal.0);
        let mut midstate = SHA256_INITIAL;
        compress256(&mut midstate, &[first]);
        first.zeroize();
        Self { midstate, threshold }
    }

    /// The number drawn for a ticket, uniform over u64. Spec: T-03.
    #[must_use]
    #[inline]
    pub fn number(&self, index: u32, preimage: &Preimage) -> u64 {
        let mut block = LAST_BLOCK;
        fill(&mut block, &preimage.0, index);
        let mut state = self.midstate;
        compress256(&mut state, &[block]);
        let [first, second, ..] = state;
        let [a, b, c, d] = first.to_be_bytes();
        let [e, f, g, h] = second.to_be_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Whether a ticket wins: its number is at most the threshold. Spec: T-04.
    #[must_use]
    #[inline]
    pub fn wins(&self, index: u32, preimage: &Preimage) -> bool {
        self.number(index, preimage) <= self.threshold.0
    }
}

impl std::fmt::Debug for Draw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The midstate tells every draw to come; it is as secret as the reveal.
        f.debug_struct("Draw")
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}

impl Drop for Draw {
    fn drop(&mut self) {
        self.midstate.zeroize();
    }
}

const COMMITMENT_TAG: Tag = Tag::new("tombola/commitment/v1");
const LAST_BLOCK: [u8; 64] = last_block(b"tombola/draw/v1", (64 + 51) * 8);

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn a_draw_is_sha256_of_the_115_bytes_of_the_spec() {
        let (book, reveal, w) = (BookId([1; 32]), Reveal([2; 32]), Preimage([3; 32]));
        let mut message = [book.0, reveal.0, w.0].concat();
        message.extend_from_slice(&9u32.to_le_bytes());
        message.extend_from_slice(b"tombola/draw/v1");
        assert_eq!(message.len(), 115);
        let hash = Sha256::digest(&message);
        let number = u64::from_le_bytes(hash[..8].try_into().unwrap());
        assert_eq!(Draw::new(&book, &reveal, Threshold(0)).number(9, &w), number);
        assert!(Draw::new(&book, &reveal, Threshold(number)).wins(9, &w));
        assert!(!Draw::new(&book, &reveal, Threshold(number - 1)).wins(9, &w));
    }
}
