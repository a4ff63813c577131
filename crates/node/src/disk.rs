//! A redb file with one writer thread and group commit, and what can go wrong with it: shared by payee and payer.
//!
//! All that waits is written together, and nobody is answered before it is durable. Commits are two-phase, because rows
//! hold bytes that peers chose, and redb's one-phase commit rests on a checksum that is not cryptographic. Where somebody
//! waits for each write it goes to a log first, which is durable in a third of the time, and into the file later with
//! many others.

mod error;
mod log;
mod place;
#[cfg(test)]
mod tests;
mod writer;

pub use error::StoreError;
pub(crate) use place::{Files, Place};
#[cfg(test)]
pub(crate) use tests::survive;

use log::Log;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, WriteTransaction};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tombola_core::amount::Timestamp;
use tombola_core::codec::{decode, encode};
use writer::{Keeping, Writer};

/// Writes that may wait; more mean that the disk is far behind.
const QUEUE_MAX: usize = 65_536;

/// Numbers by name: `version` of the format, `since` when the file was made or restored, and counters.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// A table with byte keys and encoded rows.
pub(crate) type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// How changes of one kind are written inside a transaction.
pub(crate) type Apply<C> = fn(&WriteTransaction, &mut dyn Iterator<Item = &C>) -> Result<(), StoreError>;

/// When a write is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commits {
    /// At once, in a log beside the file: somebody waits for each write.
    Logged,
    /// With a commit of the file; these begin at least so far apart, as nobody waits.
    Apart(Duration),
}

/// A redb file and its writer thread.
#[derive(Debug)]
pub(crate) struct Disk<C> {
    /// Taken when it is closed.
    queue: Option<mpsc::SyncSender<Message<C>>>,
    writer: Option<JoinHandle<()>>,
    since: Timestamp,
    has_failed: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Message<C> {
    Write(Write<C>),
    /// Asks for a database that has all that is durable.
    Read(mpsc::SyncSender<Result<Arc<Database>, StoreError>>),
}

#[derive(Debug)]
struct Write<C> {
    changes: Vec<C>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl<C: bincode::Encode + bincode::Decode<()> + Send + 'static> Disk<C> {
    /// Opens or makes a file of one format version with these tables, and its log if it has one. The first table tells such
    /// files from others.
    ///
    /// # Errors
    /// [`StoreError`] if the file is held by another process, foreign, newer, or cannot be read.
    pub(crate) fn open(
        place: Box<dyn Place>,
        version: u64,
        tables: &[Rows],
        apply: Apply<C>,
        commits: Commits,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let database = place.open_store().map_err(|error| StoreError::open(error, version))?;
        let since = prepare(&database, version, tables, now)?;
        let keeping = match commits {
            Commits::Logged => Keeping::Logged(open_log(&database, &*place, apply)?),
            Commits::Apart(interval) => Keeping::Apart {
                interval,
                next: Instant::now(),
            },
        };
        Self::start(Writer::new(database, place, apply, keeping), since)
    }

    /// Starts the thread of a writer.
    fn start(writer: Writer<C>, since: Timestamp) -> Result<Self, StoreError> {
        let has_failed = writer.has_failed();
        let (queue, messages) = mpsc::sync_channel(QUEUE_MAX);
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(&messages))
            .map_err(StoreError::from)?;
        Ok(Self {
            queue: Some(queue),
            writer: Some(writer),
            since,
            has_failed,
        })
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
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        queue
            .try_send(Message::Write(Write { changes, done }))
            .map_err(|_| StoreError::Busy)?;
        Ok(written)
    }

    /// A database that has all that is durable, for whoever is about to read. After a fault it may be a copy in memory.
    fn readable(&self) -> Result<Arc<Database>, StoreError> {
        let (done, database) = mpsc::sync_channel(1);
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        queue.send(Message::Read(done)).map_err(|_| StoreError::Stopped)?;
        database.recv().unwrap_or(Err(StoreError::Stopped))
    }

    /// Whether a write has failed in a way that only a restart mends.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
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
        self.read_each(table, |row| decode(row).map_err(|_| StoreError::Corrupted { what }))
    }

    /// All rows of a table, each as it is read by whoever knows its formats.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, and whatever the reading finds.
    pub(crate) fn read_each<T>(
        &self,
        table: Rows,
        read_row: impl Fn(&[u8]) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let database = self.readable()?;
        let read = database.begin_read()?;
        let table = read.open_table(table)?;
        table.iter()?.map(|row| read_row(row?.1.value())).collect()
    }

    /// A number of the meta table; 0 if it was never written.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(crate) fn number(&self, name: &str) -> Result<u64, StoreError> {
        number(&*self.readable()?, name)
    }
}

impl<C> Drop for Disk<C> {
    /// Closes the file: what is in the log goes into it, and then it can be opened again.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that has panicked has said so.
            let _ = writer.join();
        }
    }
}

fn number(database: &Database, name: &str) -> Result<u64, StoreError> {
    let read = database.begin_read()?;
    let value = read.open_table(META)?.get(name)?.map_or(0, |row| row.value());
    Ok(value)
}

fn prepare(database: &Database, version: u64, tables: &[Rows], now: Timestamp) -> Result<Timestamp, StoreError> {
    check_ours(database, tables)?;
    let write = begin(database)?;
    let since = {
        let mut meta = write.open_table(META)?;
        let found = meta.get("version")?.map(|row| row.value());
        match found {
            None => {
                meta.insert("version", version)?;
                meta.insert("since", now.0)?;
            }
            // Every older format has the same tables; what it lacks is made when it is missed.
            Some(found) if found <= version => {
                meta.insert("version", version)?;
            }
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

/// A file with tables has our first one, which every version had, or it is not ours.
fn check_ours(database: &Database, tables: &[Rows]) -> Result<(), StoreError> {
    let names: Vec<String> = database
        .begin_read()?
        .list_tables()?
        .map(|table| table.name().to_owned())
        .collect();
    let is_ours = tables
        .first()
        .is_none_or(|first| names.iter().any(|name| name == first.name()));
    if names.is_empty() || is_ours {
        Ok(())
    } else {
        Err(StoreError::Foreign)
    }
}

fn begin(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.set_two_phase_commit(true);
    Ok(write)
}

/// Opens the log of a file, or makes it, and puts what only the log has into the file.
fn open_log<C: bincode::Decode<()>>(
    database: &Database,
    place: &dyn Place,
    apply: Apply<C>,
) -> Result<Log, StoreError> {
    let (id, applied) = (number(database, "log")?, number(database, "applied")?);
    if id == 0 {
        let log = Log::create(place, applied)?;
        let write = begin(database)?;
        write.open_table(META)?.insert("log", log.id())?;
        write.commit()?;
        return Ok(log);
    }
    let (mut log, missing) = Log::open(place, id, applied)?;
    let mut changes = Vec::new();
    for entry in &missing {
        parse(entry, &mut changes).ok_or(StoreError::Corrupted { what: "log entry" })?;
    }
    if !missing.is_empty() {
        commit(database, &mut changes.iter(), apply, Some(log.sequence()))?;
    }
    log.rewind();
    Ok(log)
}

/// The changes of a log entry, each with its length ahead.
fn spell<'a, C: bincode::Encode + 'a>(changes: impl Iterator<Item = &'a C>) -> Vec<u8> {
    let mut body = Vec::new();
    for change in changes {
        let bytes = encode(change);
        body.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        body.extend_from_slice(&bytes);
    }
    body
}

fn parse<C: bincode::Decode<()>>(mut body: &[u8], changes: &mut Vec<C>) -> Option<()> {
    while let Some((length, rest)) = body.split_first_chunk() {
        let (change, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        changes.push(decode(change).ok()?);
        body = rest;
    }
    body.is_empty().then_some(())
}

fn commit<C>(
    database: &Database,
    changes: &mut dyn Iterator<Item = &C>,
    apply: Apply<C>,
    applied: Option<u64>,
) -> Result<(), StoreError> {
    let write = begin(database)?;
    apply(&write, changes)?;
    if let Some(sequence) = applied {
        write.open_table(META)?.insert("applied", sequence)?;
    }
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
