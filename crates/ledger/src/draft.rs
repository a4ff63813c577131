//! Answers whose signatures are still blank, so that the writer signs nothing and repeats are the same bytes.

use tombola_core::codec::List;
use tombola_core::key::{SecretKey, Signature, Signed, Tagged};
use tombola_core::message::{Charge, ClaimAnswer, EscrowAnswer, StatementKind};

/// An answer to be signed on its way out. Ed25519 is deterministic, so each signing of a draft gives the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft(EscrowAnswer);

impl Draft {
    pub(crate) const fn new(answer: EscrowAnswer) -> Self {
        Self(answer)
    }

    /// What it says, with zeros for signatures.
    #[must_use]
    pub const fn unsigned(&self) -> &EscrowAnswer {
        &self.0
    }

    /// Signs everything in it that bears the escrow's signature: 14 us each, on any core.
    #[must_use]
    pub fn sign(self, key: &SecretKey) -> EscrowAnswer {
        match self.0 {
            EscrowAnswer::Hold(hold) => EscrowAnswer::Hold(signed(hold, key)),
            EscrowAnswer::RevisionStale(hold) => EscrowAnswer::RevisionStale(signed(hold, key)),
            EscrowAnswer::HoldStatus(mut status) => {
                status.hold = signed(status.hold, key);
                EscrowAnswer::HoldStatus(status)
            }
            EscrowAnswer::Account(mut state) => {
                state.holds = map(state.holds, |mut status| {
                    status.hold = signed(status.hold, key);
                    status
                });
                EscrowAnswer::Account(state)
            }
            EscrowAnswer::Claimed { answers } => EscrowAnswer::Claimed {
                answers: map(answers, |answer| match answer {
                    ClaimAnswer::Receipt(receipt) => ClaimAnswer::Receipt(signed(receipt, key)),
                    ClaimAnswer::Refusal(refusal) => ClaimAnswer::Refusal(signed(refusal, key)),
                }),
            },
            EscrowAnswer::Statement(mut page) => {
                page.entries = map(page.entries, |mut entry| {
                    sign_entry(&mut entry.kind, key);
                    entry
                });
                EscrowAnswer::Statement(page)
            }
            plain @ (EscrowAnswer::Rejected(_)
            | EscrowAnswer::Info(_)
            | EscrowAnswer::Released { .. }
            | EscrowAnswer::Delegated { .. }
            | EscrowAnswer::Transferred(_)
            | EscrowAnswer::WithdrawalPending { .. }
            | EscrowAnswer::PayoutSet { .. }
            | EscrowAnswer::SplitSet { .. }
            | EscrowAnswer::Resubmitted { .. }) => plain,
        }
    }
}

fn sign_entry(kind: &mut StatementKind, key: &SecretKey) {
    match kind {
        StatementKind::Held { hold, .. } => **hold = signed(**hold, key),
        StatementKind::Charged(charge) => sign_charge(charge, key),
        StatementKind::Redeemed(redemption) => sign_charge(&mut redemption.charge, key),
        StatementKind::Deposited { .. }
        | StatementKind::Returned { .. }
        | StatementKind::Sent { .. }
        | StatementKind::Received { .. }
        | StatementKind::Withdrawn { .. }
        | StatementKind::WithdrawalPaid { .. }
        | StatementKind::WithdrawalFailed { .. }
        | StatementKind::Shared { .. }
        | StatementKind::Private => {}
    }
}

fn sign_charge(charge: &mut Charge, key: &SecretKey) {
    charge.hold = signed(charge.hold, key);
    charge.receipt = signed(charge.receipt, key);
}

/// An object that waits for its signature.
pub(crate) const fn blank<T>(body: T) -> Signed<T> {
    Signed {
        body,
        signature: Signature([0; 64]),
    }
}

fn signed<T: Tagged>(draft: Signed<T>, key: &SecretKey) -> Signed<T> {
    Signed::new(draft.body, key)
}

fn map<T, const MAX: usize>(list: List<T, MAX>, change: impl FnMut(T) -> T) -> List<T, MAX> {
    let items = list.into_vec().into_iter().map(change).collect();
    // As many as before.
    List::new(items).unwrap_or_default()
}
