//! What a payee must not lose: holds, winners that wait for a receipt, and the evidence of refusals.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | u64: `version` of this format (1), `since`, `probe`, `winners` and `net` redeemed |
//! | `hold` | hold id, 32 bytes | [`HoldRow`], encoded as in the spec |
//! | `winner` | book id, 32 bytes | [`WinnerRow`], one a book |
//! | `refusal` | book id, 32 bytes | the last signed refusal of a claim on it |

use crate::disk::{Disk, Rows, StoreError, add};
use redb::{TableDefinition, WriteTransaction};
use std::path::Path;
use std::time::Duration;
use tokio::sync::oneshot;
use tombola_core::amount::Timestamp;
use tombola_core::claim::Refusal;
use tombola_core::codec::encode;
use tombola_core::key::{HoldId, Signed};
use tombola_core::payee::{HoldRow, Settled, WinnerRow};

const VERSION: u64 = 1;
const HOLD: Rows = TableDefinition::new("hold");
const WINNER: Rows = TableDefinition::new("winner");
const REFUSAL: Rows = TableDefinition::new("refusal");

/// One change to the store.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A hold is new or has changed.
    Hold(Box<HoldRow>),
    /// A hold has ended.
    Forget(HoldId),
    /// A book has won, once more or for the first time.
    Winner(Box<WinnerRow>),
    /// A receipt: the hold's paid goes up and the winners go, in one transaction.
    Settle(Box<Settled>),
    /// A refusal is kept as evidence.
    Refusal(Box<Signed<Refusal>>),
    /// Shows that writing works again.
    Probe,
}

/// Changes on their way to the disk.
pub(crate) type Queued = Result<oneshot::Receiver<Result<(), StoreError>>, StoreError>;

/// What has been earned so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Winners that were redeemed.
    pub(crate) winners: u64,
    /// What they were credited, in atomic units.
    pub(crate) net: u64,
}

/// All that a payee starts from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// When the store was made or restored.
    pub(crate) since: Timestamp,
    /// All holds.
    pub(crate) holds: Vec<HoldRow>,
    /// All winners without receipt.
    pub(crate) winners: Vec<WinnerRow>,
}

/// The payee's store.
#[derive(Debug)]
pub(crate) struct PayeeStore(Disk<Change>);

impl PayeeStore {
    pub(crate) fn open(path: &Path, now: Timestamp) -> Result<(Self, Loaded), StoreError> {
        let disk = Disk::open(path, VERSION, &[HOLD, WINNER, REFUSAL], apply, Duration::ZERO, now)?;
        let (holds, winners) = (disk.read_all(HOLD, "hold")?, disk.read_all(WINNER, "winner")?);
        let loaded = Loaded {
            since: disk.since(),
            holds,
            winners,
        };
        Ok((Self(disk), loaded))
    }

    pub(crate) async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.0.write(changes).await
    }

    /// Queues changes at once, in the order of the calls.
    pub(crate) fn enqueue(&self, changes: Vec<Change>) -> Queued {
        self.0.enqueue(changes)
    }

    pub(crate) fn totals(&self) -> Result<Totals, StoreError> {
        Ok(Totals {
            winners: self.0.number("winners")?,
            net: self.0.number("net")?,
        })
    }

    pub(crate) fn refusals(&self) -> Result<Vec<Signed<Refusal>>, StoreError> {
        self.0.read_all(REFUSAL, "refusal")
    }
}

fn apply(write: &WriteTransaction, changes: &mut dyn Iterator<Item = &Change>) -> Result<(), StoreError> {
    for change in changes {
        match change {
            Change::Hold(row) => put(write, HOLD, &row.hold.body.id().0, row.as_ref())?,
            Change::Forget(hold) => remove(write, HOLD, &hold.0)?,
            Change::Winner(row) => put(write, WINNER, &row.claim.book.body.id().0, row.as_ref())?,
            Change::Settle(settled) => {
                remove(write, WINNER, &settled.book.0)?;
                remove(write, REFUSAL, &settled.book.0)?;
                put(write, HOLD, &settled.hold.hold.body.id().0, &settled.hold)?;
                add(write, "winners", u64::from(settled.winners))?;
                add(write, "net", settled.net.0)?;
            }
            Change::Refusal(refusal) => put(write, REFUSAL, &refusal.body.book.0, refusal.as_ref())?,
            Change::Probe => add(write, "probe", 1)?,
        }
    }
    Ok(())
}

fn put<T: bincode::Encode>(write: &WriteTransaction, table: Rows, key: &[u8], row: &T) -> Result<(), StoreError> {
    write.open_table(table)?.insert(key, encode(row).as_slice())?;
    Ok(())
}

fn remove(write: &WriteTransaction, table: Rows, key: &[u8]) -> Result<(), StoreError> {
    write.open_table(table)?.remove(key)?;
    Ok(())
}
