//! After a rollback: what an escrow that lost the end of its ledger takes back from those who have its signature.
//!
//! In phase Recovering it promises nothing new. A lost hold counts if it was opened after the restored ledger ends and
//! the payer's balance covers it; a lost top-up raises its hold; a lost receipt pays its book again up to where it was;
//! a lost release ends its hold as ever. Each stands for itself, so the order in which parties come does not matter.

use super::{BookRecord, HoldRecord, TopUp, Verdict, check_funds, judge};
use crate::amount::{Amount, Asset, Timestamp};
use crate::claim::{Claim, Receipt, Winnings};
use crate::hold::Hold;
use crate::key::{PublicKey, Signed};
use crate::limits::EPOCH_MAX;
use crate::message::{EscrowCommand, Evidence, Phase};
use crate::reject::{Code, Reject};

/// Whether a command is taken in a phase. Asked after looking for a kept answer. Spec: R-24.
///
/// # Errors
/// `recovering`, `draining`, `not_recovering`.
pub fn check_phase(command: &EscrowCommand, phase: Phase) -> Result<(), Reject> {
    match command {
        EscrowCommand::OpenHold { .. } | EscrowCommand::TopUpHold { .. } => match phase {
            Phase::Open => Ok(()),
            Phase::Recovering => Err(Reject::of(Code::Recovering)),
            Phase::Draining => Err(Reject::of(Code::Draining)),
        },
        EscrowCommand::Transfer { .. } | EscrowCommand::Withdraw { .. } => match phase {
            Phase::Open | Phase::Draining => Ok(()),
            Phase::Recovering => Err(Reject::of(Code::Recovering)),
        },
        EscrowCommand::Resubmit { .. } => match phase {
            Phase::Open | Phase::Draining => Err(Reject::of(Code::NotRecovering)),
            Phase::Recovering => Ok(()),
        },
        EscrowCommand::Info
        | EscrowCommand::Account { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Claim { .. }
        | EscrowCommand::Statement { .. }
        | EscrowCommand::Subscribe { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. } => Ok(()),
    }
}

/// The serial of a payer's next hold: never one that an epoch before may have given out. Spec: R-26.
///
/// `epoch << 40 | n`; an epoch has room for 2^40 holds of each payer.
#[must_use]
pub fn next_serial(next: u64, epoch: u32) -> u64 {
    let first = u64::from(epoch.min(EPOCH_MAX))
        .saturating_mul(1 << 40)
        .saturating_add(1);
    next.max(first)
}

/// What evidence proves by itself. Spec: R-25.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proved {
    /// The escrow signed this hold.
    Hold,
    /// The payee released this hold.
    Release,
    /// The escrow paid this much for this claim.
    Receipt(Winnings),
}

/// Verifies everything about evidence that needs no ledger: pure, and dear where it is a receipt. Spec: R-25.
///
/// `hold` is the one that release or claim name, in any revision, from the store or from evidence before in the list.
///
/// # Errors
/// `wrong_escrow`, `wrong_asset`, `hold_unknown`, `bad_key`, `bad_signature`, `receipt_mismatch`, and those of
/// [`Claim::verify`].
pub fn verify(evidence: &Evidence, hold: Option<&Hold>, escrow: &PublicKey, asset: &Asset) -> Result<Proved, Reject> {
    let known = hold.ok_or(Reject::of(Code::HoldUnknown));
    match evidence {
        Evidence::Hold(signed) => {
            let terms = &signed.body.terms;
            if terms.escrow != escrow.account() {
                return Err(Reject::of(Code::WrongEscrow));
            }
            if terms.asset != *asset {
                return Err(Reject::of(Code::WrongAsset));
            }
            signed.verify(escrow)?;
            Ok(Proved::Hold)
        }
        Evidence::Release(signed) => {
            signed.verify(&known?.terms.payee.check()?)?;
            Ok(Proved::Release)
        }
        Evidence::Receipt { claim, receipt } => verify_receipt(claim, receipt, known?, escrow).map(Proved::Receipt),
    }
}

/// Cheap before dear: the receipt's signature, then the claim with every draw, as another's claim could be shown with it.
fn verify_receipt(
    claim: &Claim,
    receipt: &Signed<Receipt>,
    hold: &Hold,
    escrow: &PublicKey,
) -> Result<Winnings, Reject> {
    let paid = &receipt.body;
    if paid.escrow != escrow.account() {
        return Err(Reject::of(Code::WrongEscrow));
    }
    let mismatch = Reject::compared(Code::ReceiptMismatch, u64::from(paid.through), u64::from(claim.through));
    if paid.book != claim.book.body.id() || paid.through != claim.through {
        return Err(mismatch);
    }
    receipt.verify(escrow)?;
    let won = claim.verify(hold)?;
    if (won.winners, won.gross, won.fee) != (paid.winners, paid.gross, paid.fee) {
        return Err(mismatch);
    }
    Ok(won)
}

/// What to do about a hold that bears the escrow's signature. Spec: R-25.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldVerdict {
    /// The ledger has it in this revision or a later one.
    Known,
    /// The ledger has an earlier revision.
    Raise(TopUp),
    /// The ledger lost it: its cap is to be moved from balance to hold, and the payer's next serial is to be larger.
    Restore(Hold),
}

/// Decides on a hold that bears the escrow's signature; `restored_at` is the time of the restored ledger's last event.
///
/// One that was opened before that and is not there had ended and was forgotten. One of the same millisecond counts: the
/// ledger may have ended in the midst of it, and no hold is forgotten that early. Limits of new holds do not apply.
/// Spec: R-25.
///
/// # Errors
/// `resubmitted_too_old` (restored, opened_at), `insufficient_funds`, `hold_released`, `hold_expired`.
pub fn restore_hold(
    shown: &Hold,
    known: Option<&HoldRecord>,
    balance: Amount,
    restored_at: Timestamp,
) -> Result<HoldVerdict, Reject> {
    let Some(known) = known else {
        let opened_at = shown.terms.opened_at;
        if opened_at < restored_at {
            return Err(Reject::compared(Code::ResubmittedTooOld, restored_at.0, opened_at.0));
        }
        check_funds(shown.cap, balance)?;
        return Ok(HoldVerdict::Restore(*shown));
    };
    let current = &known.hold;
    if shown.revision <= current.revision {
        return Ok(HoldVerdict::Known);
    }
    known.check_open()?;
    // A revision only raises the cap; two signed ones that do not prove equivocation, and the larger cap stands.
    let Some(amount) = shown.cap.checked_sub(current.cap) else {
        return Ok(HoldVerdict::Known);
    };
    check_funds(amount, balance)?;
    Ok(HoldVerdict::Raise(TopUp { hold: *shown, amount }))
}

/// Decides on a receipt whose claim was verified: as on the claim itself, which it repeats or pays. Spec: R-25.
///
/// What is restored keeps the receipt as it was signed, so that a repeated claim gets the same bytes. `paid` of the hold
/// goes up by what the book got, and is what it was once all receipts are back.
///
/// # Errors
/// `hold_released`, `hold_expired`, `chain_broken`, `claim_over_cap` (need, has) until the hold's later revision is back.
pub fn restore_receipt(won: &Winnings, book: Option<&BookRecord>, hold: &HoldRecord) -> Result<Verdict, Reject> {
    judge(won, &hold.hold.terms.payee, book, hold)
}

#[cfg(test)]
mod tests;
