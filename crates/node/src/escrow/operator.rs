//! What an operator does about payouts and fees, beside a running node or in the books of a stopped one.

use super::{Escrow, EscrowBooks, EscrowNodeError, expect_one};
use crate::clock;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::escrow::payout::PayoutOutcome;
use tombola_core::key::AccountKey;
use tombola_core::message::Reference;
use tombola_core::reject::Reject;
use tombola_ledger::ledger::{Command, Outcome};

/// A withdrawal that has ended, for good.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Settled {
    /// Its number.
    pub withdrawal: u64,
    /// Paid or failed.
    pub outcome: PayoutOutcome,
    /// What had left the balance.
    pub amount: Amount,
    /// What of it the escrow keeps if it was paid.
    pub fee: Amount,
    /// Ledger time.
    pub at: Timestamp,
}

/// Fees that are an account's now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FeesCollected {
    /// Whose account.
    pub account: AccountKey,
    /// How much.
    pub amount: Amount,
    /// As given; the same reference moves money once.
    pub reference: Reference,
    /// Ledger time.
    pub at: Timestamp,
    /// Height of the event in the log; the same for each repeat.
    pub height: u64,
}

impl Escrow {
    /// Books what became of a withdrawal. The same again is answered the same. Spec: R-23.
    ///
    /// # Errors
    /// [`EscrowNodeError::Rejected`] with `withdrawal_unknown` (0, number), `withdrawal_settled`, `busy` or
    /// `unavailable`.
    pub async fn settle(
        &self,
        withdrawal: u64,
        outcome: PayoutOutcome,
        reference: &Reference,
    ) -> Result<Settled, EscrowNodeError> {
        let command = settle_command(withdrawal, outcome, reference);
        settled(self.shared.submit(vec![command]).await?)
    }

    /// Moves fees that this writer has into an account. The same reference moves money once. Spec: G-07.
    ///
    /// # Errors
    /// [`EscrowNodeError::Rejected`] with `bad_key`, `amount_zero`, `insufficient_funds` (need, has),
    /// `reference_reused`, `busy` or `unavailable`.
    pub async fn collect_fees(
        &self,
        account: &AccountKey,
        amount: Amount,
        reference: &Reference,
    ) -> Result<FeesCollected, EscrowNodeError> {
        let command = collect_command(account, amount, reference)?;
        collected(self.shared.submit(vec![command]).await?, reference)
    }
}

impl EscrowBooks {
    /// As [`Escrow::settle`].
    ///
    /// # Errors
    /// As there.
    pub async fn settle(
        &mut self,
        withdrawal: u64,
        outcome: PayoutOutcome,
        reference: &Reference,
    ) -> Result<Settled, EscrowNodeError> {
        let command = settle_command(withdrawal, outcome, reference);
        self.may_change()?;
        let outcomes = self.ledger.execute(vec![command], clock::now()).await?;
        self.witness_change()?;
        settled(outcomes)
    }

    /// As [`Escrow::collect_fees`].
    ///
    /// # Errors
    /// As there.
    pub async fn collect_fees(
        &mut self,
        account: &AccountKey,
        amount: Amount,
        reference: &Reference,
    ) -> Result<FeesCollected, EscrowNodeError> {
        let command = collect_command(account, amount, reference)?;
        self.may_change()?;
        let outcomes = self.ledger.execute(vec![command], clock::now()).await?;
        self.witness_change()?;
        collected(outcomes, reference)
    }
}

fn settle_command(withdrawal: u64, outcome: PayoutOutcome, reference: &Reference) -> Command {
    Command::Settle {
        withdrawal,
        outcome,
        reference: reference.clone(),
    }
}

fn settled(outcomes: Vec<Outcome>) -> Result<Settled, EscrowNodeError> {
    expect_one(outcomes, |outcome| {
        let Outcome::Settled {
            withdrawal,
            outcome,
            amount,
            fee,
            at,
        } = outcome
        else {
            return None;
        };
        Some(Settled {
            withdrawal,
            outcome,
            amount,
            fee,
            at,
        })
    })
}

fn collect_command(account: &AccountKey, amount: Amount, reference: &Reference) -> Result<Command, Reject> {
    Ok(Command::CollectFees {
        account: account.check()?,
        amount,
        reference: reference.clone(),
    })
}

fn collected(outcomes: Vec<Outcome>, reference: &Reference) -> Result<FeesCollected, EscrowNodeError> {
    expect_one(outcomes, |outcome| {
        let Outcome::FeesCollected {
            account,
            amount,
            at,
            place,
        } = outcome
        else {
            return None;
        };
        Some(FeesCollected {
            account,
            amount,
            reference: reference.clone(),
            at,
            height: place.height,
        })
    })
}
