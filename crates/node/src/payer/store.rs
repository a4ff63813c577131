//! What a payer writes down: of each book, how far the payee acknowledged it or said so, and its holds, in case the escrow loses
//! them. Everything else its escrow knows.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | u64: `version` of this format (3), `since` |
//! | `journal` | book id, 32 bytes | [`JournalRow`]; up to version 2 without its last field |
//! | `hold` | redeem_by, big-endian u64, and hold id, 40 bytes | the hold in its last revision, signed by the escrow |

#[cfg(test)]
pub(super) mod tests;

use crate::disk::{Commits, Disk, Files, Place, Rows, StoreError};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tombola_core::amount::{Amount, Timestamp};
use tombola_core::codec::{decode, encode};
use tombola_core::hold::Hold;
use tombola_core::key::{BookId, Signed};
use tombola_core::odds::Threshold;
use tombola_core::payer::JournalRow;

const VERSION: u64 = 3;
const HOLD: Rows = TableDefinition::new("hold");
const JOURNAL: Rows = TableDefinition::new("journal");

/// Nobody waits for a journal line, so an fsync for each would only take time from the tickets.
const COMMIT_INTERVAL: Duration = Duration::from_millis(20);

/// The payer's store.
#[derive(Debug)]
pub(crate) struct PayerStore(Disk<Line>);

/// One line of it.
#[derive(Debug, bincode::Encode, bincode::Decode)]
pub(crate) enum Line {
    /// How far a book was acknowledged.
    Journal(JournalRow),
    /// A hold that the escrow signed, and the time before which holds are forgotten.
    Hold(Box<Signed<Hold>>, Timestamp),
    /// Where a payee says that a lost book stands.
    Found(BookId, u32),
}

/// A line of a store of version 2 or before, where a lost book had none.
#[derive(bincode::Encode, bincode::Decode)]
struct OldRow {
    book: BookId,
    face_value: Amount,
    threshold: Threshold,
    acknowledged: Option<u32>,
}

impl From<OldRow> for JournalRow {
    fn from(old: OldRow) -> Self {
        Self {
            book: old.book,
            face_value: old.face_value,
            threshold: old.threshold,
            acknowledged: old.acknowledged,
            in_flight: 0,
        }
    }
}

fn read_row(bytes: &[u8]) -> Result<JournalRow, StoreError> {
    decode(bytes)
        .or_else(|_| decode::<OldRow>(bytes).map(JournalRow::from))
        .map_err(|_| StoreError::Corrupted { what: "journal" })
}

impl PayerStore {
    pub(crate) fn open(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        Self::open_in(Files::at(path), COMMIT_INTERVAL, now)
    }

    fn open_in(place: Box<dyn Place>, interval: Duration, now: Timestamp) -> Result<Self, StoreError> {
        Ok(Self(Disk::open(
            place,
            VERSION,
            &[JOURNAL, HOLD],
            apply,
            Commits::Apart(interval),
            now,
        )?))
    }

    /// Queues a line; nobody waits for it, as a missing one only makes the audit say "unknown".
    pub(crate) fn note(&self, row: JournalRow) {
        if let Err(error) = self.0.enqueue(vec![Line::Journal(row)]) {
            tracing::warn!(%error, book = %row.book, "a journal line was not written");
        }
    }

    /// Queues what a payee says of a book that was lost, or that an earlier process left open.
    pub(crate) fn found(&self, book: BookId, through: u32) {
        if let Err(error) = self.0.enqueue(vec![Line::Found(book, through)]) {
            tracing::warn!(%error, %book, "a journal line was not written");
        }
    }

    /// Keeps a hold in case the escrow loses it; those that ended before `since` are forgotten. Nobody waits for it: the
    /// payee has the hold as well.
    pub(crate) fn keep(&self, hold: &Signed<Hold>, since: Timestamp) {
        if let Err(error) = self.0.enqueue(vec![Line::Hold(Box::new(*hold), since)]) {
            tracing::warn!(%error, "a hold was not written");
        }
    }

    /// The holds that are kept.
    pub(crate) fn holds(&self) -> Result<Vec<Signed<Hold>>, StoreError> {
        self.0.read_all(HOLD, "hold")
    }

    /// Waits until every line so far is durable.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.0.write(Vec::new()).await
    }

    pub(crate) fn journal(&self) -> Result<BTreeMap<BookId, JournalRow>, StoreError> {
        let rows = self.0.read_each(JOURNAL, read_row)?;
        Ok(rows.into_iter().map(|row| (row.book, row)).collect())
    }
}

fn apply(write: &WriteTransaction, changes: &mut dyn Iterator<Item = &Line>) -> Result<(), StoreError> {
    let mut journal = write.open_table(JOURNAL)?;
    let mut holds = write.open_table(HOLD)?;
    for line in changes {
        match line {
            Line::Journal(row) => drop(journal.insert(row.book.0.as_slice(), encode(row).as_slice())?),
            Line::Found(book, through) => {
                let found = journal.get(book.0.as_slice())?.map(|row| read_row(row.value()));
                // A line that was not written cannot be amended: the audit says unknown.
                let Some(mut row) = found.transpose()? else { continue };
                row.found(*through);
                journal.insert(book.0.as_slice(), encode(&row).as_slice())?;
            }
            Line::Hold(hold, since) => {
                let key = |redeem_by: Timestamp, id: &[u8]| [&redeem_by.0.to_be_bytes(), id].concat();
                holds.retain_in(..key(*since, &[]).as_slice(), |_, _| false)?;
                let (redeem_by, id) = (hold.body.terms.redeem_by, hold.body.id());
                holds.insert(key(redeem_by, &id.0).as_slice(), encode(hold.as_ref()).as_slice())?;
            }
        }
    }
    Ok(())
}
