//! What a payee must not lose: holds, winners that wait for a receipt, and the evidence of refusals.
//!
//! Someone waits for most changes, so each is durable in a log beside the file first ([`crate::disk`]): `payee.log`.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | name | u64: `version` of this format (6), `since`, `log`, `applied`, `probe`, `winners` and `net` redeemed, `asks_before` |
//! | `hold` | hold id, 32 bytes | [`HoldRow`], encoded as in the spec |
//! | `winner` | book id, 32 bytes | [`WinnerRow`], one a book |
//! | `refusal` | book id, 32 bytes | the last signed refusal of a claim on it |
//! | `ended` | book id, 32 bytes | [`WinnerRow`] of a claim that was refused for good: evidence, claimed no more |
//! | `receipt` | hold id and book id, 64 bytes | [`KeptReceipt`], the book's last; gone with the hold's row |

use crate::disk::{Commits, Disk, Files, META, Place, Rows, StoreError, add};
use redb::{Table, TableDefinition, WriteTransaction};
use std::ops::Bound;
use std::path::Path;
use tokio::sync::oneshot;
use tombola_core::amount::Timestamp;
use tombola_core::claim::{Claim, Receipt, Refusal};
use tombola_core::codec::encode;
use tombola_core::key::{BookId, HoldId, Signed};
use tombola_core::limits::HOLD_CHECK_MS;
use tombola_core::message::Evidence;
use tombola_core::payee::{HoldRow, Settled, WinnerRow};

/// Version 1 had no log, 2 no receipts, 3 no ended winners, 4 no holds that must be asked about, 5 no releases that were
/// answered and no `asks_before`: a program that knows only those would miss what is in it.
pub(super) const VERSION: u64 = 6;
const HOLD: Rows = TableDefinition::new("hold");
const WINNER: Rows = TableDefinition::new("winner");
const REFUSAL: Rows = TableDefinition::new("refusal");
const RECEIPT: Rows = TableDefinition::new("receipt");
const ENDED: Rows = TableDefinition::new("ended");
/// A store that was made or restored has none before it knows the escrow's time.
const ASKS_BEFORE: &str = "asks_before";

/// A receipt with its claim: what an escrow that lost both takes back. Spec: R-25.
#[derive(Debug, Clone, Copy, bincode::Encode, bincode::Decode)]
pub(crate) struct KeptReceipt {
    /// What was claimed.
    pub(crate) claim: Claim,
    /// What was answered.
    pub(crate) receipt: Signed<Receipt>,
}

impl KeptReceipt {
    /// Receipts of one hold are neighbours: they go with it.
    pub(super) fn key(&self) -> Vec<u8> {
        let book = &self.claim.book.body;
        [book.hold.0, book.id().0].concat()
    }
}

/// One change to the store.
#[derive(Debug, Clone, bincode::Encode, bincode::Decode)]
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
    /// A receipt is kept for an escrow that may lose it.
    Receipt(Box<KeptReceipt>),
    /// The claim for a book was refused for good, or its hold is gone: its winner is evidence from now on. Spec: B-15.
    End(BookId),
    /// Holds opened before this that the store does not know are asked about first. Spec: B-06.
    AsksBefore(Timestamp),
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
    /// Holds opened before this that the store does not know are asked about first.
    pub(crate) asks_before: Timestamp,
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
        Self::open_in(Files::at(path), now)
    }

    pub(super) fn open_in(place: Box<dyn Place>, now: Timestamp) -> Result<(Self, Loaded), StoreError> {
        let disk = Disk::open(
            place,
            VERSION,
            &[WINNER, HOLD, REFUSAL, RECEIPT, ENDED],
            apply,
            Commits::Logged,
            now,
        )?;
        let mut holds: Vec<HoldRow> = disk.read_all(HOLD, "hold")?;
        let since = disk.since();
        // An older program restored stores without saying of each hold that it must be asked about.
        let is_stale = |row: &HoldRow| {
            let opened_at = row.hold.body.terms.opened_at;
            row.checked_at < since && opened_at < since.plus_ms(HOLD_CHECK_MS) && row.release.is_none()
        };
        for row in holds.iter_mut().filter(|row| is_stale(row)) {
            row.checked_at = HoldRow::MUST_ASK;
        }
        let asks_before = match disk.number(ASKS_BEFORE)? {
            0 => Timestamp::MAX,
            time => Timestamp(time),
        };
        let loaded = Loaded {
            asks_before,
            holds,
            winners: disk.read_all(WINNER, "winner")?,
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

    /// Whether only a restart makes it good.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.has_failed()
    }

    pub(crate) fn totals(&self) -> Result<Totals, StoreError> {
        Ok(Totals {
            winners: self.0.number("winners")?,
            net: self.0.number("net")?,
        })
    }

    /// All that the escrow has signed and may have lost, and the releases: holds first, releases last.
    pub(crate) fn evidence(&self) -> Result<Vec<Evidence>, StoreError> {
        let holds: Vec<HoldRow> = self.0.read_all(HOLD, "hold")?;
        let receipts: Vec<KeptReceipt> = self.0.read_all(RECEIPT, "receipt")?;
        let receipt = |kept: KeptReceipt| Evidence::Receipt {
            claim: kept.claim,
            receipt: kept.receipt,
        };
        let shown = holds.iter().map(|row| Evidence::Hold(row.hold));
        let released = holds.iter().filter_map(|row| row.release.map(Evidence::Release));
        Ok(shown.chain(receipts.into_iter().map(receipt)).chain(released).collect())
    }

    /// Winners that were refused for good, kept as evidence.
    pub(crate) fn ended(&self) -> Result<Vec<WinnerRow>, StoreError> {
        self.0.read_all(ENDED, "ended")
    }

    pub(crate) fn refusals(&self) -> Result<Vec<Signed<Refusal>>, StoreError> {
        self.0.read_all(REFUSAL, "refusal")
    }

    /// All that a backup keeps. Each table is read as it is at one moment, in this order: a winner has its hold, as that
    /// was written first, and a receipt that comes in between leaves a winner that is claimed, and paid, no second time.
    pub(super) fn contents(&self) -> Result<super::backup::Contents, StoreError> {
        Ok(super::backup::Contents {
            version: self.0.number("version")?,
            totals: self.totals()?,
            winners: self.0.read_all(WINNER, "winner")?,
            refusals: self.refusals()?,
            ended: self.ended()?,
            receipts: self.0.read_all(RECEIPT, "receipt")?,
            holds: self.0.read_all(HOLD, "hold")?,
        })
    }

    pub(super) const TABLES: [Rows; 5] = [WINNER, REFUSAL, ENDED, RECEIPT, HOLD];
}

fn apply(write: &WriteTransaction, changes: &mut dyn Iterator<Item = &Change>) -> Result<(), StoreError> {
    let (mut probes, mut totals, mut asks_before) = (0, Totals::default(), None);
    {
        let mut holds = write.open_table(HOLD)?;
        let mut winners = write.open_table(WINNER)?;
        let mut refusals = write.open_table(REFUSAL)?;
        let mut receipts = write.open_table(RECEIPT)?;
        let mut ended = write.open_table(ENDED)?;
        for change in changes {
            match change {
                Change::Hold(row) => put(&mut holds, &row.hold.body.id().0, row.as_ref())?,
                Change::Forget(hold) => {
                    remove(&mut holds, &hold.0)?;
                    receipts.retain_in::<&[u8], _>(
                        (Bound::Included(&hold.0[..]), Bound::Included(&last_of(hold)[..])),
                        |_, _| false,
                    )?;
                }
                Change::Receipt(kept) => put(&mut receipts, &kept.key(), kept.as_ref())?,
                Change::Winner(row) => put(&mut winners, &row.claim.book.body.id().0, row.as_ref())?,
                Change::Settle(settled) => {
                    remove(&mut winners, &settled.book.0)?;
                    remove(&mut refusals, &settled.book.0)?;
                    put(&mut holds, &settled.hold.hold.body.id().0, &settled.hold)?;
                    totals.winners = totals.winners.saturating_add(u64::from(settled.winners));
                    totals.net = totals.net.saturating_add(settled.net.0);
                }
                Change::End(book) => {
                    if let Some(row) = winners.remove(&book.0[..])? {
                        ended.insert(&book.0[..], row.value())?;
                    }
                }
                Change::Refusal(refusal) => put(&mut refusals, &refusal.body.book.0, refusal.as_ref())?,
                Change::Probe => probes += 1,
                Change::AsksBefore(time) => asks_before = Some(time.0),
            }
        }
    }
    if let Some(time) = asks_before {
        write.open_table(META)?.insert(ASKS_BEFORE, time)?;
    }
    for (name, value) in [("probe", probes), ("winners", totals.winners), ("net", totals.net)] {
        if value > 0 {
            add(write, name, value)?;
        }
    }
    Ok(())
}

/// The last key that a receipt of a hold can have.
fn last_of(hold: &HoldId) -> Vec<u8> {
    [hold.0, [u8::MAX; 32]].concat()
}

type Opened<'a> = Table<'a, &'static [u8], &'static [u8]>;

fn put<T: bincode::Encode>(table: &mut Opened<'_>, key: &[u8], row: &T) -> Result<(), StoreError> {
    table.insert(key, encode(row).as_slice())?;
    Ok(())
}

fn remove(table: &mut Opened<'_>, key: &[u8]) -> Result<(), StoreError> {
    table.remove(key)?;
    Ok(())
}
