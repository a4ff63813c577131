//! Payout policies that are due.

use crate::decide::terms_of;
use crate::key::Key;
use crate::ledger::Command;
use crate::query::{add_credits, decode};
use crate::row::{AccountRow, PayoutRow, Table};
use crate::store::{Range, Reader, Sharing, StoreFault};
use tombola_core::amount::Timestamp;
use tombola_core::escrow::{EscrowConfig, payout};

/// One look at some policies.
#[derive(Debug)]
pub(super) struct Turn {
    /// Those that are due.
    pub(super) batch: Vec<Command>,
    /// The account to go on from; 0 after the last one.
    pub(super) next: u64,
}

/// Which of the next policies are due by all that came in, folded or not; each is decided again by its command. Only a
/// shared store has credits that wait to be folded.
pub(super) async fn due_policies<R: Reader>(
    (reader, sharing): (&R, Sharing),
    config: &EscrowConfig,
    from: u64,
    limit: usize,
    now: Timestamp,
) -> Result<Turn, StoreFault> {
    let range = Range {
        from: Key::payout(from),
        to: None,
        limit,
    };
    let found = reader.scan(&range).await?;
    let mut policies = Vec::with_capacity(found.len());
    for (key, stored) in &found {
        let PayoutRow { policy, clock } = decode(*key, stored)?;
        policies.extend(policy.map(|policy| (key.last_number(), policy, clock)));
    }
    let keys: Vec<Key> = policies.iter().map(|(row, ..)| Key::account(*row)).collect();
    let accounts = reader.load(&keys).await?;
    let mut batch = Vec::new();
    for ((row, policy, clock), account) in policies.into_iter().zip(accounts) {
        let account = account.ok_or(StoreFault::DamagedRow(Table::Accounts))?;
        let mut account: AccountRow = decode(Key::account(row), &account)?;
        if sharing == Sharing::Shared {
            add_credits(reader, row, &mut account).await?;
        }
        if payout::due(&policy, &clock, account.balance, now, &terms_of(config)).is_some() {
            batch.push(Command::PayOut { account: row });
        }
    }
    let last = found.last().filter(|_| found.len() >= limit);
    let next = last.map_or(0, |(key, _)| key.last_number().saturating_add(1));
    Ok(Turn { batch, next })
}
