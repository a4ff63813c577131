//! The draw (after Rivest 1997): whether a ticket wins.
//!
//! `SHA-256(BookId || reveal || w[i] || le32(i) || tag)`, of which the first 8 bytes, little-endian, are compared with the
//! book's threshold. The payer fixed `w[i]` by the anchor before it could know the reveal; the payee fixed the reveal by
//! its commitment before the payer signed; no signature bytes are in it. So neither side can bias it.

use crate::book::Ticket;
use crate::chain::{Preimage, STEP_BLOCK, digest, fill, last_block};
use crate::codec::{Tag, hex_bytes, tagged_hash};
use crate::key::BookId;
use crate::odds::Threshold;
use bincode::{Decode, Encode};
use tombola_lanes::{INITIAL, compress_each};
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
        let mut midstate = [INITIAL];
        compress_each(&mut midstate, &[first]);
        first.zeroize();
        let [midstate] = midstate;
        Self { midstate, threshold }
    }

    /// The largest number that wins. Spec: T-04.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The number drawn for a ticket, uniform over u64. Spec: T-03.
    #[must_use]
    #[inline]
    pub fn number(&self, index: u32, preimage: &Preimage) -> u64 {
        let mut block = LAST_BLOCK;
        fill(&mut block, &preimage.0, index);
        let mut states = [self.midstate];
        compress_each(&mut states, &[block]);
        let [state] = states;
        number_of(&state)
    }

    /// Whether a ticket wins: its number is at most the threshold. Spec: T-04.
    #[must_use]
    #[inline]
    pub fn wins(&self, index: u32, preimage: &Preimage) -> bool {
        self.is_win(self.number(index, preimage))
    }

    /// Whether a ticket that draws this number wins. Spec: T-04.
    #[must_use]
    #[inline]
    pub(crate) const fn is_win(&self, number: u64) -> bool {
        number <= self.threshold.0
    }

    /// Both hashes of a ticket, side by side: they take hardly longer than one.
    #[must_use]
    #[inline]
    pub(crate) fn hash(&self, ticket: &Ticket) -> Hashes {
        let mut states = [INITIAL, self.midstate];
        compress_each(&mut states, &both_blocks(ticket));
        Hashes::of(&states)
    }

    /// Both hashes of each of some tickets, all side by side. Of more than [`RUN_MAX`] only those of the first are made.
    #[inline]
    pub(crate) fn hash_run(&self, tickets: &[Ticket], hashes: &mut [Hashes; RUN_MAX]) {
        let mut states = [[INITIAL, self.midstate]; RUN_MAX];
        let mut blocks = [[STEP_BLOCK, LAST_BLOCK]; RUN_MAX];
        let mut count = 0usize;
        for (blocks, ticket) in blocks.iter_mut().zip(tickets) {
            for block in blocks {
                fill(block, &ticket.preimage.0, ticket.index);
            }
            count = count.saturating_add(1);
        }
        let (states, blocks) = (states.get_mut(..count), blocks.get(..count));
        let (states, blocks) = (states.unwrap_or_default(), blocks.unwrap_or_default());
        compress_each(states.as_flattened_mut(), blocks.as_flattened());
        for (hashes, states) in hashes.iter_mut().zip(states) {
            *hashes = Hashes::of(states);
        }
    }
}

/// Tickets whose hashes are made at once: enough to fill all lanes, few enough for the stack.
pub(crate) const RUN_MAX: usize = 16;

#[inline]
fn both_blocks(ticket: &Ticket) -> [[u8; 64]; 2] {
    let mut blocks = [STEP_BLOCK, LAST_BLOCK];
    for block in &mut blocks {
        fill(block, &ticket.preimage.0, ticket.index);
    }
    blocks
}

/// What the two hashes of a ticket say. They depend on the ticket and its book only, so they may be made ahead of
/// knowing whether the ticket will be drawn; a draw that is not asked for is not looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hashes {
    /// `w[index - 1]`, if the ticket is good.
    pub(crate) below: Preimage,
    /// What the ticket draws.
    pub(crate) number: u64,
}

impl Hashes {
    /// A place for hashes that are not made yet.
    pub(crate) const BLANK: Self = Self {
        below: Preimage([0; 32]),
        number: u64::MAX,
    };

    #[inline]
    fn of([step, draw]: &[[u32; 8]; 2]) -> Self {
        Self {
            below: Preimage(digest(step)),
            number: number_of(draw),
        }
    }
}

/// The first 8 bytes of a digest, little-endian.
#[inline]
fn number_of(state: &[u32; 8]) -> u64 {
    let [first, second, ..] = *state;
    let [a, b, c, d] = first.to_be_bytes();
    let [e, f, g, h] = second.to_be_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
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

    /// Spec: T-03.
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

    /// Spec: T-02, T-03.
    #[test]
    fn hashes_side_by_side_are_the_step_and_the_draw_of_each_ticket() {
        let draw = Draw::new(&BookId([1; 32]), &Reveal([2; 32]), Threshold(7));
        let tickets: Vec<Ticket> = (0..=u8::try_from(RUN_MAX).unwrap())
            .map(|n| Ticket {
                index: u32::from(n) * 77 + 1,
                preimage: Preimage([n; 32]),
            })
            .collect();
        for count in 0..=RUN_MAX + 1 {
            let mut hashes = [Hashes::BLANK; RUN_MAX];
            draw.hash_run(&tickets[..count], &mut hashes);
            for (n, hashes) in hashes.iter().enumerate().take(count) {
                let Ticket { index, preimage } = tickets[n];
                assert_eq!(hashes.below, crate::chain::step(&preimage, index));
                assert_eq!(hashes.number, draw.number(index, &preimage));
                assert_eq!(draw.hash(&tickets[n]).number, hashes.number);
                assert_eq!(draw.hash(&tickets[n]).below, hashes.below);
            }
        }
    }
}
