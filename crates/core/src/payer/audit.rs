//! The audit: every charge, every draw, checked again by the one who paid.

use crate::amount::Amount;
use crate::hold::Hold;
use crate::key::{AccountKey, BookId};
use crate::message::Charge;
use crate::odds::Threshold;
use crate::reject::Reject;

/// What a payer writes down of a book: when it is opened, when it is closed or its stream is lost, and when the payee says
/// where a lost one stands. Spec: S-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct JournalRow {
    /// Which book.
    pub book: BookId,
    /// What a winner costs.
    pub face_value: Amount,
    /// What wins.
    pub threshold: Threshold,
    /// Highest index that the payee acknowledged or stated; none while the line is open, and for good if the process died.
    pub acknowledged: Option<u32>,
    /// Tickets above it that were sent when the stream was lost: whether they were drawn is not known until the payee says.
    pub in_flight: u32,
}

impl JournalRow {
    /// The payee has said where a book stands that was lost, or was open when the process died. It cannot take back what it
    /// acknowledged, and a book that it closed stands where it said then. Spec: D-04.
    pub fn found(&mut self, through: u32) {
        let Some(acknowledged) = self.acknowledged else {
            self.acknowledged = Some(through);
            return;
        };
        let sent = acknowledged.saturating_add(self.in_flight);
        self.acknowledged = Some(through.clamp(acknowledged, sent));
        self.in_flight = 0;
    }
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
    /// Tickets that the payee redeemed beyond what it had acknowledged or stated, and beyond what was in flight when its
    /// stream was lost; unknown where the journal line is missing or open.
    pub beyond: Option<u32>,
    /// Tickets in flight on a lost stream that the payee redeemed, and never said where the book stands.
    pub lost: u32,
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
    let standing = journal
        .filter(|row| row.book == winnings.book)
        .and_then(|row| Some((row.acknowledged?, row.in_flight)));
    let over = standing.map(|(acknowledged, in_flight)| (winnings.through.saturating_sub(acknowledged), in_flight));
    Ok(Audited {
        book: winnings.book,
        through: winnings.through,
        winners: winnings.winners,
        gross: winnings.gross,
        beyond: over.map(|(over, in_flight)| over.saturating_sub(in_flight)),
        lost: over.map_or(0, |(over, in_flight)| over.min(in_flight)),
    })
}
