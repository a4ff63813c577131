//! Delegated signers: what an account lets another key do with its deposit, so that its own key can stay offline.
//!
//! A signer opens and tops up holds, within what the account signed. The ledger keeps one record for each account and
//! signer: the delegation in force, and the sum over the signer's holds of (open ? cap : paid).

use crate::amount::{Amount, Timestamp};
use crate::hold::Delegation;
use crate::key::AccountKey;
use crate::limits::SIGNERS_PER_ACCOUNT_MAX;
use crate::message::{EscrowCommand, HoldRequest};
use crate::reject::{Code, Reject};

/// A signer as the ledger of an account has it; it is never forgotten, or an old delegation would be good again. Spec: A-04.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerRecord {
    /// The last delegation; none where the account itself opened holds for this signer.
    pub delegation: Option<Delegation>,
    /// Sum over all holds of this account and signer of (open ? cap : paid), whoever opened them.
    pub committed: Amount,
}

/// What to do about a delegation whose signature was verified. Spec: A-04.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegationVerdict {
    /// It is in force from now on.
    Replace,
    /// It was before: the same answer again.
    Repeat,
}

/// Decides on a delegation; `signers` is how many records the account has. Spec: A-04.
///
/// # Errors
/// `wrong_escrow`, `bad_terms` for the account itself as signer, `delegation_stale` (current, given), `busy` (limit, now).
pub fn accept(
    given: &Delegation,
    record: Option<&SignerRecord>,
    escrow: &AccountKey,
    signers: u32,
) -> Result<DelegationVerdict, Reject> {
    if given.escrow != *escrow {
        return Err(Reject::of(Code::WrongEscrow));
    }
    if given.signer == given.account {
        return Err(Reject::of(Code::BadTerms));
    }
    let Some(record) = record else {
        return check_signers(signers).map(|()| DelegationVerdict::Replace);
    };
    match &record.delegation {
        Some(current) if current == given => Ok(DelegationVerdict::Repeat),
        Some(current) if given.serial <= current.serial => {
            Err(Reject::compared(Code::DelegationStale, current.serial, given.serial))
        }
        Some(_) | None => Ok(DelegationVerdict::Replace),
    }
}

/// Whether an account may have one more signer, be it by a delegation or by a hold. Spec: A-04.
///
/// # Errors
/// `busy` (limit, now).
pub fn check_signers(signers: u32) -> Result<(), Reject> {
    if signers >= SIGNERS_PER_ACCOUNT_MAX {
        let (limit, now) = (u64::from(SIGNERS_PER_ACCOUNT_MAX), u64::from(signers));
        return Err(Reject::compared(Code::Busy, limit, now));
    }
    Ok(())
}

/// Whether a key that is not the account's may ask for this at all. Spec: A-01.
///
/// `Info` is anyone's; Release, Delegate, Claim and Resubmit carry their own authority and are not asked about here.
///
/// # Errors
/// `unauthorized`.
pub fn check_command(command: &EscrowCommand) -> Result<(), Reject> {
    match command {
        EscrowCommand::Info
        | EscrowCommand::Account { .. }
        | EscrowCommand::OpenHold { .. }
        | EscrowCommand::TopUpHold { .. }
        | EscrowCommand::HoldStatus { .. }
        | EscrowCommand::Statement { .. }
        | EscrowCommand::Subscribe { .. }
        | EscrowCommand::Release(_)
        | EscrowCommand::Delegate { .. }
        | EscrowCommand::Claim { .. }
        | EscrowCommand::Resubmit { .. } => Ok(()),
        EscrowCommand::Transfer { .. }
        | EscrowCommand::Withdraw { .. }
        | EscrowCommand::SetPayout { .. }
        | EscrowCommand::SetSplit { .. } => Err(Reject::of(Code::Unauthorized)),
    }
}

/// What a signer wants to promise: the parts of a hold that a delegation limits. Spec: A-05.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// Who will sign books.
    pub signer: AccountKey,
    /// For whom.
    pub payee: AccountKey,
    /// Largest face value.
    pub face_value_max: Amount,
    /// No ticket after this.
    pub expires_at: Timestamp,
    /// The whole cap of a new hold, or by how much a top-up raises it.
    pub amount: Amount,
}

impl Promise {
    /// Of a new hold.
    #[must_use]
    pub const fn of_request(hold: &HoldRequest) -> Self {
        Self {
            signer: hold.signer,
            payee: hold.payee,
            face_value_max: hold.face_value_max,
            expires_at: hold.expires_at,
            amount: hold.cap,
        }
    }

    /// Of a top-up to a cap.
    #[must_use]
    pub const fn of_top_up(hold: &crate::hold::Hold, cap: Amount) -> Self {
        Self {
            signer: hold.terms.signer,
            payee: hold.terms.payee,
            face_value_max: hold.terms.face_value_max,
            expires_at: hold.terms.expires_at,
            amount: cap.saturating_sub(hold.cap),
        }
    }
}

/// Whether a delegated signer may open or top up a hold; what any payer must obey is checked besides. Spec: A-05.
///
/// # Errors
/// `unauthorized` without a delegation or for another's hold, `delegation_revoked`, `delegation_expired` (needed,
/// expires_at), `payee_not_allowed`, `face_out_of_range` (limit, given), `over_spend_max` (limit, would be).
pub fn authorise(
    signer: &AccountKey,
    promise: &Promise,
    record: Option<&SignerRecord>,
    now: Timestamp,
) -> Result<(), Reject> {
    let (record, delegation) = in_force(record, now)?;
    if promise.signer != *signer {
        return Err(Reject::of(Code::Unauthorized));
    }
    let expires_at = delegation.expires_at;
    if promise.expires_at > expires_at {
        let needed = promise.expires_at.0;
        return Err(Reject::compared(Code::DelegationExpired, needed, expires_at.0));
    }
    let payees = delegation.payees.as_slice();
    if !payees.is_empty() && !payees.contains(&promise.payee) {
        return Err(Reject::of(Code::PayeeNotAllowed));
    }
    if promise.face_value_max > delegation.face_value_max {
        let (limit, given) = (delegation.face_value_max.0, promise.face_value_max.0);
        return Err(Reject::compared(Code::FaceOutOfRange, limit, given));
    }
    let would_be = record.committed.0.saturating_add(promise.amount.0);
    let over = Reject::compared(Code::OverSpendMax, delegation.spend_max.0, would_be);
    // Also where the sum does not fit in an amount.
    let sum = record.committed.checked_add(promise.amount).ok_or(over)?;
    if sum > delegation.spend_max {
        return Err(over);
    }
    Ok(())
}

/// Whether a key may read what a signer may: also with a delegation that has ended, as its books go on. Spec: A-06.
///
/// # Errors
/// `unauthorized`.
pub fn check_reader(record: Option<&SignerRecord>) -> Result<(), Reject> {
    match record.and_then(|record| record.delegation.as_ref()) {
        Some(_) => Ok(()),
        None => Err(Reject::of(Code::Unauthorized)),
    }
}

/// What a signer can still promise: of the balance, what its delegation leaves. Spec: A-06.
#[must_use]
pub fn spendable(record: Option<&SignerRecord>, balance: Amount, now: Timestamp) -> Amount {
    let left = in_force(record, now).map(|(record, delegation)| delegation.spend_max.saturating_sub(record.committed));
    left.map_or(Amount::ZERO, |left| left.min(balance))
}

/// The record and the delegation that is in force now.
fn in_force(record: Option<&SignerRecord>, now: Timestamp) -> Result<(&SignerRecord, &Delegation), Reject> {
    let unauthorized = Reject::of(Code::Unauthorized);
    let record = record.ok_or(unauthorized)?;
    let delegation = record.delegation.as_ref().ok_or(unauthorized)?;
    if delegation.spend_max.is_zero() {
        return Err(Reject::of(Code::DelegationRevoked));
    }
    if now > delegation.expires_at {
        let ended = delegation.expires_at.0;
        return Err(Reject::compared(Code::DelegationExpired, now.0, ended));
    }
    Ok((record, delegation))
}

#[cfg(test)]
mod tests;
