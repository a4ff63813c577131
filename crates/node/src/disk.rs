//! A redb file with one writer thread and group commit, and what can go wrong with it: shared by payee and payer.
//!
//! All that waits is written in one transaction, and nobody is answered before it is durable. Commits are two-phase,
//! because rows hold bytes that peers chose, and redb's one-phase commit rests on a checksum that is not cryptographic.

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tombola_core::amount::Timestamp;
use tombola_core::codec::decode;

/// Writes that may wait; more mean that the disk is far behind.
const QUEUE_MAX: usize = 65_536;
/// Changes of one transaction: more would make the first of them wait too long.
const GROUP_MAX: usize = 4_096;

/// Numbers by name: `version` of the format, `since` when the file was made or restored, and counters.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// A table with byte keys and encoded rows.
pub(crate) type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// How changes of one kind are written inside a transaction.
pub(crate) type Apply<C> = fn(&WriteTransaction, &mut dyn Iterator<Item = &C>) -> Result<(), StoreError>;

/// A redb file and its writer thread.
#[derive(Debug)]
pub(crate) struct Disk<C> {
    queue: mpsc::SyncSender<Write<C>>,
    database: Arc<Database>,
    since: Timestamp,
}

#[derive(Debug)]
struct Write<C> {
    changes: Vec<C>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl<C: Send + 'static> Disk<C> {
    /// Opens or makes a file of one format version with these tables. Commits begin at least `interval` apart: zero where
    /// somebody waits for each.
    ///
    /// # Errors
    /// [`StoreError`] if the file is held by another process, foreign, newer, or cannot be read.
    pub(crate) fn open(
        path: &Path,
        version: u64,
        tables: &[Rows],
        apply: Apply<C>,
        interval: Duration,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let database = Arc::new(Database::create(path).map_err(|error| StoreError::open(error, version))?);
        let since = prepare(&database, version, tables, now)?;
        let (queue, writes) = mpsc::sync_channel(QUEUE_MAX);
        let writer = Arc::clone(&database);
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_loop(&writer, &writes, apply, interval))
            .map_err(|error| StoreError::Io(error.kind()))?;
        Ok(Self { queue, database, since })
    }

    /// When the file was made or restored.
    pub(crate) const fn since(&self) -> Timestamp {
        self.since
    }

    /// Writes changes together; returns when they are durable.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is known about the changes then, and nothing that depends on them may be told to anyone.
    pub(crate) async fn write(&self, changes: Vec<C>) -> Result<(), StoreError> {
        self.enqueue(changes)?.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Queues changes at once, in the order of the calls; what is returned resolves when they are durable.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too many wait already.
    pub(crate) fn enqueue(&self, changes: Vec<C>) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        let (done, written) = oneshot::channel();
        self.queue
            .try_send(Write { changes, done })
            .map_err(|_| StoreError::Busy)?;
        Ok(written)
    }

    /// Every row of a table, in the order of its keys.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or a row does not decode.
    pub(crate) fn read_all<T: bincode::Decode<()>>(
        &self,
        table: Rows,
        what: &'static str,
    ) -> Result<Vec<T>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(table)?;
        let mut rows = Vec::new();
        for row in table.iter()? {
            rows.push(decode(row?.1.value()).map_err(|_| StoreError::Corrupted { what })?);
        }
        Ok(rows)
    }

    /// A number of the meta table; 0 if it was never written.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn number(&self, name: &str) -> Result<u64, StoreError> {
        let read = self.database.begin_read()?;
        let value = read.open_table(META)?.get(name)?.map_or(0, |row| row.value());
        Ok(value)
    }
}

fn prepare(database: &Database, version: u64, tables: &[Rows], now: Timestamp) -> Result<Timestamp, StoreError> {
    let write = begin(database)?;
    let since = {
        let mut meta = write.open_table(META)?;
        let found = meta.get("version")?.map(|row| row.value());
        match found {
            None => {
                meta.insert("version", version)?;
                meta.insert("since", now.0)?;
            }
            Some(found) if found == version => {}
            Some(found) => return Err(StoreError::Version { found, known: version }),
        }
        for table in tables {
            write.open_table(*table)?;
        }
        meta.get("since")?.map_or(now, |row| Timestamp(row.value()))
    };
    write.commit()?;
    Ok(since)
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.set_two_phase_commit(true);
    Ok(write)
}

fn write_loop<C>(database: &Database, writes: &mpsc::Receiver<Write<C>>, apply: Apply<C>, interval: Duration) {
    let mut next = Instant::now();
    while let Ok(first) = writes.recv() {
        // A lone write goes at once; in a rush, what comes within the interval shares one commit.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = Instant::now() + interval;
        let mut size = first.changes.len();
        let mut group = vec![first];
        while size < GROUP_MAX {
            let Ok(next) = writes.try_recv() else { break };
            size += next.changes.len();
            group.push(next);
        }
        let result = commit(database, &group, apply);
        for write in group {
            // Who no longer waits has been cancelled; its change is durable all the same.
            let _ = write.done.send(result.clone());
        }
    }
}

fn commit<C>(database: &Database, group: &[Write<C>], apply: Apply<C>) -> Result<(), StoreError> {
    let write = begin(database)?;
    apply(&write, &mut group.iter().flat_map(|write| &write.changes))?;
    write.commit()?;
    Ok(())
}

/// Adds to a number of the meta table.
pub(crate) fn add(write: &WriteTransaction, name: &'static str, value: u64) -> Result<(), StoreError> {
    let mut meta = write.open_table(META)?;
    let before = meta.get(name)?.map_or(0, |row| row.value());
    meta.insert(name, before.saturating_add(value))?;
    Ok(())
}

/// Why the store cannot keep or give what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the file.
    #[error("the store is in use by another process")]
    Locked,
    /// The file was written by a newer version.
    #[error("the store has format {found}, this program knows {known}: use the newer program")]
    Version {
        /// Format of the file.
        found: u64,
        /// Newest format known here.
        known: u64,
    },
    /// The file is not a store, or a row does not decode.
    #[error("the store is corrupted: {what}")]
    Corrupted {
        /// Where.
        what: &'static str,
    },
    /// The disk said no.
    #[error("the disk failed: {0}")]
    Io(std::io::ErrorKind),
    /// An earlier error makes everything after it unsafe until a restart.
    #[error("the disk failed before; restart when it is mended")]
    AfterFault,
    /// Too many writes wait.
    #[error("the disk is far behind")]
    Busy,
    /// The writer has stopped.
    #[error("the store is closed")]
    Stopped,
}

impl StoreError {
    fn open(error: redb::DatabaseError, known: u64) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::Locked,
            redb::DatabaseError::UpgradeRequired(found) => Self::Version {
                found: u64::from(found),
                known,
            },
            redb::DatabaseError::Storage(storage) => storage.into(),
            _ => Self::Corrupted { what: "file header" },
        }
    }
}

impl From<redb::StorageError> for StoreError {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::Io(error) => Self::Io(error.kind()),
            redb::StorageError::PreviousIo => Self::AfterFault,
            redb::StorageError::Corrupted(_) => Self::Corrupted { what: "redb page" },
            _ => Self::Io(std::io::ErrorKind::Other),
        }
    }
}

impl From<redb::TransactionError> for StoreError {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(storage) => storage.into(),
            _ => Self::Stopped,
        }
    }
}

impl From<redb::TableError> for StoreError {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(storage) => storage.into(),
            _ => Self::Corrupted { what: "table" },
        }
    }
}

impl From<redb::CommitError> for StoreError {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(storage) => storage.into(),
            _ => Self::Stopped,
        }
    }
}

impl From<redb::SetDurabilityError> for StoreError {
    fn from(_: redb::SetDurabilityError) -> Self {
        Self::Stopped
    }
}
