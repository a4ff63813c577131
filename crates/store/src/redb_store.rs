//! The embedded store, on redb.
//!
//! # File format, version 4
//!
//! One redb file (its own format version 3). One redb table for each [`Table`], by [`Table::name`], byte-string keys to
//! byte-string values. All tables are made by the commit that makes the file a store, so a file without them is foreign.
//! Every value is `version u64 little-endian || row`; every row is what the protocol's codec writes (E-01): fixed-width
//! little-endian integers, u64 lengths, u32 enum numbers, a byte for none. Numbers in keys are big-endian, so that keys
//! order as numbers do, and u64 unless they say u32; a number in parentheses is a size in bytes. `Hold`, `Receipt`,
//! `Claim`, `PayoutPolicy`, `Delegation`, `EscrowRequest` and `EscrowAnswer` are laid out as in proto-spec.md; a place is
//! writer u32, height u64; cause and effect are the enums of `tombola_ledger::event`, in their order.
//!
//! | table | key | row |
//! | --- | --- | --- |
//! | `header` | `00` (8) | magic `TOMBLEDG` (8), format u32 (= 4), escrow key (32), asset (16), decimals u8 |
//! | `totals` | writer | incarnation u64, removed u8, served since u64, alive at u64, epoch u32, recovers since u64 or none, time u64, height u64, head (32), accounts u64, holds u64, holds ended u64, deposits i128, balances i128, held i128, fees i128, pending i128, withdrawn i128, payout fees i128, collected i128, inherited i128, claims u64, winners u64 |
//! | `account_ids` | account key (32) | row u64 |
//! | `accounts` | row | key (32), balance u64, held u64, pending u64, credits u128, debits u128, open holds u32, signers u32, next serial u64, entries u64 |
//! | `hold_ids` | hold id (32) | payer row u64, serial u64 |
//! | `holds` | payer row, serial | Hold, signed in place, payee row u64, paid u64, left u64, state u32, returned u64, ended at u64 |
//! | `open_holds` | payer row, serial | nothing |
//! | `due` | redeem_by, payer row, serial | nothing |
//! | `ended` | ended at, payer row, serial | nothing |
//! | `books` | payer row, serial, book id (32) | preimage (32), Receipt |
//! | `answers` | connection key (32), request id (16) | request hash (32), EscrowAnswer with zeros for signatures |
//! | `answer_ages` | time, writer u32, height | connection key (32), request id (16) |
//! | `deposits` | hash of the reference (32) | account key (32), amount u64, at u64, place |
//! | `events` | writer, height | writer u32, height u64, previous head (32), at u64, cause, effect, postings list, reads list, created list |
//! | `statements` | account row, sequence | place, balance u64, side u32 |
//! | `credits` | account row, writer u32, height | amount u64; only where several writers share a store |
//! | `withdrawals` | number | account row u64, amount u64, fee u64, left u64, destination text, reference text, asked at u64, state u32, settled by text, settled at u64 |
//! | `pending_withdrawals` | number | nothing |
//! | `settled_withdrawals` | settled at, number | nothing |
//! | `payouts` | account row | PayoutPolicy or none, set at u64, paid at u64 or none |
//! | `splits` | payee row | count u64, and for each share: account key (32), account row u64, ppm u32 |
//! | `signers` | account row, signer key (32) | Delegation or none, committed u128 |
//! | `collections` | hash of the reference (32) | account key (32), amount u64, at u64, place |
//!
//! Accounts and events are numbered densely, so their tables only ever append; an account, its holds, their books and its
//! statement have the account's row in front, so they lie together. A paid claim writes four rows of its own (event,
//! book, two statement entries), and a statement entry for each share of its payee's split; its hold, its accounts and
//! the totals are written once for a whole batch.
//!
//! # Why a commit is all or nothing
//!
//! 1. A batch is one redb write transaction. redb is copy-on-write: no page that the last commit reaches is written.
//! 2. Durability is immediate and two-phase commit is on: redb writes and syncs all new pages, then flips the root in
//!    the file's header and syncs again. Before the flip is durable the old tree is the state, after it the new one.
//!    In one phase redb would tell a torn commit by a checksum that is not cryptographic; ticket bytes come from
//!    strangers, so nothing may rest on it.
//! 3. [`Store::commit`] returns `Ok` only after the second sync, and the ledger tells an outcome only after that.
//! 4. Each change names the version it was made from, and a row with another version aborts the transaction: two
//!    writers cannot both win, whatever went wrong outside.
//! 5. After any failed write or sync the kernel may have dropped the pages it could not write, and the next sync would
//!    succeed without them. So the store refuses every further commit. Whether the failed one is in the file is
//!    decided by opening it again; nobody was told that it is.
//!
//! Whoever opens a file has every page compared with its checksum first, which reads all of it: a page that the disk has
//! changed is [`StoreFault::Damaged`], and never another balance.
//!
//! redb holds an exclusive lock on the file while it is open: a second process gets [`StoreFault::Locked`].

use crate::redb_file;
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, StorageBackend, TableDefinition, TableHandle};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tombola_ledger::key::Key;
use tombola_ledger::row::Table;
use tombola_ledger::store::{
    Change, ClockReading, Commit, DiskFault, Range, Reader, Sharing, Snapshot, Store, StoreFault, Stored,
};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// One file, open for writing; clones share it. Commits block until they are durable.
#[derive(Clone)]
pub struct RedbStore {
    shared: Arc<Shared>,
}

struct Shared {
    database: Database,
    is_stopped: AtomicBool,
}

impl RedbStore {
    /// Opens a store, or makes one where there is no file.
    ///
    /// # Errors
    /// [`StoreFault::Locked`], [`StoreFault::Foreign`], [`StoreFault::FileFormat`], [`StoreFault::Damaged`],
    /// [`StoreFault::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreFault> {
        Self::new(redb_file::open(path.as_ref()).map_err(opening)?)
    }

    /// As [`Self::open`], on whatever keeps bytes; `medium` opens it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on<B: StorageBackend>(medium: impl Fn() -> B) -> Result<Self, StoreFault> {
        Self::new(redb_file::open_on(|| Ok(medium())).map_err(opening)?)
    }

    fn new(database: Database) -> Result<Self, StoreFault> {
        let read = database.begin_read().map_err(|error| fault(error.into()))?;
        let mut names: Vec<String> = Vec::new();
        for table in read.list_tables().map_err(|error| fault(error.into()))? {
            names.push(table.name().to_owned());
        }
        drop(read);
        let is_ours = |table: &Table| names.iter().any(|name| name == table.name());
        if names.is_empty() {
            make_tables(&database)?;
        } else if !Table::ALL.iter().all(is_ours) {
            return Err(StoreFault::Foreign);
        }
        let is_stopped = AtomicBool::new(false);
        let shared = Arc::new(Shared { database, is_stopped });
        Ok(Self { shared })
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), Failure> {
        let mut transaction = self.shared.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        // Changes come in key order, so each table is opened once.
        let mut changes = changes.into_iter().peekable();
        while let Some(first) = changes.peek() {
            let name = first.key.table();
            let mut table = transaction.open_table(definition(name))?;
            while let Some(change) = changes.next_if(|change| change.key.table() == name) {
                let replaced = match &change.after {
                    Some(stored) => table.insert(change.key.as_bytes(), pack(stored).as_slice())?,
                    None => table.remove(change.key.as_bytes())?,
                };
                let version = replaced.map_or(0, |old| version_of(old.value()));
                if version != change.before {
                    return Err(Failure::Conflict(name));
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbStore")
            .field("is_stopped", &self.shared.is_stopped)
            .finish_non_exhaustive()
    }
}

impl Reader for RedbStore {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        load(&begin(&self.shared)?, keys).map_err(fault)
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        scan(&begin(&self.shared)?, range).map_err(fault)
    }
}

impl Store for RedbStore {
    type Snapshot = RedbSnapshot;

    fn sharing(&self) -> Sharing {
        Sharing::Sole
    }

    async fn snapshot(&self) -> Result<RedbSnapshot, StoreFault> {
        Ok(RedbSnapshot(begin(&self.shared)?))
    }

    async fn snapshot_to_write(&self) -> Result<RedbSnapshot, StoreFault> {
        // Readers of a file are not counted.
        self.snapshot().await
    }

    async fn commit(&self, commit: Commit) -> Result<(), StoreFault> {
        if self.shared.is_stopped.load(Ordering::Acquire) {
            return Err(StoreFault::Stopped);
        }
        // `reads` are empty: nobody else writes to a file that is locked.
        match self.write(commit.changes) {
            Ok(()) => Ok(()),
            Err(Failure::Conflict(table)) => Err(StoreFault::Conflict(table)),
            Err(Failure::Redb(error)) => {
                self.shared.is_stopped.store(true, Ordering::Release);
                Err(fault(error))
            }
        }
    }
}

/// The rows of one moment; keeps their pages from being used again while it lives.
pub struct RedbSnapshot(ReadTransaction);

impl std::fmt::Debug for RedbSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedbSnapshot")
    }
}

impl Reader for RedbSnapshot {
    async fn load(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreFault> {
        load(&self.0, keys).map_err(fault)
    }

    async fn scan(&self, range: &Range) -> Result<Vec<(Key, Stored)>, StoreFault> {
        scan(&self.0, range).map_err(fault)
    }
}

impl Snapshot for RedbSnapshot {
    fn clock(&self) -> Option<ClockReading> {
        None
    }
}

/// Why a write did not come to its end.
enum Failure {
    Conflict(Table),
    Redb(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

fn make_tables(database: &Database) -> Result<(), StoreFault> {
    let make = || -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(true);
        for table in Table::ALL {
            transaction.open_table(definition(*table))?;
        }
        Ok(transaction.commit()?)
    };
    make().map_err(fault)
}

fn begin(shared: &Shared) -> Result<ReadTransaction, StoreFault> {
    shared.database.begin_read().map_err(|error| fault(error.into()))
}

/// Reads keys in their order, opening a table again only where it changes.
fn load(read: &ReadTransaction, keys: &[Key]) -> Result<Vec<Option<Stored>>, redb::Error> {
    let mut rows = Vec::with_capacity(keys.len());
    let mut keys = keys.iter().peekable();
    while let Some(first) = keys.peek() {
        let name = first.table();
        let table = read.open_table(definition(name))?;
        while let Some(key) = keys.next_if(|key| key.table() == name) {
            let value = table.get(key.as_bytes())?;
            rows.push(value.map(|value| unpack(value.value())).transpose()?);
        }
    }
    Ok(rows)
}

fn scan(read: &ReadTransaction, range: &Range) -> Result<Vec<(Key, Stored)>, redb::Error> {
    let name = range.from.table();
    if range.to.is_some_and(|to| to < range.from) {
        return Ok(Vec::new());
    }
    let table = read.open_table(definition(name))?;
    let to = range.to.as_ref();
    let end = to.map_or(Bound::Unbounded, |to| Bound::Included(to.as_bytes()));
    let mut rows = Vec::new();
    for entry in table
        .range::<&[u8]>((Bound::Included(range.from.as_bytes()), end))?
        .take(range.limit)
    {
        let (key, value) = entry?;
        rows.push((Key::from_bytes(name, key.value()), unpack(value.value())?));
    }
    Ok(rows)
}

fn definition(table: Table) -> Definition {
    TableDefinition::new(table.name())
}

fn pack(stored: &Stored) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + stored.bytes.len());
    bytes.extend_from_slice(&stored.version.to_le_bytes());
    bytes.extend_from_slice(&stored.bytes);
    bytes
}

fn unpack(bytes: &[u8]) -> Result<Stored, redb::Error> {
    let damaged = || redb::Error::Corrupted("a value has no version".into());
    let (version, row) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    Ok(Stored {
        version: u64::from_le_bytes(*version),
        bytes: row.to_vec(),
    })
}

fn version_of(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(0, |version| u64::from_le_bytes(*version))
}

/// What opening a file can fail with.
fn opening(error: redb::DatabaseError) -> StoreFault {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreFault::Locked,
        redb::DatabaseError::UpgradeRequired(_) => StoreFault::FileFormat,
        error if redb_file::is_foreign(&error) => StoreFault::Foreign,
        other => fault(other.into()),
    }
}

fn fault(error: redb::Error) -> StoreFault {
    match error {
        redb::Error::Io(error) => StoreFault::Io(DiskFault::from(&error)),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => StoreFault::Stopped,
        redb::Error::DatabaseAlreadyOpen => StoreFault::Locked,
        redb::Error::UpgradeRequired(_) => StoreFault::FileFormat,
        redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } => StoreFault::Foreign,
        _ => StoreFault::Damaged,
    }
}
