//! What a store file and its log can say no with.

use std::path::PathBuf;
use tombola_ledger::store::DiskFault;
use tombola_store::redb_file;

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
    /// The file is damaged, or a row does not decode.
    #[error("the store is corrupted: {what}")]
    Corrupted {
        /// Where.
        what: &'static str,
    },
    /// A file is in the place of a new store's log. It may be the log of a store that was lost, with winners in it.
    #[error("{} belongs to another store, or to none: move it away, and keep it if a store was lost", path.display())]
    ForeignLog {
        /// Which.
        path: PathBuf,
    },
    /// The file is something else, or the store of another role.
    #[error("not the store of this role")]
    Foreign,
    /// The disk said no.
    #[error("the disk failed: {0}")]
    Io(DiskFault),
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
    /// The stable name of what an operator is told by the log.
    #[must_use]
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Io(disk) if disk.is_full() => "disk_full",
            _ => "store_failed",
        }
    }

    pub(super) fn open(error: redb::DatabaseError, known: u64) -> Self {
        match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Self::Locked,
            redb::DatabaseError::UpgradeRequired(found) => Self::Version {
                found: u64::from(found),
                known,
            },
            error if redb_file::is_foreign(&error) => Self::Foreign,
            redb::DatabaseError::Storage(storage) => storage.into(),
            _ => Self::Corrupted { what: "file header" },
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(DiskFault::from(&error))
    }
}

impl From<redb::StorageError> for StoreError {
    fn from(error: redb::StorageError) -> Self {
        match error {
            redb::StorageError::Io(error) => Self::Io(DiskFault::from(&error)),
            redb::StorageError::PreviousIo => Self::AfterFault,
            redb::StorageError::Corrupted(_) => Self::Corrupted { what: "redb page" },
            _ => Self::Io(std::io::ErrorKind::Other.into()),
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
