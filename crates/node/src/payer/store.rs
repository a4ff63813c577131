//! What a payer writes down: of each book, how far the payee acknowledged it. Everything else its escrow knows.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | u64: `version` of this format (1), `since` |
//! | `journal` | book id, 32 bytes | [`JournalRow`] |

use crate::disk::{Commits, Disk, Rows, StoreError};
use redb::{TableDefinition, WriteTransaction};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tombola_core::amount::Timestamp;
use tombola_core::codec::encode;
use tombola_core::key::BookId;
use tombola_core::payer::JournalRow;

const VERSION: u64 = 1;
const JOURNAL: Rows = TableDefinition::new("journal");

/// Nobody waits for a journal line, so an fsync for each would only take time from the tickets.
const COMMIT_INTERVAL: Duration = Duration::from_millis(20);

/// The payer's store.
#[derive(Debug)]
pub(crate) struct PayerStore(Disk<JournalRow>);

impl PayerStore {
    pub(crate) fn open(path: &Path, now: Timestamp) -> Result<Self, StoreError> {
        Ok(Self(Disk::open(
            path,
            VERSION,
            &[JOURNAL],
            apply,
            Commits::Apart(COMMIT_INTERVAL),
            now,
        )?))
    }

    /// Queues a line; nobody waits for it, as a missing one only makes the audit say "unknown".
    pub(crate) fn note(&self, row: JournalRow) {
        if let Err(error) = self.0.enqueue(vec![row]) {
            tracing::warn!(%error, book = %row.book, "a journal line was not written");
        }
    }

    /// Waits until every line so far is durable.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.0.write(Vec::new()).await
    }

    pub(crate) fn journal(&self) -> Result<BTreeMap<BookId, JournalRow>, StoreError> {
        let rows: Vec<JournalRow> = self.0.read_all(JOURNAL, "journal")?;
        Ok(rows.into_iter().map(|row| (row.book, row)).collect())
    }
}

fn apply(write: &WriteTransaction, changes: &mut dyn Iterator<Item = &JournalRow>) -> Result<(), StoreError> {
    let mut journal = write.open_table(JOURNAL)?;
    for row in changes {
        journal.insert(row.book.0.as_slice(), encode(row).as_slice())?;
    }
    Ok(())
}
