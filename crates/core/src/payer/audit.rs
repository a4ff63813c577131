//! The audit: every charge, every draw, checked again by the one who paid.

use crate::amount::Amount;
use crate::hold::Hold;
use crate::key::{AccountKey, BookId};
use crate::message::Charge;
use crate::odds::Threshold;
use crate::reject::Reject;

/// What a payer writes down of a book: on opening, and again when it is closed. Spec: S-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct JournalRow {
    /// Which book.
    pub book: BookId,
    /// What a winner costs.
    pub face_value: Amount,
    /// What wins.
    pub threshold: Threshold,
    /// Highest index that the payee acknowledged; none while the line is open, and for good if the process died.
    pub acknowledged: Option<u32>,
}

/// A charge that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audited {
    /// Which book.
    pub book: BookId,
    /// Up to which index it was redeemed.
    pub through: u32,
    /// Draws made again.
    pub winners: u32,
    /// What the book has cost.
    pub gross: Amount,
    /// Whether the payee redeemed beyond what it had acknowledged; unknown where the journal line is missing.
    pub beyond: Option<u32>,
}

/// What is wrong with a charge. Each is evidence against whom it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChargeFault {
    /// The hold in the statement is not one the escrow signed, or is not this payer's.
    #[error("the hold of the charge does not hold: {0}")]
    Hold(Reject),
    /// The claim does not verify: signature, commitment, chain, or the top draw.
    #[error("the claim does not verify: {0}")]
    Claim(Reject),
    /// The receipt is not the escrow's, or is for something else.
    #[error("the receipt does not verify: {0}")]
    Receipt(Reject),
    /// The escrow paid another sum than the draws make.
    #[error("the draws make {drawn:?}, the receipt says {paid:?}")]
    Sum {
        /// Winners times face value.
        drawn: Amount,
        /// Gross of the receipt.
        paid: Amount,
    },
}

/// Checks one charge of a statement: hold, own signature, commitment, chain, every draw, and the sum. Spec: S-02.
///
/// # Errors
/// [`ChargeFault`] with what does not hold.
pub fn audit_charge(
    charge: &Charge,
    escrow: &AccountKey,
    payer: &AccountKey,
    journal: Option<&JournalRow>,
) -> Result<Audited, ChargeFault> {
    use crate::reject::Code;
    let hold: &Hold = &charge.hold.body;
    let escrow_key = escrow.check().map_err(|bad| ChargeFault::Hold(bad.into()))?;
    if hold.terms.escrow != *escrow || hold.terms.payer != *payer {
        return Err(ChargeFault::Hold(Reject::of(Code::HoldMismatch)));
    }
    charge
        .hold
        .verify(&escrow_key)
        .map_err(|bad| ChargeFault::Hold(bad.into()))?;
    let winnings = charge.claim.verify(hold).map_err(ChargeFault::Claim)?;
    charge
        .receipt
        .verify(&escrow_key)
        .map_err(|bad| ChargeFault::Receipt(bad.into()))?;
    let receipt = &charge.receipt.body;
    if receipt.book != winnings.book || receipt.through != winnings.through || receipt.escrow != *escrow {
        return Err(ChargeFault::Receipt(Reject::of(Code::BookUnknown)));
    }
    if receipt.gross != winnings.gross || receipt.winners != winnings.winners || charge.amount > receipt.gross {
        return Err(ChargeFault::Sum {
            drawn: winnings.gross,
            paid: receipt.gross,
        });
    }
    let acknowledged = journal
        .filter(|row| row.book == winnings.book)
        .and_then(|row| row.acknowledged);
    Ok(Audited {
        book: winnings.book,
        through: winnings.through,
        winners: winnings.winners,
        gross: winnings.gross,
        beyond: acknowledged.map(|acknowledged| winnings.through.saturating_sub(acknowledged)),
    })
}
