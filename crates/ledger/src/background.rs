//! What a writer looks for by itself: policies that are due, and rows that nobody needs any more.

use crate::decide::terms_of;
use crate::key::{HoldKey, Key};
use crate::ledger::{Command, decode_as};
use crate::query::{add_credits, decode};
use crate::row::{AccountRow, AnswerAge, HoldRow, LogPlace, PayoutRow, Table};
use crate::store::{Change, Range, Reader, StoreFault};
use tombola_core::amount::Timestamp;
use tombola_core::escrow::{EscrowConfig, payout};
use tombola_core::key::BookId;
use tombola_core::limits::{ANSWER_KEPT_MS, ENDED_KEPT_MS};

/// One look at some policies.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Those that are due.
    pub(crate) batch: Vec<Command>,
    /// The account to go on from.
    pub(crate) next: u64,
}

/// Which of the next policies are due by all that came in, folded or not; each is decided again by its command.
pub(crate) async fn due_policies<R: Reader>(
    reader: &R,
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
    let mut batch = Vec::new();
    for (key, stored) in &found {
        let PayoutRow { policy, clock } = decode(*key, stored)?;
        let Some(policy) = policy else { continue };
        let row = key.last_number();
        let account = reader.load(&[Key::account(row)]).await?.pop().flatten();
        let account = account.ok_or(StoreFault::DamagedRow(Table::Accounts))?;
        let mut account: AccountRow = decode(Key::account(row), &account)?;
        add_credits(reader, row, &mut account).await?;
        if payout::due(&policy, &clock, account.balance, now, &terms_of(config)).is_some() {
            batch.push(Command::PayOut { account: row });
        }
    }
    let last = found.last().filter(|_| found.len() >= limit);
    let next = last.map_or(0, |(key, _)| key.last_number().saturating_add(1));
    Ok(Turn { batch, next })
}

/// Rows to be forgotten.
#[derive(Debug, Default)]
pub(crate) struct OldRows {
    /// Their removal.
    pub(crate) changes: Vec<Change>,
    /// How many answers, books, holds and withdrawals that is.
    pub(crate) count: usize,
}

impl OldRows {
    fn remove(&mut self, key: Key, version: u64) {
        self.changes.push(Change {
            key,
            before: version,
            after: None,
        });
    }
}

/// At most `limit` answers, books, holds and withdrawals that are old enough. Spec: G-08.
pub(crate) async fn old_rows<R: Reader>(reader: &R, limit: usize, now: Timestamp) -> Result<OldRows, StoreFault> {
    let mut old = OldRows::default();
    old_answers(reader, &mut old, limit, now).await?;
    old_withdrawals(reader, &mut old, limit, now).await?;
    old_holds(reader, &mut old, limit, now).await?;
    Ok(old)
}

async fn old_answers<R: Reader>(reader: &R, old: &mut OldRows, limit: usize, now: Timestamp) -> Result<(), StoreFault> {
    let none = LogPlace { writer: 0, height: 0 };
    let range = Range {
        from: Key::answer_age(Timestamp(0), none),
        to: Some(Key::answer_age(now.minus_ms(ANSWER_KEPT_MS), none)),
        limit,
    };
    for (key, stored) in reader.scan(&range).await? {
        let age = decode_as::<AnswerAge>(Table::AnswerAges, &stored)?;
        old.remove(key, stored.version);
        old.remove(Key::answer(&age.connection, &age.request), 1);
        old.count = old.count.saturating_add(1);
    }
    Ok(())
}

async fn old_withdrawals<R: Reader>(
    reader: &R,
    old: &mut OldRows,
    limit: usize,
    now: Timestamp,
) -> Result<(), StoreFault> {
    let range = Range {
        from: Key::settled_withdrawal(Timestamp(0), 0),
        to: Some(Key::settled_withdrawal(now.minus_ms(ENDED_KEPT_MS), u64::MAX)),
        limit: limit.saturating_sub(old.count),
    };
    let found = reader.scan(&range).await?;
    let keys: Vec<Key> = found
        .iter()
        .map(|(key, _)| Key::withdrawal(key.last_number()))
        .collect();
    for ((listed, entry), (key, row)) in found.iter().zip(keys.iter().zip(reader.load(&keys).await?)) {
        // Another writer may have forgotten it meanwhile.
        let Some(row) = row else { continue };
        old.remove(*listed, entry.version);
        old.remove(*key, row.version);
        old.count = old.count.saturating_add(1);
    }
    Ok(())
}

/// Books first: a hold goes with the last of them, so that no book is ever without its hold.
async fn old_holds<R: Reader>(reader: &R, old: &mut OldRows, limit: usize, now: Timestamp) -> Result<(), StoreFault> {
    let hold = |payer, serial| HoldKey { payer, serial };
    let range = Range {
        from: Key::ended(Timestamp(0), hold(0, 0)),
        to: Some(Key::ended(now.minus_ms(ENDED_KEPT_MS), hold(u64::MAX, u64::MAX))),
        limit: limit.saturating_sub(old.count),
    };
    for (listed, entry) in reader.scan(&range).await? {
        let place = listed.last_hold();
        let room = limit.saturating_sub(old.count);
        let range = Range {
            from: Key::book(place, &BookId([0; 32])),
            to: Some(Key::book(place, &BookId([0xff; 32]))),
            limit: room,
        };
        let books = reader.scan(&range).await?;
        old.count = old.count.saturating_add(books.len());
        for (key, stored) in &books {
            old.remove(*key, stored.version);
        }
        if books.len() >= room {
            return Ok(());
        }
        let key = Key::hold(place);
        let Some(row) = reader.load(&[key]).await?.pop().flatten() else {
            continue;
        };
        let id = decode::<HoldRow>(key, &row)?.hold.id();
        old.remove(Key::hold_id(&id), 1);
        old.remove(key, row.version);
        old.remove(listed, entry.version);
        old.count = old.count.saturating_add(1);
    }
    Ok(())
}
