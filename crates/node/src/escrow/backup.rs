//! Backups of a store file: taken from a snapshot beside a running node, and put back where the old store was.
//!
//! A backup is a store of its own: a redb file with every row of one moment. It is old the moment it is taken; what came
//! after it is what the witness notices and the parties resubmit.

use super::place::StorePlace;
use crate::home::sync_directory_of;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tombola_core::amount::Timestamp;
use tombola_core::key::AccountKey;
use tombola_ledger::key::Key;
use tombola_ledger::query;
use tombola_ledger::row::{Header, MAGIC, Row, Table, Totals};
use tombola_ledger::store::{Change, Commit, DiskFault, Range, Reader, Store, StoreFault, Stored};
use tombola_store::redb_store::RedbStore;

/// Rows read and written at a time: some megabytes.
const PAGE_ROWS: usize = 8_192;

/// What a backup or a restored store has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BackupReport {
    /// The file.
    pub path: PathBuf,
    /// Events in its logs.
    pub height: u64,
    /// Ledger time of the last of them.
    pub time: Timestamp,
    /// Where the store went that was there before.
    pub replaced: Option<PathBuf>,
}

/// Whether a restore may take the place of a store that has more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverNewer {
    /// It is refused.
    Refuse,
    /// The operator says so; the store that was there is kept beside it.
    Replace,
}

/// Why a backup was not taken or not restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file is there already.
    #[error("{} exists and is not overwritten", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The file is no backup of this escrow.
    #[error("{} is a backup of escrow {found}", path.display())]
    AnotherEscrow {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: AccountKey,
    },
    /// The file has no ledger in it.
    #[error("{} has no ledger in it", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The store that is there has more events.
    #[error("the store has {store} events, the backup has {backup}: {} would be lost", store.saturating_sub(*backup))]
    Newer {
        /// Events in the store.
        store: u64,
        /// Events in the backup.
        backup: u64,
    },
    /// The ledger is in a database.
    #[error("the ledger is in a database, and not in a file")]
    Database,
    /// The system refused.
    #[error("{}: {kind}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        kind: DiskFault,
    },
    /// A store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Copies everything that a snapshot sees into a new store file; durable and whole, or not there.
pub(super) async fn backup<R: Reader>(snapshot: &R, path: &Path) -> Result<BackupReport, BackupError> {
    if path.exists() {
        return Err(BackupError::Exists { path: path.to_owned() });
    }
    let unfinished = beside(path, "unfinished");
    let copied = copy_rows(snapshot, &unfinished).await;
    let finished = copied.and_then(|()| {
        // Unlike a rename, a link never replaces.
        std::fs::hard_link(&unfinished, path).map_err(|error| io(path, &error))?;
        Ok(())
    });
    // Left behind, it would only be a stray file; the outcome is the one of the copy.
    let _ = std::fs::remove_file(&unfinished);
    finished?;
    sync_directory(path)?;
    let (height, time) = ends(snapshot).await?;
    Ok(BackupReport {
        path: path.to_owned(),
        height,
        time,
        replaced: None,
    })
}

async fn copy_rows<R: Reader>(snapshot: &R, path: &Path) -> Result<(), BackupError> {
    make_file(path)?;
    let copy = RedbStore::open(path)?;
    for table in Table::ALL {
        let mut next = Some(Key::from_bytes(*table, &[]));
        while let Some(from) = next {
            let range = Range {
                from,
                to: None,
                limit: PAGE_ROWS,
            };
            let page = snapshot.scan(&range).await?;
            let full = page.last().filter(|_| page.len() >= PAGE_ROWS);
            next = full.and_then(|(key, _)| key.successor());
            write_page(&copy, page).await?;
        }
    }
    drop(copy);
    let file = File::open(path).map_err(|error| io(path, &error))?;
    file.sync_all().map_err(|error| io(path, &error))?;
    Ok(())
}

async fn write_page(copy: &RedbStore, page: Vec<(Key, Stored)>) -> Result<(), StoreFault> {
    let Some(mark) = page.first().map(|(key, _)| *key) else {
        return Ok(());
    };
    let change = |(key, stored)| Change {
        key,
        before: 0,
        after: Some(stored),
    };
    let commit = Commit {
        changes: page.into_iter().map(change).collect(),
        reads: Vec::new(),
        mark,
    };
    copy.commit(commit).await
}

/// Puts a backup where the store of a stopped escrow is. The store that was there is kept beside it.
///
/// # Errors
/// [`BackupError`]; the store that was there is untouched then.
pub async fn restore(
    backup: &Path,
    place: &StorePlace,
    escrow: &AccountKey,
    over_newer: OverNewer,
) -> Result<BackupReport, BackupError> {
    let StorePlace::File(store) = place else {
        return Err(BackupError::Database);
    };
    let coming = beside(store, "restoring");
    let copied = bring(backup, &coming, escrow).await;
    let checked = match copied {
        Ok(found) => check_newer(store, found.0, over_newer).await.map(|()| found),
        Err(error) => Err(error),
    };
    let (height, time) = match checked {
        Ok(found) => found,
        Err(error) => {
            // Left behind, it would only be a stray file; the outcome is the error.
            let _ = std::fs::remove_file(&coming);
            return Err(error);
        }
    };
    let replaced = store.exists().then(|| free_name(store));
    if let Some(kept) = &replaced {
        // A second name, durable, and only then the first is given away: there is a store at any moment.
        std::fs::hard_link(store, kept).map_err(|error| io(store, &error))?;
        sync_directory(store)?;
    }
    std::fs::rename(&coming, store).map_err(|error| io(store, &error))?;
    sync_directory(store)?;
    Ok(BackupReport {
        path: store.to_owned(),
        height,
        time,
        replaced,
    })
}

/// Copies a backup beside the store, and reads what it is.
async fn bring(backup: &Path, coming: &Path, escrow: &AccountKey) -> Result<(u64, Timestamp), BackupError> {
    if !backup.is_file() {
        return Err(BackupError::Io {
            path: backup.to_owned(),
            kind: ErrorKind::NotFound.into(),
        });
    }
    make_file(coming)?;
    std::fs::copy(backup, coming).map_err(|error| io(backup, &error))?;
    std::fs::set_permissions(coming, std::fs::Permissions::from_mode(0o600)).map_err(|error| io(coming, &error))?;
    let copy = RedbStore::open(coming)?;
    let found = header(&copy).await?.ok_or_else(|| BackupError::Empty {
        path: backup.to_owned(),
    })?;
    if found.escrow != *escrow {
        return Err(BackupError::AnotherEscrow {
            path: backup.to_owned(),
            found: found.escrow,
        });
    }
    let (height, time) = ends(&copy).await?;
    drop(copy);
    let file = File::open(coming).map_err(|error| io(coming, &error))?;
    file.sync_all().map_err(|error| io(coming, &error))?;
    Ok((height, time))
}

/// Whether the store that is there has no more than what is to take its place. One that cannot be read may have.
async fn check_newer(store: &Path, backup: u64, over_newer: OverNewer) -> Result<(), BackupError> {
    if over_newer == OverNewer::Replace || !store.exists() {
        return Ok(());
    }
    let (height, _) = ends(&RedbStore::open(store)?).await?;
    if height > backup {
        return Err(BackupError::Newer { store: height, backup });
    }
    Ok(())
}

/// Events of all writers together, and the time of the last one.
async fn ends<R: Reader>(reader: &R) -> Result<(u64, Timestamp), StoreFault> {
    let mut sum = Totals::EMPTY;
    for (_, totals) in query::writers(reader).await? {
        sum.add(&totals);
    }
    Ok((sum.height, sum.time))
}

async fn header<R: Reader>(reader: &R) -> Result<Option<Header>, StoreFault> {
    let stored = reader.load(&[Key::header()]).await?.pop().flatten();
    match stored.map(|stored| Row::decode(Table::Header, &stored.bytes)) {
        None => Ok(None),
        Some(Ok(Row::Header(header))) if header.magic == MAGIC => Ok(Some(header)),
        Some(_) => Err(StoreFault::Foreign),
    }
}

/// An empty file for its owner alone; what a crash left there is worth nothing.
pub(super) fn make_file(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(path, &error)),
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| io(path, &error))
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{suffix}"));
    path.with_file_name(name)
}

/// The first name for the old store that nothing has yet.
fn free_name(store: &Path) -> PathBuf {
    let names = (1u32..).map(|number| beside(store, &format!("before-restore-{number}")));
    let mut free = names.filter(|path| !path.exists());
    // There are more numbers than a directory has room for.
    free.next().unwrap_or_else(|| beside(store, "before-restore"))
}

pub(super) fn sync_directory(path: &Path) -> Result<(), BackupError> {
    sync_directory_of(path).map_err(|error| io(path, &error))
}

pub(super) fn io(path: &Path, error: &std::io::Error) -> BackupError {
    BackupError::Io {
        path: path.to_owned(),
        kind: DiskFault::from(error),
    }
}
