//! Backups of a payee's store, and putting one back.
//!
//! A store that was simply copied back does not know what its holds have paid since, and the payee would serve winners
//! that nobody pays. So a backup is a file of its own kind, and restoring it makes a store that says when it was
//! restored: about every hold from before then the escrow is asked first. Spec: B-06.

use super::store::{KeptReceipt, PayeeStore, Totals, VERSION};
use super::{Payee, PayeeError, PayeeOptions};
use crate::clock;
use crate::disk::{META, Rows, StoreError};
use crate::home::{Existing, private_file, sync_directory_of, write_file_by};
use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tombola_core::amount::Timestamp;
use tombola_core::claim::Refusal;
use tombola_core::codec::{decode, encode};
use tombola_core::key::Signed;
use tombola_core::payee::{HoldRow, WinnerRow};
use tombola_store::redb_file;

/// What a backup holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) version: u64,
    pub(super) totals: Totals,
    pub(super) winners: Vec<WinnerRow>,
    pub(super) refusals: Vec<Signed<Refusal>>,
    pub(super) ended: Vec<WinnerRow>,
    pub(super) receipts: Vec<KeptReceipt>,
    pub(super) holds: Vec<HoldRow>,
}

/// A backup that was written or restored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Backup {
    /// When it was made.
    pub at: Timestamp,
    /// Holds in it.
    pub holds: u64,
    /// Books in it whose winners wait for a receipt.
    pub unclaimed_books: u64,
    /// Where the store went that was there before, if one was replaced.
    pub replaced: Option<PathBuf>,
}

impl Backup {
    fn of(contents: &Contents, at: Timestamp) -> Self {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Self {
            at,
            holds: count(contents.holds.len()),
            unclaimed_books: count(contents.winners.len()),
            replaced: None,
        }
    }
}

/// The number by which a file says that it is a backup, and of when.
const BACKUP: &str = "backup";

impl Payee {
    /// Writes a backup of the store while it sells; a file that is there already stays and is an error.
    ///
    /// # Errors
    /// [`PayeeError::File`], [`PayeeError::Store`].
    pub async fn backup(&self, file: &Path) -> Result<Backup, PayeeError> {
        let (shared, file) = (Arc::clone(&self.shared), file.to_path_buf());
        let written = tokio::task::spawn_blocking(move || write_backup(&shared.store, &file));
        written.await.unwrap_or_else(|_| Err(StoreError::Stopped.into()))
    }

    /// Writes a backup of the store of a stopped payee.
    ///
    /// # Errors
    /// As [`Payee::backup`]; [`PayeeError::File`] of kind `NotFound` if there is no store.
    pub fn backup_offline(options: &PayeeOptions, file: &Path) -> Result<Backup, PayeeError> {
        if !options.store.exists() {
            return Err(file_error(&options.store, io::ErrorKind::NotFound));
        }
        let (store, _) = PayeeStore::open(&options.store, clock::now())?;
        write_backup(&store, file)
    }

    /// Makes a store from a backup. The caller holds the lock of the home. With [`Existing::Replace`] a store that is
    /// there is kept beside the new one.
    ///
    /// # Errors
    /// [`PayeeError::NotABackup`], [`PayeeError::StoreExists`], [`PayeeError::File`], [`PayeeError::Store`].
    pub fn restore(backup: &Path, store: &Path, existing: Existing) -> Result<Backup, PayeeError> {
        let (mut contents, at) = read_backup(backup)?;
        // Since the backup each hold may have paid, and no clock tells.
        for row in contents.holds.iter_mut().filter(|row| row.release.is_none()) {
            row.checked_at = HoldRow::MUST_ASK;
        }
        let now = clock::now();
        let mut restored = Backup::of(&contents, at);
        if store.exists() && existing == Existing::Keep {
            let path = store.to_path_buf();
            return Err(PayeeError::StoreExists { path, backup_at: at });
        }
        let marks = [("since", now.0)];
        // What is there stays in its place until the new store is whole, and then gives way to it at once: a payee that
        // starts after a crash finds no place that is empty, and makes no store without the winners of the old one.
        write_store(store, &contents, &marks, Existing::Replace, || {
            restored.replaced = keep_aside(store, now)?;
            Ok(())
        })?;
        Ok(restored)
    }
}

pub(super) fn write_backup(store: &PayeeStore, file: &Path) -> Result<Backup, PayeeError> {
    let (contents, now) = (store.contents()?, clock::now());
    write_store(file, &contents, &[(BACKUP, now.0)], Existing::Keep, || Ok(()))?;
    Ok(Backup::of(&contents, now))
}

/// Gives whatever there is of a store and the log beside it a second name, durable, and takes the log's own: one without its
/// store would be in the way of the next one. Returns the second name of the store.
fn keep_aside(store: &Path, now: Timestamp) -> io::Result<Option<PathBuf>> {
    let kept = |path: &Path| {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".replaced-{}", now.0));
        match std::fs::hard_link(path, &aside) {
            Ok(()) => Ok(Some(PathBuf::from(aside))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    };
    let log = store.with_extension("log");
    let (kept_store, kept_log) = (kept(store)?, kept(&log)?);
    sync_directory_of(store)?;
    if kept_log.is_some() {
        std::fs::remove_file(&log)?;
    }
    Ok(kept_store)
}

/// Writes a file that nobody sees before it is whole; `before_placing` clears the place for it.
fn write_store(
    path: &Path,
    contents: &Contents,
    marks: &[(&str, u64)],
    existing: Existing,
    before_placing: impl FnOnce() -> io::Result<()>,
) -> Result<(), PayeeError> {
    let mut fault = None;
    let written = write_file_by(path, existing, |unfinished| {
        // A part that a crash left is worth nothing.
        let file = match std::fs::remove_file(unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => private_file(unfinished)?,
        };
        if let Err(error) = fill(file, contents, marks) {
            fault = Some(error);
            return Err(io::ErrorKind::Other.into());
        }
        File::open(unfinished)?.sync_all()?;
        before_placing()
    });
    match (fault, written) {
        (Some(error), _) => Err(error.into()),
        (None, Err(error)) => Err(file_error(path, error.kind())),
        (None, Ok(())) => Ok(()),
    }
}

fn fill(file: File, contents: &Contents, marks: &[(&str, u64)]) -> Result<(), StoreError> {
    let backend = redb::backends::FileBackend::new(file).map_err(unopened)?;
    let database = Database::builder().create_with_backend(backend).map_err(unopened)?;
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    write.set_two_phase_commit(true);
    {
        let totals = [
            ("version", contents.version),
            ("winners", contents.totals.winners),
            ("net", contents.totals.net),
        ];
        let mut meta = write.open_table(META)?;
        for (name, value) in totals.iter().chain(marks) {
            meta.insert(name, value)?;
        }
        let [winners, refusals, ended, receipts, holds] = PayeeStore::TABLES;
        let book = |row: &WinnerRow| row.claim.book.body.id().0.to_vec();
        put_all(&write, winners, &contents.winners, book)?;
        put_all(&write, refusals, &contents.refusals, |row| row.body.book.0.to_vec())?;
        put_all(&write, ended, &contents.ended, book)?;
        put_all(&write, receipts, &contents.receipts, KeptReceipt::key)?;
        put_all(&write, holds, &contents.holds, |row| row.hold.body.id().0.to_vec())?;
    }
    write.commit()?;
    Ok(())
}

fn put_all<T: bincode::Encode>(
    write: &WriteTransaction,
    table: Rows,
    rows: &[T],
    key: impl Fn(&T) -> Vec<u8>,
) -> Result<(), StoreError> {
    let mut table = write.open_table(table)?;
    for row in rows {
        table.insert(key(row).as_slice(), encode(row).as_slice())?;
    }
    Ok(())
}

fn read_backup(path: &Path) -> Result<(Contents, Timestamp), PayeeError> {
    let not_a_backup = || PayeeError::NotABackup {
        path: path.to_path_buf(),
    };
    // What is restored is read in full anyway. In memory every page can be compared with its checksum, and nothing is
    // written to the backup.
    let bytes = std::fs::read(path).map_err(|error| file_error(path, error.kind()))?;
    if bytes.is_empty() {
        return Err(not_a_backup());
    }
    let database = match redb_file::open_copy(&bytes) {
        Ok(database) => database,
        Err(redb::DatabaseError::Storage(redb::StorageError::Corrupted(_))) => {
            return Err(StoreError::Corrupted { what: "backup" }.into());
        }
        Err(_) => return Err(not_a_backup()),
    };
    let read = database.begin_read().map_err(StoreError::from)?;
    let at = number(&read, BACKUP)?.ok_or_else(not_a_backup)?;
    let version = number(&read, "version")?.ok_or_else(not_a_backup)?;
    if version > VERSION {
        let (found, known) = (version, VERSION);
        return Err(StoreError::Version { found, known }.into());
    }
    let [winners, refusals, ended, receipts, holds] = PayeeStore::TABLES;
    let contents = Contents {
        version,
        totals: Totals {
            winners: number(&read, "winners")?.unwrap_or_default(),
            net: number(&read, "net")?.unwrap_or_default(),
        },
        winners: rows(&read, winners)?,
        refusals: rows(&read, refusals)?,
        ended: rows(&read, ended)?,
        receipts: rows(&read, receipts)?,
        holds: rows(&read, holds)?,
    };
    Ok((contents, Timestamp(at)))
}

fn number(read: &ReadTransaction, name: &str) -> Result<Option<u64>, StoreError> {
    Ok(read.open_table(META)?.get(name)?.map(|row| row.value()))
}

/// All rows of a table; an older format lacks some tables, and then there is nothing to read.
fn rows<T: bincode::Decode<()>>(read: &ReadTransaction, table: Rows) -> Result<Vec<T>, StoreError> {
    let table = match read.open_table(table) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let mut rows = Vec::new();
    for row in table.iter()? {
        rows.push(decode(row?.1.value()).map_err(|_| StoreError::Corrupted { what: "backup" })?);
    }
    Ok(rows)
}

fn unopened(error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::Storage(storage) => storage.into(),
        _ => StoreError::Corrupted { what: "file header" },
    }
}

pub(super) fn file_error(path: &Path, kind: io::ErrorKind) -> PayeeError {
    PayeeError::File {
        path: path.to_path_buf(),
        kind,
    }
}
