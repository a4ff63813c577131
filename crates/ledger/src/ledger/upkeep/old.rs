//! Rows that nobody needs any more.

use crate::key::{HoldKey, Key};
use crate::ledger::decode_as;
use crate::query::decode;
use crate::row::{AnswerAge, HoldRow, LogPlace, Table};
use crate::store::{Change, Range, Reader, StoreFault};
use tombola_core::amount::Timestamp;
use tombola_core::key::BookId;
use tombola_core::limits::{ANSWER_KEPT_MS, ENDED_KEPT_MS};

/// Rows to be forgotten.
#[derive(Debug, Default)]
pub(super) struct OldRows {
    /// Their removal.
    pub(super) changes: Vec<Change>,
    /// How many answers, books, holds and withdrawals that is.
    pub(super) count: usize,
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
pub(super) async fn old_rows<R: Reader>(reader: &R, limit: usize, now: Timestamp) -> Result<OldRows, StoreFault> {
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
