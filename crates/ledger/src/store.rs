//! What a ledger asks of a store: rows by key, ranges in order, snapshots, and commits that are all or nothing.

mod disk_fault;

pub use disk_fault::DiskFault;

use crate::key::Key;
use crate::row::Table;
use std::future::Future;
use tombola_core::amount::Timestamp;

/// A row as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// 1 when first written, larger with each change: what a store with several writers compares.
    pub version: u64,
    /// As [`Row::encode`](crate::row::Row::encode) wrote it.
    pub bytes: Vec<u8>,
}

/// A part of one table, in key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First key, included.
    pub from: Key,
    /// Last key, included; none to the end of the table.
    pub to: Option<Key>,
    /// At most this many rows.
    pub limit: usize,
}

/// One row to be written or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// The version that was loaded; 0 where there was no row. A store refuses the whole commit if it has another.
    pub before: u64,
    /// What takes its place; none removes it.
    pub after: Option<Stored>,
}

/// Reads rows.
pub trait Reader: Send + Sync {
    /// The rows of these keys, in their order.
    fn load(&self, keys: &[Key]) -> impl Future<Output = Result<Vec<Option<Stored>>, StoreFault>> + Send;

    /// The rows of a range, in order of their keys.
    fn scan(&self, range: &Range) -> impl Future<Output = Result<Vec<(Key, Stored)>, StoreFault>> + Send;
}

/// Rows to be changed together, and what they were decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// In key order, each key once.
    pub changes: Vec<Change>,
    /// Rows that were read and stay as they are, with the version that was loaded (0 for none), in key order. Given
    /// only where several writers share a store; it refuses the whole commit if one has another version.
    pub reads: Vec<(Key, u64)>,
    /// One of the changes, whose row after it is the row of no other commit: a store that lost touch with its server
    /// while it committed reads this row to learn what became of it.
    pub mark: Key,
}

/// How many processes write to a store at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One; the store locks out all others.
    Sole,
    /// Several, each under its own writer number.
    Shared,
}

/// What a store's own clock said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// The time.
    pub at: Timestamp,
    /// How long it took from asking for the snapshot to this answer, in ms.
    pub waited_ms: u64,
}

/// A reader for which time stands still.
pub trait Snapshot: Reader {
    /// The store's own clock as the snapshot was taken, where it has one that is not this machine's.
    fn clock(&self) -> Option<ClockReading>;
}

/// Keeps rows. Clones share one store; each load of it sees the last commit.
pub trait Store: Reader + Clone + 'static {
    /// A reader for which time stands still.
    type Snapshot: Snapshot + 'static;

    /// How many processes write to it.
    fn sharing(&self) -> Sharing;

    /// Everything as of the last commit, undisturbed by later ones.
    ///
    /// # Errors
    /// [`StoreFault`].
    fn snapshot(&self) -> impl Future<Output = Result<Self::Snapshot, StoreFault>> + Send;

    /// As [`Self::snapshot`], for the writer to decide by: it waits for no reader, however many there are and however
    /// slowly they read. One at a time.
    ///
    /// # Errors
    /// [`StoreFault`].
    fn snapshot_to_write(&self) -> impl Future<Output = Result<Self::Snapshot, StoreFault>> + Send;

    /// Makes all changes durable, or none. After any fault but a conflict the store refuses all further commits.
    ///
    /// # Errors
    /// [`StoreFault::Conflict`]: another writer changed a row that was read or is to be changed; nothing was changed,
    /// and the caller loads and decides anew. Any other [`StoreFault`]: what became of the commit is unknown until the
    /// store is opened again.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<(), StoreFault>> + Send;
}

/// What went wrong with a store: the environment's fault, or another writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFault {
    /// An address that no database can be reached by.
    #[error("no database can be reached by this address; check its form, user, password and sslmode")]
    Address,
    /// Another process has it open.
    #[error("the store is locked by another process")]
    Locked,
    /// The file is not a ledger's store.
    #[error("not a ledger's store")]
    Foreign,
    /// The file was written by another version of the storage engine.
    #[error("the store has another file format; upgrade it with the version that wrote it")]
    FileFormat,
    /// A row has another version than the one that was loaded: another writer was there. Nothing was changed.
    #[error("a row of {} was changed by another writer", .0.name())]
    Conflict(Table),
    /// The server may acknowledge what it could lose.
    #[error("the database server runs with fsync = off and would lose commits; set fsync = on")]
    NotDurable,
    /// A database server refused a statement.
    #[error("the database server refused with SQLSTATE {}", .0.escape_ascii())]
    Server([u8; 5]),
    /// A database server cannot be reached, or was not within the time that a store waits for it.
    #[error("the database server cannot be reached; look after the server and open the store again")]
    Unreachable,
    /// A database server's certificate is not one that we trust.
    #[error("the database server's certificate is not trusted; name its root by sslrootcert= in the address")]
    Untrusted,
    /// Reading or writing failed.
    #[error("the disk failed: {0}")]
    Io(DiskFault),
    /// What was read is not what was written.
    #[error("the store is damaged")]
    Damaged,
    /// A row is not of its table.
    #[error("a row of {} is damaged", .0.name())]
    DamagedRow(Table),
    /// A write failed before; whether it landed is unknown until the store is opened again.
    #[error("the store stopped after a failed write; open it again")]
    Stopped,
}
