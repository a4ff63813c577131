//! Claims, receipts and refusals: how winners become money, and what each side can show afterwards.

use crate::amount::{Amount, Timestamp};
use crate::book::{Book, Ticket};
use crate::chain::Preimage;
use crate::codec::{List, Tag, hex_bytes, tagged_hash};
use crate::draw::{Draw, Reveal};
use crate::hold::Hold;
use crate::key::{AccountKey, BadKey, BookId, PublicKey, Signed, Tagged};
use crate::limits::{BOOK_LENGTH_MAX, CLAIMS_PER_BATCH_MAX};
use crate::reject::{Code, Reject};
use bincode::{Decode, Encode};

/// The message that redeems one book: with the hold, all that anyone needs to check every draw. Spec: R-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Claim {
    /// The book with the signature of the hold's signer.
    pub book: Signed<Book>,
    /// Opens the book's commitment.
    pub reveal: Reveal,
    /// The highest winning index.
    pub through: u32,
    /// `w[through]`.
    pub preimage: Preimage,
}

/// What a claim proves by itself: how many of its tickets win.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Winnings {
    /// Which book.
    pub book: BookId,
    /// The highest winning index, which was drawn first.
    pub through: u32,
    /// `w[through]`.
    pub preimage: Preimage,
    /// Winning indices up to `through`.
    pub winners: u32,
    /// Winners times face value.
    pub gross: Amount,
    /// What the escrow keeps of it.
    pub fee: Amount,
}

impl Claim {
    /// Verifies everything about a claim that needs no ledger: pure, and the dear part. Spec: R-11.
    ///
    /// In this order, cheap before dear: bounds, commitment, the top draw, the signature, then the walk with every draw.
    ///
    /// # Errors
    /// `hold_mismatch`, `book_too_long`, `face_out_of_range`, `index_zero`, `index_past_end`, `commitment_mismatch`,
    /// `claim_does_not_win`, `bad_key`, `bad_signature`, `chain_broken`, `claim_over_cap`.
    pub fn verify(&self, hold: &Hold) -> Result<Winnings, Reject> {
        self.verify_with(hold, || hold.terms.signer.check())
    }

    /// As [`Self::verify`], for whoever has checked the hold's signer before: checking a key costs as much as a signature.
    ///
    /// # Errors
    /// As [`Self::verify`]; `bad_key` if the key is not the hold's signer.
    pub fn verify_by(&self, hold: &Hold, signer: &PublicKey) -> Result<Winnings, Reject> {
        let is_signer = signer.account() == hold.terms.signer;
        self.verify_with(hold, || if is_signer { Ok(*signer) } else { Err(BadKey) })
    }

    fn verify_with(&self, hold: &Hold, signer: impl FnOnce() -> Result<PublicKey, BadKey>) -> Result<Winnings, Reject> {
        let book = &self.book.body;
        book.check_hold(hold)?;
        if self.through == 0 {
            return Err(Reject::of(Code::IndexZero));
        }
        if self.through > book.length {
            return Err(Reject::compared(
                Code::IndexPastEnd,
                u64::from(book.length),
                u64::from(self.through),
            ));
        }
        if self.reveal.commitment() != book.commitment {
            return Err(Reject::of(Code::CommitmentMismatch));
        }
        let id = book.id();
        let draw = Draw::new(&id, &self.reveal, book.threshold);
        if !draw.wins(self.through, &self.preimage) {
            return Err(Reject::of(Code::ClaimDoesNotWin));
        }
        self.book.verify(&signer()?)?;
        let winners = self.count_winners(&draw)?;
        let over = Reject::compared(Code::ClaimOverCap, u64::MAX, hold.cap.0);
        let gross = book.face_value.checked_mul(u64::from(winners)).ok_or(over)?;
        let fee = hold
            .terms
            .fee
            .per_winner(book.face_value)
            .checked_mul(u64::from(winners))
            .ok_or(over)?;
        Ok(Winnings {
            book: id,
            through: self.through,
            preimage: self.preimage,
            winners,
            gross,
            fee,
        })
    }

    /// The most tickets that verifying it can walk, whatever its sender wrote: what is past the end, or in a book that no
    /// hold allows, is refused before the walk. Spec: B-03, R-11.
    #[must_use]
    pub fn tickets_max(&self) -> u32 {
        self.through.min(self.book.body.length).min(BOOK_LENGTH_MAX)
    }

    /// How many tickets were walked to find that it is good, or what is wrong with it: [`Self::verify`] walks after all
    /// that is cheap.
    #[must_use]
    pub fn tickets_walked(&self, refused: Option<Code>) -> u32 {
        // Of a receipt that does not fit its claim nobody says whether that was seen before the walk, so it counts.
        let is_after_walk = |code| matches!(code, Code::ChainBroken | Code::ClaimOverCap | Code::ReceiptMismatch);
        if refused.is_none_or(is_after_walk) {
            self.tickets_max()
        } else {
            0
        }
    }

    /// Walks from `through` to the anchor and draws every index on the way.
    fn count_winners(&self, draw: &Draw) -> Result<u32, Reject> {
        let mut at = self.preimage;
        let mut winners = 0u32;
        for index in (1..=self.through).rev() {
            let hashes = draw.hash(&Ticket { index, preimage: at });
            if draw.is_win(hashes.number) {
                winners = winners.saturating_add(1);
            }
            at = hashes.below;
        }
        if at.0 != self.book.body.anchor.0 {
            return Err(Reject::of(Code::ChainBroken));
        }
        Ok(winners)
    }

    /// The hash by which a refusal names this claim. Spec: R-14.
    #[must_use]
    pub fn hash(&self) -> ClaimHash {
        ClaimHash(tagged_hash(CLAIM_HASH_TAG, self))
    }
}

hex_bytes!(
    /// Names a claim in a refusal. Spec: R-14.
    ClaimHash,
    32
);

/// Claims of one payee, judged one by one. Signed when not sent on the payee's own connection. Spec: R-10.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct ClaimBatch {
    /// The escrow that is to pay.
    pub escrow: AccountKey,
    /// Whom.
    pub payee: AccountKey,
    /// For what.
    pub claims: List<Claim, CLAIMS_PER_BATCH_MAX>,
}

impl Tagged for ClaimBatch {
    const TAG: Tag = Tag::new("tombola/claims/v1");
}

/// The escrow's signed answer to a claim it paid. All sums are of the whole book up to `through`. Spec: R-13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Receipt {
    /// Who paid.
    pub escrow: AccountKey,
    /// Which of its writers.
    pub writer: u32,
    /// For which book.
    pub book: BookId,
    /// Up to which index.
    pub through: u32,
    /// Winners up to `through`.
    pub winners: u32,
    /// What they took from the hold.
    pub gross: Amount,
    /// What of it the escrow kept.
    pub fee: Amount,
    /// What the hold had paid in all, after this claim.
    pub hold_paid_after: Amount,
    /// Ledger time.
    pub at: Timestamp,
    /// Height of the event in the writer's log.
    pub height: u64,
    /// Head of the writer's log after the event.
    pub head: Head,
}

impl Tagged for Receipt {
    const TAG: Tag = Tag::new("tombola/receipt/v1");
}

hex_bytes!(
    /// The hash of a log up to some event. Spec: G-02.
    Head,
    32
);

/// The escrow's signed answer to a claim it did not pay. Spec: R-14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, serde::Serialize)]
pub struct Refusal {
    /// Who refused.
    pub escrow: AccountKey,
    /// Which of its writers.
    pub writer: u32,
    /// For which book.
    pub book: BookId,
    /// Which claim, exactly.
    pub claim_hash: ClaimHash,
    /// Why.
    pub code: Code,
    /// The hold's revision then; 0 if unknown.
    pub revision: u32,
    /// The hold's cap then.
    pub cap: Amount,
    /// What the hold had paid then.
    pub paid: Amount,
    /// Ledger time.
    pub at: Timestamp,
}

impl Tagged for Refusal {
    const TAG: Tag = Tag::new("tombola/refusal/v1");
}

const CLAIM_HASH_TAG: Tag = Tag::new("tombola/claim-hash/v1");

#[cfg(test)]
mod tests;
