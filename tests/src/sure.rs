//! Books in which every ticket wins, and claims of them: for tests that want payments without chance.

use tombola_core::amount::Amount;
use tombola_core::book::{Anchor, Book};
use tombola_core::chain::{Chain, Preimage};
use tombola_core::claim::Claim;
use tombola_core::draw::Reveal;
use tombola_core::hold::Hold;
use tombola_core::key::{SecretKey, Signed};
use tombola_core::odds::Threshold;

/// What a book of sure tickets is made of.
#[derive(Debug, Clone, Copy)]
pub struct SureBook {
    /// Its chain's secret and its reveal: another seed is another book.
    pub seed: [u8; 32],
    /// Its tickets.
    pub length: u32,
    /// What each of them wins.
    pub face_value: Amount,
}

impl SureBook {
    /// The claim of its tickets up to an index; none if it has no such ticket.
    #[must_use]
    pub fn claim(&self, hold: &Hold, signer: &SecretKey, through: u32) -> Option<Claim> {
        let reveal = Reveal(self.seed);
        let mut chain = Chain::new(Preimage(self.seed), self.length);
        let body = Book {
            hold: hold.id(),
            commitment: reveal.commitment(),
            anchor: Anchor(chain.anchor().0),
            length: self.length,
            face_value: self.face_value,
            threshold: Threshold::ALWAYS,
        };
        Some(Claim {
            book: Signed::new(body, signer),
            reveal,
            through,
            preimage: chain.preimage(through)?,
        })
    }
}
