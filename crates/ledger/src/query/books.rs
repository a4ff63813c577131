//! What an operator asks: payouts that wait for it, and what its fees came to.

use super::{decode, load_all, writers};
use crate::key::Key;
use crate::row::{AccountRow, Totals, WithdrawalRow};
use crate::store::{Range, Reader, StoreFault};
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::escrow::payout::WithdrawalState;
use tombola_core::key::AccountKey;
use tombola_core::message::Reference;

/// A withdrawal that waits to be paid out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PendingWithdrawal {
    /// Its number.
    pub withdrawal: u64,
    /// Whose.
    pub account: AccountKey,
    /// What left the balance.
    pub amount: Amount,
    /// What of it the escrow keeps when it is paid: the rest is to go out.
    pub fee: Amount,
    /// Where to.
    pub destination: Reference,
    /// The owner's; empty for an automatic payout.
    pub reference: Reference,
    /// When it left the balance.
    pub asked_at: Timestamp,
}

/// Withdrawals that wait to be paid out with a larger number than `after`, at most `limit`, by number.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub async fn pending_withdrawals<R: Reader>(
    reader: &R,
    after: u64,
    limit: usize,
) -> Result<Vec<PendingWithdrawal>, StoreFault> {
    let Some(from) = after.checked_add(1) else {
        return Ok(Vec::new());
    };
    let range = Range {
        from: Key::pending_withdrawal(from),
        to: None,
        limit,
    };
    let mut pending = Vec::new();
    for (key, _) in reader.scan(&range).await? {
        let number = key.last_number();
        // Settled meanwhile, where the reader is no snapshot.
        let stored = reader.load(&[Key::withdrawal(number)]).await?.pop().flatten();
        let Some(stored) = stored else { continue };
        let row: WithdrawalRow = decode(Key::withdrawal(number), &stored)?;
        if row.state != WithdrawalState::Pending {
            continue;
        }
        let owner = load_all::<R, AccountRow>(reader, &[Key::account(row.account)]).await?;
        let account = owner.first().ok_or(StoreFault::Damaged)?.account;
        pending.push(PendingWithdrawal {
            withdrawal: number,
            account,
            amount: row.amount,
            fee: row.fee,
            destination: row.destination,
            reference: row.reference,
            asked_at: row.asked_at,
        });
    }
    Ok(pending)
}

/// What the escrow's fees came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct FeeReport {
    /// Kept of winners, ever.
    pub winners: i128,
    /// Kept of payouts, ever.
    pub payouts: i128,
    /// Collected by the operator, ever.
    pub collected: i128,
    /// Not collected yet: winners + payouts - collected.
    pub left: i128,
    /// Of that, what this writer can collect: what it kept, and what writers that it removed had. What others have is
    /// theirs to collect.
    pub left_of_writer: i128,
}

/// The fees of all writers, and what one of them can collect.
///
/// # Errors
/// [`StoreFault`] if the reader fails.
pub async fn fee_report<R: Reader>(reader: &R, writer: u32) -> Result<FeeReport, StoreFault> {
    let (mut sum, mut left_of_writer) = (Totals::EMPTY, 0);
    for (number, totals) in writers(reader).await? {
        sum.add(&totals);
        if number == writer {
            left_of_writer = totals.fees.saturating_add(totals.inherited);
        }
    }
    Ok(FeeReport {
        winners: sum.winner_fees(),
        payouts: sum.payout_fees,
        collected: sum.collected,
        left: sum.fees,
        left_of_writer,
    })
}
